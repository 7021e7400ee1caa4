"""What every task promises: batches made on the device, an exact oracle, a risk decomposition, a reference.

A task is a frozen dataclass of plain values. Nothing here knows of models; a task of your own needs only `length` and
`sample` (and `vocab_size`, if its inputs are tokens), and gains every diagnostic that its `oracle` and `risks` make
possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key


@struct.dataclass
class Batch:
    """`B` sequences of `T` positions with what a loss and an analysis need.

    Attributes:
      inputs: what the model reads: `Int[B, T]` token ids; for regression vectors, or a `Prompt` of them.
      targets: `Int[B, T]` the token that follows each position, or `Float[B, T, m]` the values to predict.
      loss_mask: `Float[B, T]` weight of each position in the training loss (1 = counts, 0 = does not).
      positions: named position classes, each `Bool[B, T]`; a task's own docstring names and defines its classes.
    """

    inputs: Any
    targets: Array
    loss_mask: Array
    positions: Mapping[str, Array]


@struct.dataclass
class Prompt:
    """Labelled pairs and a query that is no part of them. The token of a pair is `(x, y)`, of the query `(query, 0)`.

    Attributes:
      x: `Float[*B, C, d]`; y: `Float[*B, C, m]`; query: `Float[*B, d]`.
    """

    x: Array
    y: Array
    query: Array

    @classmethod
    def of(cls, tokens: Float[Array, "*B T D"], dim: int) -> Prompt:
        """The prompt whose `tokens` these are: the last one is the query, the first `dim` numbers are the input."""
        return cls(tokens[..., :-1, :dim], tokens[..., :-1, dim:], tokens[..., -1, :dim])

    @property
    def tokens(self) -> Float[Array, "*B T D"]:
        """The context and, last, the query, as one sequence: `T = C + 1`, `D = d + m`."""
        asked = jnp.concatenate([self.query, jnp.zeros_like(self.y[..., 0, :])], axis=-1)
        pairs = jnp.concatenate([self.x, self.y], axis=-1)
        return jnp.concatenate([pairs, asked[..., None, :]], axis=-2)


@runtime_checkable
class Task(Protocol):
    """A distribution over sequences. `sample` is pure, jit-able and runs on the device."""

    @property
    def length(self) -> int: ...

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch: ...


@runtime_checkable
class TaskWithOracle(Task, Protocol):
    """A task whose best prediction is known."""

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The exact law of the next token given the prefix, as probabilities; for regression the posterior mean."""
        ...

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """The loss of a model's output split into named parts, in nats or as squared error."""
        ...
