"""The sink metric of Gu et al. (2410.10781, section 4.1), as pure functions of attention weights.

    α_k = 1 / (T - k + 1) Σ_{i=k}^{T} A_ik          Sink^ε_k = mean over sequences, layers, heads of 1[α_k > ε]

with 1-based positions, ε = 0.3 and T = 64 in the paper. The threshold is applied **to each sequence**, then averaged,
as their code does. For weights whose rows do not sum to one they use a proxy, `|A| / (Σ_u |A| + 1e-8)`; it can call a
head a perfect sink whose raw mass is a few percent, so report raw mass, proxy and value norms together.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.config import require

EPSILON = 0.3
FLOOR = 1e-8


def sink_mass(weights: Float[Array, "*B T T"], num_keys: int | None = None) -> Float[Array, "*B N"]:
    """`α_k` for the first `num_keys` keys (None = all `T`); entry `n` is `k = n + 1`.

    Example: under uniform causal attention `α_1 = (1/T) Σ_i 1/i`, .0741 at `T = 64`; under identity attention
    `α_k = 1 / (T - k + 1)`.
    """
    length = weights.shape[-1]
    num_keys = length if num_keys is None else num_keys
    require(weights.shape[-2] == length, "weights", weights.shape, "square maps [..., T, T]")
    require(1 <= num_keys <= length, "num_keys", num_keys, f"1 to T={length}")
    row, key = jnp.arange(length)[:, None], jnp.arange(num_keys)
    seen = jnp.where(row >= key, weights[..., :num_keys], 0)
    return jnp.sum(seen, axis=-2) / (length - key)


def proxy(weights: Float[Array, "*B T U"], floor: float = FLOOR) -> Float[Array, "*B T U"]:
    """`|A_tu| / (Σ_u |A_tu| + floor)`: the map that the paper puts in place of an unnormalised one."""
    size = jnp.abs(weights)
    return size / (jnp.sum(size, axis=-1, keepdims=True) + floor)


def sink_rate(
    weights: Float[Array, "B *H T T"], eps: float = EPSILON, num_keys: int | None = None
) -> Float[Array, "*H N"]:
    """`Sink^ε_k`: share of the `B` sequences with `α_k > ε`, for `k = 1 .. num_keys`."""
    return rate(sink_mass(weights, num_keys), eps)


def rate(mass: Float[Array, "B *H N"], eps: float = EPSILON) -> Float[Array, "*H N"]:
    """Share of the `B` sequences whose mass is above `eps`."""
    require(0 <= eps <= 1, "eps", eps, "a number from 0 to 1")
    return jnp.mean(mass > eps, axis=0, dtype=mass.dtype)
