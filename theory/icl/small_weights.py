"""The best that softmax heads with small attention weights can do, for inputs of any mean: a mean plus a debiased step.

Heads `softmax(x_l^T K_h x_q)` of small `K_h` give, to first order, `(1/L) (1 + (x_l - xbar)^T K_h x_q)`, so that

    yhat = sum_h mu_h sum_l softmax_h y_l = alpha ybar + x_q^T Gamma g,  alpha = sum_h mu_h,  Gamma = sum_h mu_h K_h^T,

with the debiased `g = (1/L) sum_l y_l (x_l - xbar)`. Centred inputs want `alpha = 0`, the zero-sum rule; inputs with
a mean do not.

Source: arXiv 2503.12734 for centred inputs; the optimum for any mean is derived here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.estimators import best_preconditioner, moments, population_risk
from theory.icl.setting import Setting


class SmallWeights(NamedTuple):
    """The best predictor of heads with small attention weights.

    Attributes:
      alpha: sum of the output weights.
      gamma: `[d, d]` sum of output weight times attention matrix, row index on the side of the query.
      risk: floor included.
    """

    alpha: float
    gamma: Float[np.ndarray, "d d"]
    risk: float


def small_weight_risk(alpha: float, gamma: ArrayLike, setting: Setting) -> float:
    """`E[(y_q - alpha ybar - x_q^T Gamma g)^2]`, exactly:

        risk = risk_debiased(Gamma) - 2 alpha k + alpha^2 (k + v) + 2 alpha m^T Gamma B m,
        k = m^T Psi m,   v = (tr(Psi Sigma) + s2) / L,   B = E[g beta^T].

    Derivation: `xbar` is independent of the sample covariance, hence `E[ybar (beta . x_q)] = k`,
    `E[ybar^2] = k + v`, `E[g ybar] = B m`.

    Args:
      alpha: weight of the mean label.
      gamma: `[d, d]`.
      setting: the data.
    """
    weight = check.number("alpha", alpha)
    matrix = check.matrix("gamma", gamma, (setting.dim, setting.dim))
    k, v, B = _terms(setting)
    m = setting.shift
    cross = -2 * weight * k + weight**2 * (k + v) + 2 * weight * float(m @ matrix @ B @ m)
    return population_risk(matrix, setting, "debiased") + cross


def best_small_weights(setting: Setting) -> SmallWeights:
    """The minimiser of `small_weight_risk`. With `Gamma*` the best debiased preconditioner, `q = m^T M^-1 m` and
    `D = m^T Gamma* B m`,

        alpha = (k - D) / (k + v - q D),     Gamma = (I - alpha M^-1 m m^T) Gamma*.

    Derivation: the gradient in `Gamma`, `2 M (Gamma G - B^T) + 2 alpha m m^T B^T`, vanishes at that `Gamma`; then the
    gradient in `alpha` is `2 alpha (k + v) - 2 k + 2 (1 - alpha q) D`. At `m = 0` it is the debiased optimum.

    Args:
      setting: the data it is trained on.
    """
    m, best = setting.shift, best_preconditioner(setting, "debiased")
    k, v, B = _terms(setting)
    lifted = np.linalg.pinv(setting.second_moment, hermitian=True) @ m
    known = float(m @ best @ B @ m)
    cost = k + v - float(m @ lifted) * known
    alpha = (k - known) / cost if cost > 0 else 0.0
    gamma = best - alpha * np.outer(lifted, m @ best)
    return SmallWeights(alpha, gamma, small_weight_risk(alpha, gamma, setting))


def _terms(setting: Setting) -> tuple[float, float, check.Array]:
    """`k`, `v` and `B` of `small_weight_risk`."""
    m, psi = setting.shift, setting.psi
    v = (float(np.trace(psi @ setting.sigma)) + setting.noise_variance) / setting.context
    return float(m @ psi @ m), v, moments(setting, "debiased").B
