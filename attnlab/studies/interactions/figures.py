"""Figures: parts of gates and of GridQA, bounds on random laws, dividends of the trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.figures_comparison import seeds_by_model
from attnlab.report.style import BLUE, GREEN, INK, PALETTE, VERMILLION, new_figure, style

PARTS = ("redundant", "unique 1", "unique 2", "synergy")


def figures(lab: Any) -> Mapping[str, Any]:
    """What can be drawn of the runs that exist."""
    found = {"f1-parts": ("What two sources say of a target", _parts(lab)), "f2-bounds": ("Bounds", _bounds(lab))}
    if "model" in lab.trained():
        found["f3-evidence"] = ("Interaction of patch and question, first seed", _evidence(lab))
        found["f4-dividends"] = ("Dividends of the trained model", _dividends(lab))
    return found


def _parts(lab: Any) -> Figure:
    """Stacked bars: gates, then the variants of GridQA (1 is the image, 2 the question)."""
    gates, grid = lab.theory("gates"), lab.theory("grid")
    rows = {name: gates[name] for name in ("RDN", "UNQ", "COPY", "XOR", "AND", "OR")}
    rows |= {f"GridQA: {name}": grid[name] for name in ("image", "question", "both")}
    with style():
        figure = new_figure("A question that picks an object is half synergy: the image alone says half", 8.6, 3.6)
        axes = figure.subplots()
        left = np.zeros(len(rows))
        for number, part in enumerate(PARTS):
            values = np.array([row[number] for row in rows.values()])
            axes.barh(range(len(rows)), values, left=left, color=PALETTE[number], label=part, height=0.65)
            left = left + values
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.set_xlabel("bits (1: first source, the image; 2: second source, the question)")
        axes.grid(axis="y", visible=False)
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return figure


def _bounds(lab: Any) -> Figure:
    """Each bound against the synergy of random laws; on the wrong side of the line it is crossed."""
    found = lab.theory("bounds")
    shown = {"upper": GREEN, "agreement": BLUE, "c=1/4": PALETTE[4], "c=1": VERMILLION}
    with style():
        title = f"Random laws of three bits: with c = 1 the bound is crossed {found['c=1']} times, the others never"
        figure = new_figure(title, 8.6, 3.4)
        for axes, (name, colour) in zip(figure.subplots(1, 4, sharex=True), shown.items(), strict=True):
            axes.plot(found["synergy"], found["values"][name], ".", color=colour, markersize=2, alpha=0.5)
            most = float(found["synergy"].max())
            axes.plot([0, most], [0, most], color=INK, linewidth=0.8)
            axes.set_title(f"{name}: crossed {found[name]}")
            axes.set_xlabel("synergy, bits")
        figure.axes[0].set_ylabel("bound, bits")
        return figure


def _evidence(lab: Any) -> Figure:
    from attnlab.studies.interactions import segments

    got = segments.found(lab)
    evidence, own, conflict = (got[name][0] for name in ("evidence", "asked", "conflict"))
    with style():
        r = segments.correlation(lab, "asked")[0]
        title = f"I(patch asked for, question) is the evidence that the exact law uses (r = {r:.2f})"
        figure = new_figure(title, 6.4, 4.2)
        axes = figure.subplots()
        for told, where, colour in (("consistent", ~conflict, BLUE), ("conflict", conflict, VERMILLION)):
            axes.plot(evidence[where], own[where], ".", color=colour, markersize=4, alpha=0.6, label=told)
        ends = np.array([evidence.min(), evidence.max()])
        axes.plot(ends, ends, color=INK, linewidth=0.9, linestyle="--")
        axes.set_xlabel("(y_c − mean of the others) / σ²")
        axes.set_ylabel("dividend of {patch, question}, logits")
        axes.legend()
        return figure


def _dividends(lab: Any) -> Figure:
    from attnlab.studies.interactions import segments

    got = segments.found(lab)
    quantity = "mean |I|, logits"
    rows = {
        "patch asked for and question": np.abs(got["asked"]).mean(axis=1),
        "another patch and question": got["pair"].mean(axis=1),
        "all other coalitions": got["rest"].mean(axis=1),
    }
    rows |= {
        f"question and {n} patches, all": got["by_size"][:, :, n].mean(axis=1) for n in range(got["by_size"].shape[2])
    }
    return seeds_by_model({quantity: rows}, title="One interaction stands out: the patch that the question names")
