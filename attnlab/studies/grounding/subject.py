"""A trained model under questions, and the one program that measures every dose of a method on it.

What is chosen (heads, layers, strengths) is chosen on sequences of the stream `analysis`; what is reported is measured
on those of `eval`. Neither was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab import edits as ed
from attnlab import keys
from attnlab.tape import Edit
from toy_tasks import GridQA
from toy_tasks.base import Batch

Answer = Callable[[Any], Array]
AT_ONCE = 512


@dataclass(frozen=True)
class Subject:
    """A model with parameters, and its task with specific questions about pictures only.

    Attributes:
      chosen: sequences on which anything is chosen.
      reported: sequences on which everything is reported.
    """

    model: Any
    params: Any
    task: GridQA
    chosen: int = 2048
    reported: int = 8192

    def ask(self, inputs: Array, edits: Sequence[Edit] = ()) -> Float[Array, "B T V"]:
        """Logits."""
        return self.model.apply(self.params, inputs, edits=edits)[0]

    def tape(self, inputs: Array, sites: str | tuple[str, ...], edits: Sequence[Edit] = ()) -> dict[str, Array]:
        """The named activations."""
        names = (sites,) if isinstance(sites, str) else sites
        return self.model.apply(self.params, inputs, tape=names, edits=edits)[1]

    def maps(self, inputs: Array, edits: Sequence[Edit] = ()) -> Float[Array, "L B H T U"]:
        """The attention map of every layer."""
        found = self.tape(inputs, "blocks.*.attn.weights", edits)
        return jnp.stack([found[f"blocks.{layer}.attn.weights"] for layer in self.layers])

    def each(self, make: Callable[[int], Edit]) -> tuple[Edit, ...]:
        """`make(layer)` for every layer."""
        return tuple(make(layer) for layer in self.layers)

    @property
    def layers(self) -> range:
        return range(self.model.num_layers)

    @property
    def last(self) -> Bool[Array, "T 1"]:
        """The row that answers."""
        return ed.rows(self.task.length, -1)

    @property
    def patches(self) -> Bool[Array, " U"]:
        """Keys that are patches."""
        place = jnp.arange(self.task.length)
        return (place >= 1) & (place <= self.task.num_patches)

    def choosing(self, roomy: bool = False) -> Batch:
        """The sequences on which things are chosen."""
        return drawn(self.task, keys.stream(keys.root(0), "analysis"), self.chosen, roomy)

    def reporting(self, roomy: bool = False) -> Batch:
        """Those of a report, in one batch."""
        return drawn(self.task, keys.stream(keys.root(0), "eval"), self.reported, roomy)


def asked(task: GridQA) -> GridQA:
    """The task with specific questions about pictures only, of which the frontier speaks."""
    return replace(task, blank=0.0, general=0.0)


def drawn(task: GridQA, key: Array, sequences: int, roomy: bool) -> Batch:
    """Fresh sequences; `roomy` keeps at least two patches of background in each picture."""
    scene = task.scene(key, sequences)
    most = task.num_patches - 2
    return task.assemble(replace(scene, count=jnp.minimum(scene.count, most)) if roomy else scene)


def canonical(task: GridQA, batch: Batch) -> Int[Array, " B"]:
    """The canonical colour of what is asked for."""
    return task.canonical(jnp.argmax(batch.inputs[:, -1, task.coordinates["asked"]], axis=1).astype(jnp.int32))


def judge(task: GridQA, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Array]:
    """Of every sequence: `right`, `usual` (the answer is the canonical colour), `nll` of the truth, in nats."""
    last, truth = logits[:, -1], batch.targets[:, -1]
    said = jnp.argmax(last, axis=-1).astype(jnp.int32)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(last), truth[:, None], axis=1)[:, 0]
    return {"right": said == truth, "usual": said == canonical(task, batch), "nll": -log_p}


def summary(found: dict[str, Array], conflict: Bool[Array, " n"]) -> dict[str, Array]:
    """Means over the last axis of what `judge` says."""

    def mean(values: Array, where: Array) -> Array:
        return jnp.sum(values * where, axis=-1) / jnp.sum(where)

    everywhere = jnp.ones_like(conflict)
    return {
        "accuracy": mean(found["right"], everywhere),
        "conflict": mean(found["right"], conflict),
        "consistent": mean(found["right"], ~conflict),
        "hallucination": mean(found["usual"], conflict),
        "nll": mean(found["nll"], everywhere),
    }


def in_conflict(batch: Batch) -> Bool[Array, " B"]:
    """Whether the colour that is asked for is not the canonical one."""
    return batch.positions["conflict"][:, -1]


def nothing(subject: Subject) -> None:
    """Nothing is chosen."""


@dataclass(frozen=True)
class Curve:
    """`probe(model, params)`: `summary` at every dose, leaves `[N]`. One program, mapped over doses.

    Attributes:
      task: with specific questions only (`asked`).
      method: `(subject, batch, found) -> (dose -> logits)`; what comes before the dose is computed once a batch.
      doses: numbers.
      find: `subject -> anything`, on the sequences for choosing.
      roomy: pictures with two patches of background at least. chosen, reported: sequences.
    """

    task: GridQA
    method: Callable[[Subject, Batch, Any], Answer]
    doses: tuple[float, ...]
    find: Callable[[Subject], Any] = nothing
    roomy: bool = False
    chosen: int = 2048
    reported: int = 8192

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        subject = Subject(model, params, self.task, self.chosen, self.reported)
        found, doses = self.find(subject), jnp.asarray(self.doses)
        size = min(AT_ONCE, self.reported)

        def one(number: Array) -> tuple[Any, Array]:
            batch = drawn(self.task, keys.stream(keys.root(0), "eval", number), size, self.roomy)
            answer = self.method(subject, batch, found)
            return jax.lax.map(lambda dose: judge(self.task, answer(dose), batch), doses), in_conflict(batch)

        judged, conflict = jax.lax.map(one, jnp.arange(self.reported // size))
        flat = {name: jnp.moveaxis(x, 0, 1).reshape(len(doses), -1) for name, x in judged.items()}
        return summary(flat, conflict.reshape(-1))
