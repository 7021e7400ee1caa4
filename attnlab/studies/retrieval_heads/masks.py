"""Sets of heads masked in trained models: by score, at random, one by one, each layer by itself."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from attnlab import analysis, edits, keys
from attnlab.models import induction_weights
from toy_tasks import NeedleCopy

SEQUENCES = 512  # behind every accuracy: a standard error of .01 at most, four answers a sequence
KINDS: tuple[edits.Kind, ...] = ("zero", "mean", "uniform", "bos")
SCORED, IDLE = 0.5, 0.1  # a head that retrieves, and one that does not
DRAWS = 8  # random sets per size
AT_ONCE = 8  # sets in one call of a program


def held_out(task: Any, size: int, purpose: str) -> Any:
    """A batch that training never sees; scores and accuracies are measured on different ones."""
    return task.sample(keys.stream(keys.root(0), purpose), size)


def accuracy_of(logits: Array, batch: Any) -> Array:
    """Share of the needle's tokens said right."""
    answer = batch.positions["answer"]
    return jnp.sum((jnp.argmax(logits, -1) == batch.targets) & answer) / jnp.sum(answer)


def scores(lab: Any, name: str) -> Float[np.ndarray, "S L H"]:
    """Retrieval scores of every head, as the paper defines them, on sequences that are answered right."""
    task, size = lab.experiments[name].task, 64 if lab.preset == "smoke" else 256

    def probe(model: Any, params: Any) -> Array:
        return analysis.retrieval_scores(model, params, held_out(task, size, "scores"))

    return np.asarray(lab.probe(name, probe, label="retrieval scores"))


