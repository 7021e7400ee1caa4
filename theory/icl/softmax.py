"""What softmax attention over Gaussian keys does at large context: tilting, concentration, kernel smoothing.

Source: the lemmas behind the approximate loss of arXiv 2503.12734; the finite-`d` average and the smoother's exact form
are derived here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.setting import Setting


class Tilted(NamedTuple):
    """A Gaussian law after tilting.

    Attributes:
      mean: `[d]`.
      covariance: `[d, d]`.
    """

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]


def tilt(direction: ArrayLike, setting: Setting) -> Tilted:
    """The law of a key under softmax weights of logits `a . x`: `N(m + Sigma a, Sigma)` as `L -> infinity`.

    Identity: `E[f(x) e^(a.x)] / E[e^(a.x)] = E[f(x + Sigma a)]` for Gaussian `x` (complete the square). A head with
    weight `omega` has `a = omega x_q`, so its average of `x_l` is `m + omega Sigma x_q`, its average of `y_l` is
    `beta` times that.

    Args:
      direction: `[d]` `a`.
      setting: gives `m` and `Sigma`.
    """
    a = check.vector("direction", direction, setting.dim)
    return Tilted(setting.shift + setting.sigma @ a, setting.sigma.copy())


def attention_overlap(omega: ArrayLike, other: ArrayLike, setting: Setting) -> Float[np.ndarray, " ..."]:
    """`sum_l p_l p'_l ~ e^(d omega omega') / L` for two heads of an isotropic setting, in the typical case.

    Derivation: `E[e^((omega + omega') x.q)] / (E[e^(omega x.q)] E[e^(omega' x.q)]) = e^(omega omega' |q|^2)`, and
    `|q|^2` is about `d`. With `other = omega` it is `|softmax|^2`, one over the number of keys that are attended to.

    Args:
      omega: weight of the first head, any shape.
      other: weight of the second, of a shape that broadcasts.
      setting: gives `d` and `L`.
    """
    w, v = np.asarray(omega, dtype=np.float64), np.asarray(other, dtype=np.float64)
    return np.asarray(np.exp(setting.dim * w * v) / setting.context)


def mean_attention_overlap(omega: float, other: float, setting: Setting) -> float:
    """The average over queries of `e^(omega omega' |x_q|^2) / L`: `(1 - 2 omega omega')^(-d/2) / L`.

    It exceeds `attention_overlap`, by the factor `1 + d (omega omega')^2` to leading order; large contexts only.

    Args:
      omega: weight of the first head.
      other: weight of the second; `omega other` below 1/2, where the average is finite.
      setting: gives `d` and `L`.
    """
    product = check.number("omega * other", omega * other, high=0.5, strict=True)
    return float((1 - 2 * product) ** (-setting.dim / 2) / setting.context)


def softmax_weights(keys: ArrayLike, query: ArrayLike, omega: float) -> Float[np.ndarray, " L"]:
    """`softmax_l(omega x_l . x_q)`.

    Args:
      keys: `[L, d]`.
      query: `[d]`.
      omega: attention weight.
    """
    x, q = _keys(keys, query)
    logits = check.number("omega", omega) * (x @ q)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def smoother_weights(
    keys: ArrayLike, query: ArrayLike, bandwidth: float, *, key_norms: bool = True
) -> Float[np.ndarray, " L"]:
    """The Nadaraya-Watson reading of a head: weights `~ exp(-|x_l - x_q|^2 / (2 h^2)) exp(|x_l|^2 / (2 h^2))`.

    Equal to `softmax_weights` with `omega = 1 / h^2`, for `omega x.q = (omega/2) (|x|^2 + |q|^2 - |x - q|^2)`.
    Without the second factor it is the Gaussian smoother itself, which softmax is only for keys of one norm. Either way
    weights are positive: one head averages labels, and cannot take a difference of them as descent does.

    Args:
      keys: `[L, d]`.
      query: `[d]`.
      bandwidth: `h`.
      key_norms: whether to keep the second factor.
    """
    x, q = _keys(keys, query)
    h = check.number("bandwidth", bandwidth, 0.0, strict=True)
    logits = -((x - q) ** 2).sum(axis=1) / (2 * h**2)
    if key_norms:
        logits = logits + (x**2).sum(axis=1) / (2 * h**2)
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def bandwidth(omega: float) -> float:
    """`h = omega^(-1/2)`, the bandwidth of a head of positive attention weight.

    Args:
      omega: above 0.
    """
    return check.number("omega", omega, 0.0, strict=True) ** -0.5


def _keys(keys: ArrayLike, query: ArrayLike) -> tuple[check.Array, check.Array]:
    q = check.vector("query", query)
    x = np.asarray(keys, dtype=np.float64)
    return check.matrix("keys", x, (x.shape[0] if x.ndim else 0, q.size)), q
