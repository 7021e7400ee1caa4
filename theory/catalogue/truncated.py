"""Softmax cut off after the order `p` of its exponential: how a finite state approaches it, and what order 1 gives.

    e_p(s) = 1 + s + ... + s^p/p!  = phi(q) . phi(k),   phi(x) = (1, x, x (x) x / sqrt(2!), ...),   s = q . k

A kernel of `1 + d + ... + d^p` features can be carried from token to token (`C(d + p, p)` without repeats); softmax
itself needs them all, an infinite state. Weights are `e_p(s_ij)` over their sum along the row.

Order 1 around the mean is InLine attention, `w_ij = s_ij - mean_m s_im + 1/n`: rows sum to 1, weights may be negative,
and the output is the mean value plus a covariance, `vbar + (c/n) q sum_j (k_j - kbar)(v_j - vbar)^T`.

Source: arXiv 2405.15731 (softmax as infinite state), 2412.06590 (InLine); orders, errors and the covariance form are
derived here.
"""

from __future__ import annotations

from math import comb

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from theory import _checks as check


def truncated_exp(score: ArrayLike, order: int) -> Float[np.ndarray, " ..."]:
    """`e_p(s)`, by Horner's rule. For even `p` it is positive everywhere; it rises from `monotone_from(p)` on.

    Args:
      score: `s`, any shape.
      order: `p`, at least 0.
    """
    s = check.finite("score", np.asarray(score, dtype=np.float64))
    total = np.ones_like(s)
    for m in range(check.count("order", order, 0), 0, -1):
        total = 1 + s / m * total
    return np.asarray(total)


def exp_remainder_bound(score: ArrayLike, order: int) -> Float[np.ndarray, " ..."]:
    """`|e^s - e_p(s)| <= |s|^(p+1)/(p+1)! max(1, e^s)`, Lagrange's form of the remainder.

    Args: as for `truncated_exp`.
    """
    from scipy.special import gammaln  # here, so that importing the package stays fast

    s = check.finite("score", np.asarray(score, dtype=np.float64))
    power = check.count("order", order, 0) + 1
    return np.asarray(np.abs(s) ** power * np.exp(np.maximum(s, 0.0) - gammaln(power + 1)))


def monotone_from(order: int) -> float:
    """The score from which `e_p` of an even order rises, the only real zero of its derivative `e_(p-1)`: -1 at `p = 2`.

    Below it a worse match gets more weight: scores of `N(0, 1)` are below -1 in 16 % of cases. The least value of
    `e_p` is `z^p/p!` at that `z`, for `e_p = e_(p-1) + s^p/p!`: never below 1/2 for `p = 2`.

    Args:
      order: `p`, even, from 2 to 20 (odd orders rise everywhere).
    """
    if check.count("order", order, 2) % 2 or order > 20:
        raise check.fail("order", order, "even, from 2 to 20", "Odd orders rise everywhere and are negative somewhere.")
    from scipy.optimize import brentq  # here, so that importing the package stays fast

    def slope(s: float) -> float:
        return float(truncated_exp(s, order - 1))

    return float(brentq(slope, -float(order), 0.0, xtol=1e-13))  # pyright: ignore[reportArgumentType]


def feature_count(width: int, order: int, *, repeats: bool = False) -> int:
    """Features of `e_p` on `R^d`: `C(d + p, p)` monomials, or `1 + d + ... + d^p` with `repeats`.

    Args:
      width: `d`.
      order: `p`.
      repeats: count `x_1 x_2` and `x_2 x_1` as two, as `exp_features` does.
    """
    d, p = check.count("width", width), check.count("order", order, 0)
    return sum(d**m for m in range(p + 1)) if repeats else comb(d + p, p)


