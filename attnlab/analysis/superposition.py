"""Several regressions in one layer: which head serves which task, and do the heads add up to a step for each.

Each task asks that its label weights sum to 0 over heads and that the diagonals, so weighted, sum to the step size on
the task's coordinates and to 0 elsewhere. Zero-sum vectors of `H` heads have `H - 1` dimensions, so `N` tasks fit if
and only if `H >= N + 1`; with fewer than `2 N` heads some head has to serve several.

Reference: He, Pan, Chen, Yang, In-Context Linear Regression Demystified, arXiv 2503.12734.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.analysis.base import Dims
from attnlab.analysis.head_terms import ratio, read_heads
from attnlab.config import require


def effective_diagonals(diagonal: Float[Array, "*S H d"], mu: Float[Array, "*S H m"]) -> Float[Array, "*S m d"]:
    """`E[i, j] = sum_h mu_h^i w_h[j]`: the step that task `i` takes along coordinate `j`."""
    return jnp.einsum("...hi,...hj->...ij", mu, diagonal)


def participation(weights: Float[Array, "*S N"]) -> Float[Array, "*S"]:
    """`(sum_i |a_i|)^2 / sum_i a_i^2`: how many of `N` share in it. 1 = one alone, `N` = all alike, 0 = all are 0."""
    total = jnp.sum(jnp.abs(weights), axis=-1)
    return ratio(total * total, jnp.sum(weights * weights, axis=-1))


def coordinate_groups(supports: Sequence[Sequence[int]], dim: int) -> tuple[tuple[int, ...], ...]:
    """Coordinates that belong to the same tasks, in order of their first: what symmetry makes alike in a solution."""
    member: dict[tuple[bool, ...], list[int]] = {}
    for coordinate in range(dim):
        member.setdefault(tuple(coordinate in support for support in supports), []).append(coordinate)
    return tuple(tuple(group) for group in member.values())


@dataclass(frozen=True)
class Superposition:
    """`probe(model, params) -> {name: array}`: how the heads of a model share `m` tasks. `w_h` is the diagonal of KQ.

    Outputs:
      effective `[m, d]` (`effective_diagonals`); on_support `[m]`: its mean over the task's coordinates; off_support
        `[m]`: its largest absolute value elsewhere, 0 if the task has all coordinates.
      zero_sum `[m]`: `sum_h mu_h^i`.
      tasks_per_head `[H]`: `participation` of `|mu_h^i|` over tasks: 1 = one task per head, up to `m`; 0 for a head
        whose OV is 0. mean_tasks_per_head `[]`: its mean, each head weighted by `|mu_h| |w_h|`, so that dummy heads do
        not count.
      heads_per_task `[m]`: `participation` of `|mu_h^i| |w_h|` over heads.
      group_values `[H, G]`: mean of `w_h` over each group of coordinates that belong to the same tasks
        (`coordinate_groups`). group_deviation `[H]`: the largest distance of an entry of `w_h` from its group's mean,
        relative to the largest entry; 0 = constant on groups.

    Attributes:
      supports: of each task, the coordinates its label depends on (`LinearRegression.supports`).
    """

    supports: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "supports", tuple(tuple(int(c) for c in s) for s in self.supports))
        require(len(self.supports) > 0, "supports", self.supports, "the coordinates of one task or more")
        for support in self.supports:
            proper = len(support) > 0 and min(support) >= 0 and len(set(support)) == len(support)
            require(proper, "supports", support, "different coordinates from 0, one or more")

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        require(hasattr(model, "circuits"), "model", model, "a model with circuits(params)")
        diagonal, _, mu = read_heads(*model.circuits(params))
        return superposition_terms(diagonal, mu, self.supports)

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        known: Dims = {
            "effective": ("output", "coordinate"),
            "tasks_per_head": ("head",),
            "group_deviation": ("head",),
            "group_values": ("head", "group"),
            "mean_tasks_per_head": (),
        }
        return {name: known.get(name, ("output",)) for name in names}


def superposition_terms(
    diagonal: Float[Array, "*S H d"], mu: Float[Array, "*S H m"], supports: Sequence[Sequence[int]]
) -> dict[str, Array]:
    """What `Superposition` measures, of given diagonals and label weights."""
    dim, tasks = diagonal.shape[-1], mu.shape[-1]
    require(len(supports) == tasks, "supports", supports, f"one support for each of the {tasks} outputs")
    require(max(map(max, supports)) < dim, "supports", supports, f"coordinates below d={dim}")
    on = np.zeros((tasks, dim), bool)
    for row, support in zip(on, supports, strict=True):
        row[list(support)] = True
    effective = effective_diagonals(diagonal, mu)
    size = jnp.sqrt(jnp.sum(diagonal * diagonal, axis=-1))
    served, strength = participation(mu), jnp.sqrt(jnp.sum(mu * mu, axis=-1)) * size
    groups = coordinate_groups(supports, dim)
    to_group = np.array([[(j in g) / len(g) for g in groups] for j in range(dim)], np.float32)  # [d, G]
    values = jnp.einsum("...hd,dg->...hg", diagonal, to_group.astype(diagonal.dtype))
    apart = jnp.abs(diagonal - values[..., (to_group > 0).argmax(axis=1)])
    return {
        "effective": effective,
        "on_support": jnp.sum(jnp.where(on, effective, 0), axis=-1) / on.sum(axis=-1),
        "off_support": jnp.max(jnp.where(on, 0, jnp.abs(effective)), axis=-1),
        "zero_sum": jnp.sum(mu, axis=-2),
        "tasks_per_head": served,
        "mean_tasks_per_head": ratio(jnp.sum(strength * served, axis=-1), jnp.sum(strength, axis=-1)),
        "heads_per_task": participation(jnp.swapaxes(mu * size[..., None], -1, -2)),
        "group_values": values,
        "group_deviation": ratio(jnp.max(apart, axis=-1), jnp.max(jnp.abs(diagonal), axis=-1)),
    }


def superposition(task: Any) -> Superposition:
    """The probe for a task with `supports`, or for supports themselves.

    Example:
      record = {"sharing": every(1000, superposition(LinearRegression.multi_task()))}
    """
    supports = getattr(task, "supports", task)
    if hasattr(task, "supports") and not supports:
        supports = (tuple(range(task.dim)),)
    return Superposition(supports)
