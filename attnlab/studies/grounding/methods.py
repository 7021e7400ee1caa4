"""The methods on the unchanged model: each says `(subject, batch, found) -> (dose -> logits)`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab import analysis
from attnlab import edits as ed
from attnlab.edits.columns import Boost
from attnlab.studies.grounding.heads import guided
from attnlab.studies.grounding.subject import Answer, Subject
from toy_tasks.base import Batch


def rule(subject: Subject, batch: Batch, found: Any) -> Answer:
    """No model: the exact rule with the prior to the power of the dose. Its line is the frontier on these pictures."""
    return lambda weight: jnp.log(subject.task.weighted(batch, weight) + 1e-30)


def reinforced(subject: Subject, batch: Batch, heads: Array) -> Answer:
    """VHR: the outputs of the chosen heads times the dose, at every query."""

    def answer(factor: Any) -> Array:
        scale = jnp.where(heads, factor, 1.0)[..., None, None]
        return subject.ask(batch.inputs, subject.each(lambda n: ed.reinforce(n, scale[n])))

    return answer


def reinforced_last(subject: Subject, batch: Batch, heads: Array) -> Answer:
    """VHR in the answering row alone."""

    def answer(factor: Any) -> Array:
        scale = jnp.where(heads, factor, 1.0)[..., None, None]
        return subject.ask(batch.inputs, subject.each(lambda n: ed.reinforce(n, scale[n], subject.last)))

    return answer


def boosted(kind: Boost = "log") -> Any:
    """More attention to all patches, answering row, all heads of all layers; dose: factor (`log`) or `a`."""

    def method(subject: Subject, batch: Batch, found: Any) -> Answer:
        keys = subject.patches.astype(jnp.float32)
        return lambda dose: subject.ask(
            batch.inputs, subject.each(lambda n: ed.boost(n, keys, dose, kind, subject.last))
        )

    return method


def painted_keys(subject: Subject, inputs: Array) -> Float[Array, "B 1 1 U"]:
    """PAINT's keys by the attention that the first layer pays them: 1 for the upper quarter, 3/7 for further outliers.

    (.7 and .3 in the published code; outliers are those above the third quartile by 1.5 of the range of quartiles.)
    """
    received = jnp.mean(subject.maps(inputs)[0], axis=(1, 2))[:, 1 : subject.task.num_patches + 1]
    low, high = jnp.quantile(received, jnp.array([0.25, 0.75]), axis=1)[..., None]
    local, summary = received > high, received > high + 1.5 * (high - low)
    weight = jnp.where(local, 1.0, jnp.where(summary, 3 / 7, 0.0))
    tail = subject.task.length - subject.task.num_patches - 1
    return jnp.pad(weight, ((0, 0), (1, tail)))[:, None, None, :]


def painted(subject: Subject, batch: Batch, found: Any) -> Answer:
    """PAINT as published: `s + a |s|` on its keys, answering row, all heads."""
    keys = painted_keys(subject, batch.inputs)
    return lambda dose: subject.ask(
        batch.inputs, subject.each(lambda n: ed.boost(n, keys, dose, "paint", subject.last))
    )


def tuned(subject: Subject, batch: Batch, found: Any) -> Answer:
    """ZeroTuning: the first token's weight times the dose, all rows and heads."""
    return lambda gamma: subject.ask(batch.inputs, subject.each(lambda n: ed.tune_first(n, gamma)))


def calibrated(subject: Subject, batch: Batch, found: Any) -> Answer:
    """ACT: keys that the map itself flags, times the dose, all rows and heads."""
    return lambda beta: subject.ask(batch.inputs, subject.each(lambda n: ed.act(n, None, beta)))


def led(weight: float | None = None) -> Any:
    """SoftPAG on the heads in `found`; dose: u (`weight` fixed), or the weight w at u = 1 (`weight` None)."""

    def method(subject: Subject, batch: Batch, heads: Array) -> Answer:
        if weight is None:
            return lambda dose: guided(subject, batch, heads, dose)
        return lambda dose: guided(subject, batch, dose * heads, weight)

    return method


