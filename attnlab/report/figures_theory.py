"""Figures of the theory alone: the reduced model, the residual peak under two optimizers, the three flow theorems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.style import (
    BLUE,
    GREEN,
    INK,
    ORDINARY,
    PALETTE,
    PURPLE,
    VERMILLION,
    as_axis,
    as_curves,
    check,
    direct_labels,
    draw_curves,
    last_finite,
    log_axis,
    new_figure,
    short_step,
    style,
)
from attnlab.report.tables import format_number

_DASHED = (0, (4, 2))


def reduced_model(
    times: Any,
    attention: Any,
    value_norm: Any,
    sink_logit: Any,
    *,
    predicted: Mapping[str, Any] | None = None,
    xlabel: str = "step",
    title: str = "Reduced model: the sink and the value drain feed each other",
) -> Figure:
    """The simplified model over training: attention → 1, value norm → 0, sink logit ~ log t (figure F10).

    Args:
      times: [N] positive (the axis is logarithmic).
      attention: mean attention on the sink, [S, N] or [N].
      value_norm: norm of the sink's value, [S, N] or [N].
      sink_logit: mean Δlogit towards the sink, [S, N] or [N].
      predicted: any of `attention`, `value_norm`, `sink_logit` -> [N], drawn dashed.
      xlabel: what `times` is.
      title: the finding.

    Returns:
      The figure with three panels.
    """
    x = as_axis(times, "times")
    check(x[0] > 0, "times[0]", x[0], "> 0, the axis is logarithmic", "Drop step 0.")
    given = {"attention": attention, "value_norm": value_norm, "sink_logit": sink_logit}
    guesses = dict(predicted or {})
    extra = sorted(set(guesses) - set(given))
    check(not extra, "predicted", extra, str(list(given)), "Rename or remove them.")
    names = {
        "attention": "attention on ⟨s⟩ → 1",
        "value_norm": "‖value of ⟨s⟩‖ → 0",
        "sink_logit": "Δlogit grows like log t",
    }
    with style():
        figure = new_figure(title, 10.0, 3.3)
        colours = (BLUE, GREEN, VERMILLION)
        for axes, (key, values), colour in zip(figure.subplots(1, 3), given.items(), colours, strict=True):
            draw_curves(axes, x, as_curves(values, key, x.size), colour, label="model")
            axes.set_xlim(x[0], x[-1])
            log_axis(axes, "x", short_step)
            if key in guesses:
                guess = as_curves(guesses[key], f"predicted[{key!r}]", x.size)[0]
                axes.plot(x, guess, color=INK, linewidth=1.3, linestyle=_DASHED, label="theory")
                axes.legend(loc="best")
            if key != "sink_logit":
                axes.set_ylim(0, 1.05 if key == "attention" else None)
            axes.set_title(names[key], color=colour, fontweight="bold")
            axes.set_xlabel(xlabel)
        return figure


def residual_peak_theory(
    steps: Any,
    curves: Mapping[str, Any],
    formulas: Mapping[str, Any] | None = None,
    *,
    points: Mapping[str, Mapping[Any, SupportsFloat]] | None = None,
    ylabel: str = "residual component m(t)",
    title: str = "Adam grows the residual peak linearly, SGD hardly at all",
) -> Figure:
    """The one-parameter residual-peak model under several optimizers (figure F11).

    Args:
      steps: [N] positive.
      curves: optimizer -> m(t), [N] or [S, N].
      formulas: optimizer -> closed form [N], drawn dashed.
      points: optimizer -> {step: value}, reference values drawn as open circles.
      ylabel: what is drawn.
      title: the finding.

    Returns:
      The figure: logarithmic steps on the left, linear on the right.
    """
    x = as_axis(steps, "steps")
    check(x[0] > 0, "steps[0]", x[0], "> 0, one axis is logarithmic", "Drop step 0.")
    check(curves, "curves", "empty", "optimizer -> m(t) [N]", "Give at least one.")
    forms, marks = dict(formulas or {}), dict(points or {})
    for field, names in (("formulas", forms), ("points", marks)):
        extra = sorted(set(names) - set(curves))
        check(not extra, field, extra, f"names of curves, {list(curves)}", "Rename or remove them.")
    with style():
        figure = new_figure(title, 9.2, 3.6)
        both = figure.subplots(1, 2, sharey=True)
        labels = []
        for axes in both:
            for index, (name, values) in enumerate(curves.items()):
                colour = PALETTE[index % len(PALETTE)]
                median = draw_curves(axes, x, as_curves(values, f"curves[{name!r}]", x.size), colour)
                if axes is both[1]:
                    labels.append((last_finite(median), f"{name} {format_number(last_finite(median))}", colour))
                if name in forms:
                    form = as_curves(forms[name], f"formulas[{name!r}]", x.size)[0]
                    axes.plot(x, form, color=INK, linewidth=1.2, linestyle=_DASHED, label=f"closed form, {name}")
                if marks.get(name):
                    at, value = np.array(list(marks[name].items()), dtype=np.float64).T
                    axes.plot(
                        at,
                        value,
                        "o",
                        markerfacecolor="white",
                        markeredgecolor=colour,
                        markersize=5,
                        label=f"reference values, {name}",
                        linestyle="none",
                    )
            axes.set_xlabel("step" if axes is both[0] else "step (linear axis)")
        both[0].set_xlim(x[0], x[-1])
        both[1].set_xlim(0, x[-1])
        both[0].set_ylim(0, None)
        log_axis(both[0], "x", short_step)
        both[0].set_ylabel(ylabel)
        both[1].xaxis.set_major_formatter(short_step)
        if forms or marks:
            both[0].legend(loc="upper left")
        direct_labels(both[1], labels, 2.7)
        return figure


def flow_theory(
    *,
    sink_times: Any,
    sink_logits: Any,
    sink_limits: Any,
    drain_times: Any,
    drain_error: Any,
    joint_times: Any,
    joint_residual: Any,
    joint_spread: Any,
    labels: tuple[str, ...] = (),
    title: str = "Three flow theorems: integrated flow against closed form",
) -> Figure:
    """The three theorems on mutual reinforcement, each integrated flow beside what the theorem says.

    Args:
      sink_times: [N] positive, flow with β frozen.
      sink_logits: α_v(t), [N, V].
      sink_limits: r_v = log(2 π_v Var_v) / 2, [V]; α_v − log(t)/2 must tend to it; −inf where Var_v = 0.
      drain_times: [N] positive, flow with α frozen.
      drain_error: ‖β(t) − β*‖ over ‖β*‖, [N], or one curve per frozen a, [A, N].
      joint_times: [N] positive, joint flow.
      joint_residual: distance from the stationary manifold, [N].
      joint_spread: max α − min α, [N].
      labels: names of the A curves of `drain_error`.
      title: the finding.

    Returns:
      The figure with three panels.
    """
    t = as_axis(sink_times, "sink_times")
    logits = np.asarray(sink_logits, dtype=np.float64)
    limits = np.asarray(sink_limits, dtype=np.float64)
    check(
        logits.ndim == 2 and logits.shape == (t.size, limits.size),
        "sink_logits",
        f"of shape {logits.shape}",
        f"[{t.size}, {limits.size}] as sink_times and sink_limits say",
        "Order the axes as times, tokens.",
    )
    drain_t, joint_t = as_axis(drain_times, "drain_times"), as_axis(joint_times, "joint_times")
    for field, times in (("sink_times", t), ("drain_times", drain_t), ("joint_times", joint_t)):
        check(times[0] > 0, f"{field}[0]", times[0], "> 0, the axis is logarithmic", "Drop time 0.")
    drain = as_curves(drain_error, "drain_error", drain_t.size)
    check(not labels or len(labels) == len(drain), "labels", labels, f"{len(drain)} names or none", "One per curve.")
    with style():
        figure = new_figure(title, 11.0, 3.7)
        first, second, third = figure.subplots(1, 3)
        offset = logits - 0.5 * np.log(t)[:, None]
        driven = np.isfinite(limits)
        check(driven.any(), "sink_limits", "nowhere finite", "at least one finite r_v", "Use a law with some variance.")
        first.plot(t, offset[:, driven], color=BLUE, linewidth=1.1, alpha=0.8)
        if not driven.all():
            # Tokens with a certain successor have r_v = -inf: no drive, so only α_v itself stays put.
            first.plot(t, offset[:, ~driven], color=ORDINARY, linewidth=0.9)
            first.plot([], [], color=ORDINARY, label="no drive (r_v = −∞)")
        limits = limits[driven]
        for limit in limits:
            first.plot([t[0], t[-1]], [limit, limit], color=INK, linewidth=0.9, linestyle=_DASHED, alpha=0.7)
        first.plot([], [], color=BLUE, label="flow")
        first.plot([], [], color=INK, linewidth=0.9, linestyle=_DASHED, label="theorem: r_v")
        gap = float(np.nanmax(np.abs(offset[-1, driven] - limits)))
        first.set_title(f"sink: α_v − ½ log t → r_v\nlargest gap at the end {format_number(gap, 2)}")
        span = float(np.ptp(limits)) or 1.0
        first.set_ylim(limits.min() - 0.6 * span - 0.3, limits.max() + 0.6 * span + 0.3)
        first.legend(loc="lower right")
        for index, curve in enumerate(drain):
            colour = PALETTE[index % len(PALETTE)]
            second.plot(
                drain_t, np.where(curve > 0, curve, np.nan), color=colour, label=labels[index] if labels else None
            )
        second.set_title("drain: β → β̄·1 + e⁻ᵃ(B̄·1 − B)\nrelative distance from the fixed point")
        if labels:
            second.legend(loc="best")
        for name, values, colour in (
            ("manifold residual", joint_residual, GREEN),
            ("max α − min α", joint_spread, PURPLE),
        ):
            curve = as_curves(values, f"joint: {name}", joint_t.size)[0]
            third.plot(joint_t, np.where(curve > 0, curve, np.nan), color=colour, label=name)
        third.set_title("joint flow: eᵅβ + B → constant,\nall sink logits become equal")
        third.legend(loc="best")
        for axes, times in ((first, t), (second, drain_t), (third, joint_t)):
            axes.set_xlim(times[0], times[-1])
            log_axis(axes, "x")
            axes.set_xlabel("flow time t")
        log_axis(second, "y")
        log_axis(third, "y")
        return figure
