"""Risks in the proportional limit `d, L -> infinity` with `xi = d/L` held, and the Bayes risk of finite prompts.

Isotropic inputs, prior `N(0, I / d)`, a noisy query: the setting of arXiv 2503.12734.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.setting import Setting


class Estimate(NamedTuple):
    """A Monte Carlo value.

    Attributes:
      value: the mean.
      error: its standard error.
    """

    value: float
    error: float


def bayes_limit_risk(xi: ArrayLike, noise_variance: ArrayLike) -> Float[np.ndarray, " ..."]:
    """The Bayes risk, `R = (1/2) [s2 - b + sqrt(4 s2 + (s2 + b)^2)]` with `b = (1 - xi) / xi`.

    Derivation: given the inputs the posterior of `beta` is Gaussian, and `R = s2 + s2 tr(X^T X + d s2 I)^-1`. The
    limit of the normalised trace at `-s2 xi` is the Stieltjes transform of the Marchenko-Pastur law, the positive
    root of a quadratic. Without noise `R = max(0, 1 - 1/xi)`.

    Args:
      xi: `d / L`, above 0, any shape.
      noise_variance: `s2`, at least 0, of a shape that broadcasts.

    Returns:
      The risk, floor `s2` included.
    """
    ratio, s2 = _ratio(xi), _variance(noise_variance)
    b = (1 - ratio) / ratio
    root = np.sqrt(4 * s2 + (s2 + b) ** 2)
    # Two forms of one root: each where it adds numbers of one sign.
    with np.errstate(divide="ignore", invalid="ignore"):
        stable = 2 * s2 / (ratio * (root + b - s2))
    return np.where(b > s2, stable, (s2 - b + root) / 2)


def gd_limit_risk(xi: ArrayLike, noise_variance: ArrayLike) -> Float[np.ndarray, " ..."]:
    """The risk of the best step, plain or debiased: `R = s2 + xi (1 + s2) / (1 + xi (1 + s2))`.

    Derivation: both optima of `theory.icl.estimators` lose their terms of order `1/L` at fixed `d/L`.

    Args and returns: as for `bayes_limit_risk`.
    """
    ratio, s2 = _ratio(xi), _variance(noise_variance)
    crowd = ratio * (1 + s2)
    return np.asarray(s2 + crowd / (1 + crowd))


def limit_risk_ratio(xi: ArrayLike, noise_variance: ArrayLike) -> Float[np.ndarray, " ..."]:
    """`gd_limit_risk / bayes_limit_risk`, at least 1: how near to Bayes one step of gradient descent comes.

    Args:
      xi: `d / L`, above 0.
      noise_variance: `s2`; above 0 where `xi <= 1`, else the Bayes risk is 0 and the ratio infinite.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(gd_limit_risk(xi, noise_variance) / bayes_limit_risk(xi, noise_variance))


def bayes_risk(setting: Setting, prompts: int = 2000, *, seed: int = 0) -> Estimate:
    """The Bayes risk of finite prompts of any Gaussian setting, by Monte Carlo over the inputs alone.

        R = floor + E tr(M C(X)),   C(X) = Psi - Psi X^T (X Psi X^T + s2 I)^-1 X Psi

    Derivation: given `X` the posterior of `beta` is Gaussian with covariance `C(X)`, whatever the labels; its mean is
    the best predictor (`ridge` with `lambda = d s2` if `Psi = I / d`), and the query is independent of it.

    Args:
      setting: the data.
      prompts: number of draws of `X`.
      seed: of NumPy's generator.
    """
    draws = check.count("prompts", prompts, 2)
    rng = np.random.default_rng(seed)
    d, length, s2, psi = setting.dim, setting.context, setting.noise_variance, setting.psi
    root, prior = check.root(setting.sigma), check.root(psi)
    target = prior @ setting.second_moment @ prior
    values = np.empty(draws)
    block = max(1, 2_000_000 // (length * d + min(length, d) ** 2))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        x = (rng.standard_normal((size, length, d)) @ root + setting.shift) @ prior
        values[start : start + size] = _posterior_trace(x, s2, target)
    return Estimate(setting.floor + float(values.mean()), float(values.std(ddof=1) / np.sqrt(draws)))


def _posterior_trace(x: check.Array, s2: float, target: check.Array) -> check.Array:
    """`tr(target (I - x^T (x x^T + s2 I)^+ x))` for whitened inputs `x [B, L, d]`: the smaller of two systems."""
    length, d = x.shape[1:]
    if length < d:
        gram = x @ x.mT + s2 * np.eye(length)
        gain = np.linalg.solve(gram, x) if s2 > 0 else np.linalg.pinv(gram, hermitian=True) @ x
        return np.trace(target) - np.einsum("blj,jk,blk->b", gain, target, x)
    if s2 > 0:
        inverse = np.linalg.inv(x.mT @ x / s2 + np.eye(d))
        return np.einsum("jk,bkj->b", target, inverse)
    gram = x.mT @ x
    return np.trace(target) - np.einsum("bjk,bkl,lj->b", np.linalg.pinv(gram, hermitian=True), gram, target)


def _ratio(xi: ArrayLike) -> check.Array:
    array = check.finite("xi", np.asarray(xi, dtype=np.float64))
    if (array <= 0).any():
        raise check.fail("smallest xi", float(array.min()), "above 0", "Pass xi = d / L.")
    return array


def _variance(noise_variance: ArrayLike) -> check.Array:
    array = check.finite("noise_variance", np.asarray(noise_variance, dtype=np.float64))
    if (array < 0).any():
        raise check.fail("smallest noise_variance", float(array.min()), "at least 0", "Pass variances.")
    return array