def exp_features(x: ArrayLike, order: int) -> Float[np.ndarray, "T F"]:
    """`phi(x)`, with `phi(q) . phi(k) = e_p(q . k)`.

    Args:
      x: `[T, K]`; scale queries and keys by `d^(-1/4)` each for scores of `q . k / sqrt(d)`.
      order: `p`.

    Returns:
      `[T, 1 + K + ... + K^p]`.
    """
    rows = check.finite("x", np.asarray(x, dtype=np.float64))
    power = np.ones((rows.shape[0], 1))
    blocks = [power]
    for m in range(1, check.count("order", order, 0) + 1):
        power = (power[:, :, None] * rows[:, None, :]).reshape(rows.shape[0], -1) / np.sqrt(m)
        blocks.append(power)
    return np.concatenate(blocks, axis=1)


def truncated_weights(scores: ArrayLike, order: int | None, *, causal: bool = True) -> Float[np.ndarray, "T U"]:
    """`e_p(s_ij) / sum_m e_p(s_im)` over the visible keys; `order = None` is softmax.

    Args:
      scores: `[T, U]`.
      order: `p`, even (an odd order has no sign and its sum can vanish), or None.
      causal: whether row `i` sees keys up to `i` only.
    """
    s = check.finite("scores", np.asarray(scores, dtype=np.float64))
    visible = _visible(s.shape, causal)
    if order is None:
        weights = np.where(visible, np.exp(s - np.max(s, axis=1, keepdims=True, where=visible, initial=-np.inf)), 0.0)
    elif check.count("order", order, 0) % 2:
        raise check.fail("order", order, "even", "Odd orders have no sign.")
    else:
        weights = np.where(visible, truncated_exp(s, order), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def truncation_error(scores: ArrayLike, values: ArrayLike, order: int, *, causal: bool = True) -> float:
    """`max |softmax(s) V - weights_p(s) V|` over all entries.

    Args:
      scores: `[T, U]`.
      values: `[U, V]`.
      order: `p`, even.
      causal: as for `truncated_weights`.
    """
    gap = truncated_weights(scores, None, causal=causal) - truncated_weights(scores, order, causal=causal)
    return float(np.abs(gap @ np.asarray(values, dtype=np.float64)).max())


def inline_weights(scores: ArrayLike, *, causal: bool = False) -> Float[np.ndarray, "T U"]:
    """InLine weights `(s_ij - mean_m s_im + 1) / n_i` over the `n_i` visible keys: softmax to first order in scores,

        softmax(e s)_ij = (1 + e (s_ij - mean_m s_im)) / n_i + O(e^2).

    The factor `1/n` of the scores is that of the authors' code; their formula has it inside the feature map.

    Args:
      scores: `[T, U]`.
      causal: whether row `i` sees keys up to `i` only.
    """
    s = check.finite("scores", np.asarray(scores, dtype=np.float64))
    visible = _visible(s.shape, causal)
    number = visible.sum(axis=1, keepdims=True)
    mean = np.where(visible, s, 0.0).sum(axis=1, keepdims=True) / number
    return np.where(visible, (s - mean + 1) / number, 0.0)


def inline_readout(query: ArrayLike, keys: ArrayLike, values: ArrayLike, scale: float = 1.0) -> Float[np.ndarray, " V"]:
    """`vbar + (c/n) q sum_j (k_j - kbar)(v_j - vbar)^T`: the output of InLine for one query, as mean and covariance.

    With labels for values it is a step of debiased gradient descent from the mean label, `theory.icl.dgd_risk`.

    Args:
      query: `[K]`.
      keys: `[U, K]` those it sees.
      values: `[U, V]`.
      scale: `c`, of the scores.
    """
    q = check.vector("query", query)
    k, v = np.asarray(keys, dtype=np.float64), np.asarray(values, dtype=np.float64)
    k = check.matrix("keys", k, (k.shape[0], q.size))
    covariance = (k - k.mean(axis=0)).T @ (v - v.mean(axis=0)) / k.shape[0]
    return v.mean(axis=0) + check.number("scale", scale) * q @ covariance


def _visible(shape: tuple[int, ...], causal: bool) -> Bool[np.ndarray, "T U"]:
    if len(shape) != 2:
        raise check.fail("shape of scores", shape, "[T, U]", "Pass one row of scores for each query.")
    return np.tri(*shape, dtype=bool) if causal else np.ones(shape, dtype=bool)
