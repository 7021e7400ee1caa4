"""What happens to queries, keys and values token by token, before they meet: slots of `weighted.Weighted`.

They see queries and keys as the layer hands them over, which is after a rotary embedding. A normalisation that keeps
directions (`Unit`, `QKNorm("rmsnorm", gain=False)`) is the same before and after a rotation; a gain per channel and the
mean of LayerNorm are not, and act on the rotated vectors here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention.base import Dims, Params, init_slots
from attnlab.attention.pairwise import Tokens
from attnlab.attention.projections import number_per_head
from attnlab.config import require


@dataclass(frozen=True)
class Chain:
    """Several of these slots, one after the other; their parameters lie side by side."""

    slots: tuple[Any, ...]

    def init(self, key, dims: Dims) -> Params:
        return init_slots("Chain", self.slots, key, dims)

    def __call__(self, params, tokens: Tokens, x, at) -> Tokens:
        for slot in self.slots:
            tokens = slot(params, tokens, x, at)
        return tokens


@dataclass(frozen=True)
class QKNorm:
    """Queries and keys are normalised per head: `rmsnorm` `q / sqrt(mean q^2 + eps)`, `layernorm` of `q - mean q`.

    With `gain` they are then multiplied by a learned vector `[K]` (1 at first), one for queries and one for keys, the
    same for all heads; LayerNorm adds a learned shift (0 at first).
    """

    kind: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    gain: bool = True
    eps: float = 1e-6

    def __post_init__(self):
        require(self.kind in ("rmsnorm", "layernorm"), "QKNorm.kind", self.kind, "rmsnorm | layernorm")

    def init(self, key, dims):
        if not self.gain:
            return {}
        ones, zeros = jnp.ones(dims.head_dim), jnp.zeros(dims.head_dim)
        params = {"query_gain": ones, "key_gain": ones}
        return params | {"query_shift": zeros, "key_shift": zeros} if self.kind == "layernorm" else params

    def __call__(self, params, tokens, x, at):
        return tokens._replace(q=self._norm(params, "query", tokens.q), k=self._norm(params, "key", tokens.k))

    def _norm(self, params: Params, name: str, y: Array) -> Array:
        if self.kind == "layernorm":
            y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.eps)
        if not self.gain:
            return y
        y = y * params[f"{name}_gain"].astype(y.dtype)
        return y + params[f"{name}_shift"].astype(y.dtype) if self.kind == "layernorm" else y


@dataclass(frozen=True)
class Unit:
    """`q / |q|`, `k / |k|`: the score is a cosine (with `scale=1`). A vector of zeros stays one."""

    def init(self, key, dims):
        return {}

    def __call__(self, params, tokens, x, at):
        return tokens._replace(q=_unit(tokens.q), k=_unit(tokens.k))


def _unit(y: Array) -> Array:
    square = jnp.sum(jnp.square(y), axis=-1, keepdims=True)
    return y * jax.lax.rsqrt(jnp.where(square == 0, 1, square))


@dataclass(frozen=True)
class KeyOnly:
    """Every key has one score for all queries, `a_u = silu(q_u) . k_u / sqrt(K)`; use with `scale=1`.

    `k'_u = (a_u, 0, ...)` and `q'_t = (1, 0, ...)`, so that `q'_t . k'_u = a_u`. Softmax of it is the pooling that
    "Deconstructing Attention" (2510.11602) calls Non-approximate: all rows are pieces of one distribution.
    """

    def init(self, key, dims):
        return {}

    def __call__(self, params, tokens, x, at):
        q, k = tokens.q, tokens.k
        score = q.shape[-1] ** -0.5 * jnp.sum(jax.nn.silu(q) * k, axis=-1, keepdims=True)
        first = jnp.zeros(q.shape[-1], q.dtype).at[0].set(1)
        return tokens._replace(q=jnp.broadcast_to(first, q.shape), k=score * first)


@dataclass(frozen=True)
class Features:
    """`q -> f(q)`, `k -> f(k)`: a kernel `f(q) . f(k)`, the quadratic form of a kernel's linear attention."""

    function: Callable[[Array], Array]

    def init(self, key, dims):
        return {}

    def __call__(self, params, tokens, x, at):
        return tokens._replace(q=self.function(tokens.q), k=self.function(tokens.k))


