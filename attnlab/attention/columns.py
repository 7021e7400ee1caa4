"""Null columns: extra places a row of attention may put its mass on that are no token of the sequence.

A column set gives `n` logits per query and the values `[H, n, K]` behind them; the map then runs over keys and null
columns together. The columns stand behind the positions, so rotary embeddings never touch them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from attnlab.attention.base import Dims, Params


class Columns(Protocol):
    """`init` makes the parameters, `logits` the columns' scores, `values` what they contribute (None = nothing)."""

    def init(self, key: Key[Array, ""], dims: Dims) -> Params: ...

    def logits(self, params: Params, q: Float[Array, "*B H T K"], scale: float) -> Float[Array, "*B H T n"]: ...

    def values(self, params: Params) -> Float[Array, "H n K"] | None: ...


@dataclass(frozen=True)
class ZeroLogit:
    """One column of logit 0 and value 0: `A_tu = exp(l_tu) / (1 + sum exp(l_t))`, softmax-off-by-one."""

    def init(self, key, dims):
        return {}

    def logits(self, params, q, scale):
        return jnp.zeros((*q.shape[:-1], 1), q.dtype)

    def values(self, params):
        return None


@dataclass(frozen=True)
class SinkLogit:
    """One column of a learned logit `b_h` and value 0, the same for every query; `b` begins at 0.

    What is left on tokens is softmax times `sigmoid(log sum exp(l_t) - b_h)`: a gate per head on the output (derived).
    """

    def init(self, key, dims):
        return {"sink": jnp.zeros(dims.num_heads)}

    def logits(self, params, q, scale):
        return jnp.broadcast_to(params["sink"].astype(q.dtype)[:, None, None], (*q.shape[:-1], 1))

    def values(self, params):
        return None


@dataclass(frozen=True)
class KeyBias:
    """A learned key `k*[H, K]`; its value is 0, or a learned `v*[H, K]` if `with_value`. Init N(0, `std`^2).

    Gu et al., 2410.10781, section 7 (K biases, KV biases). `shared_over_heads` gives every head the same `k*`.
    """

    with_value: bool = False
    shared_over_heads: bool = False
    std: float = 0.02

    def init(self, key, dims):
        heads = 1 if self.shared_over_heads else dims.num_heads
        key_key, value_key = jax.random.split(key)
        params = {"key": self.std * jax.random.normal(key_key, (heads, dims.head_dim))}
        if self.with_value:
            params["value"] = self.std * jax.random.normal(value_key, (heads, dims.head_dim))
        return params

    def logits(self, params, q, scale):
        return scale * jnp.sum(q * params["key"][:, None, :].astype(q.dtype), axis=-1, keepdims=True)

    def values(self, params):
        return params["value"][:, None, :] if self.with_value else None
