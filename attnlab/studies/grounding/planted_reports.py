"""What is measured on a model with a planted sink, beside the lines: probes `(model, params, task, sequences)`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from attnlab import analysis
from attnlab import edits as ed
from attnlab.studies.grounding.heads import effects
from attnlab.studies.grounding.planted import (
    MARK,
    found_sinks,
    largest,
    planted,
    prepare,
    prepare_one,
    prepare_salient,
    sinks_of,
    stream_into,
    target_of,
)
from attnlab.studies.grounding.planted_methods import RIDGE, relative_rows, shifts
from attnlab.studies.grounding.subject import Subject


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
    sinks, target = sinks_of(batch, 1), target_of(batch)
    plant = planted(subject, sinks, found["strength"])
    maps = jnp.mean(subject.maps(batch.inputs, plant)[found["layer"]], axis=1)[:, -2:]
    raw, shift = largest(subject, maps[:, -1]), largest(subject, shifts(subject, maps))
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
    target, rates = target_of(batch), {"strength": found["strength"], "layer": found["layer"]}
    for name, strength in (("plain", 0.0), ("salient", found["strength"])):
        plant = planted(subject, sinks_of(batch), strength, massive=False)
        raw, relative = relative_rows(subject, batch, found["layer"], plant)
        control = analysis.relative_map(raw, jnp.roll(raw, 1, axis=0), RIDGE)
        for kind, rows in (("raw", raw), ("relative", relative), ("control", control)):
            rates[f"{name}_{kind}"] = jnp.mean(largest(subject, rows) == target)
    return rates
