"""Rules: what a token does to the state of a recurrence, and what the query reads (`scan.Steps`).

A rule is a frozen dataclass with `init`, `start` and a call `(params, stream, carry) -> (steps, carry)`; it sees `T`
tokens in the parallel form and one in a decode step. `carry` is what it must remember between tokens besides the state
(mostly nothing); before the first token it is all zeros. It never changes the values: the mixing matrix exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention.base import Dims, Params
from attnlab.attention.features import l2_silu
from attnlab.attention.gates import BETA, STEP_SIZE, Decay, StepSize, Stream, Strength, matrix, per_head, project
from attnlab.attention.scan import Steps, chunked_core, scan_core, state_dtype


class Rule:
    """What all rules share.

    Attributes:
      channelwise: every channel of the values has a recurrence of its own, axes `[*B, H, C, T, ...]` of its steps.
      micro: steps per token.
    """

    @property
    def channelwise(self) -> bool:
        return False

    @property
    def micro(self) -> int:
        return 1

    def init(self, key: Any, dims: Dims) -> Params:
        return {}

    def start(self, stream: Stream) -> Any:
        """The carry before the first token."""
        return ()

    def __call__(self, params: Params, stream: Stream, carry: Any) -> tuple[Steps, Any]:
        raise NotImplementedError


def init_parts(key: Any, dims: Dims, *parts: Any) -> Params:
    """The parameters of the parts that are not None, in one dict."""
    params: Params = {}
    for number, part in enumerate(parts):
        params |= {} if part is None else part.init(jax.random.fold_in(key, number), dims)
    return params


@dataclass(frozen=True)
class Hebb(Rule):
    """`S_i = α_i S_{i-1} + β_i k_i v_i^T`: linear attention, with forgetting if there is a decay.

    `beta=None` is 1; `FixedBeta(-1.0)` is the anti-Hebbian rule.
    """

    decay: Decay | None = None
    beta: Strength | None = None

    def init(self, key, dims):
        return init_parts(key, dims, self.decay, self.beta)

    def __call__(self, params, stream, carry):
        log_decay = None if self.decay is None else self.decay(params, stream)
        k = stream.k if self.beta is None else self.beta(params, stream)[..., None] * stream.k
        return Steps(stream.q, k, log_decay), carry


HEBB = Hebb()


@dataclass(frozen=True)
class Delta(Rule):
    """`S <- α_i S`, then `S <- S + β_i k_i (v_i - S^T k_i)^T`: the decay comes before the erasure.

    Without decay DeltaNet (Yang et al., 2406.06484), with one per head Gated DeltaNet (2412.06464), with one per
    channel Kimi Delta Attention. `normalized=True` divides `β` by `eps + |k|^2` (normalised least mean squares).
    """

    decay: Decay | None = None
    beta: Strength = BETA
    normalized: bool = False
    eps: float = 1e-6

    def init(self, key, dims):
        return init_parts(key, dims, self.decay, self.beta)

    def __call__(self, params, stream, carry):
        q, k = stream.q, stream.k
        beta = self.beta(params, stream)[..., None]
        if self.normalized:
            beta = beta / (self.eps + jnp.sum(k * k, axis=-1, keepdims=True))
        if self.decay is None:
            return Steps(q, beta * k, a=k, b=-beta * k), carry
        log_decay = self.decay(params, stream)
        alpha = jnp.exp(log_decay)
        seen = (alpha if self.decay.per_channel else alpha[..., None]) * k
        return Steps(q, beta * k, log_decay, a=seen, b=-beta * k), carry


@dataclass(frozen=True)
class InLine(Rule):
    """`A_ij = (q_i · k_j - q_i · mean_{m<=i} k_m + 1) / n_i`: rows sum to 1, weights of either sign.

    The causal form (derived) of injective linear attention (Han et al., 2412.06590): `o_i` is the mean of the values
    plus the covariance of keys and values read with `q_i`; softmax attention to first order in the logits. One
    recurrence with the key `[k, 1]`; the mean key is carried.
    """

    def start(self, stream):
        return jnp.zeros((*stream.k.shape[:-2], stream.k.shape[-1]), stream.k.dtype)

    def __call__(self, params, stream, carry):
        q, k = stream.q, stream.k
        total = carry[..., None, :] + jnp.cumsum(k, axis=-2)
        count = (stream.at + 1).astype(k.dtype)[:, None]
        centre = jnp.sum(q * total, axis=-1, keepdims=True) / count
        one = jnp.ones_like(k[..., :1])
        steps = Steps(jnp.concatenate([q, 1 - centre], axis=-1) / count, jnp.concatenate([k, one], axis=-1))
        return steps, total[..., -1, :]


@dataclass(frozen=True)
class StateSpace(Rule):
    """`S_i = exp(-a Δ_i) S_{i-1} + Δ_i k_i v_i^T`, `o_i = S_i^T q_i + D v_i` (Mamba-2, Dao and Gu, 2405.21060).

    One decay and one step size per head; `skip` is `D[H]`, 1 at the start, and spared by weight decay as in the paper's
    code.
    """

    decay: StepSize = STEP_SIZE
    skip: bool = True
    no_decay: ClassVar[tuple[str, ...]] = ("skip",)

    def init(self, key, dims):
        params = self.decay.init(key, dims)
        return params | {"skip": jnp.ones(dims.num_heads)} if self.skip else params

    def __call__(self, params, stream, carry):
        step = self.decay.steps(params, stream)
        log_decay = -jnp.exp(per_head(params["a_log"], step)) * step
        skip = jnp.broadcast_to(per_head(params["skip"], step), step.shape) if self.skip else None
        return Steps(stream.q, step[..., None] * stream.k, log_decay, skip=skip), carry


@dataclass(frozen=True)
class DeltaProduct(Rule):
    """`num` delta steps per token, each with a key and a strength of its own: products of Householder matrices.

    Siems et al., 2502.10297. The decay comes before the first step. The first key is the layer's, the others are
    `key_map(x W)`; strengths are `limit sigmoid(x w)`. Every step writes the token's one value (the paper has a value
    per step), so that a mixing matrix exists. `num=1` is `Delta` with that decay.
    """

    num: int = 2
    decay: Decay | None = None
    limit: float = 2.0
    key_map: Callable[[Array], Array] = l2_silu

    @property
    def micro(self) -> int:
        return self.num

    def init(self, key, dims):
        decay_key, beta_key, more_key = jax.random.split(key, 3)
        params = init_parts(decay_key, dims, self.decay)
        params["beta_gate"] = matrix(beta_key, dims.width, dims.num_heads, self.num)
        if self.num > 1:
            params["more_keys"] = matrix(more_key, dims.width, dims.num_heads, (self.num - 1) * dims.head_dim)
        return params

    def __call__(self, params, stream, carry):
        lead, width = stream.k.shape[:-1], stream.k.shape[-1]
        k = stream.k[..., None, :]
        if self.num > 1:
            more = project(stream, params["more_keys"]).reshape(*lead, self.num - 1, width)
            k = jnp.concatenate([k, self.key_map(more)], axis=-2)
        beta = self.limit * jax.nn.sigmoid(project(stream, params["beta_gate"]))
        seen, log_decay = k, None
        if self.decay is not None:
            once = self.decay(params, stream)
            once = once[..., None, :] if self.decay.per_channel else once[..., None]
            rest = jnp.zeros((*lead, self.num - 1, *once.shape[len(lead) + 1 :]), once.dtype)
            log_decay = jnp.concatenate([once, rest], axis=len(lead))
            seen = jnp.exp(log_decay if self.decay.per_channel else log_decay[..., None]) * k
            log_decay = _in_a_row(log_decay, len(lead))
        write = beta[..., None] * k
        q = jnp.broadcast_to(stream.q[..., None, :], k.shape)
        q, k, write, seen = (_in_a_row(a, len(lead)) for a in (q, k, write, seen))
        return Steps(q, write, log_decay, a=seen, b=-write), carry


def _in_a_row(x: Array, axis: int) -> Array:
    """The steps of a token, on `axis`, one after another on the axis of time before it."""
    return x.reshape(*x.shape[: axis - 1], -1, *x.shape[axis + 1 :])


@dataclass(frozen=True)
class Comba(Rule):
    """`S <- α_i S`, then `S <- S + β_i k_i (v_i - S^T p_i)^T`, read with `q_i - d p_i`, where `p_i = sigmoid(c) k_i`.

    Hu et al., 2506.02475, as flash-linear-attention writes the recurrence; `c[H]` and `d[H]` start at 1 (0.02 for `d`
    may be better in small models, says its documentation); weight decay leaves `d` alone there and here.
    """

    decay: Decay = STEP_SIZE
    beta: Strength = BETA
    correction: float = 1.0
    no_decay: ClassVar[tuple[str, ...]] = ("comba_outer",)

    def init(self, key, dims):
        own = {"comba_inner": jnp.ones(dims.num_heads), "comba_outer": jnp.full(dims.num_heads, self.correction)}
        return init_parts(key, dims, self.decay, self.beta) | own

    def __call__(self, params, stream, carry):
        k = stream.k
        p = jax.nn.sigmoid(per_head(params["comba_inner"][:, None], k)) * k
        q = stream.q - per_head(params["comba_outer"][:, None], k) * p
        log_decay = self.decay(params, stream)
        alpha = jnp.exp(log_decay if self.decay.per_channel else log_decay[..., None])
        write = self.beta(params, stream)[..., None] * k
        return Steps(q, write, log_decay, a=alpha * p, b=-write), carry


@dataclass(frozen=True)
class Oja(Rule):
    """`S <- S + w_i v_i^T`, `w_i = β_i (k_i - S v_i)`: the key that the state has for a value is corrected.

    The delta rule with keys and values exchanged, transposed (derived): that recurrence gives the writes `w_i`, and
    with them this one is linear attention, `A_ij = q_i · w_j`. A decay acts on the value axis before the write, as in
    the gated rule of flash-linear-attention; one per channel gives every channel a mixing matrix of its own.
    `unit` takes `v_i / |v_i|` for the values in the state, without which `S` grows where `β |v|^2 > 2`.
    """

    decay: Decay | None = None
    beta: Strength = BETA
    unit: bool = True
    chunk: int = 16

    @property
    def channelwise(self) -> bool:
        return self.decay is not None and self.decay.per_channel

    def init(self, key, dims):
        return init_parts(key, dims, self.decay, self.beta)

    def start(self, stream):
        shape = (*stream.v.shape[:-2], stream.v.shape[-1], stream.k.shape[-1])
        return jnp.zeros(shape, state_dtype(stream.v.dtype))

    def __call__(self, params, stream, carry):
        q, k, v = stream.q, stream.k, stream.v
        norm = jnp.sqrt(jnp.sum(v * v, axis=-1, keepdims=True) + 1e-12) if self.unit else jnp.ones_like(v[..., :1])
        v = v / norm
        beta = self.beta(params, stream)[..., None]
        log_decay, found = None, v
        if self.decay is not None:
            log_decay = self.decay(params, stream)
            found = jnp.exp(log_decay if self.decay.per_channel else log_decay[..., None]) * v
        swapped = Steps(found, beta * v, log_decay, a=found, b=-beta * v, early=True)
        one = k.shape[-2] == 1
        told, carry = scan_core(swapped, k, carry) if one else chunked_core(swapped, k, carry, self.chunk)
        write = beta * (k - told) / norm
        if log_decay is None or not self.channelwise:
            return Steps(q, write, log_decay), carry
        return Steps(q[..., None, :, :], write[..., None, :, :], jnp.swapaxes(log_decay, -1, -2)), carry


@dataclass(frozen=True)
class Bcm(Rule):
    """`S <- S + β_i k_i (v_i ⊙ (v_i - θ_i))^T`, `θ_i` the mean of `v^2` so far, channel by channel.

    The rule of Bienenstock, Cooper and Munro (1982) with the values as what the cell does: below the threshold a
    synapse weakens. Each channel has a mixing matrix of its own.
    """

    beta: Strength | None = None

    @property
    def channelwise(self) -> bool:
        return True

    def init(self, key, dims):
        return init_parts(key, dims, self.beta)

    def start(self, stream):
        return jnp.zeros((*stream.v.shape[:-2], stream.v.shape[-1]), stream.v.dtype)

    def __call__(self, params, stream, carry):
        v = stream.v
        total = carry[..., None, :] + jnp.cumsum(v * v, axis=-2)
        gain = v - total / (stream.at + 1).astype(v.dtype)[:, None]
        k = stream.k if self.beta is None else self.beta(params, stream)[..., None] * stream.k
        write = jnp.swapaxes(gain, -1, -2)[..., None] * k[..., None, :, :]
        return Steps(stream.q[..., None, :, :], write), total[..., -1, :]
