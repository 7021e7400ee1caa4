"""A sink planted in a trained model, and the methods that are made for sinks: VAR, ACT, GIFT, CARVE.

No sink forms on the task by itself. One is planted in three parts, each of what a sink is known by:

- mass: the logits of its keys are raised by a number in the rows of the question, all heads, all layers;
- no value: its value is 0, all heads, all layers;
- a massive coordinate: one coordinate of its embedding is set to `MASSIVE` more.

The number is the smallest whole one with which the mean map of the heads of the looking layer has its largest entry
among the patches at a sink in four sequences of five.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab import analysis, tape
from attnlab import edits as ed
from attnlab.edits.calibrate import VarRule
from attnlab.studies.grounding.heads import effects
from attnlab.studies.grounding.subject import Answer, Subject
from attnlab.tape import Edit
from toy_tasks.base import Batch

MASSIVE, MARK = 100.0, 0
CAPTURED = 0.8
STRENGTHS = tuple(range(0, 41))
OUTLIER = 4.0  # of |x_d| / rms, at most sqrt(32) = 5.7 here; the published 20 is out of reach below width 400
RIDGE = 1e-3


def sinks_of(batch: Batch, number: int = 2) -> Bool[Array, "B U"]:
    """The first patches of background."""
    background = batch.positions["background"]
    return background & (jnp.cumsum(background, axis=1) <= number)


def planted(subject: Subject, sinks: Bool[Array, "B U"], strength: Any, massive: bool = True) -> tuple[Edit, ...]:
    """The edits that plant a sink; without `massive` its keys' logits are raised and nothing else."""
    logits = strength * sinks[:, None, None, :]
    question = ed.rows(subject.task.length, tuple(range(1 + subject.task.num_patches, subject.task.length)))
    raised = subject.each(lambda n: ed.logit_bias(n, logits, question))
    if not massive:
        return raised
    mark = jnp.zeros(subject.model.width).at[MARK].set(MASSIVE)
    empty = subject.each(lambda n: tape.replace(f"blocks.{n}.attn.v", 0.0, sinks[:, None, :, None]))
    return (ed.steer("embed", mark, 1.0, sinks[..., None]), *raised, *empty)


def looking_layer(subject: Subject) -> Array:
    """The layer whose mean map over heads has its largest entry at the patch asked for most often."""
    batch = subject.choosing()
    rows = jnp.mean(subject.maps(batch.inputs)[..., -1, :], axis=2)
    return jnp.argmax(jnp.mean(_largest(subject, rows) == _target(batch), axis=1))


def _target(batch: Batch) -> Array:
    return jnp.argmax(batch.positions["target"], axis=1)


def _largest(subject: Subject, rows: Float[Array, "*B U"]) -> Array:
    return jnp.argmax(jnp.where(subject.patches, rows, -jnp.inf), axis=-1)


def look(subject: Subject, inputs: Array, layer: Array, edits: Any = ()) -> Float[Array, "B U"]:
    """The answering row of a layer's map, mean over heads."""
    return jnp.mean(subject.maps(inputs, edits)[layer][:, :, -1], axis=1)


def strong_enough(subject: Subject, layer: Array, number: int = 2, massive: bool = True) -> Array:
    """The smallest of `STRENGTHS` that captures the largest entry often enough (else the largest strength)."""
    batch = subject.choosing(roomy=True)
    sinks = sinks_of(batch, number)

    def captured(strength: Array) -> Array:
        rows = look(subject, batch.inputs, layer, planted(subject, sinks, strength, massive))
        return jnp.mean(jnp.take_along_axis(sinks, _largest(subject, rows)[:, None], axis=1))

    strengths = jnp.asarray(STRENGTHS, jnp.float32)
    enough = jax.lax.map(captured, strengths) >= CAPTURED
    return strengths[jnp.where(jnp.any(enough), jnp.argmax(enough), len(STRENGTHS) - 1)]


def prepare(subject: Subject) -> dict[str, Array]:
    """The looking layer, the strength, and the coordinates in which the most attended token stands out."""
    layer = looking_layer(subject)
    strength = strong_enough(subject, layer)
    batch = subject.choosing(roomy=True)
    edits = planted(subject, sinks_of(batch), strength)
    rows = jnp.where(subject.patches, look(subject, batch.inputs, layer, edits), 0.0)
    dims = ed.sink_dimensions(stream_into(subject, batch.inputs, edits)[layer], rows)
    return {"layer": layer, "strength": strength, "dims": dims}


def prepare_one(subject: Subject) -> dict[str, Array]:
    """The same for one sink."""
    layer = looking_layer(subject)
    return {"layer": layer, "strength": strong_enough(subject, layer, 1)}


def prepare_salient(subject: Subject) -> dict[str, Array]:
    """The same for two patches that are only looked at: their values are kept."""
    layer = looking_layer(subject)
    return {"layer": layer, "strength": strong_enough(subject, layer, 2, massive=False)}


def stream_into(subject: Subject, inputs: Array, edits: Any) -> Float[Array, "L B T D"]:
    """The stream that enters each block."""
    sites = ("embed", *(f"blocks.{n}.out" for n in subject.layers))
    found = subject.tape(inputs, sites, edits)
    return jnp.stack([found[site] for site in sites[:-1]])


