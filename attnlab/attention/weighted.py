"""The weight family: tokens -> score -> temperature -> bias -> map over keys and null columns -> re-weight -> mix.

A mechanism is a `Weighted` with some slots filled; each slot is a small frozen dataclass with `init` and a call
(modules `tokens`, `scores`, `tempers`, `columns`, `maps`, `posts`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention.base import AttentionOutput, Dims, Params, View, WeightMap, init_slots, no_params
from attnlab.attention.columns import Columns
from attnlab.attention.maps import SOFTMAX, LearnedMap
from attnlab.attention.narrow import is_narrow, product, wide_product, widen
from attnlab.attention.pairwise import Pairwise, Rows, Tokens


class TokenSlot(Protocol):
    """What happens to `q, k, v [*B, H, T, K]` token by token; `x[*B, T, D]`, positions `at[T]`."""

    def init(self, key: Any, dims: Dims) -> Params: ...

    def __call__(self, params: Params, tokens: Tokens, x: Array | None, at: Array) -> Tokens: ...


class ScoreSlot(Protocol):
    """`logits [*B, H, T, U]` of prepared tokens, before temperature and bias; `scale` is `1 / sqrt(K)` or as set."""

    def init(self, key: Any, dims: Dims) -> Params: ...

    def __call__(self, params: Params, tokens: Tokens, scale: float, at: Array) -> Array: ...


class TemperSlot(Protocol):
    """A factor of the logits per query, `[*B, H, T, 1]` or broadcastable; `count[*M, T, 1]` keys are visible."""

    def init(self, key: Any, dims: Dims) -> Params: ...

    def __call__(self, params: Params, tokens: Tokens, rows: Rows, count: Array) -> Array: ...


class PostSlot(Protocol):
    """New weights from `weights` and `logits`, both `[*B, H, T, U]`; `visible[*M, T, U]`, `count[*M, T, 1]`."""

    def init(self, key: Any, dims: Dims) -> Params: ...

    def __call__(self, params: Params, weights: Array, seen: Seen) -> Array: ...


@dataclass(frozen=True)
class Seen:
    """What a `PostSlot` may look at besides the weights."""

    logits: Array
    visible: Array
    count: Array
    tokens: Tokens
    rows: Rows


@dataclass(frozen=True)
class Weighted(Pairwise):
    """`out_t = sum_u A_tu v_u (+ sum_n A_tn v*_n)`, `A_t = post(map([l_t, l*_t]))`.

    `l_tu = cap(temper_t score(q_t, k_u) + clock_t - clock_u + bias_tu)`, `score = scale q_t . k_u` by default. Every
    slot works row by row: a row knows all keys and no other row.

    Of bfloat16 tokens the logits and all up to the weights are float32; the values are then mixed by bfloat16 weights.

    Attributes:
      name: what tables and plots call it.
      map: from logits to weights (`attnlab.attention.maps`, `attnlab.attention.simplex`), or one with parameters.
      columns: null columns, or None (`attnlab.attention.columns`).
      scale: logit scale; None = `1 / sqrt(K)`.
      tokens: what happens to queries, keys and values before they meet.
      score: other scores than the dot product.
      temper: temperature of each query.
      post: new weights from the weights.
      cap: logits become `cap tanh(logits / cap)`.
      value_bias: a learned `v*[H, K]`, N(0, 0.02^2), is added to the output (V biases, 2410.10781, section 7).
    """

    name: str
    map: WeightMap | LearnedMap = SOFTMAX
    columns: Columns | None = None
    scale: float | None = None
    tokens: TokenSlot | None = None
    score: ScoreSlot | None = None
    temper: TemperSlot | None = None
    post: PostSlot | None = None
    cap: float | None = None
    value_bias: bool = False

    @property
    def rows_apart(self) -> bool:
        return type(self).mix is Weighted.mix  # a subclass that mixes otherwise says so itself

    @property
    def reads_narrow(self) -> bool:
        """Whether it loses nothing but their rounding with bfloat16 tokens: no slot but the map works on them."""
        slots = (self.tokens, self.score, self.temper, self.post)
        return type(self).mix is Weighted.mix and all(slot is None for slot in slots)

    def init(self, key, dims: Dims) -> Params:
        """The parameters of all slots, side by side in one dict."""
        learned_map = self.map if isinstance(self.map, LearnedMap) else None
        slots = (self.columns, self.tokens, self.score, self.temper, self.post, learned_map)
        params = init_slots(self.name, slots, key, dims)
        if self.value_bias:
            shape = (dims.num_heads, dims.head_dim)
            params["value_bias"] = 0.02 * jax.random.normal(jax.random.fold_in(key, len(slots)), shape)
        return params

    def prepare(self, params, q, k, v, x, at) -> Tokens:
        tokens = Tokens(q, k, v)
        if self.tokens is None:
            return tokens
        if q.shape != k.shape:
            raise ValueError(
                f"{self.name}: got {q.shape[-2]} queries and {k.shape[-2]} keys; allowed: as many of each."
            )
        return self.tokens(params, tokens, x, at)

    def mix(self, params, tokens: Tokens, rows: Rows, *, mask, bias, view: View, site) -> AttentionOutput:
        q, k, v, _ = tokens
        num_keys = k.shape[-2]
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        if self.score is not None:
            logits = widen(self.score(params, tokens, scale, rows.at))
        elif is_narrow(q):  # scaled after the product, where it rounds nothing
            logits = scale * wide_product(q, jnp.swapaxes(k, -1, -2))
        else:
            logits = (scale * q) @ jnp.swapaxes(k, -1, -2)
        visible = jnp.ones(logits.shape[-2:], bool) if mask is None else jnp.asarray(mask)
        count = jnp.sum(visible, axis=-1, keepdims=True).astype(logits.dtype)
        if self.temper is not None:
            logits = self.temper(params, tokens, rows, count) * logits
        if rows.clock is not None:
            logits = logits + (rows.clock[0][..., :, None] - rows.clock[1][..., None, :])
        if bias is not None:
            logits = logits + bias
        if self.cap is not None:
            logits = self.cap * jnp.tanh(logits / self.cap)
        logits = site("logits", logits)
        weigh = self.map.given(params) if isinstance(self.map, LearnedMap) else self.map
        if self.columns is None:
            full = weigh(logits, visible)
        else:
            extra = self.columns.logits(params, widen(q), scale)
            seen = jnp.ones((*visible.shape[:-1], extra.shape[-1]), bool)
            full = weigh(jnp.concatenate([logits, extra], axis=-1), jnp.concatenate([visible, seen], axis=-1))
        weights = full[..., :num_keys]
        if self.post is not None:
            weights = self.post(params, weights, Seen(logits, visible, count, tokens, rows))
        if is_narrow(v):
            weights = weights.astype(v.dtype)
        weights = site("weights", weights)
        out = product(weights, v)
        if self.value_bias:
            out = (widen(out) + params["value_bias"][:, None, :].astype(logits.dtype)).astype(out.dtype)
        if self.columns is None:
            return AttentionOutput(out, weights if view == "map" else None)
        null = full[..., num_keys:]
        total = jnp.sum(null, axis=-1)
        mass = site("null", total)
        if (values := self.columns.values(params)) is not None:
            # An edit acts on the mass of all columns; each takes an equal share of the change (0 without an edit).
            null = null + ((mass - total) / null.shape[-1])[..., None]
            out = (widen(out) + null @ values.astype(null.dtype)).astype(out.dtype)
        return AttentionOutput(out, weights if view == "map" else None, mass)


@dataclass(frozen=True)
class FromWeights(Pairwise):
    """A mechanism given by `init(key, dims)` and `weights(params, q, k, *, mask) -> A[*B, H, T, U]`."""

    init: Callable[..., Params]
    weights: Callable[..., Array]
    name: str = "custom"

    def mix(self, params, tokens: Tokens, rows: Rows, *, mask, bias, view: View, site) -> AttentionOutput:
        if bias is not None:
            raise ValueError(f"{self.name}: this mechanism takes no logit bias; use other positions than 'alibi'.")
        q, k, v, _ = tokens
        visible = jnp.ones((q.shape[-2], k.shape[-2]), bool) if mask is None else jnp.asarray(mask)
        weights = site("weights", self.weights(params, q, k, mask=visible))
        return AttentionOutput(weights @ v, weights if view == "map" else None)


def from_weights(init: Callable[..., Params] | None, weights: Callable[..., Array], name: str | None = None):
    """Your own mechanism in ten lines: parameters and a map. `init=None` if it has no parameters."""
    return FromWeights(no_params if init is None else init, weights, name or getattr(weights, "__name__", "custom"))


def named(mechanism: Weighted, name: str, **changes: Any) -> Weighted:
    """`mechanism` with some slots exchanged, under another name."""
    return replace(mechanism, name=name, **changes)
