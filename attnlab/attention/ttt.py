"""TTT-linear: the state is a linear model that is trained, token by token, to say the value of a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.attention.base import AttentionOutput, Dims, HostOrDevice, Params, SiteFn, View, init_slots, lack, no_site
from attnlab.attention.causal import refuse_all_but_causal, refuse_in_step
from attnlab.attention.gates import Stream, Strength, per_head, project
from attnlab.attention.pieces import pieces, whole
from attnlab.attention.scan import state_dtype
from attnlab.config import require


class InnerState(NamedTuple):
    """Decode state, of fixed size.

    Attributes:
      memory: `W` at the start of the mini-batch, `[*B, H, K, K]`; with a bias `[*B, H, K + 1, K]`, `c` its last row.
      gathered: the gradients since then, each times its strength, of the shape of `memory`.
      filled: how many positions were seen.
    """

    memory: Array
    gathered: Array
    filled: Int[Array, ""]


@dataclass(frozen=True)
class InnerStrength:
    """`sigmoid(x w + b)` per head; `w` starts as N(0, 0.02^2), `b` as 0."""

    def init(self, key, dims):
        return {
            "strength_gate": 0.02 * jax.random.normal(key, (dims.width, dims.num_heads)),
            "strength_bias": jnp.zeros(dims.num_heads),
        }

    def __call__(self, params, stream):
        gate = project(stream, params["strength_gate"])
        return jax.nn.sigmoid(gate + per_head(params["strength_bias"], gate))


INNER_STRENGTH = InnerStrength()


@dataclass(frozen=True)
class TTTLinear:
    """Test-time training of a linear model (Sun et al., 2407.04620; initial values and rates as in the authors' code).

        f(k; W, c) = k + LN(W^T k + c),         loss_s = |f(k_s; W, c) - v_s|^2 / 2,
        (W, c)_t = (W, c)_m - η_t sum_{m < s <= t} β_s ∇loss_s((W, c)_m),       out_t = f(q_t; (W, c)_t),

    with `m` the last token of the mini-batch before that of `t`, and `η_t = rate max(1/n + place_n, 0)` for the `n`-th
    token of a mini-batch. Learned: `W` (N(0, 0.02^2)) and `c` (0) before the first token, gain and shift of LN, per
    head; the strengths `β`; `place` (0 at first).

    Causal. There is no mixing matrix: values pass through LN, and `out` is not linear in them. Without norm, residual,
    bias and learned start it is linear in them, and other mechanisms: the delta rule with one token per mini-batch,
    linear attention with all of them in one; with the residual the delta rule starts from the identity (derived).

    Around this the paper's layer has what are options of the model here (short convolution, norm, gate), and rotary
    positions that begin anew with every mini-batch.

    Attributes:
      name: what tables and plots call it.
      mini_batch: how many tokens have their gradients taken at the same state, and are worked on at once.
      rate: None = `1 / K`.
      strength: `β` (`attnlab.attention.gates`).
      norm, residual, bias, learned_start: whether there are LN, `k +`, `c`, a first `W` (and `c`) other than 0.
      eps: of LN.
    """

    name: str
    mini_batch: int = 16
    rate: float | None = None
    strength: Strength = INNER_STRENGTH
    norm: bool = True
    residual: bool = True
    bias: bool = True
    learned_start: bool = True
    eps: float = 1e-6
    causal_only: ClassVar[bool] = True
    no_decay: ClassVar[tuple[str, ...]] = ("inner_scale",)

    def __post_init__(self):
        whole = isinstance(self.mini_batch, int) and self.mini_batch >= 1
        require(whole, f"{self.name}.mini_batch", self.mini_batch, "an integer >= 1")

    def init(self, key, dims: Dims) -> Params:
        """`start [H, K, K]`, `start_bias [H, K]`, `inner_scale, inner_shift [H, K]`, `place [mini_batch]`, `β`'s."""
        start_key, strength_key = jax.random.split(key)
        shape = (dims.num_heads, dims.head_dim)
        params = init_slots(self.name, (self.strength,), strength_key, dims)
        params["place"] = jnp.zeros(self.mini_batch)
        if self.norm:
            params |= {"inner_scale": jnp.ones(shape), "inner_shift": jnp.zeros(shape)}
        if self.learned_start:
            params["start"] = 0.02 * jax.random.normal(start_key, (*shape, dims.head_dim))
            if self.bias:
                params["start_bias"] = jnp.zeros(shape)
        return params

    def has_map(self, head_dim: int) -> bool:
        """Never."""
        return False

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
        """Mix causally, one mini-batch after another. `mask` must be None or the causal mask (unchecked if traced).

        Raises:
          ValueError: `view="map"`; another mask, a bias, fewer queries than keys; no `x` for the strengths.
        """
        refuse_all_but_causal(self.name, q, k, mask, bias)
        why = "what it says is not linear in the values, so that no matrix A of the tokens has out = A @ v."
        if view == "map":
            raise ValueError(f"{self.name}: got view='map'; allowed is 'parallel': {why}")
        lack(site, "weights", f"{self.name} has none: {why}")
        num, size = k.shape[-2], self.mini_batch
        beta = self.strength(params, Stream(q, k, v, x, jnp.arange(num)))
        # Padded with tokens of strength 0, which change nothing.
        wide = (a.astype(state_dtype(a.dtype)) for a in (q, k, v, beta[..., None]))
        batches = tuple(pieces(a, -2, size) for a in wide)
        rates = self._rates(params, k.shape[-1])

        def one(memory: Array, batch: tuple[Array, ...]) -> tuple[Array, Array]:
            q, k, v, beta = batch
            keys, queries = self._read_with(k), self._read_with(q)
            gradient = beta * self._gradient(params, keys @ memory, v - k if self.residual else v)
            scores = rates[:, None] * jnp.tril(queries @ keys.mT)
            out = self._say(params, q, queries @ memory - scores @ gradient)
            return memory - rates[-1] * (keys.mT @ gradient), out

        _, out = jax.lax.scan(one, self._first(params, k.shape, v.dtype), batches)
        return AttentionOutput(whole(out, -2, num).astype(v.dtype))

    def start(
        self, params: Params, batch: tuple[int, ...], length: int, dims: Dims, dtype: Any = jnp.float32
    ) -> InnerState:
        """The state before the first token. `length` does not matter: the state has a fixed size."""
        memory = self._first(params, (*batch, dims.num_heads, 1, dims.head_dim), dtype)
        return InnerState(memory, jnp.zeros_like(memory), jnp.zeros((), jnp.int32))

    def step(
        self,
        params: Params,
        state: InnerState,
        q: Float[Array, "*B H K"],
        k: Float[Array, "*B H K"],
        v: Float[Array, "*B H K"],
        *,
        x: Float[Array, "*B D"] | None = None,
        bias: Float[HostOrDevice, "*N U"] | None = None,
        window: int | None = None,
        prefix: int = 0,
    ) -> tuple[Float[Array, "*B H K"], InnerState]:
        """One decoded position, `O(K^2)` however many came before; no window, no prefix, no bias."""
        refuse_in_step(self.name, bias, window, prefix)
        q, k, v = q[..., None, :], k[..., None, :], v[..., None, :]
        stream = Stream(q, k, v, None if x is None else x[..., None, :], state.filled[None])
        beta, dtype = self.strength(params, stream)[..., None], v.dtype
        q, k, v, beta = (a.astype(state.memory.dtype) for a in (q, k, v, beta))
        keys, place = self._read_with(k), state.filled % self.mini_batch
        gradient = beta * self._gradient(params, keys @ state.memory, v - k if self.residual else v)
        gathered = state.gathered + keys.mT @ gradient
        memory = state.memory - self._rates(params, k.shape[-1])[place] * gathered
        out = self._say(params, q, self._read_with(q) @ memory)
        full = place == self.mini_batch - 1
        kept, gathered = jnp.where(full, memory, state.memory), jnp.where(full, 0, gathered)
        return out[..., 0, :].astype(dtype), InnerState(kept, gathered, state.filled + 1)

    def _first(self, params: Params, shape: tuple[int, ...], dtype: Any) -> Array:
        """`(W, c)` before the first token, for keys of that shape."""
        *lead, _, width = shape
        rows = width + self.bias
        if not self.learned_start:
            return jnp.zeros((*lead, rows, width), state_dtype(dtype))
        first = params["start"]
        if self.bias:
            first = jnp.concatenate([first, params["start_bias"][:, None, :]], axis=-2)
        return jnp.broadcast_to(first.astype(state_dtype(dtype)), (*lead, rows, width))

    def _rates(self, params: Params, width: int) -> Float[Array, " M"]:
        """`η` by the place in a mini-batch."""
        place = params["place"].astype(state_dtype(params["place"].dtype))
        each = jnp.maximum(1 / jnp.arange(1, self.mini_batch + 1, dtype=place.dtype) + place, 0)
        return (1 / width if self.rate is None else self.rate) * each

    def _read_with(self, k: Array) -> Array:
        """`k`, or `[k, 1]`, which reads the bias too."""
        return jnp.concatenate([k, jnp.ones_like(k[..., :1])], axis=-1) if self.bias else k

    def _standard(self, z: Array) -> tuple[Array, Array]:
        """`z` with mean 0 and variance 1, and what it was multiplied with."""
        centred = z - jnp.mean(z, axis=-1, keepdims=True)
        size = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + self.eps)
        return centred * size, size

    def _gradient(self, params: Params, z: Array, target: Array) -> Array:
        """Of `|LN(z) - target|^2 / 2` in `z`."""
        if not self.norm:
            return z - target
        scale, shift = (per_head(params[f"inner_{name}"], z) for name in ("scale", "shift"))
        standard, size = self._standard(z)
        error = scale * (scale * standard + shift - target)
        along = jnp.mean(error * standard, axis=-1, keepdims=True)
        return size * (error - jnp.mean(error, axis=-1, keepdims=True) - standard * along)

    def _say(self, params: Params, q: Array, z: Array) -> Array:
        if self.norm:
            z = per_head(params["inner_scale"], z) * self._standard(z)[0] + per_head(params["inner_shift"], z)
        return q + z if self.residual else z
