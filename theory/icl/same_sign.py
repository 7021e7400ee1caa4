"""The other solutions of the reduced model: heads that all have one sign, and do together what one head can do.

Any split `mu_1 + mu_2 = mu_1head` between two heads at `omega_1 = omega_2 = omega_1head` predicts what the one-head
optimum predicts, so the split is a flat direction: a valley, not a point. To second order the way out is to spread the
omegas, `d omega = (t / mu_1, -t / mu_2)`, which keeps `m_1`; it changes the k-th moment by
`k (k - 1) / 2 omega^(k-2) t^2 (1 / mu_1 + 1 / mu_2)`, and moments cost. So the valley is stable where both shares are
positive, the weaker the smaller share, and unstable as soon as one is negative. Gradient flow that enters it with both
positive stays; gradient noise moves along it until a share changes sign.

Derived here; that such solutions occur is seen in training (`attnlab reproduce icl-regression`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from theory import _checks as check
from theory.icl.heads_flow import integrate_heads
from theory.icl.reduced import one_head_optimum, reduced_gradients
from theory.icl.setting import Setting


def same_sign_solution(setting: Setting, share: float = 0.5) -> tuple[Float[np.ndarray, 2], Float[np.ndarray, 2]]:
    """A point of the valley: `omega = (w, w)`, `mu = (share m, (1 - share) m)` of the one-head optimum `(w, m)`.

    Args:
      setting: an isotropic setting.
      share: of the first head; any number.
    """
    best = one_head_optimum(setting)
    part = check.number("share", share)
    return np.full(2, best.omega), best.mu * np.array([part, 1 - part])


def same_sign_curvature(setting: Setting, share: float = 0.5, step: float = 1e-5) -> Float[np.ndarray, 4]:
    """Eigenvalues of the Hessian of `Ltilde / 2` there, smallest first: one is 0, one has the sign of the lesser share.

    By central differences of the exact gradient.
    """
    omega, mu = same_sign_solution(setting, share)
    point = np.concatenate([omega, mu])

    def gradient(z: check.Array) -> check.Array:
        return np.concatenate(reduced_gradients(z[:2], z[2:], setting))

    columns = [(gradient(point + step * e) - gradient(point - step * e)) / (2 * step) for e in np.eye(4)]
    hessian = np.array(columns)
    return np.linalg.eigvalsh((hessian + hessian.T) / 2)


def settles_same_sign(setting: Setting, balance: float, scale: float = 0.02, time: float = 300.0) -> bool:
    """Whether the flow from `omega = mu = scale (1, balance)` still has two heads of one sign at `time`.

    Args:
      setting: an isotropic setting.
      balance: of the second head's start to the first's, in (0, 1].
      scale: of the first head's start. time: of the flow; the valley is reached by 50.
    """
    start = scale * np.array([1.0, check.number("balance", balance, 0, 1)])
    end = integrate_heads(start, start, [0.0, time], setting, rtol=1e-8).mu[-1]
    return bool(end[0] * end[1] > 0)


def critical_balance(setting: Setting, scale: float = 0.02, tolerance: float = 1e-3) -> float:
    """The balance of two heads' starts above which the flow ends in the same-sign valley, by bisection.

    While both heads are small they grow at one rate, so the balance is kept until the first saturates: it is the
    balance at that time that decides, and it depends on `scale` only through the logarithm of the time that this takes.
    """
    low, high = 0.0, 1.0
    while high - low > check.number("tolerance", tolerance, 0, 1, strict=True):
        middle = (low + high) / 2
        low, high = (low, middle) if settles_same_sign(setting, middle, scale) else (middle, high)
    return (low + high) / 2


def same_sign_probability(setting: Setting, scale: float = 0.02) -> float:
    """Chance that the flow of two heads from independent `N(0, scale^2)` starts ends in the same-sign valley.

    From the origin only the mode `(omega + mu) / sqrt 2` of a head grows; two independent normal amplitudes have one
    sign with probability 1/2, and then the lesser exceeds `r` times the greater with probability `1 - (4 / pi) atan r`.
    """
    return 0.5 * (1 - 4 / np.pi * np.arctan(critical_balance(setting, scale)))
