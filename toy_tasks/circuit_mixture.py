"""Three tasks in one stream for one model: indirect objects, coloured objects, and Markov text as their control.

Every sequence is of one of the three, of one length, over one vocabulary, and has its answer (or next word) at the last
place. Which heads serve two of the tasks is a question about one set of weights; what the control shares with them is
what any two tasks share.

Reference: Merullo, Eickhoff, Pavlick, Circuit Component Reuse Across Tasks in Transformer Language Models,
arXiv 2310.08744; that unrelated tasks share circuits too, and so a control is due, is the caution of arXiv 2605.08348.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from toy_tasks import answers
from toy_tasks.answers import Plateau
from toy_tasks.base import Batch
from toy_tasks.circuit_words import Flip
from toy_tasks.coloured_objects import ColouredObjects
from toy_tasks.indirect_object import IndirectObject
from toy_tasks.markov_text import MarkovText
from toy_tasks.regression_checks import require

KINDS = ("indirect", "coloured", "control")
INDIRECT, COLOURED, CONTROL = IndirectObject(), ColouredObjects(), MarkovText()


@dataclass(frozen=True)
class CircuitMixture:
    """Sequences of three tasks.

    Attributes:
      indirect, coloured, control: the tasks, of the same words and length.
      shares: of the sequences, in this order, in proportion; one may be 0.

    Position classes: `indirect`, `coloured`, `control`: all places of such a sequence; `answer`, the last place of
    every one; and those of each task in its own sequences, as `indirect_subject`, `coloured_right_colour`,
    `control_text`. In `loss_mask` every sequence has weight 1: the answer of the first two, each place of a text
    `1 / T`.
    """

    indirect: IndirectObject = INDIRECT
    coloured: ColouredObjects = COLOURED
    control: MarkovText = CONTROL
    shares: tuple[float, float, float] = (1.0, 1.0, 1.0)

    reference = "Merullo, Eickhoff, Pavlick: Circuit Component Reuse, arXiv 2310.08744 (2023), in a small form"

    def __post_init__(self) -> None:
        for name, kind in zip(KINDS, (IndirectObject, ColouredObjects, MarkovText), strict=True):
            task = getattr(self, name)
            require(isinstance(task, kind), f"CircuitMixture.{name}", repr(task), f"a {kind.__name__}")
            alike = (task.words, task.length) == (self.indirect.words, self.indirect.length)
            got = f"{task.words}, length {task.length}"
            allowed = f"the words and the length of `indirect`: {self.indirect.words}, length {self.indirect.length}"
            require(alike, f"CircuitMixture.{name}", got, allowed)
        shares = tuple(self.shares) if isinstance(self.shares, (tuple, list)) else ()
        numbers = all(isinstance(s, (int, float)) and np.isfinite(s) and s >= 0 for s in shares)
        right = len(shares) == 3 and numbers and sum(shares) > 0
        require(right, "CircuitMixture.shares", repr(self.shares), "three numbers >= 0, not all of them 0")
        object.__setattr__(self, "shares", shares)

    def at_length(self, length: int) -> CircuitMixture:
        """Answers after more or less padding, and texts of that length."""
        return dataclasses.replace(self, **{name: task.at_length(length) for name, task in self.tasks.items()})

    @property
    def tasks(self) -> dict[str, Any]:
        """The three by name."""
        return {name: getattr(self, name) for name in KINDS}

    @property
    def length(self) -> int:
        """`T`."""
        return self.indirect.length

    @property
    def vocab_size(self) -> int:
        """`V`."""
        return self.indirect.vocab_size

    @cached_property
    def _ends(self) -> np.ndarray:
        """`Float32[2]`: below which uniform number a sequence is of the first task, and of the first two."""
        return (np.cumsum(self.shares)[:2] / np.sum(self.shares)).astype(np.float32)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """Under `loss_mask`. vocabulary: knows nothing. oracle: knows everything but the noise."""
        shares = np.array(self.shares) / np.sum(self.shares)
        others = (Plateau(0.0, 1.0), self.coloured.plateaus["oracle"], self.control.plateaus["oracle"])
        loss = sum(float(share) * plateau.loss for share, plateau in zip(shares, others, strict=True))
        right = sum(float(share) * (plateau.accuracy or 0.0) for share, plateau in zip(shares, others, strict=True))
        vocabulary = Plateau(float(np.log(self.vocab_size)), 1.0 / self.vocab_size)
        return {"vocabulary": vocabulary, "oracle": Plateau(float(loss), float(right))}

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        return "\n".join(
            [
                f"Indirect objects, coloured objects, Markov text, as {self.shares}",
                f"V = {self.vocab_size}, T = {self.length}; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        kind_key, *keys = jax.random.split(key, 4)
        word = jax.random.uniform(kind_key, (batch_size,), jnp.float32)
        kind = jnp.sum(word[:, None] >= self._ends, axis=1, dtype=jnp.int32)
        made = [task.sample(key, batch_size) for task, key in zip(self.tasks.values(), keys, strict=True)]
        return self._merge(made, [kind == i for i in range(3)])

    def _merge(self, made: list[Batch], rows: list[Bool[Array, " B"]]) -> Batch:
        """Of each sequence the row of its task's batch."""
        whole = [jnp.broadcast_to(row[:, None], made[0].inputs.shape) for row in rows]
        positions = dict(zip(KINDS, whole, strict=True)) | {"answer": made[0].positions["answer"]}
        for name, batch, here in zip(KINDS, made, whole, strict=True):
            own = {kind: where & here for kind, where in batch.positions.items() if kind != "answer"}
            positions |= {f"{name}_{kind}": where for kind, where in own.items()}
        weights = [batch.loss_mask / jnp.sum(batch.loss_mask, axis=1, keepdims=True) for batch in made]
        inputs = jnp.select(whole, [batch.inputs for batch in made])
        targets = jnp.select(whole, [batch.targets for batch in made])
        return Batch(inputs, targets, jnp.select(whole, weights), positions)

    def _rows(self, batch: Batch) -> list[Bool[Array, " B"]]:
        return [batch.positions[name][:, 0] for name in KINDS]

    def corrupt(self, batch: Batch, key: Key[Array, ""]) -> Flip:
        """Of every sequence the flip of its own task: one token changes, and with it the answer at the last place."""
        rows, keys = self._rows(batch), jax.random.split(key, 3)
        flips = [task.corrupt(batch, k) for task, k in zip(self.tasks.values(), keys, strict=True)]
        merged = self._merge([flip.batch for flip in flips], rows)
        right, wrong = (jnp.select(rows, [getattr(flip, name) for flip in flips]) for name in ("right", "wrong"))
        return Flip(merged, right, wrong)

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The exact law of each sequence's own task."""
        laws = [task.oracle(batch) for task in self.tasks.values()]
        return jnp.select([row[:, None, None] for row in self._rows(batch)], laws)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss`, what training minimises: nats under `loss_mask`. And of each task its own risks over its sequences,
        as `indirect_accuracy`, `coloured_correct`, `control_excess`; NaN for a task of which the batch has none."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        total = jnp.sum(batch.loss_mask * answers.log_losses(logits, batch.targets)) / jnp.sum(batch.loss_mask)
        risks = {"loss": total}
        for name, task in self.tasks.items():
            here = batch.positions[name]
            own = {"answer": batch.positions["answer"] & here}
            part = Batch(batch.inputs, batch.targets, jnp.where(here, batch.loss_mask, 0.0), own)
            risks |= {f"{name}_{kind}": value for kind, value in task.risks(logits, part).items()}
        return risks
