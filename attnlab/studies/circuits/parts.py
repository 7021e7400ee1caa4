"""Circuits of trained models: effects of heads by task, overlap with its control, what shared heads are for, repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from attnlab import analysis, edits, keys
from attnlab.analysis import circuit_overlap
from attnlab.training import losses

TASKS = ("indirect", "coloured", "control")
SETS = ("shared", "random")
SHARE = 0.25  # of all heads that are called a task's circuit


def sequences(lab: Any) -> int:
    """Behind every figure."""
    return 48 if lab.preset == "smoke" else 384


def logit_difference(flip: Any) -> Callable[[Array], Array]:
    """Mean over sequences of `logit(right) - logit(wrong)` at the last place."""

    def score(logits: Array) -> Array:
        last = logits[:, -1]
        taken = [jnp.take_along_axis(last, answer[:, None], axis=1)[:, 0] for answer in (flip.right, flip.wrong)]
        return jnp.mean(taken[0] - taken[1])

    return score


def flipped(lab: Any, name: str, part: str, purpose: str = "circuit") -> tuple[Any, Any]:
    """A batch of one task of a run's mixture, as the model was trained on it but with true labels; and its flip."""
    task = getattr(lab.experiments[name].task, part)
    if part == "coloured":
        task = replace(task, label_noise=0.0)
    batch = task.sample(keys.stream(keys.root(0), purpose, TASKS.index(part)), sequences(lab))
    return batch, task.corrupt(batch, keys.stream(keys.root(0), purpose + " flip", TASKS.index(part)))


def measured(lab: Any, part: str) -> dict[str, np.ndarray]:
    """`patched`: each head set to its output on the flipped sequence, all places; `direct`: path patching to the
    logits, MLPs frozen. Both `[S, L, H]`, shares of the logit difference that go; one program for both."""
    batch, flip = flipped(lab, "mixture", part)
    score = logit_difference(flip)

    def probe(model: Any, params: Any) -> dict[str, Array]:
        other = analysis.head_outputs(model, params, flip.batch.inputs)
        found = analysis.head_effects(model, params, batch.inputs, score, "resample", source=other)
        paths = analysis.path_effects(model, params, batch.inputs, flip.batch.inputs, score, freeze_mlps=True)
        return {"patched": found.towards(paths.corrupt), "direct": paths.effect[..., 0]}

    return lab.probe("mixture", probe, label=("measured", part))


def effects(lab: Any, part: str) -> Float[np.ndarray, "S L H"]:
    """What patching every head does."""
    return np.asarray(measured(lab, part)["patched"])


def direct(lab: Any, part: str) -> Float[np.ndarray, "S L H"]:
    """What goes straight from every head to the logits."""
    return np.asarray(measured(lab, part)["direct"])


def accuracy(lab: Any, part: str) -> Float[np.ndarray, " S"]:
    """Share of right answers at the last place."""
    batch, _ = flipped(lab, "mixture", part, "accuracy")

    def probe(model: Any, params: Any) -> Array:
        return _quality(model.apply(params, batch.inputs)[0], batch, part)

    return np.asarray(lab.probe("mixture", probe, label=("accuracy", part)))


def excess(lab: Any) -> Float[np.ndarray, " S"]:
    """Loss of Markov text above its entropy, nats."""
    return lab.risk("mixture", "control_excess")


# ---- overlap


def size_of(lab: Any) -> int:
    """How many heads make a circuit."""
    model = lab.experiments["mixture"].model
    return max(1, round(SHARE * model.num_layers * model.num_heads))


def overlaps(lab: Any, one: str, two: str) -> list[circuit_overlap.Overlap]:
    """Of the circuits of two tasks, by seed."""
    size = size_of(lab)
    return [analysis.overlap(a, b, size) for a, b in zip(effects(lab, one), effects(lab, two), strict=True)]


def jaccard(lab: Any, one: str, two: str) -> Float[np.ndarray, " S"]:
    """Of the circuits of two tasks."""
    return np.array([found.jaccard for found in overlaps(lab, one, two)])


def above_control(lab: Any) -> Float[np.ndarray, " S"]:
    """Jaccard index of the two recall tasks less the mean of theirs with the control."""
    with_control = (jaccard(lab, "indirect", "control") + jaccard(lab, "coloured", "control")) / 2
    return jaccard(lab, "indirect", "coloured") - with_control


# ---- what the shared heads are for


def without(lab: Any, which: str, part: str) -> Float[np.ndarray, " S"]:
    """What the mean ablation of a set of heads costs: points of accuracy, or nats of the control.

    which: `shared`, in the circuits of both recall tasks; `random`, as many heads of the rest in the same layers.
    """
    return lab.once(("without", part), lambda: _without(lab, part))[:, SETS.index(which)]


