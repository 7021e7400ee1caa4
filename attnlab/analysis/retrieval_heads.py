"""Heads that fetch: where they look when a token is copied, and whether they raise or lower what they look at.

**Retrieval score** (2404.15574). For the query that says token `w` a head scores a hit if the key it looks at most,
`argmax_u A_tu`, lies inside the needle and holds `w`. The score is the share of the needle's tokens hit,

    set      |{hit keys}| / |needle|      as the paper defines it, in [0, 1]
    count    hits / |needle|              as its code does: repeats count, so that it can exceed 1

mean over the sequences that count (the code: those answered). A teacher-forced pass gives all queries at once.

**Copy suppression** (McDougall et al., 2310.04625). What a head writes to the logit of the very tokens it looks at,

    Σ_u A_tu [v_u W_O N W_U]_{x_u} less its mean over the vocabulary,

`N` the final norm at the scale of the run: positive heads copy, negative ones suppress. It is a direct effect, nothing
that later layers make of it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.analysis.direct_effects import final_readout
from attnlab.analysis.head_effects import attention_layers
from attnlab.config import require


def retrieval_score(
    weights: Float[Array, "B H T U"],
    inputs: Int[Array, "B U"],
    said: Int[Array, "B T"],
    needle: Bool[Array, "B U"],
    answer: Bool[Array, "B T"],
    counts: Bool[Array, " B"] | None = None,
    repeats: bool = False,
) -> Float[Array, " H"]:
    """The retrieval score of one layer's heads.

    Args:
      inputs: the tokens that keys hold; said: the token that each query says (targets, if teacher-forced).
      needle, answer: keys of the needle; queries that say it. counts: sequences that count; None = all.
      repeats: count every hit (the published code) and not every key once (the paper).
    """
    looked = jnp.argmax(weights, axis=-1)
    at = jnp.arange(weights.shape[-1])
    seen = looked[..., None] == at  # [B, H, T, U]
    held = (inputs[:, None, :] == said[:, :, None]) & needle[:, None, :] & answer[:, :, None]
    hits = seen & held[:, None]
    found = jnp.sum(hits, axis=(-2, -1)) if repeats else jnp.sum(jnp.any(hits, axis=-2), axis=-1)
    score = found / jnp.sum(needle, axis=-1)[:, None]
    kept = jnp.ones(len(inputs), bool) if counts is None else counts
    return jnp.sum(score * kept[:, None], axis=0) / jnp.sum(kept)


def retrieval_scores(model: Any, params: Any, batch: Any, **options: Any) -> Float[Array, "L H"]:
    """`retrieval_score` of all layers on a batch with the position classes `needle` (keys) and `answer` (queries).

    NaN in layers without attention. Only sequences that are answered right throughout count.
    """
    logits, tape = model.apply(params, batch.inputs, tape=("blocks.*.attn.weights",))
    needle, answer = (batch.positions[name] for name in ("needle", "answer"))
    right = jnp.all((jnp.argmax(logits, axis=-1) == batch.targets) | ~answer, axis=-1)
    counts = options.pop("counts", right)
    none = jnp.full(model.num_heads, jnp.nan)
    layers = attention_layers(model)
    rows = [
        retrieval_score(
            tape[f"blocks.{layer}.attn.weights"], batch.inputs, batch.targets, needle, answer, counts, **options
        )
        if layer in layers
        else none
        for layer in range(model.num_layers)
    ]
    return jnp.stack(rows)


def copy_effects(
    model: Any, params: Any, inputs: Int[Array, "B T"], where: Bool[Array, "B T"] | None = None
) -> Float[Array, "L H"]:
    """What heads write to the logits of the tokens they look at, above their mean over the vocabulary, mean over
    queries.

    Args:
      where: queries that count; None = all.
    """
    layers = attention_layers(model)
    names = tuple(f"blocks.{layer}.attn.{part}" for layer in layers for part in ("weights", "v"))
    last = f"blocks.{model.num_layers - 1}.out"
    _, tape = model.apply(params, inputs, tape=(*names, last))
    through, _ = final_readout(model, params, tape[last])
    kept = jnp.ones(inputs.shape, bool) if where is None else where
    unembed = jnp.eye(model.vocab_size)[inputs] - 1 / model.vocab_size  # a token's logit less the mean

    def of_layer(layer: int) -> Array:
        weights, values = (tape[f"blocks.{layer}.attn.{part}"] for part in ("weights", "v"))
        written = jnp.einsum("bhuk,hkd->bhud", values, params["blocks"][str(layer)]["attn"]["output"])

        def at_query(t: Array) -> Array:
            # The norm's scale is the query's, what is written is the key's.
            logits = through(written, 1, t)  # [B, H, U, V]
            own = jnp.einsum("bhuv,buv->bhu", logits, unembed)
            return jnp.sum(weights[:, :, t] * own, axis=-1)

        per_query = jax.lax.map(at_query, jnp.arange(inputs.shape[-1]))  # [T, B, H]
        return jnp.sum(per_query * kept.T[:, :, None], axis=(0, 1)) / jnp.sum(kept)

    none = jnp.full(model.num_heads, jnp.nan)
    return jnp.stack([of_layer(layer) if layer in layers else none for layer in range(model.num_layers)])


def top_heads(scores: Float[Array, "L H"], count: int, least: float | None = None) -> tuple[tuple[int, int], ...]:
    """`(layer, head)` of the highest scores, best first; only those above `least` if it is given.

    Raises:
      ConfigError: fewer heads than asked for.
    """
    flat = jnp.where(jnp.isnan(scores), -jnp.inf, scores).reshape(-1)
    order = [int(i) for i in jnp.argsort(-flat, stable=True)]
    kept = [i for i in order if flat[i] > (-jnp.inf if least is None else least)]
    require(1 <= count <= len(kept), "count", count, f"1 to {len(kept)} heads")
    heads = scores.shape[-1]
    return tuple((i // heads, i % heads) for i in kept[:count])
