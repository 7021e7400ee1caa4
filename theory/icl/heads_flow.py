"""Gradient flow of the reduced model of softmax heads, and the phases it goes through.

From a small start: (i) a plateau at `1 + s2`, where only the aligned mode `mu_h = omega_h` grows, like `e^t`; (ii) a
fast rise of `m_1`, often through a solution in which all heads that count have one sign; (iii) heads of the other sign
grow and the output weights come to sum to zero; (iv) a slow drift along the valley `m_1 = eta*` (`theory.icl.valley`).

Source: arXiv 2503.12734, gradient flow of the approximate loss; phases as measured on the solved flow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.reduced import head_moments, loss_infimum, reduced_gradients, reduced_loss, step_size_limit
from theory.icl.setting import Setting, require_isotropic


@dataclass(frozen=True, eq=False)
class HeadsFlow:
    """A trajectory of the reduced model.

    Attributes:
      times: `[N]` flow times.
      omega: `[N, H]` attention weights.
      mu: `[N, H]` output weights.
      loss: `[N]` `Ltilde`.
    """

    times: Float[np.ndarray, " N"]
    omega: Float[np.ndarray, "N H"]
    mu: Float[np.ndarray, "N H"]
    loss: Float[np.ndarray, " N"]

    def moments(self, orders: int = 4) -> Float[np.ndarray, "N orders"]:
        """`m_k = sum_h mu_h omega_h^k` at each time, `[N, orders]`."""
        return head_moments(self.omega, self.mu, orders)


@dataclass(frozen=True)
class Phases:
    """When the phases of the flow end; `inf` where that does not happen within the trajectory.

    Attributes:
      plateau: the loss has fallen by a tenth of what it can fall.
      rise: `m_1` has reached four fifths of `eta*`.
      zero_sum: from here on `|m_0| <= tolerance sum_h |mu_h|`: heads of both signs, in balance.
      valley: from here on the loss is above its infimum by less than `tolerance` of what it can fall.
    """

    plateau: float
    rise: float
    zero_sum: float
    valley: float


def small_start(
    heads: int, scale: float = 0.02, *, seed: int = 0
) -> tuple[Float[np.ndarray, " H"], Float[np.ndarray, " H"]]:
    """`omega, mu ~ N(0, scale^2)`, `[H]` each.

    Args:
      heads: `H`.
      scale: standard deviation.
      seed: of NumPy's generator.
    """
    size = check.count("heads", heads)
    start = check.number("scale", scale, 0.0) * np.random.default_rng(seed).standard_normal((2, size))
    return start[0], start[1]


def integrate_heads(
    omega: ArrayLike,
    mu: ArrayLike,
    times: ArrayLike,
    setting: Setting,
    *,
    rtol: float = 1e-9,
    atol: float = 1e-12,
) -> HeadsFlow:
    """Solve `d omega / dt = -d(Ltilde / 2)/d omega`, the same for `mu`, in `u = log(1 + t)` by a stiff solver.

    Args:
      omega: `[H]` start.
      mu: `[H]` start.
      times: `[N]` increasing.
      setting: an isotropic setting.
      rtol: relative tolerance of the solver.
      atol: absolute tolerance of the solver.

    Returns:
      The trajectory at `times`.

    Raises:
      RuntimeError: if the solver gives up.
    """
    from scipy.integrate import solve_ivp  # here, so that importing the package stays fast

    require_isotropic(setting)
    first = check.vector("omega", omega)
    size = first.size
    start = np.concatenate([first, check.vector("mu", mu, size)])
    when = check.times("times", times)
    nodes = np.log1p(when)

    def velocity(u: float, theta: check.Array) -> check.Array:
        return -np.exp(u) * np.concatenate(reduced_gradients(theta[:size], theta[size:], setting))

    if nodes[-1] == 0:
        path = start[None]
    else:
        span = (0.0, float(nodes[-1]))
        solution = solve_ivp(velocity, span, start, method="LSODA", t_eval=nodes, rtol=rtol, atol=atol)
        if not solution.success:
            raise RuntimeError(f"the solver stopped: {solution.message} Try a larger rtol.")
        path = solution.y.T
    loss = np.array([reduced_loss(theta[:size], theta[size:], setting) for theta in path])
    return HeadsFlow(when, path[:, :size], path[:, size:], loss)


def find_phases(flow: HeadsFlow, setting: Setting, tolerance: float = 0.01) -> Phases:
    """The times at which the phases end, to the resolution of `flow.times`.

    Args:
      flow: a trajectory, dense enough (a hundred times per decade place a phase within 2 %).
      setting: the setting it was solved in.
      tolerance: see `Phases`.
    """
    slack = check.number("tolerance", tolerance, 0.0, 1.0, strict=True)
    top, bottom = 1 + setting.noise_variance, loss_infimum(setting)
    m = flow.moments(2)
    return Phases(
        plateau=_first(flow.times, flow.loss < top - 0.1 * (top - bottom)),
        rise=_first(flow.times, m[:, 1] >= 0.8 * step_size_limit(setting)),
        zero_sum=_forever(flow.times, np.abs(m[:, 0]) <= slack * np.abs(flow.mu).sum(axis=1), flow.loss < top),
        valley=_forever(flow.times, flow.loss - bottom < slack * (top - bottom), flow.loss < top),
    )


def _first(times: check.Array, reached: np.ndarray) -> float:
    return float(times[reached.argmax()]) if reached.any() else np.inf


def _forever(times: check.Array, holds: np.ndarray, counts: np.ndarray) -> float:
    """The first time from which on `holds` and `counts` are both true."""
    broken = np.flatnonzero(~(holds & counts))
    start = 0 if broken.size == 0 else int(broken[-1]) + 1
    return float(times[start]) if start < times.size else np.inf
