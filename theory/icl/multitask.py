"""Several regressions in one prompt: how many heads they need, heads that do it, and the risk they reach.

Task `i` depends on the coordinates `supports[i]` and has an output of its own. Heads share their attention: head `h`
scores `sum_j omega_hj x_lj x_qj` and adds `mu_hi` times its average of the labels of task `i`. In the small-weight
limit, debiased descent on every task asks, with `Z_ij = 1` where task `i` depends on coordinate `j`,

    sum_h mu_hi = 0     and     sum_h mu_hi omega_hj = eta Z_ij.

Zero-sum vectors of `R^H` form a space of dimension `H - 1`, so `mu^T omega` has rank `H - 1` at most: `H` heads suffice
exactly if `H >= rank(Z) + 1`, that is `N + 1` for `N` tasks of independent supports, not `2 N`.

Source: arXiv 2503.12734, superposition for `N < H < 2 N`; the count is derived here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.estimators import BestStep, dgd_optimum, gd_optimum
from theory.icl.setting import Setting

Supports = Sequence[Sequence[int]]


class TaskHeads(NamedTuple):
    """Heads with diagonal attention for several tasks.

    Attributes:
      omega: `[H, d]` attention of each head to each coordinate.
      mu: `[H, N]` output weight of each head for each task.
    """

    omega: Float[np.ndarray, "H d"]
    mu: Float[np.ndarray, "H N"]


def support_matrix(supports: Supports, dim: int) -> Float[np.ndarray, "N d"]:
    """`Z_ij = 1` where task `i` depends on coordinate `j`, else 0.

    Args:
      supports: for each task, distinct coordinates from 0 to `dim - 1`.
      dim: `d`.

    Returns:
      `[N, d]`.
    """
    size = check.count("dim", dim)
    if not supports or not all(len(s) for s in supports):
        raise check.fail("supports", supports, "at least one task, each of at least one coordinate", "Add them.")
    indicator = np.zeros((len(supports), size))
    for row, support in zip(indicator, supports, strict=True):
        row[list(check.token_ids("supports", support, size))] = 1.0
    return indicator


def heads_needed(supports: Supports, dim: int) -> int:
    """The least number of heads that can do debiased descent on all tasks: `rank(Z) + 1`, `N + 1` if independent.

    Args: as for `support_matrix`.
    """
    return int(np.linalg.matrix_rank(support_matrix(supports, dim))) + 1


def can_fit(num_heads: int, supports: Supports, dim: int) -> bool:
    """Whether `num_heads` heads can do debiased descent on all tasks at once.

    Args:
      num_heads: `H`.
      supports: as for `support_matrix`.
      dim: `d`.
    """
    return check.count("num_heads", num_heads) >= heads_needed(supports, dim)


def fit_heads(num_heads: int, supports: Supports, dim: int, eta: float = 1.0, size: float = 0.1) -> TaskHeads:
    """The best zero-sum heads: they fit `eta Z` exactly if `num_heads >= heads_needed`, else as well as can be.

    Construction: let `Z = U S V^T`. Map the leading `H - 1` of the left singular vectors into zero-sum vectors by an
    orthonormal basis `E [H, H - 1]` of these: `mu = E U^T / scale`, `omega = scale eta E S V^T`. Then `mu^T omega` is
    the best approximation of `eta Z` of rank `H - 1` (Eckart, Young). `scale` sets `max |omega| = size` and is free,
    as the small-weight limit sees the product only.

    Args:
      num_heads: `H`, at least 2.
      supports: as for `support_matrix`.
      dim: `d`.
      eta: the step of each task.
      size: the largest attention weight.
    """
    heads, indicator = check.count("num_heads", num_heads, 2), support_matrix(supports, dim)
    goal = check.number("eta", eta) * indicator
    left, values, right = np.linalg.svd(goal, full_matrices=False)
    kept = min(heads - 1, values.size)
    basis = _zero_sum_basis(heads)[:, :kept]
    omega = basis * values[:kept] @ right[:kept]
    largest = float(np.abs(omega).max())
    scale = check.number("size", size, 0.0, strict=True) / largest if largest > 0 else 1.0
    return TaskHeads(omega * scale, basis @ left[:, :kept].T / scale)


def fit_residual(num_heads: int, supports: Supports, dim: int, eta: float = 1.0) -> float:
    """`min |mu^T omega - eta Z|_F^2` over all heads with zero-sum `mu`: `eta^2` times the squared singular values of
    `Z` after the first `H - 1`. Zero exactly if `can_fit`.

    Args: as for `fit_heads`, with `num_heads` at least 1.
    """
    heads = check.count("num_heads", num_heads)
    values = np.linalg.svd(support_matrix(supports, dim), compute_uv=False)
    values = np.where(values > 1e-10 * values[0], values, 0.0)
    return check.number("eta", eta) ** 2 * float((values[heads - 1 :] ** 2).sum())


def task_diagonals(omega: ArrayLike, mu: ArrayLike) -> Float[np.ndarray, "N d"]:
    """`sum_h mu_hi omega_hj`, the effective preconditioner of each task; near `eta Z` in a trained model.

    Args:
      omega: `[H, d]`.
      mu: `[H, N]`.
    """
    attention, out = np.asarray(omega, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    if attention.ndim != 2 or out.ndim != 2 or attention.shape[0] != out.shape[0]:
        raise check.fail("shapes of (omega, mu)", (attention.shape, out.shape), "[H, d] and [H, N]", "Transpose them.")
    return out.T @ attention


def task_setting(
    support_size: int, context: int = 48, noise_variance: float | None = None, prior_variance: float = 1.0
) -> Setting:
    """One task on its own coordinates, in the published conventions: prior `N(0, I)`, a target without noise.

    Args:
      support_size: `k`, the number of coordinates that the task depends on; the others play no part.
      context: `L`.
      noise_variance: of the labels; None for `0.1 k`.
      prior_variance: of each entry of `beta`.
    """
    k = check.count("support_size", support_size)
    noise = 0.1 * k if noise_variance is None else noise_variance
    return Setting(k, context, noise, prior_covariance=prior_variance, noisy_query=False)


def task_risks(supports: Supports, context: int = 48) -> dict[str, list[BestStep]]:
    """The best step and risk of each task, plain (`gd`) and debiased (`dgd`), if no head is short.

    With `k` coordinates, `dgd`: `eta = 1 / (1 + 1.1 k / L)`, `risk = k (1 - (1 - 1/L) eta)`.

    Args:
      supports: the coordinates of each task.
      context: `L`.
    """
    settings = [task_setting(len(s), context) for s in supports]
    return {"gd": [gd_optimum(s) for s in settings], "dgd": [dgd_optimum(s) for s in settings]}


def _zero_sum_basis(heads: int) -> check.Array:
    """`[H, H - 1]` orthonormal columns, each of which sums to zero (Helmert)."""
    basis = np.zeros((heads, heads - 1))
    for k in range(1, heads):
        basis[:k, k - 1], basis[k, k - 1] = 1.0, -k
    return basis / np.linalg.norm(basis, axis=0)
