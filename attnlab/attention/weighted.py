"""The weight family: scaled dot product -> bias -> map over keys and null columns -> mix the values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.attention.base import AttentionOutput, Dims, HostOrDevice, Params, View, WeightMap, no_params, no_site
from attnlab.attention.columns import Columns, KeyBias, ZeroLogit
from attnlab.attention.decode import CachedDecode
from attnlab.attention.maps import SOFTMAX, ReluOverPosition, Sigmoid


@dataclass(frozen=True)
class Weighted(CachedDecode):
    """`out_t = sum_u A_tu v_u (+ sum_n A_tn v*_n)`, `A_t = map([l_t, l*_t])`, `l_tu = scale q_t . k_u + bias_tu`.

    Attributes:
      name: what tables and plots call it.
      map: from logits to weights (`attnlab.attention.maps`).
      columns: null columns, or None.
      scale: logit scale; None = `1 / sqrt(K)`.
    """

    name: str
    map: WeightMap = SOFTMAX
    columns: Columns | None = None
    scale: float | None = None

    def init(self, key, dims: Dims) -> Params:
        return {} if self.columns is None else self.columns.init(key, dims)

    def apply(
        self,
        params: Params,
        q: Float[Array, "*B H T K"],
        k: Float[Array, "*B H U K"],
        v: Float[Array, "*B H U K"],
        *,
        mask: Bool[HostOrDevice, "*M T U"] | None = None,
        bias: Float[HostOrDevice, "*N T U"] | None = None,
        view: View = "parallel",
        site=no_site,
    ) -> AttentionOutput:
        """Attend from `T` queries to `U` keys; `mask` is True where a query may look (None = everywhere)."""
        num_keys = k.shape[-2]
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        logits = (scale * q) @ jnp.swapaxes(k, -1, -2)
        if bias is not None:
            logits = logits + bias
        logits = site("logits", logits)
        visible = jnp.ones(logits.shape[-2:], bool) if mask is None else jnp.asarray(mask)
        if self.columns is not None:
            extra = self.columns.logits(params, q, scale)
            logits = jnp.concatenate([logits, extra], axis=-1)
            seen = jnp.ones((*visible.shape[:-1], extra.shape[-1]), bool)
            visible = jnp.concatenate([visible, seen], axis=-1)
        full = self.map(logits, visible)
        weights = site("weights", full[..., :num_keys])
        out = weights @ v
        if self.columns is None:
            return AttentionOutput(out, weights if view == "map" else None)
        null = full[..., num_keys:]
        total = jnp.sum(null, axis=-1)
        mass = site("null", total)
        if (values := self.columns.values(params)) is not None:
            # An edit acts on the mass of all columns; each takes an equal share of the change (0 without an edit).
            null = null + ((mass - total) / null.shape[-1])[..., None]
            out = out + null @ values.astype(out.dtype)
        return AttentionOutput(out, weights if view == "map" else None, mass)


softmax = Weighted("softmax", SOFTMAX)
relu = Weighted("relu", ReluOverPosition())
sigmoid = Weighted("sigmoid", Sigmoid())
sigmoid_normalized = Weighted("sigmoid_normalized", Sigmoid(normalized=True))
softmax_off_by_one = Weighted("softmax_off_by_one", SOFTMAX, ZeroLogit())
key_bias = Weighted("key_bias", SOFTMAX, KeyBias())
kv_bias = Weighted("kv_bias", SOFTMAX, KeyBias(with_value=True))


@dataclass(frozen=True)
class FromWeights(CachedDecode):
    """A mechanism given by `init(key, dims)` and `weights(params, q, k, *, mask) -> A[*B, H, T, U]`."""

    init: Callable[..., Params]
    weights: Callable[..., Array]
    name: str = "custom"

    def apply(self, params, q, k, v, *, mask=None, bias=None, view: View = "parallel", site=no_site) -> AttentionOutput:
        if bias is not None:
            raise ValueError(f"{self.name}: this mechanism takes no logit bias; use other positions than 'alibi'.")
        visible = jnp.ones((q.shape[-2], k.shape[-2]), bool) if mask is None else jnp.asarray(mask)
        weights = site("weights", self.weights(params, q, k, mask=visible))
        return AttentionOutput(weights @ v, weights if view == "map" else None)


def from_weights(init: Callable[..., Params] | None, weights: Callable[..., Array], name: str | None = None):
    """Your own mechanism in ten lines: parameters and a map. `init=None` if it has no parameters."""
    return FromWeights(no_params if init is None else init, weights, name or getattr(weights, "__name__", "custom"))


def named(mechanism: Weighted, name: str, **changes: Any) -> Weighted:
    """`mechanism` with some slots exchanged, under another name."""
    return replace(mechanism, name=name, **changes)
