"""How much one segment of a sequence looks at another, and a loss that pulls it to a target (AIA, 2511.22663)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def interaction(
    weights: Float[Array, "*B H T U"], queries: Bool[Array, "*M T"], keys: Bool[Array, "*N U"]
) -> Float[Array, ""]:
    """`I`: mean over heads and `queries` of the mass on `keys` (the same of every sequence, or of each)."""
    mass = jnp.sum(weights * keys[..., None, None, :], axis=-1)
    kept = jnp.broadcast_to(queries[..., None, :], mass.shape)
    return jnp.sum(mass * kept) / jnp.sum(kept)


def huber(x: Array, delta: float | Array) -> Array:
    """`x^2 / 2` up to `delta`, `delta (|x| - delta / 2)` beyond."""
    size = jnp.abs(x)
    return jnp.where(size <= delta, 0.5 * x * x, delta * (size - 0.5 * delta))


def alignment_loss(
    measured: Float[Array, " L"], targets: Float[Array, " L"], deltas: float | Float[Array, " L"]
) -> Float[Array, ""]:
    """Huber of `I_l - target_l`, mean over layers. The paper adds it with weight 5 (generation) or 10
    (understanding).
    """
    return jnp.mean(huber(measured - targets, deltas))
