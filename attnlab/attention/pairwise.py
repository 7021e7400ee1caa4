"""What mechanisms of pairs of query and key share: the parallel form and the decode step, made of two parts.

A mechanism of this kind says what it does to each token by itself (`prepare`) and how queries mix the values of keys
(`mix`). The parallel form is one call of each; a decode step prepares one token, appends it to the cache and mixes one
row.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.attention.base import (
    AttentionOutput,
    Dims,
    HostOrDevice,
    KVCache,
    Params,
    SiteFn,
    View,
    no_site,
)
from attnlab.attention.rows import Rows, Tokens, mix_apart


class Pairwise:
    """Gives `apply`, `start` and `step` to a mechanism that has `prepare` and `mix`; a step costs `O(U)`."""

    causal_only = False

    @property
    def rows_apart(self) -> bool:
        """Whether `mix` may get some rows at a time in the parallel form (`attention.rows`), as in a decode step."""
        return False

    def prepare(
        self,
        params: Params,
        q: Float[Array, "*B H T K"],
        k: Float[Array, "*B H U K"],
        v: Float[Array, "*B H U K"],
        x: Float[Array, "*B T D"] | None,
        at: Int[Array, " T"],
    ) -> Tokens:
        """What happens to each token by itself, at positions `at`; by default nothing."""
        return Tokens(q, k, v)

    def prepared(self, params: Params, q: Array, k: Array, v: Array, x: Array | None) -> tuple[Tokens, Rows]:
        """Prepared tokens of a whole sequence, and its rows; queries are the last positions."""
        num_queries, num_keys = q.shape[-2], k.shape[-2]
        at = jnp.arange(num_keys - num_queries, num_keys)
        tokens = self.prepare(params, q, k, v, x, at)
        clock = None
        if tokens.tick is not None:
            ticks = jnp.cumsum(tokens.tick, axis=-1)
            clock = (ticks, ticks)
        return tokens, Rows(x, at, clock)

    def mix(
        self,
        params: Params,
        tokens: Tokens,
        rows: Rows,
        *,
        mask: Bool[HostOrDevice, "*M T U"] | None,
        bias: Float[HostOrDevice, "*N T U"] | None,
        view: View,
        site: SiteFn,
    ) -> AttentionOutput:
        """Mix the values of prepared keys for prepared queries."""
        raise NotImplementedError

    def apply(
        self,
        params: Params,
        q: Float[Array, "*B H T K"],
        k: Float[Array, "*B H U K"],
        v: Float[Array, "*B H U K"],
        *,
        x: Float[Array, "*B T D"] | None = None,
        mask: Bool[HostOrDevice, "*M T U"] | None = None,
        bias: Float[HostOrDevice, "*N T U"] | None = None,
        view: View = "parallel",
        site: SiteFn = no_site,
    ) -> AttentionOutput:
        """Attend from `T` queries, the last positions, to `U` keys; `mask` is True where a query may look (None = all).

        Args:
          x: what the layer reads at the queries; needed by mechanisms with gates, temperatures or decays of it.
          bias: added to the logits. view, site: see `attention.base`.
        """
        tokens, rows = self.prepared(params, q, k, v, x)
        if self.rows_apart and view == "parallel":
            return mix_apart(self.mix, params, tokens, rows, mask=mask, bias=bias, site=site)
        return self.mix(params, tokens, rows, mask=mask, bias=bias, view=view, site=site)

    def start(self, params: Params, batch: tuple[int, ...], length: int, dims: Dims, dtype=jnp.float32) -> KVCache:
        """An empty cache for `length` positions."""
        token = jax.ShapeDtypeStruct((*batch, dims.num_heads, 1, dims.head_dim), dtype)
        stream = jax.ShapeDtypeStruct((*batch, 1, dims.width), dtype)
        made = jax.eval_shape(self.prepare, params, token, token, token, stream, jax.ShapeDtypeStruct((1,), jnp.int32))

        def empty(like, axes):
            return jnp.zeros((*like.shape[: like.ndim - axes], length, *like.shape[like.ndim - axes + 1 :]), dtype)

        clock = None if made.tick is None else empty(made.tick, 1)
        return KVCache(empty(made.k, 2), empty(made.v, 2), jnp.zeros((), jnp.int32), clock)

    def step(
        self,
        params: Params,
        state: KVCache,
        q: Float[Array, "*B H K"],
        k: Float[Array, "*B H K"],
        v: Float[Array, "*B H K"],
        *,
        x: Float[Array, "*B D"] | None = None,
        bias: Float[HostOrDevice, "*N U"] | None = None,
        window: int | None = None,
        prefix: int = 0,
    ) -> tuple[Float[Array, "*B H K"], KVCache]:
        """One decoded position: append `k, v` to the cache, attend from `q` to what is filled.

        `window` and `prefix` as in `causal_mask`, for positions from `prefix` on: those before it see each other in the
        parallel view, which no decoder can do.
        """
        now = state.filled
        row_x = None if x is None else x[..., None, :]
        one = self.prepare(params, q[..., None, :], k[..., None, :], v[..., None, :], row_x, now[None])
        keys = jax.lax.dynamic_update_index_in_dim(state.k, one.k[..., 0, :], now, axis=-2)
        values = jax.lax.dynamic_update_index_in_dim(state.v, one.v[..., 0, :], now, axis=-2)
        clock, clocks = None, state.clock
        if one.tick is not None and clocks is not None:
            before = jax.lax.dynamic_index_in_dim(clocks, jnp.maximum(now - 1, 0), axis=-1)
            time = jnp.where(now > 0, before, 0) + one.tick
            clocks = jax.lax.dynamic_update_index_in_dim(clocks, time[..., 0], now, axis=-1)
            clock = (time, clocks)
        u = jnp.arange(keys.shape[-2])
        seen = u <= now
        if window is not None:
            seen &= (u > now - window) | (u < prefix)
        result = self.mix(
            params,
            Tokens(one.q, keys, values),
            Rows(row_x, now[None], clock),
            mask=seen[None, :],
            bias=None if bias is None else bias[..., None, :],
            view="parallel",
            site=no_site,
        )
        return result.out[..., 0, :], KVCache(keys, values, now + 1, clocks)
