"""How much attention can amplify a change of its input: bounds on the norm of the Jacobian of one head.

    f(X)_i = sum_j w_ij W_v x_j,     a_ij = (W_q x_i) . (W_k x_j) + b,     M = W_q^T W_k,     rows x_i of X

with `w = sigmoid(a)` or the softmax of `a` over `j`. A change `h` of the input moves the values, the scores of the
query and the scores of the keys,

    (J h)_i = sum_j w_ij W_v h_j + sum_j [dw/da (h_i^T M x_j + x_i^T M h_j)]_ij W_v x_j,

and each term is bounded on its own.

Source: arXiv 2409.04431 bounds sigmoid attention by quantities of this kind; the bounds as they stand are derived here,
and need not be those of the paper. A factor `1/sqrt(d)` of the scores belongs into `W_q`; under a causal mask the
sigmoid bounds hold as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory import _checks as check


class SigmoidBound(NamedTuple):
    """Two bounds on the spectral norm of the Jacobian, and what they are made of.

    Attributes:
      wide: with the mean square norm of the inputs added to the norm of their second moment.
      tight: without it: never larger.
      weight: `n sup sigmoid(a)`, `n` times the largest weight that the scores allow.
      slope: `n sup sigmoid'(a)`.
      score_norm: `|M|_2`.
      value_norm: `|W_v|_2`.
      mean_square: `(1/n) sum |x_i|^2`.
      moment_norm: `|(1/n) sum x_i x_i^T|_2`.
    """

    wide: float
    tight: float
    weight: float
    slope: float
    score_norm: float
    value_norm: float
    mean_square: float
    moment_norm: float


class SoftmaxBound(NamedTuple):
    """Two bounds on the spectral norm of the Jacobian.

    Attributes:
      local: from the attention weights at these inputs.
      uniform: for all inputs of norms up to the largest one here.
    """

    local: float
    uniform: float


def sigmoid_suprema(low: float, high: float) -> tuple[float, float]:
    """The largest `sigmoid(a)` and the largest `sigmoid'(a)` for `a` in `[low, high]`: 1/4 if 0 is inside.

    Args:
      low: smallest score, bias included.
      high: largest score.
    """
    check.number("low", low)
    check.number("high", high, low)
    return _sigmoid(high), _slope(min(max(0.0, low), high))


def sigmoid_bound(X: ArrayLike, W_q: ArrayLike, W_k: ArrayLike, W_v: ArrayLike, bias: float) -> SigmoidBound:
    """Bounds of sigmoid attention without normaliser. With `s = n sup sigmoid`, `s' = n sup sigmoid'` over the scores,

        wide    |J| <= |W_v| (s + 2 s' |M| ((1/n) sum |x_i|^2 + |(1/n) sum x_i x_i^T|))
        tight   |J| <= |W_v| (s + 2 s' |M| |(1/n) sum x_i x_i^T|)

    Derivation: the first term of `J` is `w` times `W_v`, and `|w|_2 <= |w|_F <= s`. The second is block diagonal, with
    `sum_j sigmoid'_ij x_j x_j^T <= s' (1/n) sum x_j x_j^T`. The third is Cauchy-Schwarz over the pairs `(i, j)` in
    `sum sigmoid'_ij (u_i . W_v x_j) (x_i^T M h_j)` for unit `u` and `h`. With `b = -log n` and bounded scores `a`,
    `s` and `s'` are at most `e^(max a)`, whatever `n`.

    Args:
      X: `[T, D]`.
      W_q: `[K, D]`.
      W_k: `[K, D]`.
      W_v: `[V, D]`.
      bias: `b`.
    """
    rows, q, k, v = _inputs(X, W_q, W_k, W_v)
    n, scores = rows.shape[0], (rows @ q.T) @ (rows @ k.T).T + check.number("bias", bias)
    weight, slope = (n * sup for sup in sigmoid_suprema(float(scores.min()), float(scores.max())))
    score_norm, value_norm = _norm(q.T @ k), _norm(v)
    mean_square, moment = float(np.mean(np.sum(rows**2, axis=1))), _norm(rows.T @ rows / n)
    wide, tight = (value_norm * (weight + 2 * slope * score_norm * spread) for spread in (mean_square + moment, moment))
    return SigmoidBound(wide, tight, weight, slope, score_norm, value_norm, mean_square, moment)


def softmax_bound(X: ArrayLike, W_q: ArrayLike, W_k: ArrayLike, W_v: ArrayLike) -> SoftmaxBound:
    """Bounds of softmax attention without a mask. With weights `P`, `C_i` the covariance of the inputs under row `i`,
    `G_j = sum_i P_ij x_i x_i^T`, `R` the largest norm of an input and `e = min(sqrt(n), exp(|M| R^2))`,

        local     |J| <= |W_v| (|P|_2 + |M| (max_i |C_i| + sqrt(max_i |C_i| max_j |G_j|)))
        uniform   |J| <= |W_v| (e + |M| R^2 (1 + e))

    Derivation: `dP_ij = P_ij (da_ij - sum_m P_im da_im)`. The query's term is `W_v C_i M^T h_i`; the keys' term is
    Cauchy-Schwarz over the pairs, weighted by `P`, as for the sigmoid. Uniformly `|C_i| <= R^2`, and `|P|_2^2` and
    `max_j |G_j| / R^2` are at most the largest column sum of `P`: at most `n`, and at most `e^(2 |M| R^2)` since no
    weight exceeds that over `n`. So softmax has no bound that is free of both `n` and `e^(R^2)`, as it must: arXiv
    2312.14820 shows growth like `sqrt(n)` on compact sets.

    Args: as for `sigmoid_bound`.
    """
    rows, q, k, v = _inputs(X, W_q, W_k, W_v)
    scores = (rows @ q.T) @ (rows @ k.T).T
    P = np.exp(scores - scores.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    score_norm, value_norm = _norm(q.T @ k), _norm(v)
    outer = rows[:, :, None] * rows[:, None, :]
    mean = P @ rows
    covariance = np.einsum("ij,jab->iab", P, outer) - mean[:, :, None] * mean[:, None, :]
    spread = float(np.linalg.norm(covariance, 2, axis=(1, 2)).max())
    columns = float(np.linalg.norm(np.einsum("ij,iab->jab", P, outer), 2, axis=(1, 2)).max())
    local = value_norm * (_norm(P) + score_norm * (spread + np.sqrt(spread * columns)))
    radius = float(np.sum(rows**2, axis=1).max())
    with np.errstate(over="ignore"):
        e = float(np.minimum(np.sqrt(rows.shape[0]), np.exp(score_norm * radius)))
    return SoftmaxBound(local, value_norm * (e + score_norm * radius * (1 + e)))


def initial_row_sum(tokens: int, bias: float) -> float:
    """`n sigmoid(b)`, the sum of a row at scores 0: `n / (1 + n)` for `b = -log n`, `n / 2` for `b = 0`.

    Args:
      tokens: `n`.
      bias: `b`.
    """
    return check.count("tokens", tokens) * _sigmoid(check.number("bias", bias))


def _sigmoid(a: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -a)))


def _slope(a: float) -> float:
    return _sigmoid(a) * _sigmoid(-a)


def _norm(matrix: check.Array) -> float:
    return float(np.linalg.norm(matrix, 2))


def _inputs(X: ArrayLike, W_q: ArrayLike, W_k: ArrayLike, W_v: ArrayLike) -> tuple[check.Array, ...]:
    rows, q, k, v = (np.asarray(a, dtype=np.float64) for a in (X, W_q, W_k, W_v))
    if any(a.ndim != 2 or a.shape[1] != rows.shape[-1] for a in (rows, q, k, v)) or q.shape != k.shape:
        found = tuple(a.shape for a in (rows, q, k, v))
        raise check.fail("shapes of (X, W_q, W_k, W_v)", found, "[T, D], [K, D], [K, D], [V, D]", "Transpose them.")
    for name, array in (("X", rows), ("W_q", q), ("W_k", k), ("W_v", v)):
        check.finite(name, array)
    return rows, q, k, v
