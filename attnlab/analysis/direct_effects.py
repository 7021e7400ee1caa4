"""The logits as a sum: what the embedding, every head and every MLP writes to them by itself.

A pre-norm transformer's last stream is `x = x_embed + Σ_l (Σ_h z_lh W_O,h + m_l)`, and with its final norm's scale `σ`
taken from the run as it is, the norm is affine: `logits = Σ_c N(c) W_U + b W_U`, with `N(c) = (c - mean c) g / σ` for
LayerNorm, `c g / σ` for RMSNorm, `c` without. So the parts sum to the logits exactly (float32: 1e-5 of them), and the
difference of two runs is the sum of the differences wherever `σ` is the same.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from attnlab.config import require


@struct.dataclass
class DirectEffects:
    """Parts of the logits, or of a direction of them.

    Attributes:
      embed: `[*B, T, V]`; heads: `[*B, L, H, T, V]`; mlps: `[*B, L, T, V]`; bias: `[V]` of the final norm.
      A layer without attention or MLP writes 0.
    """

    embed: Array
    heads: Array
    mlps: Array
    bias: Array

    def total(self) -> Float[Array, "*B T V"]:
        """The logits again."""
        return self.embed + jnp.sum(self.heads, axis=(-4, -3)) + jnp.sum(self.mlps, axis=-3) + self.bias

    def along(self, direction: Float[Array, "*B V"]) -> DirectEffects:
        """The same of `logits @ direction` (`[*B, V]`, one per sequence: one-hot right less one-hot wrong): no axis
        V.
        """

        def project(x: Array, axes: int) -> Array:
            by_part = direction.reshape(*direction.shape[:-1], *([1] * axes), direction.shape[-1])
            return jnp.sum(x * by_part, axis=-1, keepdims=True)

        bias = jnp.sum(self.bias * direction, axis=-1)[..., None, None]
        return DirectEffects(project(self.embed, 1), project(self.heads, 3), project(self.mlps, 2), bias)


def direct_effects(model: Any, params: Any, inputs: Any) -> DirectEffects:
    """The parts of the logits of a run.

    Raises:
      ConfigError: a model whose stream is no plain sum of its parts (post-norm, a norm or a gate behind the output
        matrix, registers, no vocabulary).
    """
    _check(model)
    sites = ("embed", "blocks.*.attn.head_out", *(("blocks.*.mlp.out",) if _has_mlp(model) else ()))
    last = f"blocks.{model.num_layers - 1}.out"
    _, tape = model.apply(params, inputs, tape=(*sites, last))
    through, bias = final_readout(model, params, tape[last])
    layers = range(model.num_layers)
    heads = [_written(params, layer, tape.get(f"blocks.{layer}.attn.head_out")) for layer in layers]
    like = next(x for x in heads if x is not None)
    heads = jnp.stack([jnp.zeros_like(like) if x is None else x for x in heads], axis=-4)
    none = jnp.zeros_like(tape["embed"])
    mlps = jnp.stack([tape.get(f"blocks.{layer}.mlp.out", none) for layer in layers], axis=-3)
    return DirectEffects(through(tape["embed"], 0), through(heads, 2), through(mlps, 1), bias)


def _written(params: Any, layer: int, outputs: Array | None) -> Array | None:
    """`z_h W_O,h [*B, H, T, D]`."""
    if outputs is None:
        return None
    return jnp.einsum("...htk,hkd->...htd", outputs, params["blocks"][str(layer)]["attn"]["output"])


def final_readout(model: Any, params: Any, stream: Float[Array, "*B T D"]) -> tuple[Any, Float[Array, " V"]]:
    """The end of the model as an affine map: the final norm at the scale of `stream`, then the output matrix.

    Returns:
      `through(part, axes, at=None)`: logits of a part `[*B, ..., T, D]` with `axes` axes before T, at the scale of each
      position (of position `at` for all, if given); and the norm's bias read out, `[V]`.
    """
    unembed = params["embed"]["token"].T if model.tie_embeddings else params["unembed"]
    kind = model.norm if model.final_norm else "none"
    centred = stream - jnp.mean(stream, axis=-1, keepdims=True) if kind == "layernorm" else stream
    inverse = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + model.norm_eps)
    gain = params["final_norm"]["scale"] if kind != "none" else 1.0
    bias = params["final_norm"]["bias"] @ unembed if kind == "layernorm" else jnp.zeros(unembed.shape[-1])

    def through(part: Array, axes: int, at: Any = None) -> Array:
        if kind == "layernorm":
            part = part - jnp.mean(part, axis=-1, keepdims=True)
        if kind != "none":
            scale = inverse if at is None else jnp.take(inverse, at, axis=-2)[..., None, :]
            part = part * scale.reshape(*scale.shape[:-2], *([1] * axes), *scale.shape[-2:]) * gain
        return part @ unembed

    return through, bias


def _has_mlp(model: Any) -> bool:
    return len(model.no_mlp) < model.num_layers


def _check(model: Any) -> None:
    require(
        model.norm_place == "pre", "model.norm_place", model.norm_place, "pre: after a norm the parts do not add up"
    )
    require(model.output_norm == "none", "model.output_norm", model.output_norm, "none")
    require(model.registers == 0, "model.registers", model.registers, "0")
    require(not model.mlp_mixer, "model.mlp_mixer", model.mlp_mixer, "(): heads in every mixing layer")
    require(model.output_dim is None, "model.output_dim", model.output_dim, "None: logits")
    for layer in range(model.num_layers):
        mechanism = model.mechanism_of(layer)
        require(
            getattr(mechanism, "place", None) != "dense",
            "model.mechanism",
            mechanism.name,
            "no gate behind the output matrix",
        )
