"""The reduced model of multi-head softmax attention on isotropic regression: two numbers per head.

    yhat = sum_h mu_h sum_l softmax_l(omega_h x_l . x_q) y_l

At large `L`, by Gaussian tilting (`theory.icl.softmax`) and `|x_q|^2 ~ d`, its risk is, with `c = (1 + s2) / L`,

    Ltilde = 1 + s2 - 2 mu.omega + mu^T A mu,         A = omega omega^T + c exp(d omega omega^T)   (exp entry by entry)
           = 1 + s2 - 2 m_1 + m_1^2 + c sum_{k>=0} (d^k / k!) m_k^2,                        m_k = sum_h mu_h omega_h^k

The second line (expand `exp`) says what training wants: only `m_1`, the step size, is rewarded. `m_0 = 0` (zero-sum
output weights) and opposite pairs kill the largest penalties, `omega -> 0` those that are left: two heads suffice.

Source: arXiv 2503.12734 (matrix form and its flow); moment form and constants derived here.
Assumption of every function: `setting` is isotropic with a noisy query.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.setting import Setting, require_isotropic


class OneHead(NamedTuple):
    """The best single head.

    Attributes:
      omega: its attention weight (the pair `(-omega, -mu)` is as good).
      mu: its output weight.
      risk: floor included.
    """

    omega: float
    mu: float
    risk: float


def reduced_loss(omega: ArrayLike, mu: ArrayLike, setting: Setting) -> float:
    """`Ltilde`, matrix form.

    Args:
      omega: `[H]` attention weights.
      mu: `[H]` output weights.
      setting: an isotropic setting.
    """
    w, out, s = _heads(omega, mu, setting)
    return 1 + s.noise_variance - 2 * float(out @ w) + float(out @ _coupling(w, s) @ out)


def reduced_loss_moments(omega: ArrayLike, mu: ArrayLike, setting: Setting) -> float:
    """`Ltilde`, moment form: equal to `reduced_loss` to rounding.

    Args: as for `reduced_loss`.
    """
    w, out, s = _heads(omega, mu, setting)
    step = float(out @ w)
    terms = out @ (np.sqrt(s.dim) * w)[:, None] ** np.arange(2)
    total, power, k = float(terms @ terms), s.dim * w**2, 1
    weighted = out * np.sqrt(s.dim) * w
    # |mu_h| (d w^2)^(k/2) / sqrt(k!) bounds what is left once k exceeds d w^2: stop below rounding.
    while k < 4 or k < 2 * power.max() or np.abs(weighted).max() > 1e-18 * (1 + np.sqrt(total)):
        k += 1
        weighted = weighted * np.sqrt(s.dim / k) * w
        total += float(weighted.sum()) ** 2
    return 1 + s.noise_variance - 2 * step + step**2 + s.crowding * total


def head_moments(omega: ArrayLike, mu: ArrayLike, orders: int = 4) -> Float[np.ndarray, "... orders"]:
    """`m_k = sum_h mu_h omega_h^k` for `k = 0, ..., orders - 1`.

    Args:
      omega: `[..., H]`.
      mu: `[..., H]`.
      orders: how many moments.

    Returns:
      `[..., orders]`.
    """
    w, out = np.asarray(omega, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    if w.shape != out.shape or w.ndim == 0:
        raise check.fail("shapes of (omega, mu)", (w.shape, out.shape), "equal, [..., H]", "Pass one of each per head.")
    powers = w[..., None] ** np.arange(check.count("orders", orders))
    return np.einsum("...h,...hk->...k", out, powers)


def reduced_gradients(
    omega: ArrayLike, mu: ArrayLike, setting: Setting
) -> tuple[Float[np.ndarray, " H"], Float[np.ndarray, " H"]]:
    """Gradients of `Ltilde / 2`, along which the reduced flow descends:

        d/d omega = -mu + (mu.omega) mu + d c (exp(d omega omega^T) o mu mu^T) omega,     d/d mu = -omega + A mu.

    Args: as for `reduced_loss`.

    Returns:
      `[H]` with respect to `omega`, `[H]` with respect to `mu`.
    """
    w, out, s = _heads(omega, mu, setting)
    overlap = s.crowding * np.exp(s.dim * np.outer(w, w))
    by_mu = -w + w * (w @ out) + overlap @ out
    by_omega = -out + (out @ w) * out + s.dim * out * (overlap @ (out * w))
    return by_omega, by_mu


def mu_star(omega: ArrayLike, setting: Setting) -> Float[np.ndarray, " H"]:
    """`mu*(omega) = A^-1 omega`, the best output weights; of least norm where heads repeat.

    Args:
      omega: `[H]` attention weights.
      setting: an isotropic setting.

    Returns:
      `[H]`.
    """
    w, _, s = _heads(omega, omega, setting)
    return np.linalg.lstsq(_coupling(w, s), w, rcond=None)[0]


def minimised_loss(omega: ArrayLike, setting: Setting) -> float:
    """`min over mu of Ltilde = s2 + 1 / (1 + t)`, `t = omega^T exp(d omega omega^T)^-1 omega / c`.

    Derivation: the minimum is `1 + s2 - omega^T A^-1 omega`, and Sherman-Morrison gives `t / (1 + t)` for the last
    term.

    Args: as for `mu_star`.
    """
    w, _, s = _heads(omega, omega, setting)
    return 1 + s.noise_variance - float(w @ mu_star(w, s))


def step_size_limit(setting: Setting) -> float:
    """`eta* = 1 / (1 + (1 + s2) d / L)`, the limit of `m_1 = sum_h mu_h omega_h`; also the best debiased step exactly.

    Args:
      setting: an isotropic setting.
    """
    return 1 / (1 + require_isotropic(setting).crowding * setting.dim)


def loss_infimum(setting: Setting) -> float:
    """`inf Ltilde = s2 + 1 - eta*`, for every number of heads above one; reached by no finite weights.

    Args:
      setting: an isotropic setting.
    """
    return 1 + setting.noise_variance - step_size_limit(setting)


def one_head_optimum(setting: Setting) -> OneHead:
    """The best single head of the reduced model, with `K = c d e`:

        omega = 1 / sqrt(d),   mu = sqrt(d) / (1 + K),   Ltilde = s2 + K / (1 + K).

    Derivation: `t = omega^2 e^(-d omega^2) / c` of `minimised_loss` is largest at `d omega^2 = 1`, where `t = 1 / K`.

    Args:
      setting: an isotropic setting.
    """
    d = require_isotropic(setting).dim
    crowd = setting.crowding * d * np.e
    return OneHead(1 / np.sqrt(d), float(np.sqrt(d) / (1 + crowd)), setting.noise_variance + crowd / (1 + crowd))


def two_head_gain(omega: ArrayLike, setting: Setting) -> Float[np.ndarray, " ..."]:
    """`t(omega) = omega^2 / (c sinh(d omega^2))` of the pair `(omega, -omega)`; `1 / (c d)` at 0.

    The loss of the pair at its best output weights is `s2 + 1 / (1 + t)`; these are `+-mu`, `2 omega mu = t / (1 + t)`.

    Derivation: the pair's output weights are opposite, `mu^T exp(d omega omega^T) mu = 4 mu^2 sinh(d omega^2)`.

    Args:
      omega: weight of the first head, any shape.
      setting: an isotropic setting.

    Returns:
      Of the shape of `omega`.
    """
    s = require_isotropic(setting)
    z = s.dim * check.finite("omega", np.asarray(omega, dtype=np.float64)) ** 2
    with np.errstate(over="ignore"):
        shape = np.where(z < 1e-8, 1.0, z / np.sinh(np.where(z < 1e-8, 1.0, z)))
    return np.asarray(shape / (s.crowding * s.dim))


def _heads(omega: ArrayLike, mu: ArrayLike, setting: Setting) -> tuple[check.Array, check.Array, Setting]:
    w = check.vector("omega", omega)
    if w.size == 0:
        raise check.fail("omega", [], "at least one head", "Pass one number per head.")
    return w, check.vector("mu", mu, w.size), require_isotropic(setting)


def _coupling(w: check.Array, setting: Setting) -> check.Array:
    """`A = omega omega^T + c exp(d omega omega^T)`."""
    outer = np.outer(w, w)
    return outer + setting.crowding * np.exp(setting.dim * outer)