@dataclass(frozen=True)
class MLPFeatures:
    """`q -> relu(q W_1) W_2`, the same for keys and all heads; `W [K, K]`, N(0, 1 / K) (MLP kernel, 2410.10781)."""

    def init(self, key, dims):
        up, down = dims.head_dim**-0.5 * jax.random.normal(key, (2, dims.head_dim, dims.head_dim))
        return {"feature_up": up, "feature_down": down}

    def __call__(self, params, tokens, x, at):
        up, down = (params[name].astype(tokens.q.dtype) for name in ("feature_up", "feature_down"))
        q, k = (jax.nn.relu(y @ up) @ down for y in (tokens.q, tokens.k))
        return tokens._replace(q=q, k=k)


@dataclass(frozen=True)
class ValueTemper:
    """`v_u -> tau_u v_u`, `tau_u = tanh(w_h . v_u) + 1 + sigmoid(alpha_h) log(u + 1)`, positions `u` from 0.

    The value temperature of SSA (Zhang et al., 2411.12892): it scales what is mixed, not the output. The projection of
    `x` is that of the values; `w[H, K]` is N(0, 0.02^2), `alpha` 0. The mixing matrix is that of the scaled values.
    """

    def init(self, key, dims):
        w = 0.02 * jax.random.normal(key, (dims.num_heads, dims.head_dim))
        return {"value_temper": w, "value_growth": jnp.zeros(dims.num_heads)}

    def __call__(self, params, tokens, x, at):
        v = tokens.v
        w, growth = (params[name].astype(v.dtype) for name in ("value_temper", "value_growth"))
        # Positions are integers of any width; their logarithm is wanted in the width of the values or more.
        seen = jnp.log((at + 1).astype(jnp.promote_types(v.dtype, jnp.float32))).astype(v.dtype)[:, None]
        token = jnp.tanh(jnp.sum(v * w[:, None, :], axis=-1, keepdims=True))
        return tokens._replace(v=(token + 1 + jax.nn.sigmoid(growth)[:, None, None] * seen) * v)


@dataclass(frozen=True)
class Forget:
    """The clock of a head moves by `log f_t`, `f_t = sigmoid(w_h . x_t + b_h)`: `l_tu += sum_{u < m <= t} log f_m`.

    Forgetting Transformer (2503.02130). `w[D, H]` is N(0, 1 / D); `b` begins at `bias`: gates near 1, a long memory.
    """

    bias: float = 4.0

    def init(self, key, dims):
        w = dims.width**-0.5 * jax.random.normal(key, (dims.width, dims.num_heads))
        return {"forget": w, "forget_bias": jnp.full(dims.num_heads, self.bias)}

    def __call__(self, params, tokens, x, at):
        score = number_per_head(x, params["forget"], "the forget gate")
        gate = jax.nn.log_sigmoid(score + params["forget_bias"][:, None].astype(score.dtype))
        return tokens._replace(tick=gate)


@dataclass(frozen=True)
class Alibi:
    """The clock of head `h` (from 1) moves by `-2^(-8 h / H)`: `l_tu -= slope_h (t - u)` (Press et al., 2108.12409)."""

    def init(self, key, dims):
        return {}

    def __call__(self, params, tokens, x, at):
        heads = tokens.q.shape[-3]
        slope = 2.0 ** (-8.0 * jnp.arange(1, heads + 1) / heads)
        return tokens._replace(tick=jnp.broadcast_to(-slope[:, None].astype(tokens.q.dtype), tokens.q.shape[:-1]))
