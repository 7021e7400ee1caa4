"""The exact risk of softmax heads, by Monte Carlo over the inputs alone; no approximation of the attention.

    yhat = sum_h mu_h sum_l softmax_l(omega_h x_l . x_q) y_l

Given the inputs, `yhat` is linear in `beta` and the noise, so their averages are taken by hand: with the weights `p_h`
and the means `v_h = sum_l p_hl x_l`,

    risk = floor + tr(Psi M) - 2 b.mu + mu^T Q mu,    b_h = E[x_q^T Psi v_h],    Q_hk = E[v_h^T Psi v_k + s2 p_h.p_k].

The risk is a parabola in `mu`: its best output weights are `Q^-1 b`. Works for inputs of any mean and covariance.

Source: the estimator of arXiv 2503.12734, with attention `omega_h I` and values that read the label.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.proportional import Estimate
from theory.icl.setting import Setting


class ExactHeads(NamedTuple):
    """Heads with the best output weights for them.

    Attributes:
      omega: `[H]` attention weights.
      mu: `[H]` output weights.
      risk: floor included, with its standard error.
    """

    omega: Float[np.ndarray, " H"]
    mu: Float[np.ndarray, " H"]
    risk: Estimate


class _Sample(NamedTuple):
    """Inputs `[B, L, d]` and queries `[B, d]`, reused for every `omega` (common random numbers)."""

    x: check.Array
    query: check.Array


def exact_head_risk(
    omega: ArrayLike, mu: ArrayLike, setting: Setting, prompts: int = 20_000, *, seed: int = 0
) -> Estimate:
    """The risk of given heads.

    Args:
      omega: `[H]` attention weights.
      mu: `[H]` output weights.
      setting: the data.
      prompts: number of draws of the inputs.
      seed: of NumPy's generator.

    Returns:
      The mean and its standard error, floor included.
    """
    w, sample = check.vector("omega", omega), _draw(setting, prompts, seed)
    out = check.vector("mu", mu, w.size)
    return _risk(w, out, setting, sample)


def exact_best_mu(omega: ArrayLike, setting: Setting, prompts: int = 20_000, *, seed: int = 0) -> ExactHeads:
    """The best output weights for given attention weights, `mu = Q^-1 b`, and their risk.

    The risk is that of the draws which `mu` was chosen on: low by about `H / prompts` of what noise adds.

    Args: as for `exact_head_risk`.
    """
    w, sample = check.vector("omega", omega), _draw(setting, prompts, seed)
    b, Q = _parabola(w, setting, sample)
    mu = np.linalg.lstsq(Q, b, rcond=None)[0]
    return ExactHeads(w, mu, _risk(w, mu, setting, sample))


def exact_one_head(
    setting: Setting, prompts: int = 20_000, bounds: tuple[float, float] = (0.05, 2.0), *, seed: int = 0
) -> ExactHeads:
    """The best single head: the least risk over `omega`, by a search on common random numbers.

    Args:
      setting: the data.
      prompts: number of draws of the inputs.
      bounds: of `omega`.
      seed: of NumPy's generator.
    """
    from scipy.optimize import minimize_scalar  # here, so that importing the package stays fast

    sample = _draw(setting, prompts, seed)

    def gained(w: float) -> float:
        b, Q = _parabola(np.array([w]), setting, sample)
        return -float(b[0] ** 2 / Q[0, 0])

    best = minimize_scalar(gained, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    omega = np.array([float(best.x)])
    b, Q = _parabola(omega, setting, sample)
    mu = b / Q[0, 0]
    return ExactHeads(omega, mu, _risk(omega, mu, setting, sample))


def _draw(setting: Setting, prompts: int, seed: int) -> _Sample:
    draws, rng = check.count("prompts", prompts, 2), np.random.default_rng(seed)
    root = check.root(setting.sigma)
    x = rng.standard_normal((draws, setting.context, setting.dim)) @ root + setting.shift
    return _Sample(x, rng.standard_normal((draws, setting.dim)) @ root + setting.shift)


def _attend(
    w: check.Array, setting: Setting, sample: _Sample
) -> Iterator[tuple[check.Array, check.Array, check.Array]]:
    """Blocks of queries `[B, d]`, attention `[B, H, L]` and attended inputs `[B, H, d]`."""
    draws, length, _ = sample.x.shape
    block = max(1, 1_000_000 // (length * max(w.size, 1)))
    for start in range(0, draws, block):
        x, query = sample.x[start : start + block], sample.query[start : start + block]
        score = (x @ query[:, :, None])[..., 0]
        logit = w[:, None] * score[:, None, :]
        p = np.exp(logit - logit.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        yield query, p, p @ x


def _parabola(w: check.Array, setting: Setting, sample: _Sample) -> tuple[check.Array, check.Array]:
    """`b [H]` and `Q [H, H]`."""
    b, Q, draws = np.zeros(w.size), np.zeros((w.size, w.size)), sample.x.shape[0]
    for query, p, v in _attend(w, setting, sample):
        b += np.einsum("bhi,bi->h", v, query @ setting.psi)
        Q += np.einsum("bhi,bki->hk", v @ setting.psi, v) + setting.noise_variance * np.einsum("bhl,bkl->hk", p, p)
    return b / draws, Q / draws


def _risk(w: check.Array, mu: check.Array, setting: Setting, sample: _Sample) -> Estimate:
    """Mean and error of `|x_q - sum_h mu_h v_h|^2_Psi + s2 |sum_h mu_h p_h|^2`.

    `tr(Psi M)` is known, so the draw's own `x_q^T Psi x_q` serves as control variate.
    """
    values = []
    for query, p, v in _attend(w, setting, sample):
        miss = query - np.einsum("h,bhi->bi", mu, v)
        own = np.einsum("bi,ij,bj->b", query, setting.psi, query)
        noise = setting.noise_variance * (np.einsum("h,bhl->bl", mu, p) ** 2).sum(axis=1)
        values.append(np.stack([np.einsum("bi,ij,bj->b", miss, setting.psi, miss) + noise, own]))
    value, own = np.concatenate(values, axis=1)
    centred = own - own.mean()
    slope = float(centred @ value / (centred @ centred))
    residual = value - value.mean() - slope * centred
    mean = float(value.mean() - slope * (own.mean() - setting.signal))
    return Estimate(setting.floor + mean, float(residual.std(ddof=2) / np.sqrt(value.size)))
