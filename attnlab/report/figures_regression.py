"""Figures of risks: against context length, in the proportional limit; and how concentrated softmax is."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from attnlab.report.style import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    as_axis,
    as_curves,
    check,
    direct_labels,
    horizontal,
    log_axis,
    new_figure,
    over_seeds,
    short_step,
    style,
)
from attnlab.report.tables import format_number

_DASHED = (0, (4, 2))
MARKERS = ("o", "s", "^", "D", "v", "P")
Points = Mapping[str, tuple[Any, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class RiskPanel:
    """One panel of `risk_panels`.

    Args:
      measured: name -> (x `[N]`, values `[S, N]` or `[N]`): points at the median over seeds, bars for the range.
      theory: name -> (x `[M]`, values `[M]`): lines. A name that is in `measured` too has its colour.
      published: name -> (x `[K]`, values `[K]`): large open circles, in the colour of that name.
      errors: name in `measured` -> `[N]`, half the length of the bar where there is one row only.
      levels: label -> value, dashed lines across.
      dashed: names whose lines are dashed, drawn above the others.
      dodge: distance by which points of one x are moved apart.
      log_x, log_y: logarithmic axes.
      ylabel, xlabel, note: what is drawn; the note is written under the panel's title.
    """

    measured: Points = dataclasses.field(default_factory=dict)
    theory: Points = dataclasses.field(default_factory=dict)
    published: Points = dataclasses.field(default_factory=dict)
    errors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    levels: Mapping[str, SupportsFloat] = dataclasses.field(default_factory=dict)
    dashed: Collection[str] = ()
    dodge: float = 0.0
    log_x: bool = False
    log_y: bool = False
    ylabel: str = "risk"
    xlabel: str = "pairs in the context L"
    note: str = ""


def risk_panels(
    panels: Mapping[str, RiskPanel], *, colours: Sequence[str] = PALETTE, title: str = "Risk against context length"
) -> Figure:
    """Measured risks as points, theory as lines, published values as open circles; one legend for all panels.

    Args:
      panels: title of a panel -> what is in it.
      colours: of the names, in the order in which they appear.
      title: the finding.

    Returns:
      The figure.
    """
    check(panels, "panels", "empty", "title -> RiskPanel", "Give one at least.")
    names = list(dict.fromkeys(n for p in panels.values() for n in (*p.measured, *p.theory, *p.published)))
    check(names, "panels", list(panels), "panels with points or lines", "Fill measured or theory.")
    look = {n: (colours[i % len(colours)], MARKERS[i % len(MARKERS)]) for i, n in enumerate(names)}
    with style():
        figure = new_figure(title, 5.6 if len(panels) == 1 else min(11.0, 4.9 * len(panels)), 4.3)
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, panel) in zip(row, panels.items(), strict=True):
            _risk_panel(axes, name, panel, look)
        handles = []
        for name, (colour, marker) in look.items():
            pointed = any(name in p.measured for p in panels.values())
            lined = any(name in p.theory for p in panels.values())
            dash = _DASHED if any(name in p.dashed for p in panels.values()) else "-"
            line, point = (dash if lined else "none"), (marker if pointed else "none")
            handles.append(Line2D([], [], color=colour, linestyle=line, marker=point, markersize=4.5, label=name))
        if any(p.published for p in panels.values()):
            open_ring = {"marker": "o", "linestyle": "none", "markersize": 8, "markerfacecolor": "none"}
            handles.append(Line2D([], [], markeredgecolor=MUTED, label="published", **open_ring))
        kinds = [any(getattr(p, k) for p in panels.values()) for k in ("measured", "theory")]
        heading = "; ".join(t for t, has in zip(("points: measured", "lines: theory"), kinds, strict=True) if has)
        columns = max(2, int(figure.get_figwidth() / 2.3))
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)))
        legend.set_title(heading)
        legend.get_title().set(color=MUTED, fontsize=8)
        return figure


def _risk_panel(axes: Axes, name: str, panel: RiskPanel, look: Mapping[str, tuple[str, str]]) -> None:
    extra = sorted(set(panel.errors) - set(panel.measured))
    check(not extra, f"errors of panel {name!r}", extra, f"names of measured, {list(panel.measured)}", "Rename them.")
    for series, (x, values) in panel.theory.items():
        field = f"theory[{series!r}] of panel {name!r}"
        at = as_axis(x, f"x of {field}")
        dash, height = (_DASHED, 2.2) if series in panel.dashed else ("-", 2)
        curve = as_curves(values, field, at.size)[0]
        axes.plot(at, curve, color=look[series][0], linewidth=1.5, linestyle=dash, zorder=height)
    for series, (x, values) in panel.published.items():
        at, given = as_axis(x, f"x of published[{series!r}] of panel {name!r}"), np.asarray(values, dtype=np.float64)
        field = f"published[{series!r}] of panel {name!r}"
        check(given.shape == at.shape, field, f"of shape {given.shape}", f"[{at.size}]", "Give one value per x.")
        ring = {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.0}
        axes.plot(at, given, "o", markeredgecolor=look[series][0], alpha=0.75, zorder=3, **ring)
    for number, (series, (x, values)) in enumerate(panel.measured.items()):
        field = f"measured[{series!r}] of panel {name!r}"
        at = as_axis(x, f"x of {field}")
        rows = as_curves(values, field, at.size)
        median, low, high = over_seeds(rows)
        if len(rows) == 1 and series in panel.errors:
            half = as_curves(panel.errors[series], f"errors[{series!r}] of panel {name!r}", at.size)[0]
            low, high = median - half, median + half
        colour, marker = look[series]
        moved = at + panel.dodge * (number - (len(panel.measured) - 1) / 2)
        axes.errorbar(
            moved, median, yerr=[median - low, high - median], fmt=marker, color=colour, markersize=4.2, elinewidth=1.0,
            capsize=2.2, zorder=4,
        )  # fmt: skip
    for label, value in panel.levels.items():
        horizontal(axes, value, label, MUTED, align="left")
    if panel.log_x:
        log_axis(axes, "x")
    if panel.log_y:
        log_axis(axes, "y")
    axes.set_title(name + (f"\n{panel.note}" if panel.note else ""))
    axes.set_xlabel(panel.xlabel)
    axes.set_ylabel(panel.ylabel)


def limit_curves(
    xi: Any,
    descent: Mapping[str, Any],
    bayes: Mapping[str, Any],
    points: Points | None = None,
    *,
    xlabel: str = "ξ = d / L",
    title: str = "One step of gradient descent against Bayes in the proportional limit",
) -> Figure:
    """Two risks in the proportional limit, one colour per noise level, and their ratio with finite sizes as points.

    Args:
      xi: `[N]` positive, `d / L`.
      descent: noise level -> risk of the step `[N]` (solid lines).
      bayes: noise level -> Bayes risk `[N]` (dashed lines).
      points: noise level -> (xi `[K]`, measured ratio `[K]`; NaN is left out).
      xlabel: what `xi` is.
      title: the finding.

    Returns:
      The figure with two panels.
    """
    x = as_axis(xi, "xi")
    check(x[0] > 0, "xi[0]", x[0], "> 0, the axis is logarithmic", "Drop 0.")
    check(descent and set(descent) == set(bayes), "bayes", list(bayes), f"the names of descent, {list(descent)}", "")
    extra = sorted(set(points or {}) - set(descent))
    check(not extra, "points", extra, f"the names of descent, {list(descent)}", "Rename them.")
    with style():
        figure = new_figure(title, 9.4, 3.9)
        left, right = figure.subplots(1, 2)
        for index, name in enumerate(descent):
            colour = PALETTE[index % len(PALETTE)]
            step = as_curves(descent[name], f"descent[{name!r}]", x.size)[0]
            best = as_curves(bayes[name], f"bayes[{name!r}]", x.size)[0]
            left.plot(x, step, color=colour, label=name)
            left.plot(x, best, color=colour, linestyle=_DASHED)
            right.plot(x, step / best, color=colour)
            if points and name in points:
                at, ratio = (np.asarray(v, dtype=np.float64) for v in points[name])
                ok = at.shape == ratio.shape
                check(ok, f"points[{name!r}]", f"of shapes {at.shape} and {ratio.shape}", "[K] twice", "Pair them.")
                right.plot(at, ratio, MARKERS[index % len(MARKERS)], color=colour, markersize=4.5)
        for axes in (left, right):
            axes.set_xlim(x[0], x[-1])
            log_axis(axes, "x")
            axes.set_xlabel(xlabel)
        log_axis(left, "y")
        left.set_title("risk: solid one step, dashed Bayes")
        right.set_title("risk of the step over Bayes" + ("; points: finite size" if points else ""))
        right.axhline(1, color=MUTED, linewidth=0.8)
        left.legend(loc="best")
        return figure


def concentration_theory(
    prompts: Mapping[str, tuple[Any, Any]],
    heads: Mapping[str, tuple[Any, Any]],
    *,
    formula: str = "exp(d ω²) / L",
    title: str = "How concentrated softmax is: ‖softmax‖² against theory",
) -> Figure:
    """`‖softmax‖²` over prompts as histograms, and its mean for every head and seed against a formula.

    Args:
      prompts: name -> (values `[P]`, predicted value): one histogram per name, of one head.
      heads: name of a run -> (predicted `[S, H]`, measured mean `[S, H]`): points, which lie on the diagonal if the
        formula holds.
      formula: what is predicted.
      title: the finding.

    Returns:
      The figure with two panels.
    """
    check(prompts and heads, "prompts and heads", (list(prompts), list(heads)), "one of each at least", "Add them.")
    with style():
        figure = new_figure(title, 9.6, 4.0)
        left, right = figure.subplots(1, 2)
        rows = {n: (np.ravel(np.asarray(v, dtype=np.float64)), float(p)) for n, (v, p) in prompts.items()}
        good = [v[np.isfinite(v) & (v > 0)] for v, _ in rows.values()]
        for (name, (values, _)), positive in zip(rows.items(), good, strict=True):
            check(positive.size, f"prompts[{name!r}]", f"of {values.size} values", "positive numbers [P]", "Drop 0.")
        every = np.concatenate(good)
        bins = np.geomspace(every.min() / 1.05, every.max() * 1.05, 60)
        for index, ((name, (_, predicted)), positive) in enumerate(zip(rows.items(), good, strict=True)):
            colour = PALETTE[index % len(PALETTE)]
            weights = np.full(positive.size, 1 / positive.size)
            left.hist(positive, bins, weights=weights, histtype="stepfilled", color=colour, alpha=0.35, label=name)  # type: ignore[arg-type]
            left.axvline(predicted, color=colour, linewidth=1.4, linestyle=_DASHED)
            left.axvline(float(positive.mean()), color=colour, linewidth=1.4)
        log_axis(left, "x")
        left.set_xlabel("‖softmax‖² of a prompt")
        left.set_ylabel("share of prompts")
        left.set_title(f"dashed: {formula}; solid: mean over prompts")
        left.legend(loc="upper right")
        for index, (name, (predicted, measured)) in enumerate(heads.items()):
            guess, found = np.asarray(predicted, dtype=np.float64), np.asarray(measured, dtype=np.float64)
            ok = guess.shape == found.shape and guess.size
            check(ok, f"heads[{name!r}]", f"of shapes {guess.shape} and {found.shape}", "[S, H] both", "Pair them.")
            spot = {"markersize": 4.5, "alpha": 0.75, "markeredgewidth": 0, "zorder": 9 - index}
            colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
            right.plot(guess.ravel(), found.ravel(), marker, color=colour, label=name, **spot)
        ends = np.array([[*right.get_xlim()], [*right.get_ylim()]])
        low, high = max(ends[:, 0].min(), 1e-9), ends[:, 1].max()
        right.plot([low, high], [low, high], color=INK, linewidth=1.0, linestyle=_DASHED, zorder=1)
        log_axis(right, "x")
        log_axis(right, "y")
        right.set_xlabel(f"theory: {formula}")
        right.set_ylabel("measured mean of ‖softmax‖²")
        right.set_title("every head of every seed")
        right.legend(loc="upper left")
        return figure


def sign_endpoints(
    points: Mapping[str, tuple[Any, Any]],
    curves: Mapping[str, tuple[Any, Any]],
    shares: Mapping[str, tuple[Any, Any]],
    *,
    probability: SupportsFloat | None = None,
    seeds: int = 1,
    title: str = "Which signs the heads take, over seeds",
) -> Figure:
    """End points of all heads in the plane of attention and output weight; the share of same-sign seeds over training.

    Args:
      points: name -> (omega `[S, H]`, mu `[S, H]`): one point per head, heads of a seed are joined.
      curves: label -> (omega `[N]`, mu `[N]`), what theory allows; NaN breaks a line.
      shares: name -> (steps `[N]`, share of seeds `[N]`).
      probability: the predicted share, drawn with twice its standard error for `seeds` seeds.
      seeds: number of seeds behind a share.
      title: the finding.

    Returns:
      The figure with two panels.
    """
    check(points and shares, "points and shares", (list(points), list(shares)), "one of each at least", "Add them.")
    names = list(dict.fromkeys([*points, *shares]))
    colour = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    with style():
        figure = new_figure(title, 9.6, 4.0)
        left, right = figure.subplots(1, 2)
        for index, (label, (x, y)) in enumerate(curves.items()):
            dash = ((0, (4, 2)), (0, (1, 1.5)), "-")[index % 3]
            left.plot(np.asarray(x), np.asarray(y), color=INK, linewidth=1.1, linestyle=dash, label=label)
        for name, (omega, mu) in points.items():
            x, y = np.asarray(omega, dtype=np.float64), np.asarray(mu, dtype=np.float64)
            ok = x.ndim == 2 and x.shape == y.shape and x.size
            check(ok, f"points[{name!r}]", f"of shapes {x.shape} and {y.shape}", "[S, H] both", "Seeds first.")
            if x.shape[1] == 2:
                left.plot(x.T, y.T, color=colour[name], linewidth=0.6, alpha=0.45)
            marker = MARKERS[names.index(name) % len(MARKERS)]
            spot = {"markersize": 5, "alpha": 0.8, "markeredgewidth": 0, "linestyle": "none"}
            left.plot(x.ravel(), y.ravel(), marker=marker, color=colour[name], label=name, **spot)
        left.axhline(0, color=FAINT, linewidth=0.9, zorder=0)
        left.axvline(0, color=FAINT, linewidth=0.9, zorder=0)
        left.set_xlabel("attention weight ω of a head")
        left.set_ylabel("output weight μ of a head")
        left.set_title("end of training: every head of every seed")
        for name, (steps, share) in shares.items():
            at = as_axis(steps, f"steps of shares[{name!r}]")
            values = as_curves(share, f"shares[{name!r}]", at.size)[0]
            late = at > 0
            right.plot(at[late], values[late], color=colour[name], drawstyle="steps-post", label=name)
        if probability is not None:
            p = float(probability)
            half = 2 * (p * (1 - p) / max(seeds, 1)) ** 0.5
            right.axhspan(max(0, p - half), min(1, p + half), color=FAINT, alpha=0.55, zorder=0, linewidth=0)
            text = (
                f"theory, two heads without noise: {format_number(p, 2)}\n(band: ± 2 standard errors of {seeds} seeds)"
            )
            right.axhline(p, color=INK, linewidth=1.1, linestyle=_DASHED, label=text)
        right.set_ylim(-0.03, 1.03)
        log_axis(right, "x", short_step)
        right.set_xlabel("training step")
        right.set_ylabel("share of seeds")
        right.set_title("all active heads have one sign")
        right.legend(loc="upper right", fontsize=7.5)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=len(points) + len(curves))
        return figure


def seed_levels(
    values: Mapping[str, Any],
    levels: Mapping[str, SupportsFloat],
    *,
    ylabel: str = "risk",
    title: str = "Risk of every seed",
) -> Figure:
    """One dot per seed and a bar at the median, with named theoretical levels written at the right.

    Args:
      values: name -> `[S]`.
      levels: label -> value, dashed lines.
      ylabel: what is drawn.
      title: the finding.

    Returns:
      The figure.
    """
    check(values, "values", "empty", "name -> [S]", "Give one at least.")
    with style():
        figure = new_figure(title, 3.6 + 1.4 * len(values), 3.8)
        axes = figure.subplots()
        for place, (name, given) in enumerate(values.items()):
            seeds = np.atleast_1d(np.asarray(given, dtype=np.float64))
            check(seeds.ndim == 1 and seeds.size, f"values[{name!r}]", f"of shape {seeds.shape}", "[S]", "Seeds only.")
            colour, median = PALETTE[place % len(PALETTE)], float(over_seeds(seeds[:, None])[0][0])
            offsets = np.linspace(-0.2, 0.2, seeds.size) if seeds.size > 1 else np.zeros(1)
            axes.plot(place + offsets, np.sort(seeds), "o", color=colour, markersize=5, alpha=0.8, zorder=4)
            axes.plot([place - 0.3, place + 0.3], [median] * 2, color=colour, linewidth=2.4, zorder=3)
            axes.annotate(
                format_number(median, 3), (place, median), xytext=(0, 7), textcoords="offset points", ha="center",
                fontsize=8.5, fontweight="bold", color=colour, zorder=5,
            )  # fmt: skip
        for value in levels.values():
            axes.axhline(float(value), color=INK, linewidth=1.1, linestyle=_DASHED, zorder=2)
        axes.set_xlim(-0.6, len(values) - 0.4)
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
        axes.set_xticks(range(len(values)), list(values))
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(ylabel)
        axes.set_title("dots: seeds; bars: median", color=MUTED, fontsize=8)
        direct_labels(axes, [(float(v), f"{n} {format_number(float(v), 3)}", INK) for n, v in levels.items()], 2.9)
        return figure
