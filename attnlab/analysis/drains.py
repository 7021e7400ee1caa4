"""What goes with a sink beside the map: drained values, massive activations, gates that close.

Gates: Qiu et al. (2505.06708); value drain: Guo et al. (2410.13835). The probe `sinks` gives value norms behind `W_O`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.base import mean_over
from attnlab.analysis.head_terms import ratio
from attnlab.analysis.map_rows import root
from attnlab.config import require


class Massive(NamedTuple):
    """Of a residual stream, each `Float[*B]`.

    Attributes:
      peak: `max |h|` over positions and coordinates.
      ratio: `|h_1| / mean_{j>1} |h_j|`.
    """

    peak: Array
    ratio: Array


class GateSplit(NamedTuple):
    """Mean gate over active and over dormant queries, and the first less the second, each `Float[*N]`."""

    active: Array
    dormant: Array
    difference: Array


def value_drain(values: Float[Array, "*B T K"]) -> Float[Array, "*B"]:
    """`|v_1| / mean_{j>1} |v_j|`: below 1 the first position has little to give to those who look at it.

    The mean is over the other positions, so that a first value out of all proportion does not hide in it. All values 0:
    0.
    """
    return _first_to_rest(values)


def massive_activation(stream: Float[Array, "*B T D"]) -> Massive:
    """The largest coordinate of a residual stream, and the norm of its first position against the others."""
    return Massive(jnp.max(jnp.abs(stream), axis=(-1, -2)), _first_to_rest(stream))


def gate_size(gate: Float[Array, "*G"], rows: tuple[int, ...]) -> Float[Array, "*B T"]:
    """A gate as one number per row: the mean over its channels, if it has any.

    Args:
      gate: `[*B, H, T]` (headwise) or `[*B, H, T, K]` (elementwise), `H` or `K` maybe 1; or `[*B, T, D]` for a gate
        that knows no heads (read as headwise where `T` is 1 or `H`, and `D = T`).
      rows: the shape `(*B, H, T)` of the map's rows, which the result has.
    """
    if _fits(gate.shape, rows):
        return jnp.broadcast_to(gate, rows)
    mean = jnp.mean(gate, axis=-1)
    if _fits(mean.shape, rows):
        return jnp.broadcast_to(mean, rows)
    without_heads = (*rows[:-2], rows[-1])
    allowed = f"shape {rows}, or {(*rows, 'K')}, or {(*without_heads, 'D')}"
    require(mean.shape == without_heads, "gate", gate.shape, allowed)
    return jnp.broadcast_to(mean[..., None, :], rows)


def gate_split(
    gate: Float[Array, "B *N T"], active: Bool[Array, "B T"], dormant: Bool[Array, "B T"] | None = None
) -> GateSplit:
    """Whether a gate opens where its head has work to do: means over two classes of queries.

    Args:
      gate: one number per query (`gate_size`).
      active: queries that need the head, such as triggers. dormant: those that do not; None = all others.

    Returns:
      NaN for a class without queries.
    """
    on, off = mean_over(gate, active), mean_over(gate, ~active if dormant is None else dormant)
    return GateSplit(on, off, on - off)


def _first_to_rest(vectors: Float[Array, "*B T K"]) -> Float[Array, "*B"]:
    require(vectors.shape[-2] >= 2, "vectors", vectors.shape, "two positions or more, [*B, T, K]")
    norms = root(jnp.sum(vectors * vectors, axis=-1))
    return ratio(norms[..., 0], jnp.mean(norms[..., 1:], axis=-1))


def _fits(shape: tuple[int, ...], rows: tuple[int, ...]) -> bool:
    """Whether a gate of this shape has one number per row, for each head or for all of them."""
    same = len(shape) == len(rows) and shape[-1] == rows[-1]
    return same and all(one in (1, other) for one, other in zip(shape, rows, strict=True))
