"""Where the trained model looks when it is right and when it is wrong, and what gradients in the map add to that."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab import analysis
from attnlab.studies.grounding.planted import looking_layer
from attnlab.studies.grounding.subject import Subject, judge


def hits_of(model: Any, params: Any, task: Any, sequences: int) -> dict[str, Array]:
    """The probe, every rate the share of sequences whose largest entry is the patch asked for.

    layer: the looking layer (of other sequences). hit, right, wrong: its mean map over heads, all answers and those of
    either kind. gradient, gradient_right, gradient_wrong: `grad-att` of that layer. general: the map of the general
    question (control). entropy: rank correlation of the map's entropy with the number of objects, by layer `[L]`.
    """
    subject = Subject(model, params, task, sequences, 2 * sequences)
    batch, layer = subject.reporting(), looking_layer(subject)
    maps, gradients = analysis.pattern_gradients(model, params, batch.inputs, _log_p, tuple(subject.layers))
    target = jnp.argmax(batch.positions["target"], axis=1).astype(jnp.int32)
    right = judge(task, subject.ask(batch.inputs), batch)["right"]
    rows = jnp.mean(maps[..., -1, :], axis=2)
    pulled = analysis.gradient_attention(maps, gradients)[..., -1, :]
    general = jnp.mean(subject.maps(subject.task.general_question(batch).inputs)[..., -1, :], axis=2)
    found = {"layer": layer}
    for name, shown in (("", rows[layer]), ("gradient", pulled[layer])):
        for kind, where in (("hit", None), ("right", right), ("wrong", ~right)):
            key = "_".join(part for part in (name, kind) if part)
            found[key] = analysis.hit_rate(shown, target, subject.patches, where)
    found["general"] = analysis.hit_rate(general[layer], target, subject.patches)
    count = jnp.sum(batch.positions["object"], axis=1).astype(jnp.float32)
    entropy = -jnp.sum(jax.scipy.special.xlogy(rows, rows), axis=-1)
    found["entropy"] = jnp.stack([analysis.rank_correlation(x, count) for x in entropy])
    return found


def _log_p(logits: Array) -> Array:
    """`log p` of the answer given, a sum over sequences."""
    return jnp.sum(jnp.max(jax.nn.log_softmax(logits[:, -1]), axis=-1))
