"""What the best of many candidates gains when none of them gains anything: signs of the differences flipped by chance.

A search tries K edits on the sequences for choosing and keeps the best. Of edit k and sequence i it knows `d_ki`, right
with the edit less right without. If no edit changes anything but by chance, `d_ki` is as likely as `-d_ki`, so that

    max_k mean_i e_i d_ki,      e_i = +-1 by chance, the same for all edits,

is a draw of what the best of them would show.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab import edits as ed
from attnlab import keys
from attnlab.studies.grounding.heads import weakened
from attnlab.studies.grounding.subject import Subject, in_conflict, judge
from toy_tasks.base import Batch

DRAWS = 500


def best_of(differences: Float[Array, "K n"], key: Array, draws: int = DRAWS) -> dict[str, Array]:
    """`gain` of the best candidate, which one it is (`best`), and the 95 % point of that gain by chance (`null`)."""
    count = differences.shape[1]
    signs = jax.random.rademacher(key, (draws, count), jnp.float32)
    chance = jnp.max(signs @ differences.T, axis=1) / count
    means = jnp.mean(differences, axis=1)
    return {"gain": jnp.max(means), "best": jnp.argmax(means), "null": jnp.quantile(chance, 0.95)}


def _heads(subject: Subject, doses: tuple[float, ...]) -> tuple[Array, Array]:
    """Every single head with every dose: masks `[K, L, H]` and doses `[K]`."""
    shape = subject.model.num_layers, subject.model.num_heads
    masks = jnp.eye(shape[0] * shape[1]).reshape(-1, *shape)
    return jnp.repeat(masks, len(doses), axis=0), jnp.tile(jnp.asarray(doses), len(masks))


def _logits(subject: Subject, method: str, batch: Batch, plain: Array, mask: Array, dose: Array) -> Array:
    """Logits with one method on the heads of the mask."""

    def make(n: int) -> Any:
        chosen = mask[n][:, None, None] > 0
        return ed.act(n, None, dose, chosen) if method == "act" else ed.tune_first(n, dose, chosen)

    if method == "softpag":
        return ed.guided(plain, weakened(subject, batch.inputs, dose * mask), 1.0)
    return subject.ask(batch.inputs, subject.each(make))


def searched(model: Any, params: Any, task: Any, sequences: int, method: str, doses: tuple[float, ...]) -> Any:
    """The probe: `best_of` single heads and doses in accuracy (`softpag`: in conflict) on the sequences for choosing,
    and `held`, the gain of the same candidate on those that are reported."""
    subject = Subject(model, params, task, sequences, 2 * sequences)
    masks, values = _heads(subject, doses)

    def differences(batch: Batch) -> Any:
        where = in_conflict(batch) if method == "softpag" else jnp.ones(len(batch.inputs), bool)
        plain = subject.ask(batch.inputs)

        def of(pair: tuple[Array, Array]) -> Float[Array, " n"]:
            edited = _logits(subject, method, batch, plain, *pair)
            right = [judge(task, x, batch)["right"].astype(jnp.float32) for x in (edited, plain)]
            return (right[0] - right[1]) * where * (where.size / jnp.sum(where))

        return of

    table = jax.lax.map(differences(subject.choosing()), (masks, values))
    found = best_of(table, keys.stream(keys.root(0), "analysis", 1))
    best = found["best"]
    held = jnp.mean(differences(subject.reporting())((masks[best], values[best])))
    return found | {"held": held, "dose": values[best]}
