"""Decoding one position at a time with a cache of keys and values: the step view of any mechanism that has `apply`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.attention.base import Dims, HostOrDevice, KVCache, Mechanism, Params


class CachedDecode:
    """Gives `start` and `step` to a mechanism; both cost `O(U)` per position."""

    def start(self, params: Params, batch: tuple[int, ...], length: int, dims: Dims, dtype=jnp.float32) -> KVCache:
        """An empty cache for `length` positions."""
        shape = (*batch, dims.num_heads, length, dims.head_dim)
        return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((), jnp.int32))

    def step(
        self: Mechanism,
        params: Params,
        state: KVCache,
        q: Float[Array, "*B H K"],
        k: Float[Array, "*B H K"],
        v: Float[Array, "*B H K"],
        *,
        bias: Float[HostOrDevice, "*N U"] | None = None,
        window: int | None = None,
        prefix: int = 0,
    ) -> tuple[Float[Array, "*B H K"], KVCache]:
        """One decoded position: append `k, v` to the cache, attend from `q` to what is filled.

        `window` and `prefix` as in `causal_mask`, for positions from `prefix` on: those before it see each other in the
        parallel view, which no decoder can do.
        """
        at = state.filled
        keys = jax.lax.dynamic_update_index_in_dim(state.k, k, at, axis=-2)
        values = jax.lax.dynamic_update_index_in_dim(state.v, v, at, axis=-2)
        u = jnp.arange(keys.shape[-2])
        seen = u <= at
        if window is not None:
            seen &= (u > at - window) | (u < prefix)
        row_bias = None if bias is None else bias[..., None, :]
        result = self.apply(params, q[..., None, :], keys, values, mask=seen[None, :], bias=row_bias)
        return result.out[..., 0, :], KVCache(keys, values, at + 1)
