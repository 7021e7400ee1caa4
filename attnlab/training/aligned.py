"""Training on what heads look at, beside what the model says: attention interaction alignment (AIA, 2511.22663)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.attention.interaction import alignment_loss, interaction
from attnlab.config import require
from attnlab.training.losses import next_token
from toy_tasks.base import Batch


@dataclass(frozen=True)
class Aligned:
    """`next_token + weight mean_l Huber_delta(I_l - target_l)`, the same addition at every position.

    For `al.models.Tapped(model, ("blocks.*.attn.weights",))`. `I_l` is the mean over heads and over the queries of one
    position class of the mass on the keys of another.

    Attributes:
      queries, keys: position classes of the task's batches.
      targets: one per layer with a map, in order; or one number for all. delta: of the Huber loss.
      weight: of the alignment (5 for generation, 10 for understanding in the paper).
    """

    queries: str
    keys: str
    targets: tuple[float, ...] | float
    delta: float = 0.05
    weight: float = 5.0

    def __post_init__(self) -> None:
        require(self.delta > 0, "Aligned.delta", self.delta, "> 0")
        require(self.weight >= 0, "Aligned.weight", self.weight, ">= 0")

    def __call__(self, output: Any, batch: Batch) -> Float[Array, "*B T"]:
        """Per position, nats and the alignment."""
        logits, tape = output
        return next_token(logits, batch) + self.weight * self.misalignment(tape, batch)

    def misalignment(self, tape: Any, batch: Batch) -> Float[Array, ""]:
        """The alignment loss alone."""
        measured = self.measured(tape, batch)
        targets = self.targets if isinstance(self.targets, tuple) else (self.targets,) * len(measured)
        require(
            len(targets) == len(measured), "Aligned.targets", targets, f"one number, or {len(measured)}: one a layer"
        )
        return alignment_loss(measured, jnp.asarray(targets, measured.dtype), self.delta)

    def measured(self, tape: Any, batch: Batch) -> Float[Array, " L"]:
        """`I_l` of every layer with a map."""
        for name in (self.queries, self.keys):
            known = ", ".join(batch.positions)
            require(name in batch.positions, "Aligned.queries, keys", name, f"a position class of the task: {known}")
        queries, keys = batch.positions[self.queries], batch.positions[self.keys]
        maps = [value for name, value in tape.items() if name.endswith(".attn.weights")]
        require(bool(maps), "Aligned", list(tape), "a model with taps ('blocks.*.attn.weights',): see models.Tapped")
        return jnp.stack([interaction(weights, queries, keys) for weights in maps])
