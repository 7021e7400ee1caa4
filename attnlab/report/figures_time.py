"""Figures over training: the dynamics of a run, residual norms, any measured curve against its prediction."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlab.report.style import (
    INK,
    MUTED,
    ORDINARY,
    PALETTE,
    SINK,
    TRIGGER,
    VERMILLION,
    as_axis,
    as_curves,
    check,
    direct_labels,
    draw_curves,
    event_lines,
    horizontal,
    last_finite,
    log_axis,
    new_figure,
    over_seeds,
    short_step,
    split_steps,
    style,
)
from attnlab.report.tables import format_number, show_token


def dynamics(
    steps: Any,
    curves: Mapping[str, Any],
    *,
    normalised: bool = False,
    split: SupportsFloat | None = 1000,
    log_y: Collection[str] = (),
    events: Mapping[str, SupportsFloat] | None = None,
    levels: Mapping[str, Mapping[str, SupportsFloat]] | None = None,
    predicted: Mapping[str, Any] | None = None,
    title: str = "Training dynamics",
) -> Figure:
    """Several measured curves over training steps (figures F4 and F5).

    Args:
      steps: [N], increasing.
      curves: name -> [S, N]; put the unit into the name.
      normalised: True draws all curves into one panel, each over its own largest median (written in its label);
        False draws one panel per curve, with its own axis.
      split: the step where the axis turns from linear to logarithmic; None for a linear axis.
      log_y: names of curves with a logarithmic axis (only without `normalised`).
      events: name -> step, vertical lines.
      levels: curve -> {label: value}, theoretical levels such as the attention-free plateau.
      predicted: curve -> [N], theory drawn as a dashed line.
      title: the finding.

    Returns:
      The figure: lines are medians, bands the range over seeds, thin lines single seeds.
    """
    x = as_axis(steps, "steps")
    check(curves, "curves", "empty", "name -> [S, N]", "Give at least one curve.")
    data = {name: as_curves(values, f"curves[{name!r}]", x.size) for name, values in curves.items()}
    heights = {n: {label: float(v) for label, v in group.items()} for n, group in (levels or {}).items()}
    marks = {name: float(step) for name, step in (events or {}).items()}
    guesses = {n: as_curves(v, f"predicted[{n!r}]", x.size)[0] for n, v in (predicted or {}).items()}
    for field, names in (("log_y", log_y), ("levels", heights), ("predicted", guesses)):
        extra = sorted(set(names) - set(data))
        check(not extra, field, extra, f"names of curves, {list(data)}", "Rename or remove them.")
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(data)}
    with style():
        if normalised:
            return _overlay(x, data, colours, split, marks, heights, guesses, title)
        return _panels(x, data, colours, split, log_y, marks, heights, guesses, title)


def _overlay(
    x: np.ndarray,
    data: dict[str, np.ndarray],
    colours: dict[str, str],
    split: SupportsFloat | None,
    events: dict[str, float],
    levels: dict[str, dict[str, float]],
    guesses: dict[str, np.ndarray],
    title: str,
) -> Figure:
    figure = new_figure(title, 8.6, 4.1)
    axes = figure.subplots()
    split_steps(axes, float(x[-1]), split)
    labels, lowest, highest = [], 0.0, 1.0
    for name, values in data.items():
        median = over_seeds(values)[0]
        scale = float(np.nanmax(np.abs(median))) if np.isfinite(median).any() else 1.0
        scale = scale or 1.0
        draw_curves(axes, x, values / scale, colours[name], thin=False)
        lowest = min(lowest, float(np.nanmin(median / scale, initial=0.0)))
        labels.append((last_finite(median / scale), f"{name}\n÷ {format_number(scale, 3)}", colours[name]))
        if name in guesses:
            axes.plot(x, guesses[name] / scale, color=colours[name], linewidth=1.2, linestyle=(0, (4, 2)))
            highest = max(highest, float(np.nanmax(guesses[name] / scale, initial=0.0)))
        for label, value in levels.get(name, {}).items():
            horizontal(axes, value / scale, f"{label} {format_number(value)}", colours[name])
            highest = max(highest, value / scale)
    event_lines(axes, events)
    axes.set_ylim(lowest - 0.03, 1.08 * highest)
    axes.set_ylabel("each curve over its largest median")
    axes.set_xlabel("training step")
    _seed_note(axes, data, pad=16 if events or split is not None else 7)
    direct_labels(axes, labels, 3.1, size=8)
    return figure


def _panels(
    x: np.ndarray,
    data: dict[str, np.ndarray],
    colours: dict[str, str],
    split: SupportsFloat | None,
    log_y: Collection[str],
    events: dict[str, float],
    levels: dict[str, dict[str, float]],
    guesses: dict[str, np.ndarray],
    title: str,
) -> Figure:
    columns = 1 if len(data) == 1 else 2 if len(data) <= 4 else 3
    rows = math.ceil(len(data) / columns)
    figure = new_figure(title, 0.8 + 3.1 * columns, 0.7 + 2.1 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, values) in zip(grid, data.items(), strict=False):
        split_steps(axes, float(x[-1]), split, mark=any(axes is first for first in grid[:columns]))
        draw_curves(axes, x, values, colours[name])
        if name in guesses:
            axes.plot(x, guesses[name], color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label="theory")
            axes.legend(loc="best")
        for label, value in levels.get(name, {}).items():
            horizontal(axes, value, f"{label} {format_number(value)}")
        if name in log_y:
            log_axis(axes, "y")
        top = any(axes is first for first in grid[:columns])
        axes.set_title(
            name, color=colours[name], fontweight="bold", pad=16 if top and (events or split is not None) else 7
        )
        event_lines(axes, events, label=top)
    for axes in grid[len(data) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(data) - columns) : len(data)]:
        axes.set_xlabel("training step")
    seeds = max(len(values) for values in data.values())
    if seeds > 1:
        note = f"lines: median of {seeds} seeds; bands: range" + ("; thin lines: seeds" if seeds <= 8 else "")
        figure.supxlabel(note, x=0.99, ha="right", fontsize=7.5, color=MUTED)
    return figure


def _seed_note(axes: Axes, data: Mapping[str, np.ndarray], pad: int = 7) -> None:
    seeds = max(len(values) for values in data.values())
    if seeds > 1:
        axes.set_title(f"lines: median of {seeds} seeds, bands: range", color=MUTED, fontsize=8, pad=pad)


def residual_norms(
    steps: Any,
    norms: Any,
    labels: Sequence[str],
    *,
    triggers: Collection[str] = (),
    sink: str = "<s>",
    fit: bool = True,
    split: SupportsFloat | None = None,
    title: str | None = None,
) -> Figure:
    """Residual norm of each token over training (figure F9): is the sink token an outlier, is growth linear?

    Args:
      steps: [N], increasing.
      norms: [S, N, V] or [N, V]; the median over seeds is drawn for each token.
      labels: V tokens (or names of groups of tokens).
      triggers: tokens drawn in red.
      sink: token drawn thick in blue.
      fit: draw the least-squares line through the sink's curve over the second half of the steps.
      split: see `dynamics`.
      title: the finding; by default sink over median of the others at the last step.

    Returns:
      The figure.
    """
    x = as_axis(steps, "steps")
    values = np.asarray(norms, dtype=np.float64)
    values = values[None] if values.ndim == 2 else values
    check(
        values.ndim == 3 and values.shape[1:] == (x.size, len(labels)),
        "norms",
        f"of shape {values.shape}",
        f"[S, {x.size}, {len(labels)}]",
        "Order the axes as seeds, steps, tokens.",
    )
    median, low, high = over_seeds(values)
    others = [i for i, token in enumerate(labels) if token != sink and token not in triggers]
    level = float(np.nanmedian(median[-1, others])) if np.isfinite(median[-1, others]).any() else math.nan
    with style():
        where = list(labels).index(sink) if sink in labels else None
        ratio = median[-1, where] / level if where is not None and level else math.nan
        finding = f"Step {short_step(x[-1])}: residual norm of {sink} is {ratio:.2f} × the ordinary median"
        figure = new_figure(title or (finding if math.isfinite(ratio) else "Residual norms"), 7.6, 4.0)
        axes = figure.subplots()
        split_steps(axes, float(x[-1]), split)
        ends = []
        for index, token in enumerate(labels):
            colour, width = (TRIGGER, 1.2) if token in triggers else (ORDINARY, 0.7)
            if index != where:
                axes.plot(x, median[:, index], color=colour, linewidth=width, alpha=0.9 if token in triggers else 0.65)
                ends.append((last_finite(median[:, index]), show_token(token), colour if token in triggers else MUTED))
        if where is not None:
            axes.fill_between(x, low[:, where], high[:, where], color=SINK, alpha=0.15, linewidth=0)
            axes.plot(x, median[:, where], color=SINK, linewidth=2.4)
            late = slice(x.size // 2, None)
            if fit and np.isfinite(median[late, where]).all() and x[late].size >= 3 and np.ptp(median[late, where]) > 0:
                slope, start = np.polyfit(x[late], median[late, where], 1)
                r = float(np.corrcoef(x[late], median[late, where])[0, 1])
                text = f"line through {sink}: {format_number(slope, 3)} per step, r = {r:.3f}"
                axes.plot(x[late], start + slope * x[late], color=INK, linewidth=1.1, linestyle=(0, (4, 2)), label=text)
        axes.plot([], [], color=ORDINARY, linewidth=1, label="ordinary tokens")
        if triggers:
            axes.plot([], [], color=TRIGGER, linewidth=1.2, label="triggers")
        axes.legend(loc="upper left")
        # Labels for the sink, the triggers and the extremes; every token would be a blur.
        ends.sort(key=lambda end: end[0] if math.isfinite(end[0]) else -math.inf)
        kept = [end for end in ends if end[2] == TRIGGER][:5]
        ordinary = [end for end in ends if end[2] != TRIGGER]
        kept += ordinary if len(ordinary) <= 12 else ordinary[:1] + ordinary[-2:]
        axes.set_ylim(0, None)
        axes.set_xlabel("training step")
        axes.set_ylabel("residual norm" + (f" (median of {len(values)} seeds)" if len(values) > 1 else ""))
        if where is not None:
            kept.append((last_finite(median[:, where]), show_token(sink), SINK))
        direct_labels(axes, kept, 3.2)
        return figure


def theory_vs_measured(
    x: Any,
    measured: Any,
    predicted: Any,
    *,
    band: tuple[Any, Any] | None = None,
    xlabel: str = "training step",
    ylabel: str = "value",
    log: str = "",
    title: str = "Theory and measurement",
) -> Figure:
    """One measured quantity with its prediction, and below it the difference (any claim that is a curve).

    Args:
      x: [N], increasing.
      measured: [S, N] or [N].
      predicted: [N].
      band: lower and upper edge of the prediction, each [N].
      xlabel: name and unit of x.
      ylabel: name and unit of the quantity.
      log: axes that are logarithmic: `""`, `"x"`, `"y"` or `"xy"`; with `"y"` the lower panel shows the ratio.
      title: the finding.

    Returns:
      The figure.
    """
    check(log in ("", "x", "y", "xy"), "log", repr(log), "'', 'x', 'y', 'xy'", "Name the axes.")
    at = as_axis(x, "x")
    values = as_curves(measured, "measured", at.size)
    guess = as_curves(predicted, "predicted", at.size)[0]
    with style():
        figure = new_figure(title, 6.8, 4.4)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.1))
        for axes, shift in ((upper, False), (lower, True)):
            base = guess if shift else (np.ones_like(guess) if "y" in log else np.zeros_like(guess))
            relative = (lambda v, b=base: v / b) if "y" in log else (lambda v, b=base: v - b)
            with np.errstate(divide="ignore", invalid="ignore"):
                if band is not None:
                    edges = [as_curves(edge, "band", at.size)[0] for edge in band]
                    axes.fill_between(at, relative(edges[0]), relative(edges[1]), color=INK, alpha=0.12, linewidth=0)
                draw_curves(axes, at, relative(values), VERMILLION)
                axes.plot(at, relative(guess), color=INK, linewidth=1.3, linestyle=(0, (4, 2)))
        if "x" in log:
            upper.set_xlim(at[0], at[-1])
            log_axis(upper, "x", short_step)
        if "y" in log:
            log_axis(upper, "y")
        seeds = f"measured ({len(values)} seeds)" if len(values) > 1 else "measured"
        upper.set_ylabel(ylabel)
        lower.set_ylabel("ratio to theory" if "y" in log else "difference")
        lower.set_xlabel(xlabel)
        ends = [(last_finite(over_seeds(values)[0]), seeds, VERMILLION), (last_finite(guess), "theory", INK)]
        direct_labels(upper, ends, 2.6)
        figure.align_ylabels([upper, lower])
        return figure
