"""The law `q` proportional to `p e^x`, in the accuracy that a vanishing `x` asks for."""

from __future__ import annotations

import numpy as np

from theory._checks import Array


def _excess_exp(x: Array) -> Array:
    """`e^x - 1 - x` for x <= 1, to full relative accuracy (six terms of the series below 0.01)."""
    small = np.abs(x) < 1e-2
    y = np.where(small, x, 0.0)
    series = y * y / 2 * (1 + y / 3 * (1 + y / 4 * (1 + y / 5 * (1 + y / 6 * (1 + y / 7)))))
    return np.where(small, series, np.expm1(x) - x)


def centred(p: Array, x: Array) -> Array:
    """`x` minus its mean under each row of `p`; exactly zero for a constant `x`.

    Args:
      p: `[V, V]` rows that sum to one.
      x: `[V]`, or `[V, V]` one vector for each row.
    """
    shifted = np.broadcast_to(x - x[..., :1], p.shape)
    return shifted - (p * shifted).sum(axis=1, keepdims=True)


def tilt(p: Array, x: Array) -> tuple[Array, Array]:
    """`KL(p || q)` for each row and `q - p`, for `q` proportional to `p e^x` with `x` centred under `p`.

    Both keep their relative accuracy for tiny `x`: `KL = log sum p e^x`, and `sum p x = 0` is used, not computed.
    """
    top = np.where(p > 0, x, -np.inf).max(axis=1)
    near = np.log1p((p * _excess_exp(np.minimum(x, 1.0))).sum(axis=1))
    scaled = np.exp(np.minimum(np.where(p > 0, x - top[:, None], 0.0), 0.0))
    far = top + np.log((p * scaled).sum(axis=1))
    kl = np.where(top < 1.0, near, far)
    return kl, p * np.expm1(np.where(p > 0, x - kl[:, None], 0.0))


def attention_parts(alpha: Array, W: float) -> tuple[Array, Array]:
    """`(s, d) = (e^alpha / (e^alpha + W), 1 / (e^alpha + W))`, without overflow."""
    log_total = np.logaddexp(alpha, np.log(W))
    return np.exp(alpha - log_total), np.exp(-log_total)