def led_by_group(subject: Subject, batch: Batch, groups: Array) -> Answer:
    """Guidance by one of the groups of heads; the dose is its number."""
    return lambda number: guided(subject, batch, jnp.asarray(groups)[number.astype(jnp.int32)])


def weak(subject: Subject, batch: Batch, found: Any) -> Answer:
    """The weak model itself: all heads softened by the dose."""
    return lambda amount: subject.ask(batch.inputs, subject.each(lambda n: ed.soften(n, amount)))


# ---- decoding


def coalitions(subject: Subject, batch: Batch, silent: bool) -> tuple[Array, Array, Array, Array]:
    """Logits `v11, v10, v01, v00`: with picture and question, without the question, the picture, both.

    A missing picture is blank. A missing question is the general one, which was trained; `silent`: a vector of zeros.
    """

    def without(asked: Batch) -> Array:
        if silent:
            return asked.inputs.at[:, -1].set(0.0)
        return subject.task.general_question(asked).inputs

    blank = subject.task.blank_image(batch)
    return tuple(  # pyright: ignore[reportReturnType]
        subject.ask(x) for x in (batch.inputs, without(batch), blank.inputs, without(blank))
    )


def interacted(silent: bool = False) -> Any:
    """INTER: logits plus the dose times their Harsanyi interaction of picture and question."""

    def method(subject: Subject, batch: Batch, found: Any) -> Answer:
        values = coalitions(subject, batch, silent)
        return lambda weight: analysis.interaction_guided(*values, weight)

    return method


def contrasted(subject: Subject, batch: Batch, found: Any) -> Answer:
    """Plain contrast with the blank picture: `(1 + w) v11 - w v01`."""
    full, blank = (subject.ask(x.inputs) for x in (batch, subject.task.blank_image(batch)))
    return lambda weight: analysis.contrast(full, blank, weight)


# ---- the defect of PAINT


def gauge(model: Any, params: Any, task: Any, sequences: int, shift: float = -5.0, dose: float = 0.7) -> dict[str, Any]:
    """Change of the mass on the boosted keys (answering row, mean size over heads and sequences) when a number is added
    to a whole row of logits, which softmax does not see; by kind of boost, `[]`."""
    subject = Subject(model, params, task, sequences, 2 * sequences)
    inputs = subject.choosing().inputs
    keys = painted_keys(subject, inputs)
    found = {}
    boosts: tuple[tuple[Boost, float], ...] = (("log", 1 + dose), ("centred", dose), ("paint", dose))
    for kind, strength in boosts:
        edits = subject.each(lambda n, kind=kind, strength=strength: ed.boost(n, keys, strength, kind, subject.last))
        moved = subject.each(lambda n: ed.logit_bias(n, shift))
        rows = [subject.maps(inputs, held)[..., -1, :] for held in (edits, (*moved, *edits))]
        found[kind] = jnp.mean(jnp.abs(jnp.sum((rows[1] - rows[0]) * (keys[:, 0, 0] > 0)[:, None], axis=-1)))
    return found


def tuned_entropy(model: Any, params: Any, task: Any, sequences: int) -> dict[str, Array]:
    """Under ZeroTuning: largest change of the entropy among the other keys, answering row, layer 0, `[]`."""
    subject = Subject(model, params, task, sequences, 2 * sequences)
    inputs = subject.choosing().inputs

    def entropy(gamma: Array) -> Array:
        rest = subject.maps(inputs, (ed.tune_first(0, gamma),))[0][..., -1, 1:]
        rest = rest / jnp.sum(rest, axis=-1, keepdims=True)
        return -jnp.sum(jax.scipy.special.xlogy(rest, rest), axis=-1)

    values = jax.lax.map(entropy, jnp.asarray([0.1, 0.5, 1.0, 2.0, 4.0]))
    return {"change": jnp.max(jnp.abs(values - values[2]))}
