"""What a recurrence computes from the token at hand: how fast the state decays, how strongly the token writes.

Each is a frozen dataclass with `init` and a call on a `Stream`; matrices read the layer's input `x` and start as
N(0, 1/D), biases as 0 unless said otherwise. Decays are returned as logarithms, which are <= 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from attnlab.attention.base import Dims, Params


class Stream(NamedTuple):
    """Tokens as a rule sees them: `q, k [*B, H, T, K]` after the feature map, `v`, `x[*B, T, D]`, positions `at[T]`."""

    q: Array
    k: Array
    v: Array
    x: Array | None
    at: Array


class Decay(Protocol):
    """`log α`: `[*B, H, T]`, or `[*B, H, T, K]` if `per_channel`: each channel has its own."""

    per_channel: ClassVar[bool]

    def init(self, key: Key[Array, ""], dims: Dims) -> Params: ...

    def __call__(self, params: Params, stream: Stream) -> Array: ...


class Strength(Protocol):
    """How strongly a token writes, `[*B, H, T]`."""

    def init(self, key: Key[Array, ""], dims: Dims) -> Params: ...

    def __call__(self, params: Params, stream: Stream) -> Array: ...


def matrix(key: Key[Array, ""], *shape: int) -> Float[Array, ...]:
    """N(0, 1 / fan-in), the first axis is read."""
    return shape[0] ** -0.5 * jax.random.normal(key, shape)


def project(stream: Stream, w: Float[Array, "D H ..."]) -> Float[Array, ...]:
    """`x w` with the heads before the positions: `[*B, H, T]` for `w[D, H]`, `[*B, H, T, M]` for `w[D, H, M]`."""
    if stream.x is None:
        raise ValueError("x: got None; allowed is x[*B, T, D], what the layer reads: this mechanism has gates of it.")
    subscripts = "...td,dh->...ht" if w.ndim == 2 else "...td,dhm->...htm"
    return jnp.einsum(subscripts, stream.x, w.astype(stream.x.dtype))


def per_head(value: Float[Array, "H ..."], like: Array) -> Float[Array, ...]:
    """`[H]` as `[H, 1]`, `[H, M]` as `[H, 1, M]`, in the dtype of `like`."""
    return jnp.expand_dims(value, 1).astype(like.dtype)


def retention_rates(num_heads: int) -> np.ndarray:
    """`-log(1 - 2^(-5-h))`, `h = 0 .. H-1` (RetNet, Sun et al., 2307.08621)."""
    return -np.log1p(-(2.0 ** (-5.0 - np.arange(num_heads))))


def slope_rates(num_heads: int) -> np.ndarray:
    """`2^(-8 h / H)`, `h = 1 .. H`: the slopes of ALiBi, used by Lightning Attention (2401.04658)."""
    return 2.0 ** (-8.0 * np.arange(1, num_heads + 1) / num_heads)


@dataclass(frozen=True)
class FixedDecay:
    """`log α = -rates(H)`, the same at every token."""

    rates: Callable[[int], np.ndarray]
    per_channel: ClassVar[bool] = False

    def init(self, key, dims):
        return {}

    def __call__(self, params, stream):
        rates = jnp.asarray(self.rates(stream.k.shape[-3]), stream.k.dtype)
        return jnp.broadcast_to(-rates[:, None], stream.k.shape[:-1])


def inverse_softplus_log_uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, ...]:
    """`b` with `softplus(b)` log-uniform in `[1e-3, 0.1]`, the step sizes at the start of Mamba."""
    step = jnp.exp(jax.random.uniform(key, shape, minval=np.log(1e-3), maxval=np.log(0.1)))
    return step + jnp.log(-jnp.expm1(-step))


@dataclass(frozen=True)
class StepSize:
    """`log α = -exp(a_log) Δ`, `Δ = softplus(x w + dt_bias)`, one per head (Mamba-2, 2405.21060).

    `exp(-a softplus(z)) = sigmoid(-z)^a`. Start: `exp(a_log)` uniform in `rates`, `Δ` log-uniform in [1e-3, 0.1] at
    `x w = 0`. Weight decay leaves `a_log` and `dt_bias` alone, as in the code of Mamba-2 and flash-linear-attention.
    """

    rates: tuple[float, float] = (1.0, 16.0)
    per_channel: ClassVar[bool] = False
    no_decay: ClassVar[tuple[str, ...]] = ("a_log", "dt_bias")

    def init(self, key, dims):
        gate_key, rate_key, step_key = jax.random.split(key, 3)
        low, high = self.rates
        # Away from 0, whose logarithm is not finite.
        rate = jax.random.uniform(rate_key, (dims.num_heads,), minval=max(low, 1e-4), maxval=high)
        return {
            "decay_gate": matrix(gate_key, dims.width, dims.num_heads),
            "a_log": jnp.log(rate),
            "dt_bias": inverse_softplus_log_uniform(step_key, (dims.num_heads,)),
        }

    def steps(self, params: Params, stream: Stream) -> Array:
        """`Δ[*B, H, T]`."""
        gate = project(stream, params["decay_gate"])
        return jax.nn.softplus(gate + per_head(params["dt_bias"], gate))

    def __call__(self, params, stream):
        step = self.steps(params, stream)
        return -jnp.exp(per_head(params["a_log"], step)) * step


STEP_SIZE = StepSize()


@dataclass(frozen=True)
class ChannelStepSize:
    """`log α = -exp(a_log) softplus(x w_1 w_2 + dt_bias)`, one per channel, `a_log[H]` (Kimi Delta Attention).

    `w_1[D, rank]`, `w_2[rank, H, K]`, `rank=None` is `K`. Start: `exp(a_log)` uniform in [1, 16], `dt_bias = 0`.
    """

    rank: int | None = None
    per_channel: ClassVar[bool] = True
    no_decay: ClassVar[tuple[str, ...]] = ("a_log", "dt_bias")

    def init(self, key, dims):
        down_key, up_key, rate_key = jax.random.split(key, 3)
        rank = self.rank or dims.head_dim
        return {
            "decay_down": matrix(down_key, dims.width, rank),
            "decay_up": matrix(up_key, rank, dims.num_heads, dims.head_dim),
            "a_log": jnp.log(jax.random.uniform(rate_key, (dims.num_heads,), minval=1.0, maxval=16.0)),
            "dt_bias": jnp.zeros((dims.num_heads, dims.head_dim)),
        }

    def __call__(self, params, stream):
        gate = low_rank(stream, params["decay_down"], params["decay_up"])
        rate = jnp.exp(per_head(params["a_log"][:, None], gate))
        return -rate * jax.nn.softplus(gate + per_head(params["dt_bias"], gate))


def low_rank(
    stream: Stream,
    down: Float[Array, "D R"],
    up: Float[Array, "R H M"],
    between: Callable[[Array], Array] | None = None,
) -> Float[Array, "*B H T M"]:
    """`between(x down) up`."""
    if stream.x is None:
        return project(stream, up)  # says what is missing
    inner = stream.x @ down.astype(stream.x.dtype)
    return project(stream._replace(x=inner if between is None else between(inner)), up)


@dataclass(frozen=True)
class ChannelSigmoid:
    """`log α = log sigmoid(x w_1 w_2 + b) / temperature`, one per channel (GLA, Yang et al., 2312.06635).

    `w_1[D, rank]`, `w_2[rank, H, K]`; the temperature 16 keeps `α` near 1.
    """

    rank: int = 16
    temperature: float = 16.0
    per_channel: ClassVar[bool] = True

    def init(self, key, dims):
        down_key, up_key = jax.random.split(key)
        return {
            "decay_down": matrix(down_key, dims.width, self.rank),
            "decay_up": matrix(up_key, self.rank, dims.num_heads, dims.head_dim),
            "decay_bias": jnp.zeros((dims.num_heads, dims.head_dim)),
        }

    def __call__(self, params, stream):
        gate = low_rank(stream, params["decay_down"], params["decay_up"])
        return jax.nn.log_sigmoid(gate + per_head(params["decay_bias"], gate)) / self.temperature


def spread(low: float, high: float, power: float, dims: Dims) -> Float[Array, "H K"]:
    """From `low` to `high` over all channels, `low + (high - low) (c / (H K - 1))^power`."""
    num = dims.num_heads * dims.head_dim
    ramp = (jnp.arange(num) / max(num - 1, 1)) ** power
    return (low + (high - low) * ramp).reshape(dims.num_heads, dims.head_dim)


@dataclass(frozen=True)
class DoubleExp:
    """`log α = -exp(w)`, `w = w_0 + tanh(x w_1) w_2`, one per channel (RWKV-6, Peng et al., 2404.05892).

    Start: `w_0` from -6 to -1 over the channels, `w_1 = 0`. Weight decay leaves `w_0` alone: RWKV decays matrices only.
    """

    rank: int = 64
    per_channel: ClassVar[bool] = True
    no_decay: ClassVar[tuple[str, ...]] = ("decay_bias",)

    def init(self, key, dims):
        return {
            "decay_down": jnp.zeros((dims.width, self.rank)),
            "decay_up": matrix(key, self.rank, dims.num_heads, dims.head_dim),
            "decay_bias": spread(-6.0, -1.0, 0.7, dims),
        }

    def __call__(self, params, stream):
        gate = low_rank(stream, params["decay_down"], params["decay_up"], jnp.tanh)
        return -jnp.exp(gate + per_head(params["decay_bias"], gate))


@dataclass(frozen=True)
class Beta:
    """`limit * sigmoid(x w)`. With keys of norm 1 the delta rule has the eigenvalue `1 - β`.

    `limit=2` lets it reach -1, without which no such recurrence counts modulo two (Grazzi et al., 2411.12537).
    """

    limit: float = 1.0

    def init(self, key, dims):
        return {"beta_gate": matrix(key, dims.width, dims.num_heads)}

    def __call__(self, params, stream):
        return self.limit * jax.nn.sigmoid(project(stream, params["beta_gate"]))


BETA = Beta()


@dataclass(frozen=True)
class FixedBeta:
    """The same strength at every token; needs no `x`."""

    value: float = 1.0

    def init(self, key, dims):
        return {}

    def __call__(self, params, stream):
        return jnp.full(stream.k.shape[:-1], self.value, stream.k.dtype)
