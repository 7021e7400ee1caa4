"""The methods that are made for sinks, on a model with a planted one: VAR, ACT, GIFT, CARVE; and keys taken out.

Doses of 1 (VAR, ACT), 0 (GIFT, keys taken out) and of all patches (CARVE) leave the planted model as it is.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab import analysis
from attnlab import edits as ed
from attnlab.edits.calibrate import VarRule
from attnlab.studies.grounding.planted import found_sinks, look, planted, sinks_of, stream_into
from attnlab.studies.grounding.subject import Answer, Subject
from attnlab.tape import Edit
from toy_tasks.base import Batch

RIDGE = 1e-3  # of relative maps; patches have a mass of .1 on the mean


def redistributed(rule: VarRule) -> Any:
    """VAR: dose p, the sinks found by their coordinates, answering row; the rule says which heads and sequences."""

    def method(subject: Subject, batch: Batch, found: dict[str, Array]) -> Answer:
        plant = planted(subject, sinks_of(batch), found["strength"])
        streams = stream_into(subject, batch.inputs, plant)
        held = [found_sinks(streams[n], found["dims"]) for n in subject.layers]
        return lambda keep: subject.ask(batch.inputs, (*plant, *_var(subject, held, keep, rule)))

    return method


def redistributed_unplanted(subject: Subject, batch: Batch, found: dict[str, Array]) -> Answer:
    """VAR on the model as it is: the first token counts as the sink."""
    first = jnp.broadcast_to(jnp.arange(subject.task.length) == 0, batch.inputs.shape[:2])
    held = [first] * subject.model.num_layers

    return lambda keep: subject.ask(batch.inputs, _var(subject, held, keep, VarRule()))


def _var(subject: Subject, sinks: Any, keep: Any, rule: VarRule) -> tuple[Edit, ...]:
    return subject.each(lambda n: ed.var(n, subject.patches, sinks[n][:, None, None, :], keep, rule, subject.last))


def calibrated(subject: Subject, batch: Batch, found: dict[str, Array]) -> Answer:
    """ACT on the planted keys: dose beta, answering row, all heads."""
    sinks = sinks_of(batch)
    plant, keys = planted(subject, sinks, found["strength"]), sinks[:, None, None, :]
    return lambda beta: subject.ask(
        batch.inputs, (*plant, *subject.each(lambda n: ed.act(n, keys, beta, subject.last)))
    )


def deleted(subject: Subject, batch: Batch, found: dict[str, Array]) -> Answer:
    """Keys taken out, all rows and heads, after planting; dose 0: none, 1: the sinks, 2: two objects by chance."""
    sinks = sinks_of(batch)
    plant = planted(subject, sinks, found["strength"])
    # Patches stand in random order, but the one asked for is among the objects: its place is as random as theirs.
    objects = batch.positions["object"]
    objects = objects & (jnp.cumsum(objects, axis=1) <= 2)
    gone = jnp.stack([jnp.zeros_like(sinks), sinks, objects])

    def answer(which: Array) -> Array:
        kept = ~gone[which.astype(jnp.int32)][:, None, None, :]
        return subject.ask(batch.inputs, (*plant, *subject.each(lambda n: ed.restrict(n, kept))))

    return answer


def _followed(saliency: Any) -> Any:
    def method(subject: Subject, batch: Batch, found: dict[str, Array]) -> Answer:
        plant = planted(subject, sinks_of(batch, 1), found["strength"])
        shown = saliency(subject, jnp.mean(subject.maps(batch.inputs, plant)[found["layer"]], axis=1)[:, -2:])
        question = jnp.arange(subject.task.length) > subject.task.num_patches

        def answer(strength: Any) -> Array:
            def follow(n: int) -> Edit:
                return ed.follow_gaze(n, shown, question, strength, strength / 2, subject.last)

            return subject.ask(batch.inputs, (*plant, *subject.each(follow)))

        return answer

    return method


def shifts(subject: Subject, maps: Float[Array, "B M U"]) -> Float[Array, "B U"]:
    """GIFT's saliency of the patches."""
    return analysis.gaze_shift(jnp.where(subject.patches, maps, 0.0))


def shares(subject: Subject, maps: Float[Array, "B M U"]) -> Float[Array, "B U"]:
    """The control: attention of the last row to the patches itself, normalised."""
    rows = jnp.where(subject.patches, maps[:, -1], 0.0)
    return rows / jnp.sum(rows, axis=-1, keepdims=True)


followed = _followed(shifts)
followed_raw = _followed(shares)


def relative_rows(subject: Subject, batch: Batch, layer: Array, plant: Any) -> tuple[Array, Array]:
    """The answering row, and the same over that of the general question (CARVE, `rel-att`)."""
    asked = look(subject, batch.inputs, layer, plant)
    general = look(subject, subject.task.general_question(batch).inputs, layer, plant)
    return asked, analysis.relative_map(asked, general, RIDGE)


def cropped(which: int) -> Any:
    """CARVE: the picture cut to as many patches as the dose says, by relative attention (1) or by attention itself (0);
    salient patches are planted, and what is cut off is out of reach of the answering row."""

    def method(subject: Subject, batch: Batch, found: dict[str, Array]) -> Answer:
        plant = planted(subject, sinks_of(batch), found["strength"], massive=False)
        rows = relative_rows(subject, batch, found["layer"], plant)[which]
        ranked = jnp.argsort(jnp.argsort(-jnp.where(subject.patches, rows, -jnp.inf), axis=-1), axis=-1)

        def answer(number: Array) -> Array:
            kept = (ranked < number) | ~subject.patches
            cut = subject.each(lambda n: ed.restrict(n, kept[:, None, None, :], mask=subject.last))
            return subject.ask(batch.inputs, (*plant, *cut))

        return answer

    return method
