"""Figures: accuracies of injections, what head outputs depend on, learned amounts, losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.figures_comparison import seeds_by_model
from attnlab.report.style import SEQUENTIAL, new_figure, style
from attnlab.studies.comparison_figures import losses

ROWS = {
    "zero": "query alone",
    "full": "all heads, amount 1",
    "injected": "learned amounts",
    "after_last": "amounts of the last step",
    "high": "heads above ½ only",
    "low": "heads below ½ only",
    "one_high": "heads above ½, amount 1",
    "one_low": "heads below ½, amount 1",
    "other": "amounts of another map",
    "wrong": "vectors of another map",
}


def figures(lab: Any) -> Mapping[str, Any]:
    """What can be drawn of the runs."""
    names = lab.trained()
    if len(names) < 2:
        return {}
    return {
        "f1-accuracy": ("Accuracy with vectors in place of examples", _accuracy(lab, names)),
        "f2-parts": ("What head outputs at the query depend on", _depends(lab, names)),
        "f3-amounts": ("Learned amounts, first seeds of the model `even`", _amounts(lab)),
        "f4-losses": (
            "Training loss",
            losses(lab, levels={"family": lab.experiments["even"].task.plateaus["family"].loss}),
        ),
    }


def _accuracy(lab: Any, names: list[str]) -> Figure:
    from attnlab.studies.task_vectors import site

    panels = {
        f"{name}: accuracy on symbols kept apart": {
            "with examples": site.in_context(lab, name),
            "vectors of the same query": site.own(lab, name),
            **{told: site.mean(lab, name, row) for row, told in ROWS.items()},
        }
        for name in names
    }
    levels = {quantity: {"family known": site.chance(lab)} for quantity in panels}
    title = "A vector replaces examples where heads cannot choose by the query, and not where they can"
    return seeds_by_model(panels, title=title, levels=levels)


def _depends(lab: Any, names: list[str]) -> Figure:
    from attnlab.studies.task_vectors import site

    panels = {}
    for name in names:
        got = site.parts(lab, name)
        whole = got["map"] + got["query"] + got["both"]
        panels[f"{name}: share of the variance, second layer"] = {
            told: (got[key] / whole)[:, -1]
            for key, told in (("map", "map alone"), ("query", "query alone"), ("both", "both together"))
        }
    return seeds_by_model(panels, title="Outputs of the second layer's heads at the query, over maps and queries")


def _amounts(lab: Any) -> Figure:
    """Rows: layer and head. Columns: maps. A panel per seed."""
    from attnlab.studies.task_vectors import site

    amounts = np.asarray(site.site(lab, "even").amounts)[:5]
    seeds, maps, layers, heads = amounts.shape
    with style():
        figure = new_figure("Which heads take the vector in: learned amounts by map", 2.6 + 1.3 * seeds, 3.4)
        grid = figure.subplots(1, seeds, sharey=True, squeeze=False)[0]
        for number, axes in enumerate(grid):
            shown = amounts[number].reshape(maps, -1).T
            image = axes.imshow(shown, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
            axes.set_title(f"seed {lab.first_seed + number}")
            axes.set_xlabel("map")
            axes.grid(visible=False)
        names = [f"layer {layer} head {head}" for layer in range(layers) for head in range(heads)]
        grid[0].set_yticks(range(len(names)), names)
        figure.colorbar(image, ax=grid[-1], fraction=0.08)
        return figure
