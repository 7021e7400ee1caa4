"""Rules: what a token does to the state of a recurrence, and what the query reads (`scan.Steps`).

A rule is a frozen dataclass with `init`, `start` and a call `(params, stream, carry) -> (steps, carry)`; it sees `T`
tokens in the parallel form and one in a decode step. `carry` is what it must remember between tokens besides the state
(mostly nothing); before the first token it is all zeros. It never changes the values: the mixing matrix exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from attnlab.attention.base import Dims, Params
from attnlab.attention.gates import BETA, STEP_SIZE, Decay, StepSize, Stream, Strength, per_head
from attnlab.attention.scan import Steps


class Rule:
    """What all rules share.

    Attributes:
      channelwise: every channel of the values has a recurrence of its own, axes `[*B, H, C, T, ...]` of its steps.
      micro: steps per token.
    """

    channelwise: ClassVar[bool] = False

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
        seen = (alpha if log_decay.ndim == k.ndim else alpha[..., None]) * k
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

    One decay and one step size per head; `skip` is `D[H]`, 1 at the start.
    """

    decay: StepSize = STEP_SIZE
    skip: bool = True

    def init(self, key, dims):
        params = self.decay.init(key, dims)
        return params | {"skip": jnp.ones(dims.num_heads)} if self.skip else params

    def __call__(self, params, stream, carry):
        step = self.decay.steps(params, stream)
        log_decay = -jnp.exp(per_head(params["a_log"], step)) * step
        skip = jnp.broadcast_to(per_head(params["skip"], step), step.shape) if self.skip else None
        return Steps(stream.q, step[..., None] * stream.k, log_decay, skip=skip), carry
