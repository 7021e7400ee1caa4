"""Figures of heads reduced to two numbers each, attention weight omega and output weight mu."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from attnlab.report.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    MUTED,
    ORDINARY,
    PALETTE,
    PURPLE,
    VERMILLION,
    as_axis,
    check,
    horizontal,
    log_axis,
    new_figure,
    over_seeds,
    short_step,
    style,
)
from attnlab.report.tables import format_number

_DASHED = (0, (4, 2))
_DOTTED = (0, (1, 1.3))
_PUBLISHED = (0, (7, 2, 1, 2))
DUMMY = 0.05  # a head whose |omega mu| at the end is below this share of the largest is drawn grey


def head_dynamics(
    runs: Mapping[str, tuple[Any, Any, Any]],
    *,
    step_size: SupportsFloat,
    predicted_mu: Mapping[str, Any] | None = None,
    published: tuple[float, float] | None = None,
    title: str = "Attention and output weights during training",
) -> Figure:
    """Each head's attention and output weight, and the two sums that theory fixes; a row of three panels per run.

    Args:
      runs: name -> (steps `[N]`, omega `[S, N, H]`, mu `[S, N, H]`); steps below 1 are left out.
      step_size: what `sum_h mu_h omega_h` should become.
      predicted_mu: run -> `[N]`, what the output weights of one sign should sum to, given omega; NaN is left out.
      published: (|omega|, |mu|) at the end of the published run, dotted lines.
      title: the finding.

    Returns:
      The figure: single seeds as thin lines, medians thick; seeds whose heads all have one sign are dotted.
    """
    check(runs, "runs", "empty", "name -> (steps, omega, mu)", "Give one at least.")
    extra = sorted(set(predicted_mu or {}) - set(runs))
    check(not extra, "predicted_mu", extra, f"names of runs, {list(runs)}", "Rename them.")
    with style():
        figure = new_figure(title, 10.6, 0.9 + 2.75 * len(runs))
        grid = figure.subplots(len(runs), 3, squeeze=False)
        single = False
        for row, (name, (steps, omega, mu)) in zip(grid, runs.items(), strict=True):
            x, w, m = as_axis(steps, f"steps of {name!r}"), *(np.asarray(v, dtype=np.float64) for v in (omega, mu))
            ok = w.ndim == 3 and w.shape == m.shape and w.shape[1] == x.size and w.size
            check(ok, f"runs[{name!r}]", f"of shapes {w.shape} and {m.shape}", f"[S, {x.size}, H] both", "Seeds first.")
            late = x >= 1
            x, w, m = x[late], w[:, late], m[:, late]
            one_sign = _one_sign(w[:, -1], m[:, -1])
            single = single or bool(one_sign.any())
            _heads(row[0], x, w, m, one_sign)
            _sign_sums(row[1], x, m, one_sign)
            if predicted_mu and name in predicted_mu:
                guess = np.asarray(predicted_mu[name], dtype=np.float64)
                check(guess.shape == late.shape, f"predicted_mu[{name!r}]", guess.shape, f"[{late.size}]", "Per step.")
                for sign in (1, -1):
                    row[1].plot(x, sign * guess[late], color=INK, linewidth=1.2, linestyle=_DASHED, zorder=5)
            for axes, index in ((row[0], 0), (row[1], 1)):
                for sign in (1, -1) if published else ():
                    axes.axhline(sign * published[index], color=MUTED, linewidth=1.0, linestyle=_PUBLISHED)  # type: ignore[index]
            _sums(row[2], x, w, m, one_sign, float(step_size))
            row[0].set_title(f"{name}: ω of each head")
            row[1].set_title("sum of μ over heads of one sign")
            row[2].set_title("sums over all heads")
            for axes in row:
                axes.set_xlim(x[0], x[-1])
                log_axis(axes, "x", short_step)
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        _dynamics_legend(figure, single, published is not None, bool(predicted_mu))
        return figure


def _dynamics_legend(figure: Figure, single: bool, published: bool, predicted: bool) -> None:
    line = lambda colour, dash, label: Line2D([], [], color=colour, linestyle=dash, label=label)  # noqa: E731
    handles = [line(VERMILLION, "-", "positive"), line(BLUE, "-", "negative"), line(ORDINARY, "-", "dummy head")]
    if single:
        handles.append(line(MUTED, _DOTTED, "seed of one sign"))
    if published:
        handles.append(line(MUTED, _PUBLISHED, "published end"))
    if predicted:
        handles.append(line(INK, _DASHED, "theory, given ω"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _one_sign(omega: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """Seeds `[S]` whose heads that count all have one sign (two heads or more)."""
    gain = np.abs(omega * mu)
    counts = gain > DUMMY * gain.max(axis=1, keepdims=True)
    positive, negative = ((counts & (np.sign(mu) == s)).any(axis=1) for s in (1, -1))
    return (positive != negative) & (omega.shape[1] > 1)


def _heads(axes: Axes, x: np.ndarray, omega: np.ndarray, mu: np.ndarray, one_sign: np.ndarray) -> None:
    gain = np.abs(omega[:, -1] * mu[:, -1])
    dummy = gain <= DUMMY * gain.max(axis=1, keepdims=True)
    for seed, head in np.ndindex(gain.shape):
        colour = ORDINARY if dummy[seed, head] else VERMILLION if omega[seed, -1, head] > 0 else BLUE
        dash = _DOTTED if one_sign[seed] else "-"
        axes.plot(x, omega[seed, :, head], color=colour, linewidth=0.9, alpha=0.7, linestyle=dash)
    axes.axhline(0, color=FAINT, linewidth=0.9, zorder=0)


def _sign_sums(axes: Axes, x: np.ndarray, mu: np.ndarray, one_sign: np.ndarray) -> None:
    for sign, colour in ((1, VERMILLION), (-1, BLUE)):
        total = np.where(np.sign(mu) == sign, mu, 0).sum(axis=2)
        for row, single in zip(total, one_sign, strict=True):
            axes.plot(x, row, color=colour, linewidth=0.7, alpha=0.5, linestyle=_DOTTED if single else "-")
        if not one_sign.all():
            axes.plot(x, np.median(total[~one_sign], axis=0), color=colour, linewidth=1.9)
    axes.axhline(0, color=FAINT, linewidth=0.9, zorder=0)


def _sums(axes: Axes, x: np.ndarray, omega: np.ndarray, mu: np.ndarray, one_sign: np.ndarray, step_size: float) -> None:
    for values, colour, label in (
        ((mu * omega).sum(axis=2), GREEN, "Σ μ ω, the step size"),
        (mu.sum(axis=2), PURPLE, "Σ μ"),
    ):
        for row, single in zip(values, one_sign, strict=True):
            axes.plot(x, row, color=colour, linewidth=0.7, alpha=0.5, linestyle=_DOTTED if single else "-")
        both = values[~one_sign] if not one_sign.all() else values
        axes.plot(x, over_seeds(both)[0], color=colour, linewidth=1.9, label=label)
    horizontal(axes, step_size, f"η* = {format_number(step_size, 3)}", INK, align="left")
    horizontal(axes, 0.0, "zero-sum", MUTED, align="left")
    axes.set_ylim(top=max(axes.get_ylim()[1], 2.1 * step_size))
    axes.legend(loc="upper left", fontsize=7.5, ncols=2)


def flow_phases(
    flows: Mapping[str, Any],
    *,
    phases: Mapping[str, Mapping[str, SupportsFloat]] | None = None,
    predicted: Mapping[str, Mapping[str, tuple[Any, Any]]] | None = None,
    levels: Mapping[str, SupportsFloat] | None = None,
    note: str = "",
    title: str = "Gradient flow of the reduced model",
) -> Figure:
    """Solved flows: a column per flow; attention weights, output weights, loss above its infimum.

    Args:
      flows: name -> a flow with `times [N]`, `omega [N, H]`, `mu [N, H]` and `loss [N]` (above the infimum).
      phases: flow -> {name: time}, vertical lines; what is not finite is left out.
      predicted: flow -> {`omega`, `mu` or `loss`: (times `[M]`, values `[M]`)}, dashed; for `omega` and `mu` with both
        signs.
      note: what the names of the phases mean.
      levels: label -> value of the loss above the infimum, lines across.
      title: the finding.

    Returns:
      The figure with three rows.
    """
    check(flows, "flows", "empty", "name -> flow", "Give one at least.")
    for field, given in (("phases", phases), ("predicted", predicted)):
        extra = sorted(set(given or {}) - set(flows))
        check(not extra, field, extra, f"names of flows, {list(flows)}", "Rename them.")
    with style():
        figure = new_figure(title, min(11.0, 1.0 + 3.3 * len(flows)), 7.0)
        grid = figure.subplots(3, len(flows), squeeze=False, sharex="col", sharey="row")
        for column, (name, flow) in enumerate(flows.items()):
            t = as_axis(flow.times, f"times of {name!r}")
            guesses = dict((predicted or {}).get(name, {}))
            extra = sorted(set(guesses) - {"omega", "mu", "loss"})
            check(not extra, f"predicted[{name!r}]", extra, "omega, mu, loss", "Rename them.")
            for axes, quantity in zip(grid[:, column], ("omega", "mu", "loss"), strict=True):
                values = np.asarray(getattr(flow, quantity), dtype=np.float64)
                values = values[:, None] if values.ndim == 1 else values
                want = f"[{t.size}{'' if quantity == 'loss' else ', H'}]"
                check(len(values) == t.size, f"{quantity} of {name!r}", f"of shape {values.shape}", want, "Per time.")
                for head in range(values.shape[1]):
                    colour = INK if quantity == "loss" else PALETTE[head % len(PALETTE)]
                    axes.plot(t, values[:, head], color=colour, linewidth=1.7)
                if quantity in guesses:
                    at, guess = (np.asarray(v, dtype=np.float64) for v in guesses[quantity])
                    for sign in (1,) if quantity == "loss" else (1, -1):
                        colour = VERMILLION if quantity == "loss" else INK
                        axes.plot(at, sign * guess, color=colour, linewidth=1.3, linestyle=_DASHED, zorder=4)
                if quantity == "loss":
                    for label, level in (levels or {}).items():
                        horizontal(axes, level, label, MUTED)
                else:
                    axes.axhline(0, color=FAINT, linewidth=0.9, zorder=0)
                _phase_lines(axes, (phases or {}).get(name, {}), label=quantity == "omega")
            grid[0, column].set_title(name, pad=16)
            positive = t[t > 0]
            grid[2, column].set_xlim(positive[0], t[-1])
            for axes in grid[:, column]:
                log_axis(axes, "x")
            grid[2, column].set_xlabel("flow time t")
        for axes, label in zip(grid[:, 0], ("ω of each head", "μ of each head", "loss above its infimum"), strict=True):
            axes.set_ylabel(label)
        log_axis(grid[2, 0], "y")
        if predicted or note:
            dash = {"linestyle": _DASHED, "label": "theory (red in the loss)"}
            handles = [Line2D([], [], color=INK, **dash)] if predicted else []  # type: ignore[arg-type]
            handles += [Line2D([], [], color=MUTED, linestyle=":", label=note)] if note else []
            figure.legend(handles=handles, loc="outside lower center", ncols=2)
        return figure


def _phase_lines(axes: Axes, phases: Mapping[str, SupportsFloat], label: bool) -> None:
    """Vertical lines, their names above the axes."""
    for name, time in phases.items():
        if not np.isfinite(float(time)):
            continue
        axes.axvline(float(time), color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
        if label:
            axes.annotate(
                name, (float(time), 1.0), xycoords=axes.get_xaxis_transform(), xytext=(0, 2),
                textcoords="offset points", ha="center", va="bottom", fontsize=7, color=MUTED,
            )  # fmt: skip
