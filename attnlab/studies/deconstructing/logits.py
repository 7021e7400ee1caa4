"""How large the logits of a layer become: what tells uniform from hybrid Non-approximate attention (2510.11602)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from attnlab.analysis.base import evaluation_batch, sites_of


@dataclass(frozen=True)
class LargestLogit:
    """`probe(model, params) -> [L]`: `max |l_tu|` over heads, queries and visible keys of each layer; NaN without one.

    Attributes:
      task: what to evaluate on.
      batch_size: sequences of the evaluation batch.
    """

    task: Any
    batch_size: int = 32

    def __call__(self, model: Any, params: Any) -> Array:
        inputs = evaluation_batch(self.task, self.batch_size, 0).inputs
        names = [f"blocks.{layer}.attn.logits" for layer in range(model.num_layers)]
        known = sites_of(model, params, inputs)
        _, tape = model.apply(params, inputs, tape=tuple(n for n in names if n in known))
        return jnp.stack([self._largest(tape[n]) if n in tape else jnp.asarray(jnp.nan) for n in names])

    def _largest(self, logits: Array) -> Array:
        visible = jnp.tri(*logits.shape[-2:], dtype=bool)
        return jnp.max(jnp.where(visible, jnp.abs(logits), 0))


def largest_logit(task: Any, batch_size: int = 32) -> LargestLogit:
    """The probe of the largest logit on `task`."""
    return LargestLogit(task, batch_size)
