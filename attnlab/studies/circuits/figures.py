"""Figures: effects of every head by task, overlap with its control, heads by type over training, losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.report.style import new_figure, style
from attnlab.studies.circuits import parts
from attnlab.studies.comparison_figures import losses

LABELS = {"indirect": "indirect object", "coloured": "coloured objects", "control": "Markov text"}


def figures(lab: Any) -> dict[str, Any]:
    """Of the runs that exist."""
    drawn = {}
    if "mixture" in lab.trained():
        drawn["f1-effects"] = ("Effect of every head, by task, first seed", _effects(lab))
        drawn["f2-overlap"] = ("Overlap of circuits", _overlap(lab))
        drawn["f3-shared"] = ("What the shared heads are for", _shared(lab))
        drawn["f4-heads"] = ("Heads by type over training, first seed", _heads(lab))
    if lab.trained():
        drawn["f5-losses"] = ("Training loss", losses(lab))
    return drawn


def _effects(lab: Any) -> Figure:
    """Rows: whole effect, direct effect. Columns: tasks. Cells: layer by head."""
    with style():
        figure = new_figure("The same heads carry both recall tasks, or they do not: the first seed", 8.6, 4.6)
        grid = figure.subplots(2, 3)
        for column, part in enumerate(parts.TASKS):
            for row, (told, values) in enumerate(
                (("patched", parts.effects(lab, part)), ("direct", parts.direct(lab, part)))
            ):
                axes, shown = grid[row, column], np.asarray(values[0])
                bound = max(float(np.nanmax(np.abs(shown))), 1e-9)
                image = axes.imshow(shown, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
                axes.set_title(f"{LABELS[part]}, {told}", fontsize=8)
                axes.set_xticks(range(shown.shape[1]))
                axes.set_yticks(range(shown.shape[0]))
                figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
        for axes in grid[-1]:
            axes.set_xlabel("head")
        for axes in grid[:, 0]:
            axes.set_ylabel("layer")
        return figure


def _overlap(lab: Any) -> Figure:
    pairs = (("indirect", "coloured"), ("indirect", "control"), ("coloured", "control"))
    found = {f"{LABELS[a]} and {LABELS[b]}": parts.jaccard(lab, a, b) for a, b in pairs}
    chance = parts.overlaps(lab, *pairs[0])[0].chance_jaccard
    quantity = "Jaccard index of circuits"
    title = f"Circuits of {parts.size_of(lab)} heads: what two tasks share, beside what a control shares with them"
    return seeds_by_model({quantity: found}, title=title, levels={quantity: {"chance": chance}})


def _shared(lab: Any) -> Figure:
    panels = {
        f"{LABELS[part]}: {'nats more' if part == 'control' else 'accuracy lost'}": {
            told: parts.without(lab, which, part)
            for which, told in (("shared", "shared heads"), ("random", "as many others"))
        }
        for part in parts.TASKS
    }
    return seeds_by_model(panels, title="Heads in both circuits, set to their means, and as many of the same layers")


def _heads(lab: Any) -> Figure:
    heads = lab.run("mixture").trajectory["heads"]
    curves = {}
    for score in ("previous", "duplicate", "induction"):
        best = np.asarray(heads[score].transpose("seed", "step", "layer", "head"))
        curves[f"{score} token"] = best.reshape(*best.shape[:2], -1).max(axis=-1)
    return curves_by_model(
        1 + np.asarray(heads["step"]), curves, title="The best head of each type over training",
        xlabel="1 + training step", ylabel="share of attention", log_x=True,
    )  # fmt: skip
