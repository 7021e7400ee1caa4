"""Interventions on a model's forward pass, each an `Edit` (`attnlab.tape`) to pass in `apply(..., edits=(...,))`.

They are what the papers call hooks: take a sublayer or a head out, take one position out of it, or say where a head
looks. All work at inference and inside the training step, under jit and vmap; positions are arrays, so changing them
does not retrace.

Example:
  logits, _ = model.apply(params, tokens, edits=(remove_mlp(0), force_attention(0, SinkOrPrevious(triggers=(1, 5)))))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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


class AttentionRule(Protocol):
    """Where a head is to look: `tokens[*B, T] -> (weights[*B, T, U], rows[*B, T])`.

    Rows that are False stay as they are. A rule is hashable and compares by value (a frozen dataclass, or a function at
    the top of a module); otherwise every call retraces.
    """

    def __call__(self, tokens: Int[Array, "*B T"]) -> tuple[Float[Array, "*B T U"], Bool[Array, "*B T"]]: ...


@dataclass(frozen=True)
class Identity:
    """Every position looks at itself."""

    def __call__(self, tokens):
        num = tokens.shape[-1]
        return jnp.broadcast_to(jnp.eye(num), (*tokens.shape, num)), jnp.ones(tokens.shape, bool)


@dataclass(frozen=True)
class SinkOrPrevious:
    """The ideal head of the Bigram-Backcopy task: a trigger looks at the position before it, all others at `sink`.

    Attributes:
      triggers: token ids that copy.
      sink: position the others look at; None leaves their rows as they are (sequences without a first token).
    """

    triggers: tuple[int, ...]
    sink: int | None = 0

    def __call__(self, tokens):
        position = jnp.arange(tokens.shape[-1])
        active = jnp.isin(tokens, jnp.array(self.triggers, tokens.dtype)) & (position > 0)
        target = jnp.where(active, position - 1, 0 if self.sink is None else self.sink)
        weights = jax.nn.one_hot(target, tokens.shape[-1])
        return weights, active if self.sink is None else jnp.ones(tokens.shape, bool)


@dataclass(frozen=True)
class _Force:
    rule: AttentionRule

    def __call__(self, x, value, inputs):
        weights, rows = self.rule(inputs)
        return jnp.where(rows[..., None, :, None], weights[..., None, :, :].astype(x.dtype), x)


def force_attention(layer: int, rule: AttentionRule, mask: Bool[Array, "*H T U"] | None = None) -> Edit:
    """The heads of block `layer` look where `rule` says; `mask` (see `attnlab.tape.head_mask`) picks some heads."""
    return Edit(f"blocks.{layer}.attn.weights", _Force(rule), None, mask)


def identity_attention(layer: int) -> Edit:
    """Every head of block `layer` looks at its own position only."""
    return force_attention(layer, Identity())
