"""Which heads: divergence without the image, effects of ablation, and the greedy search for heads to guide by."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab import analysis
from attnlab import edits as ed
from attnlab.analysis.head_effects import head_effects
from attnlab.analysis.segments import above_median, head_divergence
from attnlab.studies.grounding.subject import Subject, in_conflict, judge
from toy_tasks.base import Batch

KIND = "mean"  # of the ablation: over the sequences and places of the batch, at every query


def divergence(subject: Subject) -> Float[Array, "L H"]:
    """VHD: how far the answering row's output of each head is from that for a blank picture."""
    batch = subject.choosing()
    blank = subject.task.blank_image(batch)
    return head_divergence(subject.model, subject.params, batch.inputs, blank.inputs)[0]


def upper(subject: Subject) -> Bool[Array, "L H"]:
    """The heads of each layer above its median divergence."""
    return above_median(divergence(subject))


def lower(subject: Subject) -> Bool[Array, "L H"]:
    """The others."""
    return above_median(divergence(subject), lower=True)


def effects(subject: Subject, edits: Any = (), batch: Batch | None = None) -> Float[Array, "L H"]:
    """Change of accuracy when a head is ablated (`KIND`)."""
    held = subject.choosing() if batch is None else batch

    def score(logits: Array) -> Array:
        return jnp.mean(judge(subject.task, logits, held)["right"])

    return head_effects(subject.model, subject.params, held.inputs, score, KIND).effect


def mass_on_image(subject: Subject) -> Float[Array, "L H"]:
    """Mass of the answering row on patches, mean over sequences."""
    rows = subject.maps(subject.choosing().inputs)[..., -1, :]
    return jnp.mean(jnp.sum(rows * subject.patches, axis=-1), axis=1)


def heads_of(model: Any, params: Any, task: Any, sequences: int) -> dict[str, Array]:
    """The probe: divergence, effect, mass `[L, H]`, and rank correlations with the size of the effect `[]`."""
    subject = Subject(model, params, task, sequences, 2 * sequences)
    found = {"divergence": divergence(subject), "effect": effects(subject), "mass": mass_on_image(subject)}
    size = jnp.abs(found["effect"]).reshape(-1)
    ranked = {
        f"rank_{name}": analysis.rank_correlation(found[name].reshape(-1), size) for name in ("divergence", "mass")
    }
    return found | ranked


# ---- HeadHunter: which heads' weakening is worth guiding away from


def weakened(subject: Subject, inputs: Array, amounts: Float[Array, "L H"]) -> Float[Array, "B T V"]:
    """SoftPAG's weak model: `z' = (1 - u) z + u v` in every head by its own amount, at every query."""
    return subject.ask(inputs, subject.each(lambda n: ed.soften(n, amounts[n][:, None, None])))


def guided(subject: Subject, batch: Batch, amounts: Float[Array, "L H"], weight: Any = 1.0) -> Float[Array, "B T V"]:
    """Logits led away from the weak model."""
    return ed.guided(subject.ask(batch.inputs), weakened(subject, batch.inputs, amounts), weight)


def search(subject: Subject, rounds: int = 3) -> dict[str, Array]:
    """The greedy search: every round adds the head that raises accuracy in conflict the most (u = 1, w = 1).

    Returns:
      sets: `[rounds, L, H]`, 1 for the heads chosen so far. objective: `[L, H]` of each head by itself.
    """
    batch = subject.choosing()
    conflict, shape = in_conflict(batch), (subject.model.num_layers, subject.model.num_heads)
    plain = subject.ask(batch.inputs)

    def objective(amounts: Array) -> Array:
        logits = ed.guided(plain, weakened(subject, batch.inputs, amounts.reshape(shape)), 1.0)
        return jnp.sum(judge(subject.task, logits, batch)["right"] * conflict) / jnp.sum(conflict)

    held, sets, first = jnp.zeros(shape[0] * shape[1]), [], jnp.zeros(shape)
    for number in range(rounds):
        values = jax.lax.map(objective, jnp.maximum(held, jnp.eye(held.size)))
        first = values.reshape(shape) if number == 0 else first
        held = held.at[jnp.argmax(jnp.where(held > 0, -1.0, values))].set(1.0)
        sets.append(held.reshape(shape))
    return {"sets": jnp.stack(sets), "objective": first}


def groups(subject: Subject) -> Float[Array, "6 L H"]:
    """What is compared: no head; the first pick; the first two; three; the layer of the first; all heads."""
    sets = search(subject)["sets"]
    layer = jnp.broadcast_to(jnp.any(sets[0] > 0, axis=1, keepdims=True), sets[0].shape).astype(sets.dtype)
    return jnp.concatenate([jnp.zeros_like(sets[:1]), sets, layer[None], jnp.ones_like(sets[:1])])


def picks(model: Any, params: Any, task: Any, sequences: int) -> dict[str, Array]:
    """The probe: the search, and whether its first pick is the head with the largest effect of ablation."""
    subject = Subject(model, params, task, sequences, 2 * sequences)
    found, sizes = search(subject), jnp.abs(effects(subject))
    first = jnp.argmax(found["sets"][0].reshape(-1))
    return found | {"first": first, "agrees": (first == jnp.argmax(sizes.reshape(-1))).astype(jnp.float32)}
