"""The slow valley: heads of two signs share one `|omega|`, `m_1 = eta*` holds, and `|omega|` falls like `t^(-1/6)`.

Let `p` heads have weight `omega = w` and `n` heads `-w`, with output weights that sum to `+-mu`, `P = 2 w mu = m_1`.
Then, with `c = (1 + s2) / L`, `N = p + n`, `r = 1/p + 1/n`,

    Ltilde = 1 + s2 - 2 P + P^2 F(w),    F(w) = 1 + c sinh(d w^2) / w^2 = 1 + c d (1 + (d w^2)^2 / 6 + ...).

`P` relaxes fast; on the slow manifold that is left, the flow of `Ltilde / 2` is

    dw/dt = - (F'(w) / 2) w^2 / (r (1 + 3 eta F' w) / (4 w^2) + N w^2 / eta^2),     eta(w) = 1 / F(w).

Derivation: `N` coordinates move with `w`, and `mu` has the mass `r`, so with `E(w, P) = Ltilde / 2`
`w' = -(E_w + 2 mu E_P) / N` and `mu' = -2 w E_P / r`. Put into `P' = 2 mu w' + 2 w mu'`, they give
`w' = -E_w w^2 / (r mu^2 (1 - w P'(w) / P) + N w^2)`, `E_w = P^2 F' / 2`. The flow lags behind the bottom `eta(w)` by
`eta E_P = -eta E_w / (2 mu)`, so `P(w) = eta - eta^2 F' w / 2` and `w P'(w) / P = -3 eta F' w`, up to `w^8`.

As `w -> 0` nearly all the motion is that of `mu`: `w' = -(4 / (3 r)) c d^3 w^7`, whatever `eta`. Two orders give

    w(t) = T^(-1/6) (1 + K / (2 T^(2/3)) + ...),    T = 8 c d^3 (t - t0) / r,
    K = 4 N / (r eta*^2) + 2 eta* c d^3 - d^2 / 10.

Source: the valley is that of the flow of arXiv 2503.12734; its law and constants are derived here.
Assumption: `setting` is isotropic with a noisy query, and heads of one sign have the same omega.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.reduced import step_size_limit, two_head_gain
from theory.icl.setting import Setting, require_isotropic


def valley_step(omega: ArrayLike, setting: Setting) -> Float[np.ndarray, " ..."]:
    """`eta(w) = 1 / F(w)`, the value of `m_1` at the bottom of the valley; `eta*` at `w = 0`.

    Args:
      omega: any shape.
      setting: an isotropic setting.
    """
    gain = two_head_gain(omega, setting)
    return np.asarray(gain / (1 + gain))


def valley_loss(omega: ArrayLike, setting: Setting) -> Float[np.ndarray, " ..."]:
    """`s2 + 1 - eta(w)`; above its infimum by `eta*^2 c d^3 w^4 / 6 + O(w^8)`.

    Args: as for `valley_step`.
    """
    return np.asarray(1 + setting.noise_variance - valley_step(omega, setting))


def valley_velocity(
    omega: ArrayLike, setting: Setting, positive: int = 1, negative: int = 1
) -> Float[np.ndarray, " ..."]:
    """`dw/dt` on the slow manifold (see above).

    Args:
      omega: `w > 0`, any shape.
      setting: an isotropic setting.
      positive: `p`, heads with `omega > 0`.
      negative: `n`, heads with `omega < 0`.
    """
    w = check.finite("omega", np.asarray(omega, dtype=np.float64))
    heads, mass = _heads(positive, negative)
    d, crowd = require_isotropic(setting).dim, setting.crowding
    step, z = valley_step(w, setting), d * w**2
    # F'(w) = 2 c (z cosh z - sinh z) / w^3, by its series where the two terms cancel.
    small = np.abs(z) < 1e-2
    safe = np.where(small, 1.0, z)
    curve = np.where(small, z**3 / 3 + z**5 / 30, safe * np.cosh(safe) - np.sinh(safe))
    slope = 2 * crowd * curve / w**3
    resistance = mass * (1 + 3 * step * slope * w) / (4 * w**2) + heads * w**2 / step**2
    return np.asarray(-(slope / 2) * w**2 / resistance)


def valley_omega(
    times: ArrayLike,
    setting: Setting,
    positive: int = 1,
    negative: int = 1,
    start: tuple[float, float] | None = None,
) -> Float[np.ndarray, " N"]:
    """The two-term law `w(t) = T^(-1/6) (1 + K / (2 T^(2/3)))` (see above).

    Args:
      times: `[N]` flow times, above 0 (or above that of `start`).
      setting: an isotropic setting.
      positive: heads with `omega > 0`.
      negative: heads with `omega < 0`.
      start: a time and the `|omega|` at that time, which fix `t0`; None for `t0 = 0`, right to leading order.

    Returns:
      `[N]`; good where the second term is small.
    """
    when = check.times("times", times, 0.0 if start is None else start[0], strict=start is None)
    rate, bend = valley_constants(setting, positive, negative)
    grown = rate * when
    if start is not None:
        u = check.number("start[1]", start[1], 0.0, strict=True) ** -2.0
        grown = rate * (when - start[0]) + u**3 + 3 * bend * u
    return grown ** (-1 / 6) * (1 + bend / (2 * grown ** (2 / 3)))


def valley_constants(setting: Setting, positive: int = 1, negative: int = 1) -> tuple[float, float]:
    """`8 c d^3 / r` and `K` of the law `rate (t - t0) = w^-6 + 3 K w^-2 + O(w^2)`.

    Args: as for `valley_velocity`.
    """
    heads, mass = _heads(positive, negative)
    d, eta = setting.dim, step_size_limit(setting)
    slope = setting.crowding * d**3
    return 8 * slope / mass, 4 * heads / (mass * eta**2) + 2 * eta * slope - d**2 / 10


def _heads(positive: int, negative: int) -> tuple[int, float]:
    p, n = check.count("positive", positive), check.count("negative", negative)
    return p + n, 1 / p + 1 / n
