"""Figures: the stream step by step, errors over numbers of points, steps of conjugate gradients over ridges."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.report.figures_comparison import curves_by_model
from attnlab.studies.local_linear.iterations import RIDGES
from attnlab.studies.local_linear.stream import NAMES

LABELS = {"lla": "local linear", "softmax": "softmax", "mesa": "Mesa", "delta": "delta rule"}
SMOOTH = 16  # steps averaged into one point


def figures(lab: Any) -> dict[str, Any]:
    """Of everything that the preset measures."""
    drawn = {"f1-stream": ("Regression on a stream of four segments, d = 8", _stream(lab))}
    drawn["f2-rates"] = ("Errors at the edge of the data", _rates(lab))
    if lab.preset != "smoke":
        drawn["f3-steps"] = ("Steps of conjugate gradients", _steps(lab))
    return drawn


def _stream(lab: Any) -> Any:
    found = lab.theory("streams")
    curves = {LABELS[n]: found[f"8.{n}.curve"] for n in NAMES}
    curves = {n: c.reshape(len(c), -1, SMOOTH).mean(axis=2) for n, c in curves.items()}
    steps = np.arange(next(iter(curves.values())).shape[1]) * SMOOTH + SMOOTH / 2
    title = "Mesa fits the first segment best and no other; local linear attention learns each anew"
    return curves_by_model(
        steps, curves, title=title, xlabel="pairs seen; a new segment every 128", ylabel="squared error", log_y=True
    )


def _rates(lab: Any) -> Any:
    found = lab.theory("rates")
    names = {
        f"{p}.{n}": f"{LABELS[n]}, {end} end"
        for p, end in (("low", "lower"), ("high", "upper"))
        for n in ("softmax", "lla")
    }
    return curves_by_model(
        found["sizes"],
        {label: found[f"{name}.risk"] for name, label in names.items()},
        predicted={label: found[f"{name}.expected"] for name, label in names.items()},
        title="At an edge with a slope a local line learns faster than a local mean (dotted: theory)",
        xlabel="points",
        ylabel="squared error at the edge",
        log_x=True,
        log_y=True,
    )


def _steps(lab: Any) -> Any:
    found = lab.theory("iterations")
    rows = {"worst row": "worst", "worst row from 256 on": "late", "median row": "median"}
    curves = {label: np.stack([found[f"{r:g}.{part}"] for r in RIDGES[::-1]], axis=1) for label, part in rows.items()}
    return curves_by_model(
        RIDGES[::-1],
        curves,
        title="Few rows need many steps: those with about as many keys as channels",
        xlabel="ridge",
        ylabel="steps to a relative error of 1e-3",
        log_x=True,
    )
