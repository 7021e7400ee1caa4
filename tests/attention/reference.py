"""Attention mechanisms as loops over their definitions, in float64: slow, obvious, and written without the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, log

import numpy as np

Row = list[float]


def _softmax(logits: Row) -> Row:
    total = sum(exp(x) for x in logits)
    return [exp(x) / total for x in logits]


def _sigmoid(logits: Row) -> Row:
    return [1 / (1 + exp(-x)) for x in logits]


def _sigmoid_log_count(logits: Row) -> Row:
    return [1 / (1 + exp(-(x - log(len(logits))))) for x in logits]


def _normalized(logits: Row) -> Row:
    raw = _sigmoid(logits)
    return [x / sum(raw) for x in raw]


def _relu(logits: Row) -> Row:
    return [max(x, 0.0) / len(logits) for x in logits]


def _one_sided(logits: Row) -> Row:
    return [x / (1 + abs(x)) for x in logits]


@dataclass(frozen=True)
class Definition:
    """`row`: from the logits of what a query sees to weights; `null`: logit and value of the null column, if any."""

    row: Callable[[Row], Row]
    null: Callable[[Mapping[str, np.ndarray], int, np.ndarray, float], tuple[float, np.ndarray]] | None = None
    scale: float | None = None


def _zero_logit(params, head, query, scale):
    return 0.0, np.zeros_like(query)


def _key(params, head, query, scale):
    key = params["key"][head % len(params["key"])]
    return scale * sum(a * b for a, b in zip(query, key, strict=True)), np.zeros_like(query)


def _key_and_value(params, head, query, scale):
    return _key(params, head, query, scale)[0], params["value"][head]


DEFINITIONS = {
    "softmax": Definition(_softmax),
    "relu": Definition(_relu),
    "sigmoid": Definition(_sigmoid),
    "sigmoid_normalized": Definition(_normalized),
    "sigmoid_log_count": Definition(_sigmoid_log_count),
    "softmax_off_by_one": Definition(_softmax, _zero_logit),
    "key_bias": Definition(_softmax, _key),
    "key_bias_shared": Definition(_softmax, _key),
    "kv_bias": Definition(_softmax, _key_and_value),
    "softmax_unscaled": Definition(_softmax, scale=1.0),
    "one_sided": Definition(_one_sided, scale=1.0),
}


def attend(name: str, params, q, k, v, mask, bias) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`out[B, H, T, K]`, `weights[B, H, T, U]`, `null[B, H, T]`; `mask` and `bias` are `[B, H, T, U]`."""
    definition = DEFINITIONS[name]
    scale = q.shape[-1] ** -0.5 if definition.scale is None else definition.scale
    out, weights = np.zeros_like(q), np.zeros(q.shape[:-1] + k.shape[-2:-1])
    null = np.zeros(q.shape[:-1])
    for b, h, t in np.ndindex(*q.shape[:-1]):
        seen = [u for u in range(k.shape[-2]) if mask[b, h, t, u]]
        logits = [scale * sum(a * c for a, c in zip(q[b, h, t], k[b, h, u], strict=True)) for u in seen]
        logits = [x + bias[b, h, t, u] for x, u in zip(logits, seen, strict=True)]
        null_value = np.zeros(q.shape[-1])
        if definition.null is not None:
            null_logit, null_value = definition.null(params, h, q[b, h, t], scale)
            *row, null[b, h, t] = definition.row([*logits, null_logit])
        else:
            row = definition.row(logits) if logits else []
        for u, weight in zip(seen, row, strict=True):
            weights[b, h, t, u] = weight
            out[b, h, t] += weight * v[b, h, u]
        out[b, h, t] += null[b, h, t] * null_value
    return out, weights, null
