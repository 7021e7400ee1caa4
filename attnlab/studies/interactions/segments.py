"""Dividends of a trained model: patches and the question of GridQA as players, one forward pass per coalition.

A patch that is absent is background, a question that is absent is the general one: both are known from training. The
score is the logit of the true colour less the mean of the others. For the exact law it is, with a question,

    v = log prior(c|s) - mean_c' log prior(c'|s)   [+ (y_c - mean_c' y_c') / sigma^2  if the patch asked for is there]

so that `I(patch asked for, question)` is the evidence, of mean `1 / sigma^2`, and all other interactions are 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from attnlab import analysis, keys
from toy_tasks import GridQA

AT_ONCE = 32
PLAYERS = ("image", "question")


def sequences(lab: Any) -> int:
    """Behind every figure."""
    return AT_ONCE if lab.preset == "smoke" else 16 * AT_ONCE


def hidden(task: GridQA, inputs: Float[Array, "B T I"], present: Bool[Array, " n"]) -> Float[Array, "B T I"]:
    """The sequences with some patches and perhaps the question (last of `n = N + 1` players) absent."""
    background = jnp.zeros(task.width).at[task.coordinates["background"]].set(1.0)
    general = jnp.zeros(task.width).at[task.coordinates["general"]].set(1.0)
    kept = jnp.concatenate([jnp.ones(1, bool), present])  # bos stays
    return jnp.where(
        kept[:, None], inputs, jnp.where(jnp.arange(task.length)[:, None] < task.length - 1, background, general)
    )


def lead(task: GridQA, logits: Float[Array, "B V"], answer: Array) -> Float[Array, " B"]:
    """Logit of the true colour less the mean of the other colours."""
    colours = logits[:, : task.num_colours]
    own = jnp.take_along_axis(colours, answer[:, None], axis=1)[:, 0]
    return own - (jnp.sum(colours, axis=1) - own) / (task.num_colours - 1)


def found(lab: Any) -> dict[str, np.ndarray]:
    """Of every seed and sequence, `[S, n]`, of specific questions about pictures:

    `asked`: I(patch asked for, question). `pair`: mean |I| of the other patches with the question. `rest`: mean |I| of
    all coalitions of two or more but that one. `two`: I(image, question), two players. `evidence`: what the exact law
    says. `error`: |sum of dividends - v(all)|. `conflict`: whether the colour is not canonical.
    """
    return lab.once("segments", lambda: _found(lab))


def _found(lab: Any) -> dict[str, np.ndarray]:
    e, params = lab.experiments["model"], lab.run("model").params
    task = replace(e.task, blank=0.0, general=0.0)
    patches, masks = task.num_patches, analysis.coalition_masks(task.num_patches + 1)
    sizes, with_question = masks.sum(axis=1), masks[:, -1]
    kinds = [(sizes == n) & with_question for n in range(1, patches + 2)]  # the question and n - 1 patches
    pairs = np.array([1 << p | 1 << patches for p in range(patches)])

    def one(params: Any, number: Array) -> dict[str, Array]:
        batch = task.sample(keys.stream(keys.root(0), "fresh", number), AT_ONCE)
        answer, asked = batch.targets[:, -1], batch.positions["target"][:, 1:-1]

        def score(present: Array) -> Array:
            return lead(task, e.model.apply(params, hidden(task, batch.inputs, present))[0][:, -1], answer)

        values = analysis.coalition_scores(score, patches + 1)
        parts = analysis.harsanyi(values)
        of_pairs = parts[:, pairs]
        own = jnp.sum(of_pairs * asked, axis=1)
        others = jnp.sum(jnp.abs(of_pairs) * ~asked, axis=1) / (patches - 1)
        more = jnp.sum(jnp.abs(parts) * (sizes >= 2), axis=1) - jnp.abs(own)
        whole, no_image, no_question = values[:, -1], values[:, 1 << patches], values[:, (1 << patches) - 1]
        seen = jnp.sum(batch.inputs[:, 1:-1, task.coordinates["colour"]] * asked[..., None], axis=1)
        return {
            "asked": own,
            "pair": others,
            "rest": more / ((sizes >= 2).sum() - 1),
            "two": whole - no_image - no_question + values[:, 0],
            "evidence": lead(task, seen / task.noise**2, answer),
            "error": jnp.abs(jnp.sum(parts, axis=1) - whole),
            "size": jnp.max(jnp.abs(values), axis=1),
            "conflict": batch.positions["conflict"][:, -1],
            "by_size": jnp.stack([jnp.mean(jnp.abs(parts), axis=1, where=kind) for kind in kinds], axis=1),
        }

    def of_seed(params: Any) -> dict[str, Array]:
        each = jax.lax.map(lambda number: one(params, number), jnp.arange(sequences(lab) // AT_ONCE))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), each)

    return jax.device_get(jax.jit(lambda p: jax.lax.map(of_seed, p))(params))


def mean(lab: Any, what: str) -> Float[np.ndarray, " S"]:
    """Mean over sequences."""
    return found(lab)[what].mean(axis=1)


def correlation(lab: Any, what: str) -> Float[np.ndarray, " S"]:
    """Of a dividend with the evidence, over sequences."""
    got = found(lab)
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(got[what], got["evidence"], strict=True)])


def ratio(lab: Any, over: str) -> Float[np.ndarray, " S"]:
    """Mean |I(patch asked for, question)| over that of others."""
    got = found(lab)
    return np.abs(got["asked"]).mean(axis=1) / got[over].mean(axis=1)


def between_kinds(lab: Any) -> Float[np.ndarray, " S"]:
    """Mean interaction of image and question, consistent less in conflict, each less its evidence."""
    got = found(lab)
    excess = got["two"] - got["evidence"]
    return np.array([x[~c].mean() - x[c].mean() for x, c in zip(excess, got["conflict"], strict=True)])


def summation(lab: Any) -> Float[np.ndarray, " S"]:
    """Largest |sum of dividends - v(all)|."""
    return found(lab)["error"].max(axis=1)
