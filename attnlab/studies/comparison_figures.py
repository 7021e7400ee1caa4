"""Figures that every comparing study draws from its lab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.figures_comparison import curves_by_model


def losses(lab: Any, names: Sequence[str] = (), title: str = "Training loss", **options: Any) -> Figure:
    """The training loss of some runs (default: all that exist) over steps, one curve each.

    Runs of other lengths are drawn on the steps of the longest; each ends where it ended.
    """
    found = {name: lab.loss_curve(name) for name in names or lab.trained()}
    longest = max((steps for steps, _ in found.values()), key=lambda steps: steps[-1])
    curves = {}
    for name, (steps, values) in found.items():
        rows = [np.interp(longest, steps, row, right=np.nan) for row in values]
        curves[name] = np.stack(rows)
    return curves_by_model(longest, curves, title=title, xlabel="training step", ylabel="training loss", **options)
