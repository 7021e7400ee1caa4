"""The recurrent family: feature map -> rule -> one scan -> row normaliser.

A mechanism is a `Recurrent` with its slots filled (modules `features`, `rules`, `readout`). The rule says token by
token what happens to the state (`scan.Steps`); all three views are the same recurrence: in chunks over the whole
sequence, one token at a time, and with the identity in place of the values, which gives the mixing matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.attention.base import (
    AttentionOutput,
    Dims,
    HostOrDevice,
    Params,
    SiteFn,
    View,
    init_slots,
    lack,
    no_site,
    wants,
)
from attnlab.attention.causal import refuse_all_but_causal, refuse_in_step
from attnlab.attention.features import Feature
from attnlab.attention.gates import Stream
from attnlab.attention.readout import LocalTaps, ReadScale
from attnlab.attention.rules import HEBB, Rule
from attnlab.attention.scan import Steps, chunked_core, scan_core, state_dtype
from attnlab.config import require


class RecurrentState(NamedTuple):
    """Decode state, of fixed size.

    Attributes:
      memory: `S [*B, H, K', W]`, float32 at least; `[*B, H, W, K', 1]` if every channel has a recurrence of its own.
      carry: what the rule itself remembers.
      past: the last values, `[*B, H, w - 1, K]`, if there are local taps.
      filled: how many positions were seen.
    """

    memory: Array
    carry: Any
    past: Any
    filled: Int[Array, ""]


class Normalizer(Protocol):
    """`out[*B, H, T, W]` from what the state says and the row sums `total[*B, H, T, 1]` of the mixing matrix."""

    def __call__(self, out: Array, total: Array) -> Array: ...


@dataclass(frozen=True)
class Recurrent:
    """`o_i = normalizer(q_i^T S_i)`, `S_i` as the rule says, written with `φ(k_i)`, read with `scale read_i φ(q_i)`.

    Causal. The mixing matrix exists for every rule: all write the values as they are.

    Attributes:
      name: what tables and plots call it.
      rule: what a token does to the state (`attnlab.attention.rules`).
      feature: map of queries and keys (`attnlab.attention.features`); None = identity.
      normalizer: function of the row sums (`attnlab.attention.readout`); None = none.
      read: a factor of the output per token (`attnlab.attention.readout`).
      local: learned weights on the last few values, added to the mixing matrix.
      scale: of the queries, after the feature map; None = `1 / sqrt(K)`. The papers of this family have 1 unless a
        catalogue entry says otherwise; flash-linear-attention has `1 / sqrt(K)` in all of them.
      chunk: tokens per chunk of the parallel form; None: token by token. On a CPU (32 sequences, 4 heads, T = 64, K =
        16, gradient included) 16 is best with one decay per head, 8 with one per channel, where token by token is as
        fast; at T = 256, K = 32 chunks of 8 or 16 are two to five times faster than single tokens (measured).
    """

    name: str
    rule: Rule = HEBB
    feature: Feature | None = None
    normalizer: Normalizer | None = None
    read: ReadScale | None = None
    local: LocalTaps | None = None
    scale: float | None = 1.0
    chunk: int | None = 16
    causal_only: ClassVar[bool] = True

    def __post_init__(self):
        whole = self.chunk is None or (isinstance(self.chunk, int) and self.chunk >= 1)
        require(whole, f"{self.name}.chunk", self.chunk, "an integer >= 1, or None")
        if self.rule.channelwise:
            require(self.normalizer is None, f"{self.name}.normalizer", self.normalizer, "None with this rule")
            require(self.local is None, f"{self.name}.local", self.local, "None with this rule")

    def init(self, key, dims: Dims) -> Params:
        """The parameters of all slots, side by side in one dict."""
        return init_slots(self.name, (self.feature, self.rule, self.read, self.local), key, dims)

    def has_map(self, head_dim: int) -> bool:
        """Whether there is one mixing matrix per head: not if each channel has its own and there are several."""
        return not self.rule.channelwise or head_dim == 1

    def apply(
        self,
        params: Params,
        q: Float[Array, "*B H T K"],
        k: Float[Array, "*B H U K"],
        v: Float[Array, "*B H U K"],
        *,
        x: Float[Array, "*B T D"] | None = None,
        mask: Bool[HostOrDevice, "*M T U"] | None = None,
        bias: Float[HostOrDevice, "*N T U"] | None = None,
        view: View = "parallel",
        site: SiteFn = no_site,
    ) -> AttentionOutput:
        """Mix causally. `mask` must be None or the causal mask, which is checked unless it is traced (under `jit`).

        Site: `weights`. Where nobody reads or edits it, and without `view="map"`, the matrix is not built.

        Raises:
          ValueError: another mask, a bias, fewer queries than keys; no `x` for a rule with gates; `view="map"` of
            a rule that has a matrix per channel, with a head width above 1.
        """
        refuse_all_but_causal(self.name, q, k, mask, bias)
        channels = v.shape[-1]
        if not self.has_map(channels):
            why = "this mechanism mixes every channel by a matrix of its own. Use as many heads as channels."
            if view == "map":
                raise ValueError(f"{self.name}: got view='map' with head width {channels}; allowed is 1: {why}")
            lack(site, "weights", f"{self.name} with head width {channels} has none: {why}")
        stream = self._stream(params, q, k, v, x, jnp.arange(q.shape[-2]))
        steps, _ = self.rule(params, stream, self.rule.start(stream))
        if view == "map" or (self.has_map(channels) and wants(site, "weights")):
            num = v.shape[-2]
            eye = jnp.broadcast_to(jnp.eye(num, dtype=v.dtype), (*v.shape[:-1], num))
            weights = site("weights", self._mix(params, stream, steps, eye)[0])
            return AttentionOutput(weights @ v, weights if view == "map" else None)
        offer = getattr(site, "offer", None)
        if offer is not None and self.has_map(channels):
            offer("weights")
        return AttentionOutput(self._mix(params, stream, steps, v)[0])

    def steps(self, params: Params, q: Array, k: Array, v: Array, *, x: Array | None = None) -> Steps:
        """What every token does to the state, for its decays, its transitions and their spectra."""
        stream = self._stream(params, q, k, v, x, jnp.arange(q.shape[-2]))
        return self.rule(params, stream, self.rule.start(stream))[0]

    def sequence(self, steps: Steps, v: Array, memory: Array) -> tuple[Array, Array]:
        """The parallel form: `[*B, H, T, W]` and the last state, of `v[*B, H, T, W]` and the state to begin with."""
        return scan_core(steps, v, memory) if self.chunk is None else chunked_core(steps, v, memory, self.chunk)

    def start(
        self, params: Params, batch: tuple[int, ...], length: int, dims: Dims, dtype: Any = jnp.float32
    ) -> RecurrentState:
        """The state before the first token. `length` does not matter: the state has a fixed size."""

        def first(params, token, x):
            stream = self._stream(params, token, token, token, x, jnp.arange(1))
            carry = self.rule.start(stream)
            steps, carry = self.rule(params, stream, carry)
            _, memory, past = self._mix(params, stream, steps, token)
            return RecurrentState(memory, carry, past, jnp.zeros((), jnp.int32))

        token = jax.ShapeDtypeStruct((*batch, dims.num_heads, 1, dims.head_dim), dtype)
        shapes = jax.eval_shape(first, params, token, jax.ShapeDtypeStruct((*batch, 1, dims.width), dtype))
        return jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)

    def step(
        self,
        params: Params,
        state: RecurrentState,
        q: Float[Array, "*B H K"],
        k: Float[Array, "*B H K"],
        v: Float[Array, "*B H K"],
        *,
        x: Float[Array, "*B D"] | None = None,
        bias: Float[HostOrDevice, "*N U"] | None = None,
        window: int | None = None,
        prefix: int = 0,
    ) -> tuple[Float[Array, "*B H K"], RecurrentState]:
        """One decoded position, `O(K W)` however many came before; no window, no prefix, no bias."""
        refuse_in_step(self.name, bias, window, prefix)
        q, k, v = q[..., None, :], k[..., None, :], v[..., None, :]
        stream = self._stream(params, q, k, v, None if x is None else x[..., None, :], state.filled[None])
        steps, carry = self.rule(params, stream, state.carry)
        out, memory, past = self._mix(params, stream, steps, v, state)
        return out[..., 0, :], RecurrentState(memory, carry, past, state.filled + 1)

    def _stream(self, params: Params, q: Array, k: Array, v: Array, x: Array | None, at: Array) -> Stream:
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        if self.feature is not None:
            q, k = self.feature(params, q, k, at)
        return Stream(q if scale == 1 else scale * q, k, v, x, at)

    def _mix(
        self, params: Params, stream: Stream, steps: Steps, v: Array, state: RecurrentState | None = None
    ) -> tuple[Array, Array, Any]:
        """`(out, memory, past)`, with `out` linear in `v[*B, H, T, W]`; from `state` token by token, else in chunks."""
        columns = v if self.normalizer is None else jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
        if self.rule.channelwise:
            columns = _channels_apart(columns, stream.v.shape[-1])
        # Several steps of a token write its one value; what the last of them reads is the token's output.
        columns = columns if self.rule.micro == 1 else jnp.repeat(columns, self.rule.micro, axis=-2)
        if state is None:
            size = (*columns.shape[:-2], steps.k.shape[-1], columns.shape[-1])
            memory = jnp.zeros(size, state_dtype(v.dtype))
        else:
            memory = state.memory
        out, memory = self.sequence(steps, columns, memory) if state is None else scan_core(steps, columns, memory)
        out = out[..., self.rule.micro - 1 :: self.rule.micro, :]
        if self.rule.channelwise:
            out = _channels_together(out, stream.v.shape[-1])
        if self.normalizer is not None:
            out = self.normalizer(out[..., :-1], out[..., -1:])
        if self.read is not None:
            out = self.read(params, stream)[..., None] * out
        if self.local is None:
            return out, memory, ()
        local, past = self.local(params, v, None if state is None else state.past)
        return out + local, memory, past


def _channels_apart(v: Array, channels: int) -> Array:
    """`[*B, H, T, K]` as `[*B, H, K, T, 1]`; of one channel any columns, `[*B, H, T, W]` as `[*B, H, 1, T, W]`."""
    return v[..., None, :, :] if channels == 1 else jnp.swapaxes(v, -1, -2)[..., None]


def _channels_together(out: Array, channels: int) -> Array:
    return out[..., 0, :, :] if channels == 1 else jnp.swapaxes(out[..., 0], -1, -2)
