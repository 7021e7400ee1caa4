"""Exact risks of one preconditioned step of gradient descent, plain and debiased, and the best steps.

    plain      yhat = x_q^T Gamma (1/L) sum_l y_l x_l
    debiased   yhat = x_q^T Gamma (1/L) sum_l y_l (x_l - xbar)

Both are `x_q^T Gamma g` with `g` independent of the query, so with `M = E[x x^T]`, `B = E[g beta^T]`, `G = E[g g^T]`

    risk(Gamma) = floor + tr(Psi M) - 2 tr(M Gamma B) + tr(M Gamma G Gamma^T),      Gamma* = B^T G^-1.

`B` and `G` follow from the fourth moments of a Gaussian (plain) or the second moments of a Wishart matrix (debiased);
`moments` says how. Everything here is exact at every `d` and `L`, for every mean, covariance and prior.

Source: arXiv 2503.12734 (estimators); 2306.09927, 2307.03576 (plain, centred); the general forms are derived here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.setting import Setting

Estimator = Literal["plain", "debiased"]


class BestStep(NamedTuple):
    """The best multiple of the identity as preconditioner.

    Attributes:
      eta: the step size.
      risk: its risk, floor included.
    """

    eta: float
    risk: float


class Moments(NamedTuple):
    """Second moments that decide every risk.

    Attributes:
      M: `[d, d]` `E[x x^T]` of the query.
      B: `[d, d]` `E[g beta^T]`.
      G: `[d, d]` `E[g g^T]`.
    """

    M: Float[np.ndarray, "d d"]
    B: Float[np.ndarray, "d d"]
    G: Float[np.ndarray, "d d"]


def moments(setting: Setting, estimator: Estimator = "debiased") -> Moments:
    """`M`, `B = E[g beta^T]` and `G = E[g g^T]` of `g = (1/L) sum_l y_l x_l` or its debiased form.

        plain      B = M Psi,         G = (1 + 1/L) M Psi M + ((tr(Psi M) + s2) M - 2 (m^T Psi m) m m^T) / L
        debiased   B = a Sigma Psi,   G = a [Sigma Psi Sigma + ((tr(Psi Sigma) + s2) / L) Sigma],    a = (L - 1) / L

    Derivation: `g = S beta + noise`, hence `B = E[S] Psi`, `G = E[S Psi S] + (s2/L) E[S]`. Plain, `S` is a mean of
    `L` independent `x x^T`, and `E[x_i x_j x_k x_l] = M_ij M_kl + M_ik M_jl + M_il M_jk - 2 m_i m_j m_k m_l`.
    Debiased, `L S` is Wishart with `n = L - 1` degrees of freedom, whatever the mean, and
    `E[W Psi W] = n (n + 1) Sigma Psi Sigma + n tr(Psi Sigma) Sigma`.

    Args:
      setting: the data.
      estimator: `plain` or `debiased`.
    """
    check.choice("estimator", estimator, ("plain", "debiased"))
    sigma, psi, m, M = setting.sigma, setting.psi, setting.shift, setting.second_moment
    length, s2 = setting.context, setting.noise_variance
    if estimator == "plain":
        noise = (setting.signal + s2) * M - 2 * (m @ psi @ m) * np.outer(m, m)
        return Moments(M, M @ psi, (1 + 1 / length) * M @ psi @ M + noise / length)
    a = (length - 1) / length
    spread = sigma @ psi @ sigma + (np.trace(psi @ sigma) + s2) / length * sigma
    return Moments(M, a * sigma @ psi, a * spread)


def population_risk(gamma: ArrayLike, setting: Setting, estimator: Estimator = "debiased") -> float:
    """`E[(y_q - x_q^T Gamma g)^2]`, exactly; for the risk under other data than `Gamma` was made for, pass those data.

    Args:
      gamma: `[d, d]` preconditioner, row index on the side of the query.
      setting: the data at test time.
      estimator: `plain` or `debiased`.
    """
    matrix = check.matrix("gamma", gamma, (setting.dim, setting.dim))
    M, B, G = moments(setting, estimator)
    return setting.floor + setting.signal + float(np.trace(M @ matrix @ (G @ matrix.T - 2 * B)))


def risk_gradient(gamma: ArrayLike, setting: Setting, estimator: Estimator = "debiased") -> Float[np.ndarray, "d d"]:
    """`d risk / d Gamma = 2 M (Gamma G - B^T)`.

    Args: as for `population_risk`.

    Returns:
      `[d, d]`.
    """
    matrix = check.matrix("gamma", gamma, (setting.dim, setting.dim))
    M, B, G = moments(setting, estimator)
    return 2 * M @ (matrix @ G - B.T)


def best_preconditioner(setting: Setting, estimator: Estimator = "debiased") -> Float[np.ndarray, "d d"]:
    """`Gamma*`, the minimiser of `population_risk`.

        debiased   Gamma* = Psi [Sigma Psi + ((tr(Psi Sigma) + s2) / L) I]^-1, whatever the mean;
                   with Psi = I / d:  [Sigma + ((tr(Sigma) + d s2) / L) I]^-1
        plain      Gamma* = Psi M G^-1 (`G` of `moments`);
                   with m = 0, Psi = I / d:  [(1 + 1/L) Sigma + ((tr(Sigma) + d s2) / L) I]^-1

    Derivation: the gradient `2 M (Gamma G - B^T)` vanishes at `B^T G^-1`; for the debiased estimator both hold a
    factor `a Sigma` that cancels. The mean of the inputs shifts the target `beta . m`, of which a debiased `g` knows
    only what it knows of `beta`, so the best guess of `beta` and with it `Gamma*` do not change.

    Args:
      setting: the data it is trained on.
      estimator: `plain` or `debiased`.

    Returns:
      `[d, d]`; symmetric, except for a plain estimator whose matrices do not commute.
    """
    check.choice("estimator", estimator, ("plain", "debiased"))
    if estimator == "debiased":
        spread = setting.sigma @ setting.psi
        ridge = (np.trace(spread) + setting.noise_variance) / setting.context
        return np.linalg.solve((spread + ridge * np.eye(setting.dim)).T, setting.psi.T).T
    _, B, G = moments(setting, "plain")
    return B.T @ np.linalg.pinv(G, hermitian=True)


def best_preconditioned_risk(setting: Setting, estimator: Estimator = "debiased") -> float:
    """`population_risk(Gamma*) = floor + tr(Psi M) - tr(M Gamma* B)`.

    Args:
      setting: the data, in training and test.
      estimator: `plain` or `debiased`.
    """
    M, B, _ = moments(setting, estimator)
    return setting.floor + setting.signal - float(np.trace(M @ best_preconditioner(setting, estimator) @ B))


def step_risk(eta: ArrayLike, setting: Setting, estimator: Estimator = "debiased") -> Float[np.ndarray, " ..."]:
    """`population_risk(eta I) = floor + tr(Psi M) - 2 eta tr(M B) + eta^2 tr(M G)`.

    Args:
      eta: step size, any shape.
      setting: the data.
      estimator: `plain` or `debiased`.

    Returns:
      Of the shape of `eta`.
    """
    steps = check.finite("eta", np.asarray(eta, dtype=np.float64))
    M, B, G = moments(setting, estimator)
    return np.asarray(setting.floor + setting.signal - 2 * steps * np.trace(M @ B) + steps**2 * np.trace(M @ G))


def gd_risk(eta: ArrayLike, setting: Setting) -> Float[np.ndarray, " ..."]:
    """Risk of `yhat = (eta/L) sum_l y_l x_l . x_q`. In the isotropic setting

        R_GD(eta) = s2 + 1 - 2 eta + eta^2 (1 + (d + 1 + d s2) / L).

    Args and returns: as for `step_risk`.
    """
    return step_risk(eta, setting, "plain")


def dgd_risk(eta: ArrayLike, setting: Setting) -> Float[np.ndarray, " ..."]:
    """Risk of `yhat = (eta/L) sum_l y_l (x_l - xbar) . x_q`. In the isotropic setting, with `a = (L - 1) / L`,

        R_DGD(eta) = s2 + 1 - 2 eta a + eta^2 a (L + d + d s2) / L.

    Args and returns: as for `step_risk`.
    """
    return step_risk(eta, setting, "debiased")


def gd_optimum(setting: Setting) -> BestStep:
    """The best step of plain gradient descent; isotropic: `eta = 1 / (1 + (d + 1 + d s2)/L)`, `risk = s2 + 1 - eta`.

    Args:
      setting: the data.
    """
    return _best_step(setting, "plain")


def dgd_optimum(setting: Setting) -> BestStep:
    """The best step of debiased gradient descent; isotropic: `eta = 1 / (1 + (1 + s2) d/L)`, `risk = s2 + 1 - a eta`.

    Args:
      setting: the data, of at least two pairs.
    """
    return _best_step(setting, "debiased")


def _best_step(setting: Setting, estimator: Estimator) -> BestStep:
    """`eta = tr(M B) / tr(M G)`, the vertex of the parabola `step_risk`."""
    M, B, G = moments(setting, estimator)
    gain, cost = float(np.trace(M @ B)), float(np.trace(M @ G))
    if cost <= 0:
        raise check.fail("setting", setting, "one in which labels say something", "Use more pairs or more variance.")
    return BestStep(gain / cost, setting.floor + setting.signal - gain**2 / cost)
