"""The reduced model in which the theory of attention sinks on Bigram-Backcopy is written (Guo et al., 2410.13835)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from attnlab.attention import Dims, causal_mask
from attnlab.attention.base import WeightMap
from attnlab.attention.maps import SOFTMAX
from attnlab.config import require
from attnlab.models.base import Model, Params
from attnlab.models.factored import Factored
from attnlab.models.layers import Draw, draw, linear, matrix
from attnlab.tape import Sites


@dataclass(frozen=True)
class BackcopyReduced(Model):
    """One attention head and one MLP on one-hot tokens: no positions, no residual stream, no norm.

        logits_t = sum_u A_tu value(z_u) + relu(up[z_t]) down,      A_t = map of row t of the attention logits.

    The attention logits of a query that is no trigger are `qk_bos[z_t]` at the keys that hold `bos` and 0 elsewhere;
    those of a trigger are `qk_previous[z_t]` at the position before it and 0 elsewhere. `value(z) = wv[z] e_z` for a
    token other than `bos`, and `value(bos) = bos_value` (times the matrix `wo` if `use_vo`). In the letters of the
    theory: `alpha = qk_bos`, `lambda = qk_previous`, `xi = wv`, `beta = value(bos)`.

    Attributes:
      vocab_size, length: `V` and the longest `T`.
      triggers, bos: ids of the tokens that copy, and of the first token.
      mlp_width: hidden width of the MLP.
      use_vo: whether the value of `bos` passes through a learned `[V, V]` matrix, as in the paper's run.
      map: from logits to weights (`attnlab.attention.maps`).
    """

    vocab_size: int
    length: int
    triggers: tuple[int, ...]
    bos: int
    mlp_width: int = 128
    use_vo: bool = True
    map: WeightMap = SOFTMAX

    def __post_init__(self):
        for name in ("vocab_size", "length", "mlp_width"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(whole, f"BackcopyReduced.{name}", value, "an integer >= 1")
        for name, ids in (("triggers", self.triggers), ("bos", (self.bos,))):
            for token in ids:
                require(0 <= token < self.vocab_size, f"BackcopyReduced.{name}", token, f"0 to {self.vocab_size - 1}")
        require(self.bos not in self.triggers, "BackcopyReduced.bos", self.bos, "a token that is no trigger")

    num_layers = 1
    num_heads = 1

    @property
    def dims(self) -> Dims:
        return Dims(1, self.vocab_size, self.vocab_size)

    def init(self, key: Key[Array, ""]) -> Params:
        """`qk_bos, qk_previous, wv, bos_value [V]` from N(0, 1); `wo` and the MLP as `torch.nn.Linear` starts."""
        size = self.vocab_size
        params: Params = {name: Draw("normal", (size,), 1.0) for name in ("qk_bos", "qk_previous", "wv", "bos_value")}
        if self.use_vo:
            params["wo"] = matrix("torch", (size, size), size, 0.0)
        params["mlp"] = {
            "up": matrix("torch", (size, self.mlp_width), size, 0.0),
            "down": matrix("torch", (self.mlp_width, size), self.mlp_width, 0.0),
        }
        return draw(key, params)

    def construct(self, kernel: Array, *, sink: float, previous: float, value: float, floor: float = -30.0) -> Params:
        """Parameters that realise the task's law as `sink`, `previous` and `value` grow (the paper's Theorem 1).

        Args:
          kernel: `[V, V]` bigram law `P[current, next]`; rows of triggers are not read.
          sink, previous, value: `qk_bos`, `qk_previous` and `wv` of every token; the value of `bos` is 0.
          floor: stands for `log 0`.
        """
        size = self.vocab_size
        require(self.mlp_width >= size, "BackcopyReduced.mlp_width", self.mlp_width, f"at least vocab_size={size}")
        kernel = jnp.asarray(kernel)
        require(kernel.shape == (size, size), "kernel", kernel.shape, f"({size}, {size})")
        rows = jnp.maximum(jnp.log(jnp.where(kernel > 0, kernel, 1)), floor) + jnp.where(kernel > 0, 0, floor)
        rows = jnp.where(self._is_trigger(jnp.arange(size))[:, None], 0, rows)
        full = {"qk_bos": sink, "qk_previous": previous, "wv": value, "bos_value": 0.0}
        params: Params = {name: jnp.full(size, number, rows.dtype) for name, number in full.items()}
        if self.use_vo:
            params["wo"] = jnp.eye(size, dtype=rows.dtype)
        down = jnp.zeros((self.mlp_width, size), rows.dtype).at[:size].set(rows)
        params["mlp"] = {"up": jnp.eye(size, self.mlp_width, dtype=rows.dtype), "down": down}
        return params

    def forward(self, params: Params, inputs: Int[Array, "*B T"], sites: Sites) -> Float[Array, "*B T V"]:
        """Logits of the next token.

        Sites, in order: `blocks.0.attn.{logits, weights}` `[*B, 1, T, U]`, `blocks.0.attn.v` `[*B, 1, U, V]`,
        `blocks.0.attn.head_out` `[*B, 1, T, V]`, `blocks.0.attn.out`, `blocks.0.mlp.{hidden, out}`, `logits`.
        """
        tokens, num = inputs, inputs.shape[-1]
        require(num <= self.length, "tokens", f"{num} positions", f"at most length={self.length}")
        # The head axis of the transformer's sites is kept, with one head.
        logits = sites("blocks.0.attn.logits", self._attention_logits(params, tokens)[..., None, :, :])
        weights = sites("blocks.0.attn.weights", self.map(logits, causal_mask(num)))
        values = sites("blocks.0.attn.v", self._value_table(params)[tokens][..., None, :, :])
        head_out = sites("blocks.0.attn.head_out", weights @ values)
        attended = sites("blocks.0.attn.out", head_out[..., 0, :, :])
        hidden = sites("blocks.0.mlp.hidden", jax.nn.relu(params["mlp"]["up"][tokens]))
        return sites("logits", attended + sites("blocks.0.mlp.out", linear(hidden, params["mlp"]["down"])))

    def kq(self, params: Params, layer: int = 0, head: int = 0) -> Factored:
        """`[V, V]` of rank 1: attention logit of (key token, query token), without the previous-position part."""
        self._check(layer, head)
        queries = jnp.where(self._is_trigger(jnp.arange(self.vocab_size)), 0, params["qk_bos"])
        return Factored(jax.nn.one_hot(jnp.array([self.bos]), self.vocab_size, dtype=queries.dtype).T, queries[None, :])

    def ov(self, params: Params, layer: int = 0, head: int = 0) -> Factored:
        """`[V, V]`: row `z` is what attending to token `z` adds to the logits."""
        self._check(layer, head)
        table = self._value_table(params)
        return Factored(jnp.eye(self.vocab_size, dtype=table.dtype), table)

    def _check(self, layer: int, head: int) -> None:
        require(layer == 0, "layer", layer, "0: the reduced model has one layer")
        require(head == 0, "head", head, "0: the reduced model has one head")

    def _is_trigger(self, tokens: Int[Array, "*B"]) -> Array:
        return jnp.isin(tokens, jnp.array(self.triggers, tokens.dtype))

    def _attention_logits(self, params: Params, tokens: Int[Array, "*B T"]) -> Float[Array, "*B T U"]:
        position = jnp.arange(tokens.shape[-1])
        before = position[None, :] == position[:, None] - 1
        to_previous = jnp.where(before, params["qk_previous"][tokens][..., :, None], 0)
        to_bos = jnp.where((tokens == self.bos)[..., None, :], params["qk_bos"][tokens][..., :, None], 0)
        return jnp.where(self._is_trigger(tokens)[..., :, None], to_previous, to_bos)

    def _value_table(self, params: Params) -> Float[Array, "V V"]:
        of_bos = params["bos_value"] @ params["wo"] if self.use_vo else params["bos_value"]
        return jnp.diag(params["wv"]).at[self.bos].set(of_bos)
