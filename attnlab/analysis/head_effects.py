"""What single heads are for: the score with each head ablated, all heads in one program, the kind of ablation named.

The pass of every ablation begins at the block of its head: the stream before it and the other heads' outputs are put in
from the unedited pass, so that nothing before the head is computed again. Results are those of the whole edited pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from attnlab import edits as ed
from attnlab.config import require
from attnlab.tape import Edit, Tape, replace

Score = Callable[[Array], Array]


@struct.dataclass
class HeadEffects:
    """`score` of the unedited model and with each head ablated.

    Attributes:
      kind: of the ablation (`attnlab.edits.KINDS`); positions: where, in words.
      base: `score` unedited, any shape; ablated: `[L, H, *score]`, NaN in layers without attention.
    """

    kind: str = struct.field(pytree_node=False)
    positions: str = struct.field(pytree_node=False)
    base: Array
    ablated: Array

    @property
    def effect(self) -> Float[Array, "L H *score"]:
        """`ablated - base`: what taking the head out does to the score."""
        return self.ablated - self.base

    def towards(self, other: Array) -> Float[Array, "L H *score"]:
        """`(ablated - base) / (other - base)`: 0 nothing, 1 all of the way to another run's score."""
        return self.effect / (other - self.base)


def head_effects(
    model: Any,
    params: Any,
    inputs: Any,
    score: Score,
    kind: ed.Kind = "zero",
    *,
    source: Tape | None = None,
    at: Bool[Array, "T 1"] | None = None,
    chunk: int | None = None,
) -> HeadEffects:
    """`score(logits)` with every head of every layer ablated in turn.

    Pure: compile it yourself, or `vmap` it over parameters. One trace for all heads.

    Args:
      kind: of the ablation; `mean` takes the means over this batch and its positions unless a source is given.
      source: for `resample` (and `mean`): another run's tape with the sites `blocks.*.attn.head_out` (`head_outputs`).
      at: queries at which heads are ablated (`edits.rows`); None = all.
      chunk: heads of a layer at a time; None = one by one, the fastest on a CPU and the least memory.
    """
    layers = attention_layers(model)
    own = ("blocks.*.attn.head_out", "blocks.*.out")
    logits, clean = model.apply(params, inputs, tape=own)
    sources = _sources(kind, source, clean, layers)
    heads, base = model.num_heads, score(logits)

    def of_layer(layer: int) -> Array:
        before = from_block(clean, layer)
        settled = (*before, replace(f"blocks.{layer}.attn.head_out", clean[f"blocks.{layer}.attn.head_out"]))

        def one(amount: Array) -> Array:
            edit = ed.ablate(layer, kind, amount[:, None, None], sources.get(layer), at)
            return score(model.apply(params, inputs, edits=(*settled, edit))[0])

        return jax.lax.map(one, jnp.eye(heads), batch_size=chunk)

    none = jnp.full((heads, *jnp.shape(base)), jnp.nan)
    rows = [of_layer(layer) if layer in layers else none for layer in range(model.num_layers)]
    return HeadEffects(kind, "all" if at is None else "some queries", base, jnp.stack(rows))


def head_outputs(model: Any, params: Any, inputs: Any) -> Tape:
    """The tape with every head's output, `blocks.{l}.attn.head_out [B, H, T, K]`: a source of `resample`."""
    return model.apply(params, inputs, tape=("blocks.*.attn.head_out",))[1]


def attention_layers(model: Any) -> tuple[int, ...]:
    """The layers that have heads.

    Raises:
      ConfigError: there are none.
    """
    gone = {*getattr(model, "no_attention", ()), *getattr(model, "mlp_mixer", ())}
    found = tuple(layer for layer in range(model.num_layers) if layer not in gone)
    require(bool(found), "model", model, "one with attention in some layer")
    return found


def from_block(clean: Tape, layer: int) -> tuple[Edit, ...]:
    """The edit that makes a pass begin at block `layer` with the stream of `clean`: what is before it is not
    computed.
    """
    return () if layer == 0 else (replace(f"blocks.{layer - 1}.out", clean[f"blocks.{layer - 1}.out"]),)


def _sources(kind: str, source: Tape | None, clean: Tape, layers: tuple[int, ...]) -> dict[int, Array]:
    if kind not in ("mean", "resample"):
        require(source is None, "source", "given", f"None for kind {kind!r}")
        return {}
    require(kind == "mean" or source is not None, "source", None, "the tape of another run (`head_outputs`)")
    if source is None:
        return {layer: ed.mean_outputs(clean[f"blocks.{layer}.attn.head_out"]) for layer in layers}
    return {layer: source[f"blocks.{layer}.attn.head_out"] for layer in layers}
