"""A pointer over objects: items are encoded together with a target, past fixations are decoded, scores are products.

    h = encoder(items, target)        g = decoder(h of the items fixated so far)        [causal]
    score_ti = sum_m w_m (W_e^m h_i) . (W_d^m g_t) / sqrt(K)            the stop: a literal logit of 0

A softmax over the items and the stop is the law of the next decision. There is no slot per item: arrays may have more
items than in training. As the stop's logit is a constant, stopping means that all scores are low: attention that is
off by one.

Source: arXiv 2407.13335 (Object-level Attention Transformer) and its code: appearance and place side by side, two
products mixed by a learned linear map, the zero appended before the scale. Its tuned place codes are Fourier features
here, through a learned matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from attnlab.attention import Dims, causal_mask, softmax
from attnlab.config import require
from attnlab.models.attention_layer import attend, init_attention
from attnlab.models.base import Model, Params
from attnlab.models.layers import draw, init_norm, linear, matrix, norm
from attnlab.tape import Sites

Stop = Literal["zero", "learned", "none"]
WAVES = np.pi * 2.0 ** np.arange(-1, 3)  # periods of 4 to 1/2 of the unit square
_NEVER = -1e9
_EPS = 1e-5


@dataclass(frozen=True)
class Pointer(Model):
    """Object-level pointer transformer. Reads what has the fields of `toy_tasks.Display`, says logits `[*B, T, N + 1]`.

    Attributes:
      dim: `F`, features of an item and of the target.
      width, num_heads: `D`, `H`, of encoder and decoder.
      encoder_layers, decoder_layers: blocks of attention and MLP (of `2 D`, ReLU), pre-LayerNorm.
      num_scores: `M`, products that are mixed.
      stop: what stands for the end of a path beside the scores. `zero`: the constant 0. `learned`: a learned key in the
        place of `W_e h`. `none`: nothing, the path cannot end (a control; leave stops out of its loss).
    """

    dim: int
    width: int = 48
    num_heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 1
    num_scores: int = 2
    stop: Stop = "zero"

    def __post_init__(self):
        for name in ("dim", "width", "num_heads", "encoder_layers", "decoder_layers", "num_scores"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(whole, f"Pointer.{name}", value, "an integer >= 1")
        fits = self.width % self.num_heads == 0 and self.width % 2 == 0
        require(fits, "Pointer.width", self.width, f"even and a multiple of num_heads={self.num_heads}")
        require(self.stop in get_args(Stop), "Pointer.stop", self.stop, " | ".join(get_args(Stop)))

    @property
    def dims(self) -> Dims:
        return Dims(self.num_heads, self.width // self.num_heads, self.width)

    # ---- parameters

    def init(self, key: Key[Array, ""]) -> Params:
        """Initial parameters: `embed`, `encoder`, `decoder` (`start`, blocks), their last norms, `pointer`."""
        width, half = self.width, self.width // 2
        embed = {
            "item": matrix("torch", (self.dim, half), self.dim, 0.0),
            "target": matrix("torch", (self.dim, width), self.dim, 0.0),
            "place": matrix("torch", (4 * len(WAVES), half), 4 * len(WAVES), 0.0),
            "start": matrix("normal", (width,), width, 1.0),
        }
        pointer = {
            name: matrix("torch", (width, self.num_scores, width), width, 0.0) for name in ("encode", "decode")
        } | {name: jnp.zeros((self.num_scores, width)) for name in ("encode_bias", "decode_bias")}
        pointer["mix"] = jnp.full(self.num_scores, 1.0 / self.num_scores)
        if self.stop == "learned":
            pointer["stop"] = matrix("torch", (self.num_scores, width), width, 0.0)
        parts = {"encoder": self.encoder_layers, "decoder": self.decoder_layers}
        params: Params = {name: {str(n): self._block() for n in range(count)} for name, count in parts.items()}
        params |= {f"{name}_norm": init_norm("layernorm", width) for name in parts}
        return draw(key, params | {"embed": embed, "pointer": pointer})

    def _block(self) -> Params:
        width = self.width
        mlp = {
            "up": matrix("torch", (width, 2 * width), width, 0.0),
            "down": matrix("torch", (2 * width, width), 2 * width, 0.0),
        }
        norms = {name: init_norm("layernorm", width) for name in ("attn_norm", "mlp_norm")}
        return norms | {"attn": init_attention(self.dims), "mlp": mlp}

    # ---- what it computes

    def forward(self, params: Params, inputs: Any, sites: Sites) -> Float[Array, "*B T V"]:
        """Logits of every decision: `N` items, then the stop. Items that are not present have -1e9.

        Sites, in order: `encoder.{l}.attn.{in, q, k, v, logits, weights, null, head_out, out}`, `encoder.{l}.out`,
        `items` `[*B, N, D]`; the same for `decoder`, `fixations` `[*B, T, D]`; `scores` `[*B, T, N]`; `logits`.
        The encoder has `N + 1` positions, the target last; the decoder `T`.
        """
        present = jnp.asarray(inputs.present)
        h, target = self._encode(params, inputs, present, sites)
        fixated = jnp.asarray(inputs.fixated)[..., None]
        seen = jnp.take_along_axis(h, jnp.maximum(fixated, 0), axis=-2)
        g = jnp.where(fixated < 0, params["embed"]["start"], seen) + target
        for layer in range(self.decoder_layers):
            block = params["decoder"][str(layer)]
            g = self._attend(block, g, causal_mask(g.shape[-2]), sites, f"decoder.{layer}")
        g = sites("fixations", norm("layernorm", params["decoder_norm"], g, _EPS))
        return sites("logits", self._point(params["pointer"], h, g, present, sites))

    def _encode(self, params: Params, inputs: Any, present: Array, sites: Sites) -> tuple[Array, Array]:
        embed = params["embed"]
        angle = jnp.asarray(inputs.places)[..., None] * WAVES
        waves = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        waves = waves.reshape(*waves.shape[:-2], -1)
        items = jnp.concatenate([linear(inputs.features, embed["item"]), linear(waves, embed["place"])], axis=-1)
        target = linear(inputs.target[..., None, :], embed["target"])
        x = jnp.concatenate([items, target], axis=-2)
        seen = jnp.concatenate([present, jnp.ones_like(present[..., :1])], axis=-1)
        mask = jnp.broadcast_to(seen[..., None, None, :], (*seen.shape[:-1], 1, seen.shape[-1], seen.shape[-1]))
        for layer in range(self.encoder_layers):
            x = self._attend(params["encoder"][str(layer)], x, mask, sites, f"encoder.{layer}")
        x = norm("layernorm", params["encoder_norm"], x, _EPS)
        return sites("items", x[..., :-1, :]), x[..., -1:, :]

    def _attend(self, block: Params, x: Array, mask: Array | np.ndarray, sites: Sites, place: str) -> Array:
        read = norm("layernorm", block["attn_norm"], x, _EPS)
        x = x + attend(softmax, block["attn"], read, mask=mask, site=sites.at(f"{place}.attn"))
        hidden = jax.nn.relu(linear(norm("layernorm", block["mlp_norm"], x, _EPS), block["mlp"]["up"]))
        return sites(f"{place}.out", x + linear(hidden, block["mlp"]["down"]))

    def _point(
        self,
        params: Params,
        h: Float[Array, "*B N D"],
        g: Float[Array, "*B T D"],
        present: Bool[Array, "*B N"],
        sites: Sites,
    ) -> Float[Array, "*B T V"]:
        keys = jnp.einsum("...nd,dmk->...nmk", h, params["encode"]) + params["encode_bias"]
        asked = jnp.einsum("...td,dmk->...tmk", g, params["decode"]) + params["decode_bias"]
        asked = asked * (params["mix"][:, None] / self.width**0.5)
        scores = sites("scores", jnp.einsum("...nmk,...tmk->...tn", keys, asked))
        if self.stop == "learned":
            stop = jnp.einsum("mk,...tmk->...t", params["stop"], asked)
        else:
            stop = jnp.full(scores.shape[:-1], 0.0 if self.stop == "zero" else _NEVER, scores.dtype)
        return jnp.concatenate([jnp.where(present[..., None, :], scores, _NEVER), stop[..., None]], axis=-1)