def _without(lab: Any, part: str) -> Float[np.ndarray, "S 2"]:
    """What either set costs."""
    sets = np.stack([chosen(lab, which) for which in SETS], axis=1)
    batch, _ = flipped(lab, "mixture", part, "ablation")
    model, params = lab.experiments["mixture"].model, lab.run("mixture").params

    def measure(one: Any) -> Array:
        params, both = one
        clean = analysis.head_outputs(model, params, batch.inputs)
        means = [
            edits.mean_outputs(clean[f"blocks.{layer}.attn.head_out"], per_position=True)
            for layer in range(model.num_layers)
        ]
        before = _quality(model.apply(params, batch.inputs)[0], batch, part)

        def cost(heads: Array) -> Array:
            held = [edits.ablate(i, "mean", heads[i][:, None, None], mean) for i, mean in enumerate(means)]
            after = _quality(model.apply(params, batch.inputs, edits=held)[0], batch, part)
            return before - after if part != "control" else after - before

        return jax.lax.map(cost, both)

    return np.asarray(jax.jit(lambda x: jax.lax.map(measure, x))((params, jnp.asarray(sets, jnp.float32))))


def _quality(logits: Array, batch: Any, part: str) -> Array:
    if part == "control":
        return jnp.sum(losses.next_token(logits, batch) * batch.loss_mask) / jnp.sum(batch.loss_mask)
    return jnp.mean((jnp.argmax(logits[:, -1], -1) == batch.targets[:, -1]).astype(logits.dtype))


def chosen(lab: Any, which: str) -> Bool[np.ndarray, "S L H"]:
    """The set of heads of each seed."""
    size, found = size_of(lab), []
    for seed, (one, two) in enumerate(zip(effects(lab, "indirect"), effects(lab, "coloured"), strict=True)):
        first, second = circuit_overlap.circuit(one, size), circuit_overlap.circuit(two, size)
        shared = first & second
        if which == "random":
            rest, rng = ~(first | second), np.random.default_rng(seed)
            drawn = np.zeros_like(shared)
            for layer in range(len(shared)):
                free = np.flatnonzero(rest[layer])
                count = min(int(shared[layer].sum()), len(free))
                drawn[layer, rng.choice(free, count, replace=False)] = True
            shared = drawn
        found.append(shared)
    return np.array(found)


# ---- repair


def repaired(lab: Any) -> dict[str, np.ndarray]:
    """Coloured objects of the model with noisy labels: probability of the true colour, before and after one head's last
    row is set to the places of the two other colours; the head is chosen on other sequences. Each `[S]`.

    `asked`: the same with the row set to the right colour's place. `null`: the mean over all heads, nothing chosen.
    """
    batches = [flipped(lab, "noisy", "coloured", purpose)[0] for purpose in ("choose", "report")]

    def rows_to(batch: Any, wanted: Array) -> Array:
        rows = wanted / jnp.sum(wanted, axis=-1, keepdims=True)
        return jnp.broadcast_to(rows[:, None, None, :], (len(rows), 1, batch.inputs.shape[1], batch.inputs.shape[1]))

    def probe(model: Any, params: Any) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for label, batch in zip(("choose", "report"), batches, strict=True):
            right = batch.positions["right_colour"].astype(jnp.float32)
            colours = batch.positions["colour"].astype(jnp.float32)
            for target, wanted in (("others", colours - right), ("asked", right)):
                probabilities = []
                for layer in range(model.num_layers):

                    def one(mask: Array, layer: int = layer, wanted: Array = wanted, batch: Any = batch) -> Array:
                        rows = edits.rows(batch.inputs.shape[1], -1)
                        held = edits.pattern_mix(layer, mask[:, None, None] * rows, rows_to(batch, wanted))
                        return _true(model.apply(params, batch.inputs, edits=(held,))[0], batch)

                    probabilities.append(jax.lax.map(one, jnp.eye(model.num_heads)))
                found[f"{label} {target}"] = jnp.concatenate(probabilities)
            found[f"{label} before"] = _true(model.apply(params, batch.inputs)[0], batch)
        return found

    raw = lab.probe("noisy", probe, label="repair")
    best = {target: np.argmax(raw[f"choose {target}"], axis=1) for target in ("others", "asked")}
    seeds = np.arange(len(raw["report before"]))
    reported = {target: np.asarray(raw[f"report {target}"]) for target in best}
    return {
        "before": np.asarray(raw["report before"]),
        "null": reported["others"].mean(axis=1),
        **{target: reported[target][seeds, chosen] for target, chosen in best.items()},
    }


def _true(logits: Array, batch: Any) -> Array:
    return jnp.mean(jnp.take_along_axis(jax.nn.softmax(logits[:, -1]), batch.targets[:, -1:], axis=1))


def repair(lab: Any, what: str) -> Float[np.ndarray, " S"]:
    """What a repair adds to the probability of the true colour."""
    found = repaired(lab)
    return found[what] - found["before"]
