"""Temperatures: factors of the logits per query, slots of `weighted.Weighted`. Above 1 a row is sharper.

`n_t` is the number of keys that row `t` sees. Without them the weights of bounded logits spread out as rows get longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.config import require


def _log(count: Array) -> Array:
    return jnp.log(jnp.maximum(count, 1))


@dataclass(frozen=True)
class LogCount:
    """`log n_t / log length`: 1 for rows of the length one trains at."""

    length: int

    def __post_init__(self):
        require(self.length >= 2, "LogCount.length", self.length, "an integer >= 2")

    def init(self, key, dims):
        return {}

    def __call__(self, params, tokens, rows, count):
        return _log(count) / log(self.length)


@dataclass(frozen=True)
class LogWidthLogCount:
    """`log K log n_t`, natural logarithms: the factor of the cosine in LSSA (2501.13428), in place of `1 / sqrt(K)`."""

    def init(self, key, dims):
        return {}

    def __call__(self, params, tokens, rows, count):
        return log(tokens.q.shape[-1]) * _log(count)


@dataclass(frozen=True)
class SelectiveTemper:
    """`tau_t = tanh(w_h . q_t) + 1 + sigmoid(alpha_h) log n_t`: SSA (Zhang et al., 2411.12892).

    The token part reads the query, so that it shares the query's projection: `w[H, K]`, N(0, 0.02^2); `alpha` is 0.
    """

    def init(self, key, dims):
        w = 0.02 * jax.random.normal(key, (dims.num_heads, dims.head_dim))
        return {"temper": w, "growth": jnp.zeros(dims.num_heads)}

    def __call__(self, params, tokens, rows, count):
        q = tokens.q
        w, growth = params["temper"].astype(q.dtype), params["growth"].astype(q.dtype)
        token = jnp.tanh(jnp.sum(q * w[:, None, :], axis=-1, keepdims=True))
        return token + 1 + jax.nn.sigmoid(growth)[:, None, None] * _log(count)


@dataclass(frozen=True)
class PositionTemper:
    """`1 + exp(-exp(beta)) log n_t`, one `beta` for the layer: the position part of SSA as its authors released it.

    `beta = 1.5` when training from scratch, 2 when fine-tuning: the factor begins within 1 % of 1 per unit of `log n`.
    """

    beta: float = 1.5

    def init(self, key, dims):
        return {"growth": jnp.asarray(self.beta)}

    def __call__(self, params, tokens, rows, count):
        return 1 + jnp.exp(-jnp.exp(params["growth"].astype(count.dtype))) * _log(count)


@dataclass(frozen=True)
class LearnedTemper:
    """`exp(s_h)`, one learned number per head; it begins at `initial`."""

    initial: float = 1.0

    def __post_init__(self):
        require(self.initial > 0, "LearnedTemper.initial", self.initial, "a number > 0")

    def init(self, key, dims):
        return {"log_temper": jnp.full(dims.num_heads, log(self.initial))}

    def __call__(self, params, tokens, rows, count):
        return jnp.exp(params["log_temper"].astype(tokens.q.dtype))[:, None, None]
