"""Sequences of two segments (image and text, user and assistant): who looks at whom, and which heads notice.

- `interaction` (2511.22663): mean over heads and queries of one segment of the mass on the other; `alignment_loss`
  pulls it towards a target per layer.
- `head_divergence` (2412.13949): how much a head's output changes when the image is taken away.
- `span_score` (2411.02688): mean over the queries of a response of the largest mass that a head has on the user's span.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.head_effects import attention_layers
from attnlab.attention.interaction import alignment_loss as alignment_loss
from attnlab.attention.interaction import interaction as interaction


def interactions_of(model: Any, params: Any, inputs: Any, queries: Any, keys: Any) -> Float[Array, " L"]:
    """`interaction` of every layer; NaN without attention."""
    layers = attention_layers(model)
    _, tape = model.apply(params, inputs, tape=("blocks.*.attn.weights",))
    found = {layer: interaction(tape[f"blocks.{layer}.attn.weights"], queries, keys) for layer in layers}
    return jnp.stack([found.get(layer, jnp.asarray(jnp.nan)) for layer in range(model.num_layers)])


def head_divergence(
    model: Any, params: Any, inputs: Any, without: Any, row: int = -1
) -> tuple[Float[Array, "L H"], Float[Array, "L H"]]:
    """Vision-aware head divergence: `‖z(image, text) - z(text)‖` of each head at one query, mean over sequences.

    Args:
      without: the same inputs with the image taken away (blank, in distribution).

    Returns:
      the divergence, and `‖z(text)‖`: heads large without an image are outliers that the paper drops.
    """
    layers, found, alone = attention_layers(model), {}, {}
    read = ("blocks.*.attn.head_out",)
    tapes = [model.apply(params, x, tape=read)[1] for x in (inputs, without)]
    for layer in layers:
        full, blank = (tape[f"blocks.{layer}.attn.head_out"][..., row, :] for tape in tapes)
        found[layer] = jnp.mean(jnp.linalg.norm(full - blank, axis=-1), axis=0)
        alone[layer] = jnp.mean(jnp.linalg.norm(blank, axis=-1), axis=0)
    none = jnp.full(model.num_heads, jnp.nan)
    stacked = [jnp.stack([part.get(i, none) for i in range(model.num_layers)]) for part in (found, alone)]
    return stacked[0], stacked[1]


def above_median(scores: Float[Array, "L H"], lower: bool = False) -> Bool[Array, "L H"]:
    """Heads of each layer above its median (`lower`: the others, the control)."""
    chosen = scores > jnp.median(scores, axis=-1, keepdims=True)
    return ~chosen if lower else chosen


def span_score(
    weights: Float[Array, "B H T U"], response: Bool[Array, "B T"], user: Bool[Array, "B U"]
) -> Float[Array, " B"]:
    """Mean over response tokens of `max_h Σ_{u in user} A_tu`, one layer: how much a reply reads what was said."""
    mass = jnp.max(jnp.sum(weights * user[:, None, None, :], axis=-1), axis=1)
    return jnp.sum(mass * response, axis=-1) / jnp.maximum(jnp.sum(response, axis=-1), 1)
