"""Rules whose keys, or whose reading, depend on the decay: RWKV-6, RWKV-7 and HGRN2.

What the papers do around the recurrence (token shift, norms and gates of the output, the value of the first layer) is
left to the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from attnlab.attention.features import l2
from attnlab.attention.gates import Decay, DoubleExp, low_rank, matrix, per_head, spread
from attnlab.attention.rules import Rule
from attnlab.attention.scan import Steps

DOUBLE_EXP = DoubleExp()


@dataclass(frozen=True)
class Rwkv6(Rule):
    """`o_i = S_{i-1}^T q_i + (q_i · (u ⊙ k_i)) v_i`, then `S_i = diag(α_i) S_{i-1} + k_i v_i^T`.

    Peng et al., 2404.05892: a token's own value is read with `u[H, K]` (0 at the start) in place of the state.
    """

    decay: Decay = DOUBLE_EXP

    def init(self, key, dims):
        return self.decay.init(key, dims) | {"bonus": jnp.zeros((dims.num_heads, dims.head_dim))}

    def __call__(self, params, stream, carry):
        own = jnp.sum(stream.q * per_head(params["bonus"], stream.k) * stream.k, axis=-1)
        return Steps(stream.q, stream.k, self.decay(params, stream), skip=own, early=True), carry


@dataclass(frozen=True)
class Rwkv7(Rule):
    """`S_i = (diag(α_i) - (g_i ⊙ κ_i) κ_i^T) S_{i-1} + k'_i v_i^T` with `κ = k ⊙ k_k / |k ⊙ k_k|` (2503.14456).

    `α = exp(-sigmoid(w) / sqrt(e))` in (0.545, 1), `w = w_0 + tanh(x w_1) w_2`; `g = sigmoid(g_0 + x g_1 g_2)`;
    `k' = k ⊙ (1 + (g - 1) ⊙ k_a)`. Start: `w_0` from -5.5 to 0.5 over the channels, `g_0 = -0.19`, `k_k = 0.71`,
    `k_a = 1.02`, `w_1 = g_1 = 0`. Unlike in the delta rule, what is erased is what the state held before its decay.
    """

    rank: int = 32
    no_decay: ClassVar[tuple[str, ...]] = ("decay_bias", "gate_bias", "k_k", "k_a")

    def init(self, key, dims):
        shape = (dims.num_heads, dims.head_dim)
        decay_key, gate_key = jax.random.split(key)
        return {
            "decay_down": jnp.zeros((dims.width, self.rank)),
            "decay_up": 0.1 * matrix(decay_key, self.rank, *shape),
            "decay_bias": spread(-5.5, 0.5, 1.0, dims),
            "gate_down": jnp.zeros((dims.width, self.rank)),
            "gate_up": 0.1 * matrix(gate_key, self.rank, *shape),
            "gate_bias": jnp.full(shape, -0.19),
            "k_k": jnp.full(shape, 0.71),
            "k_a": jnp.full(shape, 1.02),
        }

    def __call__(self, params, stream, carry):
        k = stream.k
        w = low_rank(stream, params["decay_down"], params["decay_up"], jnp.tanh) + per_head(params["decay_bias"], k)
        gate = jax.nn.sigmoid(
            low_rank(stream, params["gate_down"], params["gate_up"]) + per_head(params["gate_bias"], k)
        )
        direction = l2(k * per_head(params["k_k"], k), eps=1e-12)
        write = k * (1 + (gate - 1) * per_head(params["k_a"], k))
        log_decay = -math.exp(-0.5) * jax.nn.sigmoid(w)
        return Steps(stream.q, write, log_decay, a=direction, b=-gate * direction), carry


@dataclass(frozen=True)
class Hgrn2(Rule):
    """`S_i = diag(f_i) S_{i-1} + (1 - f_i) v_i^T`, read with `silu(q_i)`; `f = γ + (1 - γ) sigmoid(k)`.

    Qin et al., 2404.07904: the key projection makes the forget gate, and the key is what is forgotten. `γ` is
    `lower_bound`, which the paper learns, larger in later layers.
    """

    lower_bound: float = 0.0

    def __call__(self, params, stream, carry):
        key = (1 - self.lower_bound) * jax.nn.sigmoid(-stream.k)
        log_decay = jnp.log1p(-key) if self.lower_bound > 0 else jax.nn.log_sigmoid(stream.k)
        return Steps(jax.nn.silu(stream.q), key, log_decay), carry
