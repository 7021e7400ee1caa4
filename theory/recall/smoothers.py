"""Attention as regression on the pairs that were seen: the weights of local smoothers, and their exact risk.

A smoother answers `sum_j A_ij y_j` at the point `q_i`, with weights that depend on the covariates alone:

    local constant   A = p, p_ij ~ exp(-|q_i - k_j|^2 / 2 h^2)        softmax with a Gaussian kernel, Nadaraya-Watson
    local linear     A = p (1 + (k_j - m_i)^T C_i^-1 (q_i - m_i))     local linear attention
    m = sum_j p_j k_j,   C = sum_j p_j (k_j - m)(k_j - m)^T + lambda I

so that given the covariates its squared error has mean `(sum_j A_ij f(k_j) - f(q_i))^2 + s2 sum_j A_ij^2`. Rows of both
sum to one; with `lambda -> infinity` the second is the first.

Source: arXiv 2510.01450 (there with `lambda` relative to the normalised weights, as in its code); the risk is standard.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


class Risk(NamedTuple):
    """Mean squared error of an estimate of a function without noise, in two parts.

    Attributes:
      bias: what the error is without label noise, squared.
      variance: what label noise adds.
    """

    bias: Float[np.ndarray, " ..."]
    variance: Float[np.ndarray, " ..."]

    @property
    def total(self) -> Float[np.ndarray, " ..."]:
        """Their sum."""
        return self.bias + self.variance


def kernel_weights(points: ArrayLike, covariates: ArrayLike, bandwidth: float) -> Float[np.ndarray, "P n"]:
    """Local constant: `p_ij ~ exp(-|q_i - k_j|^2 / 2 h^2)`, rows of sum 1.

    Args:
      points: `[P, d]` queries `q`; a vector is taken for `d = 1`.
      covariates: `[n, d]` keys `k`.
      bandwidth: `h`.
    """
    q, k = _rows("points", points), _rows("covariates", covariates)
    h = check.number("bandwidth", bandwidth, 0.0, strict=True)
    scores = (q @ k.T - np.sum(k**2, axis=1) / 2) / h**2
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def local_linear_weights(
    points: ArrayLike, covariates: ArrayLike, bandwidth: float, ridge: float = 0.0
) -> Float[np.ndarray, "P n"]:
    """Local linear: `p_ij (1 + (k_j - m_i)^T C_i^-1 (q_i - m_i))`, rows of sum 1, entries of either sign.

    Args:
      points: `[P, d]` queries `q`; a vector is taken for `d = 1`.
      covariates: `[n, d]` keys `k`.
      bandwidth: `h`.
      ridge: `lambda`. At 0 the pseudo-inverse is taken: no slope in directions that the keys do not span.
    """
    q, k = _rows("points", points), _rows("covariates", covariates)
    p = kernel_weights(q, k, bandwidth)
    lam = check.number("ridge", ridge, 0.0)
    offset = q - p @ k
    centred = k - (p @ k)[:, None, :]
    spread = np.einsum("pn,pni,pnj->pij", p, centred, centred, optimize=True)
    if lam > 0:
        slope = np.linalg.solve(spread + lam * np.eye(k.shape[1]), offset[:, :, None])[:, :, 0]
    else:
        slope = np.einsum("pij,pj->pi", np.linalg.pinv(spread, rcond=1e-12, hermitian=True), offset)
    return p * (1 + np.einsum("pni,pi->pn", centred, slope))


def smoother_risk(weights: ArrayLike, seen: ArrayLike, wanted: ArrayLike, noise_variance: float) -> Risk:
    """Exact, given the covariates: `bias = (A f(k) - f(q))^2`, `variance = s2 sum_j A_ij^2`.

    Args:
      weights: `A`, `[..., P, n]`.
      seen: `[..., n]`, `f` at the covariates.
      wanted: `[..., P]`, `f` at the points.
      noise_variance: `s2`.

    Returns:
      Both parts `[..., P]`.
    """
    A = np.asarray(weights, dtype=np.float64)
    miss = np.einsum("...pn,...n->...p", A, np.asarray(seen, dtype=np.float64)) - np.asarray(wanted)
    s2 = check.number("noise_variance", noise_variance, 0.0)
    return Risk(miss**2, s2 * np.sum(A**2, axis=-1))


def _rows(field: str, value: ArrayLike) -> check.Array:
    array = check.finite(field, np.asarray(value, dtype=np.float64))
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise check.fail(f"shape of {field}", array.shape, "[n, d], not empty", "Pass one row for each.")
    return array
