"""The mean share of one term in a sum of independent ones, without sampling."""

from __future__ import annotations

import numpy as np

from theory import _checks as check


def mean_share(own: float, others: check.Array, weight: check.Array, count: int) -> float:
    """`E[a / (a + w_1 + ... + w_m)]` for independent `w >= 0` of one law:

        = int_0^inf e^(-u) E[e^(-u w / a)]^m du,      since 1/x = int_0^inf e^(-x s) ds.

    The integral is taken by the trapezoidal rule in `log u`, where its integrand decays at both ends.

    Args:
      own: `a`, above 0.
      others: points of the law of `w`.
      weight: their weights, of sum 1.
      count: `m`.
    """
    log_u = np.linspace(-40.0, 4.5, 900)
    ratio = others / own
    transform = np.array([weight @ np.exp(-np.exp(s) * ratio) for s in log_u])
    integrand = np.exp(log_u - np.exp(log_u)) * transform**count
    return float(integrand.sum() * (log_u[1] - log_u[0]))
