"""Rules that give every channel of the values a recurrence of its own: S6, qLSTM, RG-LRU.

A mixing matrix per head exists if the head width is 1 (as many heads as channels); queries and keys are not used. Gates
read the layer's input `x`, where the papers have the output of a short convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.attention.base import Params
from attnlab.attention.gates import Stream, inverse_softplus_log_uniform, low_rank, matrix, per_head, project
from attnlab.attention.rules import Rule
from attnlab.attention.scan import Steps


class Channelwise(Rule):
    """What they share."""

    @property
    def channelwise(self) -> bool:
        return True


def by_channel(x: Float[Array, "*B T K"]) -> Float[Array, "*B K T"]:
    return jnp.swapaxes(x, -1, -2)


def gate(params: Params, stream: Stream, name: str) -> Float[Array, "*B K T"]:
    """`x w + b`, channel by channel."""
    found = project(stream, params[f"{name}_gate"])
    return by_channel(found + per_head(params[f"{name}_bias"], found))


def init_gates(key, dims, *names: str) -> Params:
    """`w[D, H, K]`, N(0, 1/D), and `b[H, K] = 0` for each name."""
    shape = (dims.num_heads, dims.head_dim)
    keys = jax.random.split(key, len(names))
    params = {f"{name}_gate": matrix(k, dims.width, *shape) for name, k in zip(names, keys, strict=True)}
    return params | {f"{name}_bias": jnp.zeros(shape) for name in names}


@dataclass(frozen=True)
class S6(Channelwise):
    """`h_i = exp(-a Δ_i) ⊙ h_{i-1} + Δ_i B_i v_i`, `o_i = C_i · h_i + D v_i`, `h[num]` per channel (2312.00752).

    `Δ = softplus(x w_1 w_2 + b)` per channel, `B = x W_B` and `C = x W_C` `[num]` shared by all channels. Start:
    `a = 1 .. num`, `Δ` log-uniform in [1e-3, 0.1] at `x = 0`, `D = 1`. `rank=None` is `D / 16`, rounded up.
    """

    num: int = 16
    rank: int | None = None
    no_decay: ClassVar[tuple[str, ...]] = ("a_log", "dt_bias", "skip")

    def init(self, key, dims):
        down_key, up_key, step_key, write_key, read_key = jax.random.split(key, 5)
        shape, rank = (dims.num_heads, dims.head_dim), self.rank or -(-dims.width // 16)
        return {
            "decay_down": matrix(down_key, dims.width, rank),
            "decay_up": rank**-0.5 * jax.random.uniform(up_key, (rank, *shape), minval=-1.0),
            "dt_bias": inverse_softplus_log_uniform(step_key, shape),
            "a_log": jnp.broadcast_to(jnp.log(jnp.arange(1.0, self.num + 1)), (*shape, self.num)),
            "write": matrix(write_key, dims.width, self.num),
            "read": matrix(read_key, dims.width, self.num),
            "skip": jnp.ones(shape),
        }

    def __call__(self, params, stream, carry):
        step = low_rank(stream, params["decay_down"], params["decay_up"])
        step = by_channel(jax.nn.softplus(step + per_head(params["dt_bias"], step)))
        read, write = ((stream.x @ params[n].astype(step.dtype))[..., None, None, :, :] for n in ("read", "write"))
        log_decay = -jnp.exp(params["a_log"])[..., None, :].astype(step.dtype) * step[..., None]
        skip = jnp.broadcast_to(params["skip"][..., None].astype(step.dtype), step.shape)
        return Steps(read, step[..., None] * write, log_decay, skip=skip), carry


@dataclass(frozen=True)
class QLstm(Channelwise):
    """`h_i = f_i h_{i-1} + sigmoid(x w_i) v_i`, `o_i = sigmoid(x w_o) h_i`, `f = sigmoid(x w_f)`: an LSTM without tanh.

    `reverse=True`: `f = sigmoid(-x w_f)^relu(a)`, `a` learned per channel from 1: the decay of S6, of which
    `exp(-a softplus(z)) = sigmoid(-z)^a` (2405.15731).
    """

    reverse: bool = False
    no_decay: ClassVar[tuple[str, ...]] = ("power",)

    def init(self, key, dims):
        params = init_gates(key, dims, "forget", "input", "output")
        return params | {"power": jnp.ones((dims.num_heads, dims.head_dim))} if self.reverse else params

    def __call__(self, params, stream, carry):
        forget = gate(params, stream, "forget")
        log_decay = jax.nn.log_sigmoid(-forget if self.reverse else forget)
        if self.reverse:
            log_decay = jax.nn.relu(params["power"][..., None]).astype(log_decay.dtype) * log_decay
        write, read = (jax.nn.sigmoid(gate(params, stream, name))[..., None] for name in ("input", "output"))
        return Steps(read, write, log_decay), carry


@dataclass(frozen=True)
class RgLru(Channelwise):
    """`h_i = α_i h_{i-1} + sqrt(1 - α_i^2) sigmoid(x w_i) v_i`, `α = exp(-c softplus(Λ) sigmoid(x w_r))`, `o_i = h_i`.

    De et al., 2402.19427, `c = 8`. Start: `exp(-c softplus(Λ))` uniform in [0.9, 0.999].
    """

    c: float = 8.0
    no_decay: ClassVar[tuple[str, ...]] = ("rate",)

    def init(self, key, dims):
        gates_key, rate_key = jax.random.split(key)
        kept = jax.random.uniform(rate_key, (dims.num_heads, dims.head_dim), minval=0.9, maxval=0.999)
        return init_gates(gates_key, dims, "input", "decay") | {"rate": jnp.log(jnp.expm1(-jnp.log(kept) / self.c))}

    def __call__(self, params, stream, carry):
        rate = jax.nn.softplus(params["rate"][..., None])
        log_decay = -self.c * rate.astype(stream.v.dtype) * jax.nn.sigmoid(gate(params, stream, "decay"))
        # The slope of the square root is not finite at 0, where nothing decays.
        lost = jnp.maximum(-jnp.expm1(2 * log_decay), jnp.finfo(log_decay.dtype).tiny)
        write = (jnp.sqrt(lost) * jax.nn.sigmoid(gate(params, stream, "input")))[..., None]
        return Steps(jnp.ones_like(write), write, log_decay), carry
