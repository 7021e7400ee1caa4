"""What the claims of this study measure on their runs. Loads no jax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from attnlab.studies.measured import values_of

Measure = Callable[[Any], np.ndarray]


def accuracy(name: str) -> Measure:
    """Share of recalls that are right."""
    return lambda lab: lab.accuracy(name)


def above_place(name: str) -> Measure:
    """Accuracy above what the place of the question alone tells (the task's plateau `place`)."""
    return lambda lab: lab.accuracy(name) - lab.experiments[name].task.plateaus["place"].accuracy


def rescue(variant: str) -> Measure:
    """What a standard second layer adds: accuracy of `X standard` less that of `X X`."""
    return lambda lab: lab.accuracy(f"{variant} standard") - lab.accuracy(f"{variant} {variant}")


def skipped(variant: str) -> Measure:
    """Accuracy above the place's, of the hybrid whose simple layer writes nothing at evaluation."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.edits import remove_block

        name = f"{variant} standard"
        chance = lab.experiments[name].task.plateaus["place"].accuracy
        return lab.accuracy(name, edits=(remove_block(0),)) - chance

    return measure


def copied(variant: str, which: str = "excess_backcopy") -> Measure:
    """A risk of Bigram-Backcopy above the oracle's."""
    return lambda lab: lab.risk(f"copy {variant}", which)


def above_plateau(variant: str) -> Measure:
    """Backcopy risk less the least risk of a model that mixes no tokens."""

    def measure(lab: Any) -> np.ndarray:
        from toy_tasks import backcopy_law

        name = f"copy {variant}"
        return lab.risk(name, "backcopy") - backcopy_law.expected_risks(lab.experiments[name].task).plateau

    return measure


def largest_logit(name: str, layer: int = 0) -> Measure:
    """`max |l|` of a layer over training."""
    return lambda lab: np.asarray(lab.run(name).trajectory["logits"], float)[..., layer].max(axis=1)


def blow_up(variant: str) -> Measure:
    """The largest logit of the first layer of `X X` over that of `X standard`."""
    return lambda lab: largest_logit(f"{variant} {variant}")(lab) / largest_logit(f"{variant} standard")(lab)


def indicator(name: str, metric: str, layer: int) -> Measure:
    """A figure of `analysis.mixing` of one layer, mean over heads."""
    return lambda lab: lab.mixing(name, metric, layer)


def previous(name: str, layer: int) -> Measure:
    """The paper's LocFoc at distance 1, of the best head."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab import analysis

        probe = analysis.mixing(lab.experiments[name].task, parts=("local",))
        found = lab.probe(name, probe, label="local")["previous_mass"]
        return np.asarray(found)[:, layer].max(axis=-1)

    return measure


def ended(name: str) -> Measure:
    """1 for a seed that trained to the end with finite numbers, 0 for one that did not."""
    return lambda lab: (np.asarray(lab.run(name).outcome) == 0).astype(float)


def loss_drop(name: str) -> Measure:
    """Training loss of the first step (there is none at step 0) less that of the last."""

    def measure(lab: Any) -> np.ndarray:
        _, curve = lab.loss_curve(name)
        return curve[:, 1] - curve[:, -1]

    return measure


def largest_of(part: str, *keys: str) -> Measure:
    """The largest of several values of `THEORY[part]`."""
    return lambda lab: np.max([values_of(lab, part, key) for key in keys])