def found_sinks(stream: Float[Array, "*B T D"], dims: Bool[Array, " D"]) -> Bool[Array, "*B T"]:
    """VAR's sinks, with the coordinates as a mask: `max_d |x_d| / rms(x) > OUTLIER`."""
    size = jnp.abs(stream) / jnp.sqrt(jnp.mean(jnp.square(stream), axis=-1, keepdims=True))
    return jnp.max(jnp.where(dims, size, 0.0), axis=-1) > OUTLIER


# ---- methods on the planted model; doses of 1 leave it as it is


def redistributed(subject: Subject, batch: Batch, found: dict[str, Array]) -> Answer:
    """VAR: dose p, the sinks found by their coordinates, answering row, the rows that its rule selects."""
    plant = planted(subject, sinks_of(batch), found["strength"])
    return _redistributed(subject, batch, plant, found["dims"])


def redistributed_unplanted(subject: Subject, batch: Batch, found: dict[str, Array]) -> Answer:
    """VAR on the model as it is: the first token counts as the sink."""
    first = jnp.broadcast_to(jnp.arange(subject.task.length) == 0, batch.inputs.shape[:2])
    held = [first] * subject.model.num_layers

    def answer(keep: Any) -> Array:
        return subject.ask(batch.inputs, _var(subject, held, keep))

    return answer


def _redistributed(subject: Subject, batch: Batch, plant: Any, dims: Array) -> Answer:
    streams = stream_into(subject, batch.inputs, plant)
    held = [found_sinks(streams[n], dims) for n in subject.layers]
    return lambda keep: subject.ask(batch.inputs, (*plant, *_var(subject, held, keep)))


def _var(subject: Subject, sinks: Any, keep: Any) -> tuple[Edit, ...]:
    rule = VarRule(keep=keep)
    return subject.each(lambda n: ed.var(n, subject.patches, sinks[n][:, None, None, :], rule, subject.last))


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


# ---- what is measured beside the curves


def sink_report(model: Any, params: Any, task: Any, sequences: int) -> dict[str, Array]:
    """Of the two planted sinks: strength, whether the planted coordinate is among those found and how many are, share
    of tokens judged rightly, mass that the head with the largest effect loses to them, VAR's rule and that effect."""
    subject = Subject(model, params, task, sequences, 2 * sequences)
    found = prepare(subject)
    batch = subject.reporting(roomy=True)
    sinks = sinks_of(batch)
    plant = planted(subject, sinks, found["strength"])
    streams = stream_into(subject, batch.inputs, plant)
    seen = jnp.stack([found_sinks(streams[n], found["dims"]) for n in subject.layers])
    maps = subject.maps(batch.inputs, plant)
    rule = jnp.stack(
        [ed.looks_at_image(maps[n], subject.patches, seen[n][:, None, None, :])[:, :, -1, 0] for n in subject.layers]
    )
    sizes = jnp.abs(effects(subject))
    best = jnp.argmax(sizes.reshape(-1))
    chosen = jnp.mean(rule, axis=1)  # [L, H]: the share of sequences in which the rule selects the head
    lost = jnp.mean(jnp.sum(maps[..., -1, :] * sinks[:, None], axis=-1), axis=1)
    return {
        "layer": found["layer"],
        "strength": found["strength"],
        "coordinate": found["dims"][MARK].astype(jnp.float32),
        "coordinates": jnp.sum(found["dims"]),
        "judged": jnp.mean(seen == sinks),
        "lost": lost.reshape(-1)[best],
        "chosen": chosen,
        "chosen_best": chosen.reshape(-1)[best],
        "rule_agrees": (jnp.argmax(chosen.reshape(-1)) == best).astype(jnp.float32),
    }


def gift_report(model: Any, params: Any, task: Any, sequences: int) -> dict[str, Array]:
    """Of one planted sink: strength, how often it has the largest attention, how often attention and GIFT's saliency
    are largest at the patch asked for."""
    subject = Subject(model, params, task, sequences, 2 * sequences)
    found, batch = prepare_one(subject), subject.reporting(roomy=True)
    sinks, target = sinks_of(batch, 1), _target(batch)
    plant = planted(subject, sinks, found["strength"])
    maps = jnp.mean(subject.maps(batch.inputs, plant)[found["layer"]], axis=1)[:, -2:]
    raw, shift = _largest(subject, maps[:, -1]), _largest(subject, shifts(subject, maps))
    return {
        "layer": found["layer"],
        "strength": found["strength"],
        "captured": jnp.mean(raw == jnp.argmax(sinks, axis=1)),
        "raw": jnp.mean(raw == target),
        "shift": jnp.mean(shift == target),
    }


def carve_report(model: Any, params: Any, task: Any, sequences: int) -> dict[str, Array]:
    """How often attention and relative attention are largest at the patch asked for, with salient patches and without,
    and with the question's map of another sequence in place of the general one (control)."""
    subject = Subject(model, params, task, sequences, 2 * sequences)
    found, batch = prepare_salient(subject), subject.reporting(roomy=True)
    target, rates = _target(batch), {"strength": found["strength"], "layer": found["layer"]}
    for name, strength in (("plain", 0.0), ("salient", found["strength"])):
        plant = planted(subject, sinks_of(batch), strength, massive=False)
        raw, relative = relative_rows(subject, batch, found["layer"], plant)
        control = analysis.relative_map(raw, jnp.roll(raw, 1, axis=0), RIDGE)
        for kind, rows in (("raw", raw), ("relative", relative), ("control", control)):
            rates[f"{name}_{kind}"] = jnp.mean(_largest(subject, rows) == target)
    return rates
