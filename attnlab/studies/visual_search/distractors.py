"""Recall among red herrings: a head that is set by hand against the formula, and how a trained one falls."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import toy_tasks as tt
from attnlab import keys
from attnlab.attention import softmax

HERRINGS, PRIMES = (1, 2, 4, 8), (0, 1, 2, 4, 8)
SETTINGS = ((1, 0.5, 2.0), (2, 0.9, 4.0), (4, 0.5, 4.0), (8, 0.9, 2.0))  # r, cosine, norm
HAND = tuple(
    tt.DistractorRecall(16, 16, r, 0, p, cosine=c, norm=n)  # values as wide as keys
    for p in (0, 4)
    for r, c, n in SETTINGS
)


def hand_set(lab: Any) -> dict[str, np.ndarray]:
    """What one softmax head puts on the right value, keys and query as they are: `measured` and `formula`, `[cases]`;
    `gap`, the largest difference in any sequence, `primed` the same over the cases with primes."""
    measured, formula, gaps = [], [], []
    for task in HAND:
        right = np.asarray(jax.jit(partial(_on_the_right_value, task))(keys.stream(keys.root(0), "herrings")))
        measured.append(right.mean())
        formula.append(task.correct())
        gaps.append(np.abs(right - task.correct()).max())
    with_primes = np.array([task.num_primes > 0 for task in HAND])
    gap = np.array(gaps)
    return {
        "measured": np.array(measured),
        "formula": np.array(formula),
        "gap": gap[~with_primes].max(),
        "primed": gap[with_primes].max(),
    }


def _on_the_right_value(task: tt.DistractorRecall, key: Any) -> Float[Array, " B"]:
    batch = task.sample(key, 64)
    k, v = jnp.split(batch.inputs[:, None, :-1], [task.dim], axis=-1)  # one head
    out = softmax.apply({}, batch.inputs[:, None, -1:, : task.dim], k, v).out[:, 0, 0]
    return jnp.take_along_axis(out, batch.targets[:, -1:], axis=1)[:, 0]


def curve(lab: Any, over: str) -> dict[str, np.ndarray]:
    """`accuracy` and `correct` (mass on the right value) of the trained head, `[S, N]`, over numbers of herrings or of
    primes."""
    task = lab.experiments["herrings"].task
    field, values = {"herrings": ("num_herrings", HERRINGS), "primes": ("num_primes", PRIMES)}[over]
    found = [lab.risks("herrings", task=dataclasses.replace(task, **{field: value})) for value in values]
    return {name: np.stack([risks[name] for risks in found], axis=1) for name in ("accuracy", "correct")}


def largest_rise(lab: Any, over: str, of: str = "accuracy") -> np.ndarray:
    """The largest step up of a curve that should fall, `[S]`."""
    return np.max(np.diff(curve(lab, over)[of], axis=1), axis=1)


def fall(lab: Any, over: str, of: str = "accuracy") -> np.ndarray:
    """First less last, `[S]`."""
    values = curve(lab, over)[of]
    return values[:, 0] - values[:, -1]


def formula_gap(lab: Any) -> np.ndarray:
    """One sharpness per seed, from the mass with one herring; the largest error of the formula with more, `[S]`."""
    task = lab.experiments["herrings"].task
    mass = curve(lab, "herrings")["correct"]

    def formula(sharpness: float, herrings: int) -> float:
        return dataclasses.replace(task, num_herrings=herrings).correct(sharpness)

    grid = np.exp(np.linspace(np.log(0.05), np.log(50), 2000))
    first = np.array([formula(s, HERRINGS[0]) for s in grid])
    gaps = []
    for row in mass:
        sharpness = float(grid[np.argmin(np.abs(first - row[0]))])
        gaps.append(max(abs(formula(sharpness, r) - value) for r, value in zip(HERRINGS[1:], row[1:], strict=True)))
    return np.array(gaps)
