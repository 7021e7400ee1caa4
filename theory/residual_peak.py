"""Why Adam grows a residual-state peak and gradient descent does not: the growth of one residual direction.

The first token's residual is `e + m u` (unit vectors, cosine `c`). After normalisation the useful part is

    n(m) = (m + c) / sqrt(m^2 + 2 m c + 1) -> 1,

and with a sink logit `y n(m)` the loss is `exp(-y n)`. Descending it,

    dm  proportional to  e^(-y n) y (1 - c^2) / (m^2 + 2 m c + 1)^(3/2),

which for `y = log t` (the sink grows meanwhile) and large `m` is `log t / (t m^3)`. Gradient descent stalls,

    m(t) = (m0^4 + 2 lr log^2 t)^(1/4);

Adam divides the vanishing drive by its own size and goes on at nearly `lr` a step: linear growth, until the drive falls
below its `eps`.

Source: arXiv 2410.13835, the heuristic for residual-state peaks; the reading of it is derived here.
Assumptions: one direction moves; the sink logit is `log t`; step `k` sees the drive at `t = k`, so that the very first
drive is zero.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


def residual_projection(m: ArrayLike, cosine: float = 0.0) -> Float[np.ndarray, " *shape"] | np.float64:
    """`n(m) = (m + c) / sqrt(m^2 + 2 m c + 1)`, what is left of the direction after normalisation.

    Args:
      m: size along the direction, any shape.
      cosine: `c`, strictly between -1 and 1.
    """
    c = check.number("cosine", cosine, -1.0, 1.0, strict=True)
    x = check.finite("m", np.asarray(m, dtype=np.float64))
    return (x + c) / np.sqrt(x**2 + 2 * x * c + 1)


def residual_drive(m: float, t: float, cosine: float | None = None) -> float:
    """Minus the slope of the loss at time `t`, with the sink logit `y = log t`.

    Args:
      m: size along the direction, above 0 if `cosine` is None.
      t: time, at least 1.
      cosine: `c`, for `t^(-n(m)) y (1 - c^2) / (m^2 + 2 m c + 1)^(3/2)`; None for the limit of large `m`,
        `log t / (t m^3)`.
    """
    y = np.log(t)
    if cosine is None:
        return float(y / (t * m**3))
    c = float(cosine)
    square = m * m + 2 * m * c + 1
    return float(np.exp(-y * (m + c) / np.sqrt(square)) * y * (1 - c * c) / square**1.5)


def residual_peak_sgd(t: ArrayLike, m0: float, learning_rate: float) -> Float[np.ndarray, " N"]:
    """`m(t) = (m0^4 + 2 lr log^2 t)^(1/4)`, gradient flow of the limit of large `m` from `m(1) = m0`.

    Args:
      t: `[N]` times, at least 1.
      m0: start, above 0.
      learning_rate: `lr`.

    Example:
      >>> round(float(residual_peak_sgd([1e4], m0=10.0, learning_rate=0.3)[0]), 4)
      10.0127
    """
    when = check.times("t", t, low=1.0)
    start = check.number("m0", m0, 0.0, strict=True)
    rate = check.number("learning_rate", learning_rate, 0.0, strict=True)
    return (start**4 + 2 * rate * np.log(when) ** 2) ** 0.25


def residual_peak_dynamics(
    steps: ArrayLike,
    *,
    optimizer: Literal["sgd", "adam"] = "adam",
    learning_rate: float = 0.3,
    m0: float = 10.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    cosine: float | None = None,
) -> Float[np.ndarray, " N"]:
    """`m` after given numbers of optimizer steps; step `k = 1, 2, ...` uses the drive at `t = k`.

    Adam is the published one, bias correction included. Its first drive is `log 1 = 0`, and counts as a step.

    Args:
      steps: `[N]` whole numbers, increasing, at least 1.
      optimizer: plain gradient descent or Adam.
      learning_rate: size of a step.
      m0: start, above 0.
      betas: of Adam.
      eps: of Adam; with `eps = 0` the growth tends to `learning_rate` a step for ever.
      cosine: None for the limit of large `m`, else the cosine `c` of `residual_drive`.

    Returns:
      `[N]`.

    Raises:
      ValueError: for steps that are not whole or do not increase, or numbers out of range.

    Example:
      >>> residual_peak_dynamics([1_000, 10_000]).round(2).tolist()
      [27.86, 63.98]
    """
    when = check.times("steps", steps, low=1.0)
    if (when != np.round(when)).any():
        raise check.fail("steps", when.tolist(), "whole numbers", "Round them.")
    check.choice("optimizer", optimizer, ("sgd", "adam"))
    rate = check.number("learning_rate", learning_rate, 0.0, strict=True)
    m = check.number("m0", m0, 0.0, strict=True)
    b1, b2 = (check.number("betas", b, 0.0, 1.0) for b in betas)
    check.number("eps", eps, 0.0)
    if cosine is not None:
        check.number("cosine", cosine, -1.0, 1.0, strict=True)
    wanted, out, first, second = set(when.tolist()), [], 0.0, 0.0
    for k in range(1, int(when[-1]) + 1):
        drive = residual_drive(m, float(k), cosine)
        if optimizer == "sgd":
            m += rate * drive
        else:
            first, second = b1 * first + (1 - b1) * drive, b2 * second + (1 - b2) * drive**2
            size = (second / (1 - b2**k)) ** 0.5 + eps
            m += rate * (first / (1 - b1**k)) / size if size > 0 else 0.0
        if k in wanted:
            out.append(m)
    return np.array(out)
