"""What every task promises: batches made on the device, an exact oracle, a risk decomposition, a reference.

A task is a frozen dataclass of plain values. Nothing here knows of models; a task of your own needs only
`vocab_size`, `length` and `sample`, and gains every diagnostic that its `oracle` and `risks` make possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from flax import struct
from jaxtyping import Array, Float, Key


@struct.dataclass
class Batch:
    """`B` sequences of `T` positions with what a loss and an analysis need.

    Attributes:
      inputs: `Int[B, T]` token ids read by the model.
      targets: `Int[B, T]` the token that follows each position.
      loss_mask: `Float[B, T]` weight of each position in the training loss (1 = counts, 0 = does not).
      positions: named position classes, each `Bool[B, T]`; a task's own docstring names and defines its classes.
    """

    inputs: Array
    targets: Array
    loss_mask: Array
    positions: Mapping[str, Array]


@runtime_checkable
class Task(Protocol):
    """A distribution over sequences. `sample` is pure, jit-able and runs on the device."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def length(self) -> int: ...

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch: ...


@runtime_checkable
class TaskWithOracle(Task, Protocol):
    """A task whose true next-token law is known."""

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The exact law of the next token given the prefix, as probabilities."""
        ...

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """The loss of `logits` split into named parts, in nats."""
        ...
