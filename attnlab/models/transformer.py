"""The tiny transformer whose options are the papers' options. Pure functions on a plain pytree."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from attnlab.attention import Dims, Mechanism, causal_mask, softmax
from attnlab.attention.base import undecayed
from attnlab.config import require
from attnlab.models.attention_layer import AttentionOptions, attend, gated_mlp, init_attention, init_gated_mlp
from attnlab.models.base import Compute, Model, Params, Remat
from attnlab.models.factored import Factored
from attnlab.models.layers import (
    Draw,
    InitKind,
    NormKind,
    PositionKind,
    draw,
    init_norm,
    linear,
    matrix,
    norm,
    sinusoidal,
)
from attnlab.models.streams import FixedStream, QKSource, RandomStream, StaticEmbedding
from attnlab.tape import Place, Sites, rematerialised

Activation = Literal["relu", "gelu", "silu", "linear"]
NormPlace = Literal["pre", "post"]
_CHOICES = {
    "activation": Activation,
    "norm": NormKind,
    "norm_place": NormPlace,
    "positions": PositionKind,
    "init_kind": InitKind,
    "qk_norm": NormKind,
    "head_norm": NormKind,
    "output_norm": NormKind,
    "compute": Compute,
    "remat": Remat,
}
_ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "silu": jax.nn.silu, "linear": lambda h: h}
_OPTIONAL = ("vocab_size", "input_dim", "output_dim", "head_dim", "mlp_width", "window", "short_conv")
_PER_LAYER = ("mechanism", "qk_source")
_LAYERS = ("no_attention", "no_mlp", "mlp_mixer")


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
      mlp_mixer: layers in which a gated MLP of as many weights stands in the place of attention.
      qk_source: where queries and keys come from (`models.streams`), if not from the stream; one, or one per layer.
      short_conv: width of a causal convolution with SiLU on queries, keys and values; None = none.
      qk_norm, head_norm, output_norm: norm of queries and keys, of what each head reads out, and of what attention
        writes to the stream (hybrid norm of 2409.04431).
      registers: how many learned vectors stand before the sequence, seen by every query (sink tokens, 2410.10781;
        registers, 2309.16588). Sites between `embed` and `final` have `registers + T` positions.
      window, prefix: sliding window of the causal mask; positions every query may see.
      tie_embeddings: output matrix = token embedding transposed.
      init_kind, init_std, embed_std: kind of initial values of matrices, their std if `normal`, std of embeddings.
      norm_eps: epsilon of the norms.
      compute: dtype of the residual stream and of what matrix products multiply: that of the parameters, or `bfloat16`.
        Then the embedding, norms, logits (of attention and of the output) and maps are float32 all the same, sums in
        products too, and mechanisms with slots of their own or a recurrence are float32 as a whole.
      remat: what a gradient makes again and does not keep: `none`, `attention`, `layers` (`models.base.Remat`).
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
    mlp_mixer: tuple[int, ...] = ()
    qk_source: QKSource | tuple[QKSource | None, ...] | None = None
    short_conv: int | None = None
    qk_norm: NormKind = "none"
    head_norm: NormKind = "none"
    output_norm: NormKind = "none"
    registers: int = 0
    compute: Compute = "params"
    remat: Remat = "none"

    def __post_init__(self):
        for name in (*_PER_LAYER, *_LAYERS):
            if isinstance(getattr(self, name), list):  # lists would make the model unhashable
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in (*_OPTIONAL, "length", "num_layers", "num_heads", "width"):
            value = getattr(self, name)
            optional = name in _OPTIONAL and value is None
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(optional or whole, f"Transformer.{name}", value, "an integer >= 1")
        for name in ("prefix", "registers"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            require(whole, f"Transformer.{name}", value, "an integer >= 0")
        self._check_ends()
        for name, choices in _CHOICES.items():
            allowed = get_args(choices)
            require(getattr(self, name) in allowed, f"Transformer.{name}", getattr(self, name), " | ".join(allowed))
        if self.head_dim is None:
            hint = f"Give head_dim, or a width divisible by num_heads={self.num_heads}."
            require(self.width % self.num_heads == 0, "Transformer.width", self.width, "a multiple of num_heads", hint)
        for name in _LAYERS:
            for layer in getattr(self, name):
                require(0 <= layer < self.num_layers, f"Transformer.{name}", layer, f"0 to {self.num_layers - 1}")
        if self.positions == "rope":
            require(self.dims.head_dim % 2 == 0, "Transformer.head_dim", self.dims.head_dim, "even, for rope")
        self._check_layers()

    def _check_layers(self) -> None:
        """What may differ from layer to layer."""
        for name in _PER_LAYER:
            if isinstance(values := getattr(self, name), tuple):
                told = tuple(getattr(value, "name", value) for value in values)
                allowed = f"one for all layers, or a tuple of {self.num_layers} (one per layer)"
                require(len(values) == self.num_layers, f"Transformer.{name}", told, allowed)
        for layer in range(self.num_layers):
            mechanism, source = self.mechanism_of(layer), self.qk_source_of(layer)
            hint = "See attnlab.attention, or make one with attnlab.attention.from_weights."
            require(isinstance(mechanism, Mechanism), "Transformer.mechanism", mechanism, "a mechanism", hint)
            if getattr(mechanism, "causal_only", False):
                hint = f"{mechanism.name} is a recurrence over all earlier positions: leave window and prefix out."
                plain = self.window is None and self.prefix == 0
                require(plain, "Transformer.window, prefix", (self.window, self.prefix), "(None, 0)", hint)
            allowed = "None, RandomStream, FixedStream or StaticEmbedding (attnlab.models)"
            require(isinstance(source, QKSource | None), "Transformer.qk_source", source, allowed)
        both = set(self.no_attention) & set(self.mlp_mixer)
        require(not both, "Transformer.mlp_mixer", self.mlp_mixer, "layers that are not in no_attention")

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

    def qk_source_of(self, layer: int) -> QKSource | None:
        """Where block `layer` takes queries and keys from; None = from the stream."""
        return self.qk_source[layer] if isinstance(self.qk_source, tuple) else self.qk_source

    @property
    def undecayed(self) -> frozenset[tuple[str, ...]]:
        """Places of the parameters that weight decay must leave alone (`attnlab.attention.base.undecayed`)."""
        layers = set(range(self.num_layers)) - set(self.no_attention) - set(self.mlp_mixer)
        return frozenset(
            ("blocks", str(layer), "attn", "mechanism", name)
            for layer in layers
            for name in undecayed(self.mechanism_of(layer))
        )

    @property
    def attention_options(self) -> AttentionOptions:
        """What every attention layer does besides mixing."""
        return AttentionOptions(**{field.name: getattr(self, field.name) for field in fields(AttentionOptions)})

    def init(self, key: Key[Array, ""]) -> Params:
        """Initial parameters: `embed`, `blocks.{l}.{attn_norm, attn, mlp_norm, mlp}`, `final_norm`, `unembed`.

        `embed` holds `token [V, D]`, or `input [input_dim, D]` and `bias [D]` (0, or as `torch.nn.Linear` if that is
        `init_kind`), and `position [T, D]` if learned; `unembed` is `[D, V]` or `[D, output_dim]`.
        """
        weights_key, own_key = jax.random.split(key)
        embed = self._init_embed()
        if self.positions == "learned":
            embed["position"] = Draw("normal", (self.registers + self.length, self.width), self.embed_std)
        if self.registers:
            embed["register"] = Draw("normal", (self.registers, self.width), 0.02)
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
            if layer in self.mlp_mixer:
                block["attn"] = init_gated_mlp(self.dims, self.init_kind, self.init_std)
            else:
                block["attn"] = init_attention(self.dims, self.init_kind, self.init_std, self.attention_options)
                block["attn"]["mechanism"] = self.mechanism_of(layer).init(jax.random.fold_in(key, layer), self.dims)
            if self.output_norm != "none":
                block["output_norm"] = init_norm(self.output_norm, width)
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
        x = sites("embed", self._narrowed(self._begin(params["embed"], self._embed(params["embed"], inputs))))
        streams = self._streams(params["embed"], x)
        for layer in range(self.num_layers):
            block, source = params["blocks"][str(layer)], self.qk_source_of(layer)
            x = self._layer(layer, block, x, sites, None if source is None else streams[source])
            # A second stream goes through the same block, unseen, with its own queries, keys and values.
            for other in streams.keys() - {StaticEmbedding()}:
                streams[other] = self._layer(layer, block, streams[other], Sites())
        x = x[..., self.registers :, :]
        if self.final_norm:
            x = norm(self.norm, params["final_norm"], x, self.norm_eps)
        x = sites("final", x)
        out = params["embed"]["token"].T if self.tie_embeddings else params["unembed"]
        return sites("logits" if self.output_dim is None else "prediction", linear(x, out, wide=True))

    def computed(self, compute: Compute, remat: Remat | None = None) -> Transformer:
        """The same function of the same parameters, otherwise computed (`compute="params"`, None: as it is)."""
        return replace(
            self,
            compute=self.compute if compute == "params" else compute,
            remat=self.remat if remat is None else remat,
        )

    def _narrowed(self, x: Array) -> Array:
        """What enters the residual stream; up to here all is in the parameters' dtype."""
        return x.astype(self.compute) if self._narrow else x

    @property
    def _narrow(self) -> bool:
        return self.compute != "params"

    def _begin(self, params: Params, x: Array) -> Array:
        """Registers before the embedded sequence, then positions added."""
        if self.registers:
            register = jnp.broadcast_to(params["register"], (*x.shape[:-2], self.registers, self.width))
            x = jnp.concatenate([register.astype(x.dtype), x], axis=-2)
        num = x.shape[-2]
        if self.positions == "learned":
            return x + params["position"][:num]
        if self.positions == "sinusoidal":
            return x + jnp.asarray(sinusoidal(num, self.width), x.dtype)
        return x

    def _streams(self, params: Params, x: Array) -> dict[QKSource, Array]:
        """What enters the first block of each second stream that some layer reads; `x` is what enters the first."""
        found: dict[QKSource, Array] = {}
        for source in {self.qk_source_of(layer) for layer in range(self.num_layers)} - {None}:
            if isinstance(source, RandomStream | FixedStream):
                start = source.start(params.get("token"), x.shape[-2] - self.registers, self.width)
                found[source] = self._narrowed(
                    self._begin(params, start.astype(start.dtype if self._narrow else x.dtype))
                )
            elif source is not None:
                found[source] = x
        return found

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

    def _layer(self, layer: int, block: Params, x: Array, sites: Sites, qk_stream: Array | None = None) -> Array:
        """A block, made again for the gradient if `remat` says so."""

        def run(sites: Sites, block: Params, x: Array, qk_stream: Array | None) -> Array:
            return self._block(layer, block, x, sites, qk_stream)

        if self.remat == "layers":
            return rematerialised(sites, run, block, x, qk_stream)
        return run(sites, block, x, qk_stream)

    def _block(self, layer: int, block: Params, x: Array, sites: Sites, qk_stream: Array | None = None) -> Array:
        for part, run in (("attn", self._attention), ("mlp", self._mlp)):
            if part not in block:
                continue
            place = sites.at(f"blocks.{layer}.{part}")

            def read(stream: Array, weights: Params = block[f"{part}_norm"]) -> Array:
                return norm(self.norm, weights, stream, self.norm_eps) if self.norm_place == "pre" else stream

            qk_from = read(qk_stream) if part == "attn" and qk_stream is not None else None
            written = run(layer, block[part], read(x), place, qk_from)
            if part == "attn" and self.output_norm != "none":
                written = norm(self.output_norm, block["output_norm"], written, self.norm_eps)
            x = x + written
            if self.norm_place == "post":
                x = norm(self.norm, block[f"{part}_norm"], x, self.norm_eps)
        return sites(f"blocks.{layer}.out", x)

    def _attention(self, layer: int, params: Params, x: Array, place: Place, qk_from: Array | None) -> Array:
        if layer in self.mlp_mixer:
            return gated_mlp(params, x, place)
        kept = self.registers + self.prefix if self.prefix or self.window else 0
        mask = causal_mask(x.shape[-2], window=self.window, prefix=kept)
        return attend(
            self.mechanism_of(layer),
            params,
            x,
            mask=mask,
            options=self.attention_options,
            qk_from=qk_from,
            site=place,
            remat=self.remat == "attention",
        )

    def _mlp(self, layer: int, params: Params, x: Array, place: Place, qk_from: Array | None) -> Array:
        x = place("in", x)
        hidden = place("hidden", _ACTIVATIONS[self.activation](linear(x, params["up"])))
        return place("out", linear(hidden, params["down"]))

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
        require(layer not in self.no_attention + self.mlp_mixer, "layer", layer, "a layer that has attention")
        require(0 <= head < self.num_heads, "head", head, f"0 to {self.num_heads - 1}")
        return params["blocks"][str(layer)]["attn"]
