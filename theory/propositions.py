"""Attention on a repeated token: what a positional scheme alone can and cannot do, for any weights, trained or not.

If all tokens of the input are the same and positions enter only relatively, all hidden states of a layer are equal, in
every layer, and the attention of every head is fixed by the positional scheme:

1. no positions:  `A[t, u] = 1 / t`;
2. relative bias `g`:  `A[t, u] = softmax_u g(t - u)`, the same in every row up to its length;
3. ALiBi (`g(n) = -slope n`):  strictly decreasing with distance, so never a sink on the first token;
4. RoPE:  `A[t, 1] <= e^(2 xi) / (e^(2 xi) + t - 1)` where `|q . k| / sqrt(K) <= xi`.

Learned and absolute positions break the premise and can keep their sink. Also here: the mass on key `k`,
`alpha_k = mean_{t >= k} A[t, k]`, of two reference maps, which shows what a threshold on it means.

Source: arXiv 2410.10781, Propositions 1-4 and the definition of `alpha_k`; closed forms of the reference maps are
derived here. Positions count from 1 in formulas and from 0 in arrays.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


def relative_attention(bias: ArrayLike) -> Float[np.ndarray, "T U"]:
    """`A[t, u] = exp(g(t - u)) / sum_{w <= t} exp(g(t - w))` on a repeated token.

    Args:
      bias: `[T]` with `bias[n] = g(n)` for the distances `n = 0 .. T - 1`.

    Returns:
      `[T, U]`, lower triangular, rows sum to one.

    Raises:
      ValueError: if `bias` is no finite vector.
    """
    g = check.vector("bias", bias)
    distance = np.subtract.outer(np.arange(g.size), np.arange(g.size))
    scores = np.where(distance >= 0, g[np.maximum(distance, 0)], -np.inf)
    mixing = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    return mixing / mixing.sum(axis=1, keepdims=True)


def nope_attention(length: int) -> Float[np.ndarray, "T U"]:
    """`A[t, u] = 1 / t` for `u <= t`: no positional scheme, repeated token.

    Args:
      length: `T`.

    Returns:
      `[T, U]`.
    """
    n = check.count("length", length)
    return np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]


def alibi_attention(slope: float, length: int) -> Float[np.ndarray, "T U"]:
    """`A[t, u] = e^(-slope (t - u)) (1 - e^-slope) / (1 - e^(-slope t))`: ALiBi on a repeated token, a geometric law.

    Args:
      slope: of the head, above 0.
      length: `T`.

    Returns:
      `[T, U]`, every row strictly increasing towards the diagonal.
    """
    m = check.number("slope", slope, 0.0, strict=True)
    t = np.arange(1, check.count("length", length) + 1)
    distance = np.subtract.outer(t, t)
    shape = np.where(distance >= 0, np.exp(-m * np.maximum(distance, 0)), 0.0)
    return shape * (np.expm1(-m) / np.expm1(-m * t))[:, None]


def rope_first_token_bound(xi: ArrayLike, t: ArrayLike) -> Float[np.ndarray, " *shape"] | np.float64:
    """`e^(2 xi) / (e^(2 xi) + t - 1)`, the most that position `t` can give to the first of `t` equal tokens under RoPE.

    Args:
      xi: bound on `|q . k| / sqrt(K)` over the rotations, at least 0; broadcasts with `t`.
      t: positions, counted from 1.
    """
    bound, position = np.asarray(xi, dtype=np.float64), np.asarray(t, dtype=np.float64)
    if (bound < 0).any() or not np.isfinite(bound).all():
        raise check.fail("xi", xi, "finite and at least 0", "Pass the largest score in absolute value.")
    if (position < 1).any():
        raise check.fail("t", t, "at least 1", "Count positions from 1.")
    return 1.0 / (1.0 + (position - 1) * np.exp(-2 * bound))


def uniform_sink_mass(length: int) -> Float[np.ndarray, " U"]:
    """`alpha_k = (1 / (T - k + 1)) sum_{t = k}^{T} 1 / t` of uniform causal attention, for `k = 1 .. T`.

    For the first key `alpha_1 = H_T / T` (harmonic number), .0741 at `T = 64`.

    Args:
      length: `T`.

    Returns:
      `[U]`, entry 0 being `k = 1`.
    """
    t = np.arange(1, check.count("length", length) + 1)
    return np.cumsum((1.0 / t)[::-1])[::-1] / (length - t + 1)


def identity_sink_mass(length: int) -> Float[np.ndarray, " U"]:
    """`alpha_k = 1 / (T - k + 1)` of attention to oneself, for `k = 1 .. T`.

    A threshold of 0.3 calls the last three keys sinks; they are none. Read `alpha_k` only for `k` well below `T`.

    Args:
      length: `T`.

    Returns:
      `[U]`, entry 0 being `k = 1`.
    """
    return 1.0 / np.arange(check.count("length", length), 0, -1)
