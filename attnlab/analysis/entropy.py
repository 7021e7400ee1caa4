"""Low-entropy tokens stay least dormant: the entropy of a token's next-token law against its sink logit, by ranks.

A token whose next token is certain gets no drive towards the sink (the asymptote of its sink logit is
`½ log(2 π_v Var_{p_v}(B))`, and the variance under a certain law is 0).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

from attnlab.config import require


def row_entropy(kernel: Any) -> Float[np.ndarray, " V"]:
    """`H(P_v) = -Σ_y P[v, y] ln P[v, y]` in nats, with `0 ln 0 = 0`."""
    rows = np.asarray(kernel, float)
    require(rows.ndim == 2 and bool(np.all(rows >= 0)), "kernel", rows.shape, "a matrix [V, V] of probabilities")
    return -np.sum(rows * np.log(np.where(rows > 0, rows, 1.0)), axis=-1)


def spearman(first: Any, second: Any) -> float:
    """Spearman's rank correlation over entries where both are finite; NaN if fewer than 3, or if one is constant."""
    from scipy import stats  # half a second to import

    x, y = np.asarray(first, float), np.asarray(second, float)
    require(x.ndim == 1 and x.shape == y.shape, "second", y.shape, f"the shape of the first, {x.shape}, one axis")
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < 3:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(stats.spearmanr(x[both], y[both])[0])


def entropy_correlation(task: Any, sink_logit_by_token: Any) -> Float[np.ndarray, "*S"]:
    """`spearman(H(P_v), Δlogit_v)` over tokens that are neither trigger nor first token.

    Args:
      task: with `kernel` `[V, V]`, and maybe `triggers` and `bos_id`.
      sink_logit_by_token: `[*S, V]`, NaN where unseen (`sinks(task, by_token=True)`).
    """
    logits = np.asarray(sink_logit_by_token, float)
    entropy = row_entropy(task.kernel)
    require(logits.shape[-1:] == entropy.shape, "sink_logit_by_token", logits.shape, f"[*S, V] with V={len(entropy)}")
    bos = getattr(task, "bos_id", None)
    entropy[[*getattr(task, "triggers", ()), *([] if bos is None else [bos])]] = np.nan
    rows = [spearman(entropy, row) for row in logits.reshape(-1, logits.shape[-1])]
    return np.array(rows).reshape(logits.shape[:-1])
