"""What the claims about sinks measure, as functions of the lab; also for the study of gates. Loads no jax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

MAPS: dict[str, Any] = {"start": 8, "batch_size": 256, "parts": ("mass", "sink", "local", "values", "stream")}
"""Options of `analysis.mixing`: queries before 8 see too few keys to choose between."""

Measure = Callable[[Any], np.ndarray]


def of(name: str, metric: str) -> Measure:
    """A figure of `analysis.mixing` of a trained model, `[S]`."""
    return lambda lab: lab.mixing(name, metric, **MAPS)


def risk(name: str, which: str) -> Measure:
    """A risk of the task, `[S]`: `backcopy` on triggers, `excess_bigram` (above the exact law) on all others."""
    return lambda lab: lab.risk(name, which)


def dearer(name: str, than: str = "softmax") -> Measure:
    """Excess bigram risk above that of another run, seed by seed: both see the same sequences."""
    return lambda lab: lab.risk(name, "excess_bigram") - lab.risk(than, "excess_bigram")


OUTPUT_GATED = ("g1", "g1_head", "g1_ns_head", "g1_constant", "g1_shared", "g5")
"""Runs whose gate multiplies what the head read out."""


def gated(name: str) -> bool:
    """Whether what a run's head read out is multiplied by a gate."""
    return name.removeprefix("no_bos_").removeprefix("two_") in OUTPUT_GATED


def written(name: str) -> Measure:
    """Mass that dormant queries take from `<s>`, times the gate on the output if there is one, `[S]`."""
    return of(name, "bos_gated_mass_dormant" if gated(name) else "bos_mass_dormant")


def opening(name: str) -> Measure:
    """Mean gate of active queries less that of dormant ones, `[S]`."""
    return lambda lab: lab.mixing(name, "gate_active", **MAPS) - lab.mixing(name, "gate_dormant", **MAPS)


def loss_drop(lab: Any) -> np.ndarray:
    """Training loss of the last record over that of the second, the worst run's, `[S]`."""
    curves = [lab.loss_curve(name)[1] for name in lab.experiments]
    return np.max([curve[:, -1] / curve[:, 1] for curve in curves], axis=0)


def finite_share(lab: Any) -> float:
    """Share of finite numbers among the main measures of all runs."""
    metrics = ("bos_share_dormant", "bos_mass_dormant", "mass_dormant", "previous_share_active", "value_drain")
    rows = [lab.mixing(name, metric, **MAPS) for name in lab.experiments for metric in metrics]
    rows += [lab.risk(name, which) for name in lab.experiments for which in ("backcopy", "excess_bigram")]
    return float(np.mean(np.isfinite(np.concatenate(rows))))
