"""The tiny transformer whose options are the papers' options. Pure functions on a plain pytree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from attnlab.attention import Dims, Mechanism, causal_mask, softmax
from attnlab.config import require
from attnlab.models.base import Model, Params
from attnlab.models.factored import Factored
from attnlab.models.layers import (
    Draw,
    InitKind,
    NormKind,
    PositionKind,
    attend,
    draw,
    init_attention,
    init_norm,
    linear,
    matrix,
    norm,
    sinusoidal,
)
from attnlab.tape import Sites

Activation = Literal["relu", "gelu", "linear"]
NormPlace = Literal["pre", "post"]
_CHOICES = {
    "activation": Activation,
    "norm": NormKind,
    "norm_place": NormPlace,
    "positions": PositionKind,
    "init_kind": InitKind,
}
_OPTIONAL = ("vocab_size", "input_dim", "output_dim", "head_dim", "mlp_width", "window")


@dataclass(frozen=True)
class Transformer(Model):
    """Decoder-only transformer, `L` blocks of attention and MLP on a residual stream of width `D`.

    Defaults are the settings of Guo et al. (2410.13835, `BBM/model.py`) except for the sizes: pre-LayerNorm, learned
    positions, MLP of 4D with ReLU, no biases, untied output, torch's initial values, embeddings N(0, 1).

    It reads tokens and says logits of the next one. With `input_dim` it reads real vectors, with `output_dim` it says
    real vectors; each takes the place of one use of the vocabulary, both together need none.

    Attributes:
      vocab_size, length: `V` (None: no tokens at either end) and the longest `T`.
      input_dim, output_dim: width of the vectors that it reads (`x W + b` in place of the token's embedding) and says.
      num_layers, num_heads, width: `L`, `H`, `D`.
      head_dim: `K`; None = `D / H`.
      mlp_width: hidden width of the MLP; None = `4 D`.
      activation: of the MLP (`gelu` in its tanh form).
      norm: kind of normalisation; `norm_place`: before a sublayer (`pre`), after the residual sum (`post`).
      final_norm: whether the output matrix reads a normalised stream.
      positions: learned or sinusoidal (added to the embedding), rope or alibi (in attention), none.
      mechanism: one for all layers, or a tuple of one per layer.
      no_attention, no_mlp: layers that lack attention or MLP.
      window, prefix: sliding window of the causal mask; positions every query may see.
      tie_embeddings: output matrix = token embedding transposed.
      init_kind, init_std, embed_std: kind of initial values of matrices, their std if `normal`, std of embeddings.
      norm_eps: epsilon of the norms.
    """

    vocab_size: int | None = None
    length: int = 0  # a default only because the field before it has one: a length must be given
    num_layers: int = 1
    num_heads: int = 1
    width: int = 64
    head_dim: int | None = None
    mlp_width: int | None = None
    activation: Activation = "relu"
    norm: NormKind = "layernorm"
    norm_place: NormPlace = "pre"
    final_norm: bool = True
    positions: PositionKind = "learned"
    mechanism: Mechanism | tuple[Mechanism, ...] = softmax
    no_attention: tuple[int, ...] = ()
    no_mlp: tuple[int, ...] = ()
    window: int | None = None
    prefix: int = 0
    tie_embeddings: bool = False
    init_kind: InitKind = "torch"
    init_std: float = 0.02
    embed_std: float = 1.0
    norm_eps: float = 1e-5
    input_dim: int | None = None
    output_dim: int | None = None

    def __post_init__(self):
        for name in ("mechanism", "no_attention", "no_mlp"):
            if isinstance(getattr(self, name), list):  # lists would make the model unhashable
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in (*_OPTIONAL, "length", "num_layers", "num_heads", "width"):
            value = getattr(self, name)
            optional = name in _OPTIONAL and value is None
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(optional or whole, f"Transformer.{name}", value, "an integer >= 1")
        whole = isinstance(self.prefix, int) and not isinstance(self.prefix, bool) and self.prefix >= 0
        require(whole, "Transformer.prefix", self.prefix, "an integer >= 0")
        self._check_ends()
        for name, choices in _CHOICES.items():
            allowed = get_args(choices)
            require(getattr(self, name) in allowed, f"Transformer.{name}", getattr(self, name), " | ".join(allowed))
        if self.head_dim is None:
            hint = f"Give head_dim, or a width divisible by num_heads={self.num_heads}."
            require(self.width % self.num_heads == 0, "Transformer.width", self.width, "a multiple of num_heads", hint)
        for name in ("no_attention", "no_mlp"):
            for layer in getattr(self, name):
                require(0 <= layer < self.num_layers, f"Transformer.{name}", layer, f"0 to {self.num_layers - 1}")
        if self.positions == "rope":
            require(self.dims.head_dim % 2 == 0, "Transformer.head_dim", self.dims.head_dim, "even, for rope")
        if isinstance(self.mechanism, tuple):
            require(
                len(self.mechanism) == self.num_layers,
                "Transformer.mechanism",
                tuple(getattr(m, "name", m) for m in self.mechanism),
                f"one mechanism, or a tuple of {self.num_layers} (one per layer)",
            )
        for layer in range(self.num_layers):
            mechanism = self.mechanism_of(layer)
            hint = "See attnlab.attention, or make one with attnlab.attention.from_weights."
            require(isinstance(mechanism, Mechanism), "Transformer.mechanism", mechanism, "a mechanism", hint)

    def _check_ends(self) -> None:
        """Tokens or vectors, at either end."""
        vectors = (self.input_dim, self.output_dim)
        if None in vectors:
            hint = "A model without a vocabulary needs both input_dim and output_dim."
            require(self.vocab_size is not None, "Transformer.vocab_size", self.vocab_size, "an integer >= 1", hint)
        else:
            hint = "It reads vectors and says vectors: leave vocab_size, input_dim or output_dim out."
            require(self.vocab_size is None, "Transformer.vocab_size", self.vocab_size, "None", hint)
        if self.tie_embeddings:
            for name, value in zip(("input_dim", "output_dim"), vectors, strict=True):
                require(value is None, f"Transformer.{name}", value, "None with tie_embeddings")

    @property
    def dims(self) -> Dims:
        head_dim = self.width // self.num_heads if self.head_dim is None else self.head_dim
        return Dims(self.num_heads, head_dim, self.width)

    def mechanism_of(self, layer: int) -> Mechanism:
        """The mechanism of block `layer`."""
        return self.mechanism[layer] if isinstance(self.mechanism, tuple) else self.mechanism

    def init(self, key: Key[Array, ""]) -> Params:
        """Initial parameters: `embed`, `blocks.{l}.{attn_norm, attn, mlp_norm, mlp}`, `final_norm`, `unembed`.

        `embed` holds `token [V, D]`, or `input [input_dim, D]` and `bias [D]` (0, or as `torch.nn.Linear` if that is
        `init_kind`), and `position [T, D]` if learned; `unembed` is `[D, V]` or `[D, output_dim]`.
        """
        weights_key, own_key = jax.random.split(key)
        embed = self._init_embed()
        if self.positions == "learned":
            embed["position"] = Draw("normal", (self.length, self.width), self.embed_std)
        params: Params = {
            "embed": embed,
            "blocks": {str(layer): self._init_block(layer, own_key) for layer in range(self.num_layers)},
        }
        if self.final_norm:
            params["final_norm"] = init_norm(self.norm, self.width)
        if not self.tie_embeddings:
            outputs = self.output_dim or self.vocab_size or 0  # one of them is given
            params["unembed"] = self._matrix((self.width, outputs), self.width)
        return draw(weights_key, params)

    def _init_embed(self) -> Params:
        if self.input_dim is None:
            return {"token": Draw("normal", (self.vocab_size or 0, self.width), self.embed_std)}
        bias = self._matrix((self.width,), self.input_dim) if self.init_kind == "torch" else jnp.zeros(self.width)
        return {"input": self._matrix((self.input_dim, self.width), self.input_dim), "bias": bias}

    def _matrix(self, shape: tuple[int, ...], fan_in: int) -> Draw:
        return matrix(self.init_kind, shape, fan_in, self.init_std)

    def _init_block(self, layer: int, key: Key[Array, ""]) -> Params:
        width = self.width
        block: Params = {}
        if layer not in self.no_attention:
            block["attn_norm"] = init_norm(self.norm, width)
            block["attn"] = init_attention(self.dims, self.init_kind, self.init_std)
            block["attn"]["mechanism"] = self.mechanism_of(layer).init(jax.random.fold_in(key, layer), self.dims)
        if layer not in self.no_mlp:
            hidden = 4 * width if self.mlp_width is None else self.mlp_width
            block["mlp_norm"] = init_norm(self.norm, width)
            block["mlp"] = {
                "up": self._matrix((width, hidden), width),
                "down": self._matrix((hidden, width), hidden),
            }
        return block

    def forward(
        self, params: Params, inputs: Int[Array, "*B T"] | Float[Array, "*B T I"], sites: Sites
    ) -> Float[Array, "*B T V"]:
        """Logits of the next token, or `output_dim` numbers, at every position.

        Sites, in order: `embed`; per block `blocks.{l}.attn.{in, q, k, v, logits, weights, null, head_out, out}`,
        `blocks.{l}.mlp.{in, hidden, out}`, `blocks.{l}.out` (the residual stream after the block); `final`; `logits`,
        with `output_dim` called `prediction`.
        Shapes: `q, k, v, head_out [*B, H, T, K]`, attention `logits, weights [*B, H, T, U]`, the rest `[*B, T, D]`.
        """
        x = self._embed(params["embed"], inputs)
        num = x.shape[-2]
        if self.positions == "learned":
            x = x + params["embed"]["position"][:num]
        elif self.positions == "sinusoidal":
            x = x + jnp.asarray(sinusoidal(num, self.width), x.dtype)
        x = sites("embed", x)
        for layer in range(self.num_layers):
            x = self._block(layer, params["blocks"][str(layer)], x, sites)
        if self.final_norm:
            x = norm(self.norm, params["final_norm"], x, self.norm_eps)
        x = sites("final", x)
        out = params["embed"]["token"].T if self.tie_embeddings else params["unembed"]
        return sites("logits" if self.output_dim is None else "prediction", linear(x, out))

    def _embed(self, params: Params, inputs: Array) -> Array:
        """Tokens or vectors as vectors of the residual stream, without positions."""
        reads_tokens = self.input_dim is None
        kind = jnp.integer if reads_tokens else jnp.floating
        what = "tokens (integers)" if reads_tokens else f"real vectors of width input_dim={self.input_dim}"
        require(jnp.issubdtype(inputs.dtype, kind), "inputs", f"{inputs.dtype}{list(inputs.shape)}", what)
        num = inputs.shape[-1] if reads_tokens else inputs.shape[-2]
        require(num <= self.length, "tokens", f"{num} positions", f"at most length={self.length}")
        if reads_tokens:
            return params["token"][inputs]
        width = inputs.shape[-1]
        require(width == self.input_dim, "inputs", f"vectors of width {width}", f"input_dim={self.input_dim}")
        return linear(inputs, params["input"]) + params["bias"]

    def _block(self, layer: int, block: Params, x: Array, sites: Sites) -> Array:
        for part, run in (("attn", self._attention), ("mlp", self._mlp)):
            if part not in block:
                continue
            name = f"blocks.{layer}.{part}"
            weights = block[f"{part}_norm"]
            if self.norm_place == "pre":
                x = x + run(layer, block[part], norm(self.norm, weights, x, self.norm_eps), name, sites)
            else:
                x = norm(self.norm, weights, x + run(layer, block[part], x, name, sites), self.norm_eps)
        return sites(f"blocks.{layer}.out", x)

    def _attention(self, layer: int, params: Params, x: Array, place: str, sites: Sites) -> Array:
        mask = causal_mask(x.shape[-2], window=self.window, prefix=self.prefix)
        return attend(
            self.mechanism_of(layer),
            params,
            x,
            mask=mask,
            positions=self.positions,
            site=sites.at(place),
        )

    def _mlp(self, layer: int, params: Params, x: Array, name: str, sites: Sites) -> Array:
        x = sites(f"{name}.in", x)
        act = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "linear": lambda h: h}[self.activation]
        hidden = sites(f"{name}.hidden", act(linear(x, params["up"])))
        return sites(f"{name}.out", linear(hidden, params["down"]))

    def kq(self, params: Params, layer: int, head: int) -> Factored:
        """`W_K W_Q^T` of one head, `[D, D]` of rank `K`: entry `(i, j)` couples key direction `i` to query `j`.

        The logit of query `x_t` at key `x_u` is `x_u^T (W_K W_Q^T) x_t / sqrt(K)` (without rope or bias).
        """
        attn = self._attn_params(params, layer, head)
        return Factored(attn["key"][..., :, head, :], jnp.swapaxes(attn["query"][..., :, head, :], -1, -2))

    def ov(self, params: Params, layer: int, head: int) -> Factored:
        """`W_V W_O` of one head, `[D, D]` of rank `K`: attending to `x_u` adds `x_u (W_V W_O)` to the stream."""
        attn = self._attn_params(params, layer, head)
        return Factored(attn["value"][..., :, head, :], attn["output"][..., head, :, :])

    def _attn_params(self, params: Params, layer: int, head: int) -> Params:
        require(0 <= layer < self.num_layers, "layer", layer, f"0 to {self.num_layers - 1}")
        require(layer not in self.no_attention, "layer", layer, "a layer that has attention")
        require(0 <= head < self.num_heads, "head", head, f"0 to {self.num_heads - 1}")
        return params["blocks"][str(layer)]["attn"]
