"""KQ and OV circuits read between tokens and positions, kept factored; attention maps of a few fixed sequences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.analysis.base import Dims, check_task, evaluation_batch, sites_of
from attnlab.analysis.sinks import Sinks
from attnlab.config import require
from attnlab.models import Factored
from attnlab.models.layers import norm

Space = Literal["token", "position"]


def kq_tokens(
    model: Any,
    params: Any,
    layer: int = 0,
    head: int = 0,
    *,
    keys: Space = "token",
    queries: Space = "token",
    normalised: bool = True,
) -> Factored:
    """Attention logits between embeddings: entry `(u, t) = n(e_u)^T W_K W_Q^T n(e_t) / sqrt(K)`, `[V|T, V|T]`.

    `n` is the layer's own norm. For a model that adds positions to tokens it is taken of each embedding alone, so the
    sum over tokens and positions is the model's logit up to the common scale of the norm; exact if there is no norm.
    Deeper layers are read as if the stream still held the embeddings only.

    Args:
      keys, queries: read between token embeddings or learned positions.
      normalised: apply `n` (pre-norm models); else read the raw embeddings.
    """
    left = _read(model, params, layer, keys, normalised)
    right = _read(model, params, layer, queries, normalised)
    product = model.kq(params, layer, head)
    if left is None or right is None:  # a model in token space already, its logits unscaled
        return product
    scale = _scale(model, layer)
    between = product.conjugate(left, right)
    return Factored(between.left * scale, between.right)


def ov_tokens(
    model: Any, params: Any, layer: int = 0, head: int = 0, *, source: Space = "token", normalised: bool = True
) -> Factored:
    """What attending to a token or position adds to the output logits: `n(e_u) W_V W_O W_U`, `[V|T, V]`.

    The final norm is left out: it scales a row as a whole and, with a gain, weighs the stream's directions.
    """
    left = _read(model, params, layer, source, normalised)
    product = model.ov(params, layer, head)
    if left is None:
        return product
    unembed = params["embed"]["token"].T if model.tie_embeddings else params["unembed"]
    return product.conjugate(left, jnp.swapaxes(unembed, -1, -2))


def _read(model: Any, params: Any, layer: int, space: Space, normalised: bool) -> Array | None:
    """The embeddings as the attention of `layer` reads them, `[V|T, D]`; None for a model without an embedding."""
    require(space in ("token", "position"), "space", space, "'token' or 'position'")
    if "embed" not in params:
        require(space == "token", "space", space, "'token': this model has no positions")
        return None
    hint = "This model has no learned positions." if space == "position" else ""
    require(space in params["embed"], "space", space, ", ".join(params["embed"]), hint)
    vectors = params["embed"][space]
    block = params["blocks"].get(str(layer), {})
    if normalised and model.norm_place == "pre" and "attn_norm" in block:
        return norm(model.norm, block["attn_norm"], vectors, model.norm_eps)
    return vectors


def _scale(model: Any, layer: int) -> float:
    given = getattr(model.mechanism_of(layer), "scale", None)
    return model.dims.head_dim**-0.5 if given is None else given


def previous_token_score(weights: Float[Array, "*B T T"]) -> Float[Array, "*B"]:
    """Mean of `A[i, i-1]` over `i >= 1`: 1 for a head that always looks one position back."""
    require(weights.shape[-1] >= 2, "weights", weights.shape, "maps of 2 positions or more")
    return jnp.mean(jnp.diagonal(weights, offset=-1, axis1=-2, axis2=-1), axis=-1)


@dataclass(frozen=True)
class AttentionMaps:
    """`probe(model, params) -> {"weights": [n, L, H, T, T], "tokens": Int[n, T]}`: attention on `n` fixed sequences.

    A layer without attention is NaN. `null` `[n, L, H, T]`, the mass on null columns, is there if any layer has it.

    Attributes:
      task: what to sample; its evaluation batch is that of `sinks(task, batch_size, seed)`.
      indices: which sequences of the batch.
    """

    task: Any
    indices: tuple[int, ...]
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        check_task(self.task, self.batch_size, self.seed)
        object.__setattr__(self, "indices", tuple(int(i) for i in self.indices))
        require(len(self.indices) > 0, "indices", self.indices, "one sequence or more")
        for index in self.indices:
            require(0 <= index < self.batch_size, "indices", index, f"0 to {self.batch_size - 1}")

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        batch = evaluation_batch(self.task, self.batch_size, self.seed)
        tokens = batch.inputs[jnp.array(self.indices)]
        known = sites_of(model, params, tokens)
        found: dict[str, Array] = {"tokens": tokens}
        wanted = [n for n in known if n.endswith((".attn.weights", ".attn.null"))]
        _, tape = model.apply(params, tokens, tape=tuple(wanted))
        num, length = tokens.shape
        for site, shape in (("weights", (length, length)), ("null", (length,))):
            missing = jnp.full((num, model.num_heads, *shape), jnp.nan if site == "weights" else 0.0)
            rows = [tape.get(f"blocks.{layer}.attn.{site}", missing) for layer in range(model.num_layers)]
            if site == "weights" or any(name.endswith(".null") for name in wanted):
                found[site] = jnp.stack(rows, axis=1)
        return found

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        known: Dims = {
            "tokens": ("sequence", "query"),
            "weights": ("sequence", "layer", "head", "query", "key"),
            "null": ("sequence", "layer", "head", "query"),
        }
        return {name: known[name] for name in names}


def attention_maps(
    task: Any, sequences: int = 2, *, indices: Iterable[int] | None = None, batch_size: int = 64, seed: int = 0
) -> AttentionMaps:
    """The probe of attention maps on the first `sequences` of the evaluation batch, or on those of `indices`."""
    chosen = tuple(range(sequences)) if indices is None else tuple(indices)
    return AttentionMaps(task, chosen, max(batch_size, max(chosen, default=0) + 1), seed)


def token_norms(task: Any, batch_size: int = 64, seed: int = 0) -> Sinks:
    """Value and residual norms by token: `value_norm_by_token [L, H, V]`, `residual_norm_by_token [L, V]` and classes.

    NaN for tokens that the evaluation batch does not hold often enough; see `Sinks`.
    """
    return Sinks(task, batch_size, seed, parts=("values", "residual"), by_token=True, min_count=1)
