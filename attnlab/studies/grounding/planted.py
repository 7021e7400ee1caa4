"""A sink planted in a trained model.

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
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from attnlab import edits as ed
from attnlab import tape
from attnlab.studies.grounding.subject import Subject
from attnlab.tape import Edit
from toy_tasks.base import Batch

MASSIVE, MARK = 100.0, 0
CAPTURED = 0.8
STRONGEST = 64
OUTLIER = 4.0  # of |x_d| / rms, at most sqrt(32) = 5.7 here; the published 20 is out of reach below width 400


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
    return jnp.argmax(jnp.mean(largest(subject, rows) == target_of(batch), axis=1))


def target_of(batch: Batch) -> Int[Array, " B"]:
    """The patch that is asked for."""
    return jnp.argmax(batch.positions["target"], axis=1)


def largest(subject: Subject, rows: Float[Array, "*B U"]) -> Int[Array, "*B"]:
    """The patch with the largest entry."""
    return jnp.argmax(jnp.where(subject.patches, rows, -jnp.inf), axis=-1)


def look(subject: Subject, inputs: Array, layer: Array, edits: Any = ()) -> Float[Array, "B U"]:
    """The answering row of a layer's map, mean over heads."""
    return jnp.mean(subject.maps(inputs, edits)[layer][:, :, -1], axis=1)


def strong_enough(subject: Subject, layer: Array, number: int = 2, massive: bool = True) -> Array:
    """The smallest whole number up to `STRONGEST` that captures the largest entry often enough (else that one).

    Found by halving: a stronger sink has the largest entry at least as often.
    """
    batch = subject.choosing(roomy=True)
    sinks = sinks_of(batch, number)

    def captured(strength: Array) -> Array:
        rows = look(subject, batch.inputs, layer, planted(subject, sinks, strength, massive))
        return jnp.mean(jnp.take_along_axis(sinks, largest(subject, rows)[:, None], axis=1))

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = jnp.floor((ends[0] + ends[1]) / 2)
        enough = captured(middle) >= CAPTURED
        return jnp.where(enough, ends[0], middle), jnp.where(enough, middle, ends[1])

    ends = jnp.asarray(-1.0), jnp.asarray(float(STRONGEST))
    return jax.lax.fori_loop(0, int(np.ceil(np.log2(STRONGEST + 1))), halve, ends)[1]


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
    """VAR's sinks at a threshold that is in reach."""
    return ed.massive_tokens(stream, dims, OUTLIER)