def masked(
    lab: Any, name: str, sets: Bool[np.ndarray, "S M L H"], kind: edits.Kind = "uniform", decoding: bool = False
) -> Float[np.ndarray, "S M"]:
    """Accuracy with each set of heads ablated, every seed with its own sets.

    Args:
      decoding: only at the queries that answer, as the published code does; the text before is read unmasked.
    """
    program = lab.once(("masked", name, kind, decoding), lambda: _program(lab, name, kind, decoding))
    params, count = lab.run(name).params, sets.shape[1]
    padded = np.concatenate([sets, np.zeros((len(sets), -count % AT_ONCE, *sets.shape[2:]), bool)], axis=1)
    blocks = np.split(padded.astype(np.float32), padded.shape[1] // AT_ONCE, axis=1)
    return np.concatenate([np.asarray(program(params, jnp.asarray(block))) for block in blocks], axis=1)[:, :count]


def _program(lab: Any, name: str, kind: edits.Kind, decoding: bool) -> Any:
    """Compiled: parameters `[S, ...]` and `AT_ONCE` sets of heads for each to accuracies."""
    e = lab.experiments[name]
    batch = held_out(e.task, 64 if lab.preset == "smoke" else SEQUENCES, "masks")
    rows = edits.rows(e.task.length, tuple(range(e.task.asks, e.task.length))) if decoding else None
    layers = range(e.model.num_layers)

    def of_seed(params: Any, chosen: Array) -> Array:
        means: dict[int, Array] = {}
        if kind == "mean":
            clean = analysis.head_outputs(e.model, params, batch.inputs)
            means = {layer: edits.mean_outputs(clean[f"blocks.{layer}.attn.head_out"]) for layer in layers}

        def one(heads: Array) -> Array:
            held = [edits.ablate(layer, kind, heads[layer][:, None, None], means.get(layer), rows) for layer in layers]
            return accuracy_of(e.model.apply(params, batch.inputs, edits=held)[0], batch)

        return jax.lax.map(one, chosen)

    return jax.jit(lambda params, sets: jax.lax.map(lambda x: of_seed(*x), (params, sets)))


def plain(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """Accuracy of the model as it is."""
    return lab.once(("plain", name), lambda: masked(lab, name, _empty(lab, name))[:, 0])


def _empty(lab: Any, name: str) -> Bool[np.ndarray, "S 1 L H"]:
    return np.zeros((len(scores(lab, name)), 1, *scores(lab, name).shape[1:]), bool)


def singles(lab: Any, name: str, kind: edits.Kind = "uniform", decoding: bool = False) -> Float[np.ndarray, "S L H"]:
    """Accuracy with one head ablated."""

    def run() -> np.ndarray:
        seeds, layers, heads = scores(lab, name).shape
        each = np.eye(layers * heads, dtype=bool).reshape(1, -1, layers, heads)
        return masked(lab, name, np.repeat(each, seeds, 0), kind, decoding).reshape(seeds, layers, heads)

    return lab.once(("singles", name, kind, decoding), run)


def by_score(lab: Any, name: str, count: int) -> Float[np.ndarray, " S"]:
    """Accuracy with the `count` highest scores masked."""

    def run() -> np.ndarray:
        order = np.argsort(-scores(lab, name).reshape(len(scores(lab, name)), -1), axis=1, kind="stable")
        sets = np.zeros((*order.shape[:1], order.shape[1], order.shape[1]), bool)
        for seed, row in enumerate(order):
            for most in range(order.shape[1]):
                sets[seed, most, row[: most + 1]] = True
        return masked(lab, name, sets.reshape(*sets.shape[:2], *scores(lab, name).shape[1:]))

    return lab.once(("by score", name), run)[:, count - 1]


def idle_at_random(lab: Any, name: str, count: int) -> Float[np.ndarray, " S"]:
    """Accuracy with `count` heads masked that are drawn from those with a score below `IDLE`; NaN if there are
    fewer.
    """

    def run() -> np.ndarray:
        found = scores(lab, name)
        sets, rng = np.zeros((len(found), DRAWS, *found.shape[1:]), bool), np.random.default_rng(count)
        for seed, one in enumerate(found):
            idle = np.flatnonzero(one.ravel() < IDLE)
            if len(idle) < count:
                continue
            for draw in range(DRAWS):
                sets[seed, draw].ravel()[rng.choice(idle, count, replace=False)] = True
        enough = [(one < IDLE).sum() >= count for one in found]
        return np.where(enough, masked(lab, name, sets).mean(1), np.nan)

    return lab.once(("idle", name, count), run)


def all_scored(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """Accuracy with every head of a score of at least `SCORED` masked."""
    return masked(lab, name, (scores(lab, name) >= SCORED)[:, None])[:, 0]


def rank_correlation(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """Spearman's correlation over heads of the score and of what the head costs when it is masked."""
    cost = plain(lab, name)[:, None, None] - singles(lab, name)
    pairs = zip(scores(lab, name), cost, strict=True)
    return np.array([analysis.spearman(one.ravel(), two.ravel()) for one, two in pairs])


# ---- what claims ask


def by_score_cost(lab: Any, name: str, count: int) -> Float[np.ndarray, " S"]:
    """Accuracy lost when the `count` highest scores are masked."""
    return plain(lab, name) - by_score(lab, name, count)


def idle_cost(lab: Any, name: str, count: int) -> Float[np.ndarray, " S"]:
    """Accuracy lost when `count` idle heads are masked at random."""
    return plain(lab, name) - idle_at_random(lab, name, count)


def score_of(lab: Any, name: str, layers: tuple[int, ...], which: str) -> Float[np.ndarray, " S"]:
    """The least or the most score of the heads of some layers."""
    found = scores(lab, name)[:, layers].reshape(len(scores(lab, name)), -1)
    return found.min(axis=1) if which == "least" else found.max(axis=1)


def first_layer_cost(lab: Any, name: str, decoding: bool = False) -> Float[np.ndarray, " S"]:
    """The most that one head of layer 0 is missed when it is made uniform."""
    return plain(lab, name) - singles(lab, name, "uniform", decoding)[:, 0].min(axis=1)


def scored_cost(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """The most that one head with a score of at least `SCORED` is missed."""
    left = np.where(scores(lab, name) >= SCORED, singles(lab, name), np.inf)
    return plain(lab, name) - left.min(axis=(1, 2))


def kinds_spread(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """The first layer's worst head: spread of the accuracies that four kinds of ablation leave."""
    left = np.stack([singles(lab, name, kind)[:, 0].min(axis=1) for kind in KINDS])
    return left.max(axis=0) - left.min(axis=0)


def share(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """Share of heads with a score of at least `IDLE`."""
    return (scores(lab, name) >= IDLE).mean(axis=(1, 2))


def contrast(lab: Any, name: str, count: int) -> Float[np.ndarray, " S"]:
    """Accuracy with `count` idle heads masked at random less that with the `count` best."""
    return idle_at_random(lab, name, count) - by_score(lab, name, count)


def all_zero(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """Accuracy with every head at 0."""
    return masked(lab, name, ~_empty(lab, name), "zero")[:, 0]


def by_hand(lab: Any) -> dict[str, float]:
    """Scores of the model with weights set by hand: of the matching head, and the largest other; and its accuracy."""
    task = NeedleCopy(12, 10, 3)
    model, params = induction_weights(task.vocab_size, task.length, 4)
    batch = held_out(task, 256, "scores")
    distinct = all_distinct(batch, task)
    found = np.asarray(analysis.retrieval_scores(model, params, batch, counts=distinct)).ravel()
    return {"matching": float(found[4]), "others": float(np.delete(found, 4).max())}


def all_distinct(batch: Any, task: NeedleCopy) -> Bool[Array, " B"]:
    """Sequences in which no token of the needle stands twice before the answer is complete: there a match is unique."""
    counted = jnp.sum(batch.inputs[:, None, :] == batch.inputs[:, -task.needle :, None], axis=-1)
    return jnp.all(counted == 2, axis=-1) if task.needle > 1 else jnp.ones(len(batch.inputs), bool)
