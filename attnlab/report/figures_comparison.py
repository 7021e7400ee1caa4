"""Figures that lay many models side by side: a value per model with its seeds, a curve per model."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, SupportsFloat

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.style import (
    BLUE,
    INK,
    MUTED,
    PALETTE,
    as_axis,
    as_curves,
    check,
    direct_labels,
    draw_curves,
    last_finite,
    log_axis,
    new_figure,
    over_seeds,
    style,
)
from attnlab.report.tables import format_number

_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))  # a second and third round of the palette


def seeds_by_model(
    panels: Mapping[str, Mapping[str, Any]],
    *,
    title: str,
    log: tuple[str, ...] = (),
    levels: Mapping[str, Mapping[str, SupportsFloat]] | None = None,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """One panel per quantity, one row per model: the median as a mark, the range as a line, every seed as a dot.

    Args:
      panels: quantity (with its unit) -> model -> `[S]`; all panels with the same models. NaN seeds are left out.
      title: the finding.
      log: quantities on a logarithmic axis.
      levels: quantity -> label -> value, theoretical levels.
      colours: model -> colour, in place of one colour for all.
    """
    check(panels, "panels", "empty", "quantity -> model -> [S]", "Give at least one quantity.")
    names = list(next(iter(panels.values())))
    for quantity, rows in panels.items():
        check(list(rows) == names, f"panels[{quantity!r}]", list(rows), f"the models {names}", "Give all in one order.")
    wide = max(len(name) for name in names)
    with style():
        columns = min(4, len(panels))
        rows_of_panels = -(-len(panels) // columns)
        height = 0.5 + rows_of_panels * (0.75 + 0.24 * len(names))
        figure = new_figure(title, 0.6 + 0.075 * wide + 2.9 * columns, height)
        places = figure.subplots(rows_of_panels, columns, sharey=True, squeeze=False)
        grid = places.ravel()[: len(panels)]
        for empty in places.ravel()[len(panels) :]:
            empty.set_axis_off()
        for axes, (quantity, rows) in zip(grid, panels.items(), strict=True):
            for place, name in enumerate(names):
                values = np.atleast_1d(np.asarray(rows[name], float))
                values = values[np.isfinite(values)]
                colour = (colours or {}).get(name, BLUE)
                if not len(values):
                    continue
                axes.plot([values.min(), values.max()], [place, place], color=colour, linewidth=1.3, alpha=0.5)
                axes.plot(values, np.full(len(values), place), ".", color=colour, markersize=4, alpha=0.7)
                axes.plot([np.median(values)], [place], "|", color=colour, markersize=11, markeredgewidth=2.2)
            for number, (label, level) in enumerate((levels or {}).get(quantity, {}).items()):
                axes.axvline(float(level), color=INK, linewidth=1.0, linestyle=_DASHES[1 + number % 2])
                axes.annotate(
                    f"{label} {format_number(float(level), 3)}", (float(level), 1.0), (2, 1),
                    xycoords=("data", "axes fraction"), textcoords="offset points",
                    fontsize=7, color=MUTED, va="bottom",
                )  # fmt: skip
            if quantity in log:
                log_axis(axes, "x")
            axes.set_xlabel(textwrap.fill(quantity, 42))
            axes.grid(axis="y", visible=False)
        grid[0].set_yticks(range(len(names)), names)
        grid[0].set_ylim(len(names) - 0.4, -0.6)  # shared by all panels
        return figure


def curves_by_model(
    x: Any,
    curves: Mapping[str, Any],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    log_y: bool = False,
    marks: bool = False,
    levels: Mapping[str, SupportsFloat] | None = None,
    predicted: Mapping[str, Any] | None = None,
) -> Figure:
    """A curve per model over one axis: medians as lines, ranges over seeds as bands, names at their ends.

    Args:
      x: `[N]`, increasing. curves: model -> `[S, N]` or `[N]`.
      title: the finding. xlabel, ylabel: with units. marks: a dot and a tick at every point, where they are few.
      levels: label -> height, horizontal lines. predicted: model -> `[N]`, theory, drawn dotted in its colour.
    """
    steps = as_axis(x, "x")
    data = {name: as_curves(values, f"curves[{name!r}]", steps.size) for name, values in curves.items()}
    check(data, "curves", "empty", "model -> [S, N]", "Give at least one curve.")
    with style():
        figure = new_figure(title, 8.6, max(3.8, 1.0 + 0.24 * len(data)))
        axes = figure.subplots()
        labels, dots = [], {"marker": "o", "markersize": 4} if marks else {}
        for number, (name, values) in enumerate(data.items()):
            colour, dash = PALETTE[number % len(PALETTE)], _DASHES[number // len(PALETTE) % len(_DASHES)]
            median = draw_curves(axes, steps, values, colour, thin=False, linestyle=dash, **dots)
            labels.append((last_finite(median), name, colour))
            if predicted and name in predicted:
                axes.plot(steps, np.asarray(predicted[name], float), color=colour, linewidth=1.1, linestyle=(0, (1, 2)))
        for label, level in (levels or {}).items():
            axes.axhline(float(level), color=MUTED, linewidth=1.0, linestyle=_DASHES[1])
            axes.annotate(
                f"{label} {format_number(float(level), 3)}", (0.0, float(level)), (3, 2),
                xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=7.5, color=MUTED,
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}, zorder=5,
            )  # fmt: skip
        if log_x:
            log_axis(axes, "x")
        if log_y:
            log_axis(axes, "y")
        if marks:
            axes.set_xticks(steps, [f"{x:g}" for x in steps])
            axes.set_xticks([], minor=True)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        _limits(axes, data, log_y)
        direct_labels(axes, labels, max(2.6, 0.2 * len(data)), size=8)
        return figure


def _limits(axes: Any, data: Mapping[str, np.ndarray], log_y: bool) -> None:
    """Fix the vertical limits before labels are placed, so that they do not move under them."""
    medians = np.concatenate([over_seeds(values)[0] for values in data.values()])
    finite = medians[np.isfinite(medians)]
    if len(finite) and not log_y:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high)
