"""The straight line from a trained model to a construction, in circuits, after what symmetry leaves open is aligned.

What is aligned:
  heads: put in the order that brings the two models nearest. Exact: no prediction depends on their order.
  unidentified columns of KQ: set to 0 in both. Exact.
  scale of KQ against OV: each head of the construction becomes `(c KQ, OV / c)`, with the ratio of norms that its
    partner in the trained model has. Exact for linear attention alone. For softmax the product is what is identified in
    the limit of small KQ, and training drifts along this valley; at the end of the line stands the construction so
    rescaled, whose risk is the construction's own in that limit.
What is not: factors of KQ and OV inside a head (circuits do not know them), mixtures of heads that share one KQ.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.analysis.base import check_task, evaluation_batch
from attnlab.analysis.head_terms import identified_part, ratio
from attnlab.analysis.prompts import over_leading, prompt_of, reader
from attnlab.config import require
from attnlab.models.regression_attention import Circuits, RegressionAttention

MOST_HEADS = 8


class CircuitLine(NamedTuple):
    """Squared error along a line between two models.

    Attributes:
      t: `[n]`, from 0 (the trained model) to 1 (the construction).
      risk: `[*S, n]`.
      barrier: `[*S]`, the largest height of the risk above the straight line between its ends; 0 if nowhere above.
      distance: `[*S]`, between the two ends in balanced circuits (`balanced`), relative to the trained model's norm.
    """

    t: Array
    risk: Array
    barrier: Array
    distance: Array


def interpolate(first: Any, second: Any, t: Any) -> Any:
    """`(1 - t) first + t second`, leaf by leaf."""
    return jax.tree.map(lambda a, b: (1 - t) * a + t * b, first, second)


def balanced(circuits: Circuits) -> Circuits:
    """Each head with its scale shared out so that `|KQ| = |OV|`; a head of which one of the two is 0 becomes 0."""
    kq, ov = (jnp.asarray(c) for c in circuits)
    kq = identified_part(kq, ov.shape[-1])
    asks, says = _norms(kq), _norms(ov)
    size = jnp.sqrt(asks * says)
    return Circuits(ratio(kq * size, asks), ratio(ov * size, says))


def align(reference: Circuits, other: Circuits, *, rescale: bool = True) -> Circuits:
    """`other` with its heads in the order, and if `rescale` in the scale, of `reference`; see the module's text.

    The order is that of least squared distance between balanced circuits, among all `H!`. If the reference has more
    heads, heads of 0 are added. No leading axes: use `vmap`.
    """
    heads, theirs = reference.kq.shape[0], other.kq.shape[0]
    require(theirs <= heads, "other", f"{theirs} heads", f"at most {heads}, as the reference")
    require(heads <= MOST_HEADS, "reference", f"{heads} heads", f"at most {MOST_HEADS}: all orders are tried")
    kq, ov = (jnp.pad(jnp.asarray(c), ((0, heads - theirs), (0, 0), (0, 0))) for c in other)
    kq = identified_part(kq, ov.shape[-1])
    ours, found = balanced(reference), balanced(Circuits(kq, ov))
    cost = sum(jnp.sum((a[:, None] - b[None]) ** 2, axis=(-1, -2)) for a, b in zip(ours, found, strict=True))
    orders = np.array(list(itertools.permutations(range(heads))))
    total = jnp.sum(jnp.asarray(cost)[np.arange(heads), orders], axis=-1)
    order = jnp.asarray(orders)[jnp.argmin(total)]
    kq, ov = kq[order], ov[order]
    if not rescale:
        return Circuits(kq, ov)
    norms = (_norms(identified_part(reference.kq, ov.shape[-1])), _norms(reference.ov), _norms(kq), _norms(ov))
    full = jnp.all(jnp.stack(norms) > 0, axis=0)
    mine, yours, asks, says = (jnp.where(full, norm, 1) for norm in norms)
    factor = jnp.sqrt(mine * says / (yours * asks))
    return Circuits(kq * factor, ov / factor)


def circuit_line(
    model: RegressionAttention,
    params: Any,
    target: Circuits,
    task: Any,
    *,
    points: int = 11,
    rescale: bool = True,
    batch_size: int = 1024,
    seed: int = 0,
) -> CircuitLine:
    """Squared error on the straight line in circuits from a trained model to `target`, aligned by `align`.

    Args:
      params: leading axes (seeds) are kept; each seed has its own alignment.
      target: the circuits of a construction, `model.circuits(model.construct(omega, mu))`.
      points: `n`, of the line, its ends included.
      rescale: align the scale of KQ against OV too.
      batch_size, seed: of the prompts, the same at every point.
    """
    check_task(task, batch_size, seed)
    kind = isinstance(model, RegressionAttention)
    require(kind, "model", type(model).__name__, "RegressionAttention, whose circuits are a model themselves")
    require(points >= 2, "points", points, "2 or more")
    merged, times = dataclasses.replace(model, form="merged", start="torch"), jnp.linspace(0, 1, points)
    batch = evaluation_batch(task, batch_size, seed)
    prompt, label = prompt_of(task, batch), batch.targets[:, -1]

    def line(one: Any) -> tuple[Array, Array, Array]:
        start = model.circuits(one)
        start = Circuits(identified_part(start.kq, model.num_outputs), start.ov)
        end = align(start, target, rescale=rescale)

        def risk(t: Array) -> Array:
            here = interpolate(start, end, t)._asdict()
            return jnp.mean((reader(merged, here, task)(prompt) - label) ** 2)

        risks = jax.lax.map(risk, times)
        above = risks - interpolate(risks[0], risks[-1], times)
        first, last = balanced(start), balanced(end)
        apart, size = (_total(jax.tree.map(jnp.subtract, first, last)), _total(first))
        return risks, jnp.maximum(jnp.max(above), 0), ratio(apart, size)

    return CircuitLine(times, *jax.jit(lambda p: over_leading(line, model, p))(params))


def _norms(matrices: Float[Array, "*S M N"]) -> Float[Array, "*S 1 1"]:
    return jnp.sqrt(jnp.sum(matrices * matrices, axis=(-1, -2), keepdims=True))


def _total(circuits: Circuits) -> Array:
    return jnp.sqrt(sum((jnp.sum(c * c) for c in circuits), jnp.zeros(())))
