"""Attention mechanisms as loops over their definitions, in float64: slow, obvious, and written without the library.

`definitions` says what the mechanisms are; here is how a definition is carried out, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Row = list[float]
Params = Mapping[str, np.ndarray]


class Mixed(NamedTuple):
    """`out[B, H, T, K]`, `weights[B, H, T, U]`, `null[B, H, T]`."""

    out: np.ndarray
    weights: np.ndarray
    null: np.ndarray


@dataclass
class Token:
    """One token of one head: its vectors, what the layer reads there (`x`), its position."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    x: np.ndarray
    h: int
    t: int


@dataclass
class Here:
    """One row: the query, and of the keys it sees the vectors and logits."""

    params: Params
    h: int
    t: int
    q: np.ndarray
    x: np.ndarray
    keys: list[np.ndarray]
    logits: Row

    @property
    def n(self) -> int:
        return len(self.keys)


def dot(a, b) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


@dataclass(frozen=True)
class Definition:
    """The parts of a mechanism of pairs; what is None is not there."""

    row: Callable[[Row, Here], Row]
    null: Callable[[Here, float], tuple[float, np.ndarray]] | None = None
    scale: float | None = None
    token: Callable[[Params, Token], tuple[Any, Any, Any]] | None = None
    tick: Callable[[Params, Token], float] | None = None
    score: Callable[[Params, int, int, int, np.ndarray, np.ndarray, float], float] | None = None
    temper: Callable[[Here], float] | None = None
    post: Callable[[Row, Here], Row] | None = None
    cap: float | None = None
    value_bias: bool = False


def carry_out(definition: Definition, params: Params, q, k, v, x, mask, bias) -> Mixed:
    """`q, k, v [B, H, T, K]`, `x[B, T, D]`, `mask` and `bias` `[B, H, T, U]`; as many queries as keys."""
    out, weights, null = np.zeros_like(v), np.zeros(mask.shape), np.zeros(q.shape[:-1])
    for b, h in np.ndindex(*q.shape[:2]):
        tokens = [Token(q[b, h, t], k[b, h, t], v[b, h, t], x[b, t], h, t) for t in range(q.shape[2])]
        ticks = [0.0 if definition.tick is None else definition.tick(params, token) for token in tokens]
        if definition.token is not None:
            for token in tokens:
                token.q, token.k, token.v = definition.token(params, token)
        for t in range(len(tokens)):
            one = _row(definition, params, tokens, ticks, t, mask[b, h, t], bias[b, h, t])
            out[b, h, t], weights[b, h, t], null[b, h, t] = one
    return Mixed(out, weights, null)


def _row(definition: Definition, params: Params, tokens: list[Token], ticks: Row, t: int, mask, bias):
    query = tokens[t]
    seen = [u for u in range(len(tokens)) if mask[u]]
    here = Here(params, query.h, t, query.q, query.x, [tokens[u].k for u in seen], [])
    scale = len(query.q) ** -0.5 if definition.scale is None else definition.scale
    for u in seen:
        if definition.score is None:
            logit = scale * dot(query.q, tokens[u].k)
        else:
            logit = definition.score(params, query.h, t, u, query.q, tokens[u].k, scale)
        if definition.temper is not None:
            logit *= definition.temper(here)
        # What passes between the key and the query; nothing and the reverse where the key is later.
        logit += sum(ticks[u + 1 : t + 1]) - sum(ticks[t + 1 : u + 1]) + bias[u]
        if definition.cap is not None:
            logit = definition.cap * np.tanh(logit / definition.cap)
        here.logits.append(float(logit))
    mass, null_value = 0.0, np.zeros_like(query.v)
    if definition.null is not None:
        null_logit, null_value = definition.null(here, scale)
        *row, mass = definition.row([*here.logits, null_logit], here)
    else:
        row = definition.row(here.logits, here) if seen else []
    if definition.post is not None and seen:
        row = definition.post(row, here)
    weights, out = np.zeros(len(tokens)), mass * null_value
    for u, weight in zip(seen, row, strict=True):
        weights[u] = weight
        out = out + weight * tokens[u].v
    if definition.value_bias:
        out = out + params["value_bias"][query.h]
    return out, weights, mass
