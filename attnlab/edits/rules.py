"""Saying where heads look, by a rule that reads the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.tape import Edit


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
