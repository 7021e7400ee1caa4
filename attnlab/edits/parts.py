"""Taking parts out: a sublayer, a block, a head, one position of it. Zero ablation, all of them."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Int

from attnlab.tape import Edit, head_mask, zero


def remove_attention(layer: int) -> Edit:
    """Block `layer` without what its attention writes to the stream."""
    return zero(f"blocks.{layer}.attn.out")


def remove_mlp(layer: int) -> Edit:
    """Block `layer` without what its MLP writes to the stream."""
    return zero(f"blocks.{layer}.mlp.out")


def remove_block(layer: int) -> Edit:
    """Block `layer` writes nothing: with pre-norm its output is its input (with post-norm, its input normalised)."""
    return zero(f"blocks.{layer}.*.out")


def zero_heads(layer: int, heads: Sequence[int] | int, num_heads: int) -> Edit:
    """The given heads of block `layer` write nothing; the others stay."""
    return zero(f"blocks.{layer}.attn.head_out", head_mask(num_heads, heads))


def _zero_row(x, position, inputs):
    return jnp.where((jnp.arange(x.shape[-2]) == position)[:, None], 0, x)


def _zero_entry(x, place, inputs):
    query, key = place
    row = (jnp.arange(x.shape[-2]) == query)[:, None]
    return jnp.where(row & (jnp.arange(x.shape[-1]) == key), 0, x)


def zero_mlp_at(layer: int, position: int | Int[Array, ""] = 0) -> Edit:
    """The MLP of block `layer` writes nothing at `position` (0: the first token)."""
    return Edit(f"blocks.{layer}.mlp.out", _zero_row, jnp.asarray(position))


def zero_value_at(layer: int, position: int | Int[Array, ""] = 0) -> Edit:
    """Who attends to `position` in block `layer` receives nothing from it; the attention weights stay."""
    return Edit(f"blocks.{layer}.attn.v", _zero_row, jnp.asarray(position))


def zero_attention_at(layer: int, query: int | Int[Array, ""] = 0, key: int | Int[Array, ""] = 0) -> Edit:
    """Weight 0 from `query` to `key` in every head of block `layer`; the other weights of the row stay as they are."""
    return Edit(f"blocks.{layer}.attn.weights", _zero_entry, (jnp.asarray(query), jnp.asarray(key)))
