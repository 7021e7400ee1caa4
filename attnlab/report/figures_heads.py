"""Figures of a trained head: attention maps, value norms, interventions, entropy against sink logit."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from attnlab.report.style import (
    BLUE,
    INK,
    MUTED,
    ORDINARY,
    PALETTE,
    SEQUENTIAL,
    SINK,
    TRIGGER,
    check,
    direct_labels,
    horizontal,
    new_figure,
    over_seeds,
    style,
    token_colour,
)
from attnlab.report.tables import format_number, show_token


def attention_maps(
    weights: Any,
    labels: Sequence[Sequence[str]],
    titles: Sequence[str],
    *,
    triggers: Collection[str] = (),
    sink: str | None = "<s>",
    title: str | None = None,
) -> Figure:
    """Heat maps of attention side by side: one row per query, one column per key (figure F1).

    Args:
      weights: P maps, each [T, U]; an array [P, T, U] or a list of maps of different sizes.
      labels: P lists of tokens, each [T], used on both axes.
      titles: P short titles.
      triggers: tokens written in red.
      sink: token written in blue.
      title: the finding; by default the share of dormant queries on the sink and of triggers on their neighbour.

    Returns:
      The figure.
    """
    maps = [np.asarray(panel, dtype=np.float64) for panel in weights]
    check(
        maps and all(m.ndim == 2 and m.size for m in maps),
        "weights",
        [m.shape for m in maps],
        "P maps [T, U]",
        "Add maps.",
    )
    for field, given in (("labels", labels), ("titles", titles)):
        check(len(given) == len(maps), field, f"of length {len(given)}", f"one per map, {len(maps)}", "Add what lacks.")
    for index, (panel, tokens) in enumerate(zip(maps, labels, strict=True)):
        field = f"labels[{index}]"
        check(
            len(tokens) == panel.shape[0] == panel.shape[1],
            field,
            f"of length {len(tokens)} for a map {panel.shape}",
            "one token per query and key, T = U",
            "Cut the map or the tokens.",
        )
    with style():
        heading = title or _attention_finding(maps, labels, triggers, sink)
        figure = new_figure(heading, 1.1 + 3.6 * len(maps), 4.35)
        norm = Normalize(0.0, max(1.0, *(float(np.nanmax(m, initial=0.0)) for m in maps)))
        all_axes = figure.subplots(1, len(maps), squeeze=False)[0]
        for axes, panel, tokens, name in zip(all_axes, maps, labels, titles, strict=True):
            _draw_map(axes, panel, tokens, name, norm, triggers, sink)
        all_axes[0].set_ylabel("query")
        bar = figure.colorbar(ScalarMappable(norm, SEQUENTIAL), ax=list(all_axes), fraction=0.03, pad=0.015, aspect=28)
        bar.set_label("attention weight")
        bar.outline.set_linewidth(0.5)  # type: ignore[operator]
        return figure


def _draw_map(
    axes: Axes,
    panel: np.ndarray,
    tokens: Sequence[str],
    name: str,
    norm: Normalize,
    triggers: Collection[str],
    sink: str | None,
) -> None:
    length = len(tokens)
    causal = np.triu(np.ones_like(panel, dtype=bool), 1) & (np.nan_to_num(panel) == 0)
    axes.imshow(np.ma.masked_array(panel, causal), cmap=SEQUENTIAL, norm=norm, interpolation="nearest")
    axes.set_facecolor("#f3f4f6")
    axes.grid(False)
    stride = max(1, math.ceil(length / 32))
    ticks = list(range(0, length, stride))
    shown = [show_token(tokens[i]) for i in ticks]
    size = 8 if length <= 24 else 6.5
    axes.set_xticks(ticks, shown, fontsize=size)
    for label in axes.get_xticklabels():
        label.set_rotation(0 if len(label.get_text()) == 1 else 90)
    axes.set_yticks(ticks, shown, fontsize=size)
    for axis in (axes.get_xticklabels(), axes.get_yticklabels()):
        for index, label in zip(ticks, axis, strict=True):
            label.set_color(token_colour(tokens[index], triggers, sink))
            label.set_fontweight("bold" if tokens[index] in triggers else "normal")
    axes.tick_params(length=0, pad=2)
    axes.set_title(name)
    axes.set_xlabel("key")


def _attention_finding(
    maps: Sequence[np.ndarray], labels: Sequence[Sequence[str]], triggers: Collection[str], sink: str | None
) -> str:
    dormant = [
        m[i, 0]
        for m, t in zip(maps, labels, strict=True)
        for i in range(1, len(t))
        if t[0] == sink and t[i] not in triggers
    ]
    active = [m[i, i - 1] for m, t in zip(maps, labels, strict=True) for i in range(1, len(t)) if t[i] in triggers]
    parts = []
    if dormant:
        parts.append(f"dormant queries put {np.median(dormant):.2f} on {sink}")
    if active:
        parts.append(f"triggers put {np.median(active):.2f} on the previous token")
    text = ", ".join(parts) or "attention maps"
    return text[0].upper() + text[1:] + (" (medians)" if parts else "")


def value_norm_bars(
    norms: Any,
    labels: Sequence[str],
    *,
    triggers: Collection[str] = (),
    sink: str | None = "<s>",
    ylabel: str = "‖value‖",
    title: str | None = None,
) -> Figure:
    """Norm of the value state of each token, one bar per token, a dot per seed (figure F2).

    Args:
      norms: [T] or [S, T].
      labels: T tokens.
      triggers: tokens drawn in red.
      sink: token drawn in blue; its bar is compared with the median ordinary token.
      ylabel: what is drawn, with its unit.
      title: the finding; by default the ratio of the sink to the median ordinary token.

    Returns:
      The figure.
    """
    values = np.atleast_2d(np.asarray(norms, dtype=np.float64))
    check(
        values.ndim == 2 and values.shape[1] == len(labels) and len(labels),
        "norms",
        f"of shape {values.shape}",
        f"[S, {len(labels)}], one norm per label",
        "Give norms and labels of the same tokens.",
    )
    median, _, _ = over_seeds(values)
    ordinary = [i for i, token in enumerate(labels) if token not in triggers and token != sink]
    level = float(np.nanmedian(median[ordinary])) if np.isfinite(median[ordinary]).any() else math.nan
    at_sink = [median[i] for i, token in enumerate(labels) if token == sink]
    ratio = at_sink[0] / level if at_sink and level else math.nan
    finding = f"The value of {sink} is {100 * ratio:.0f} % of the median ordinary token's"
    with style():
        figure = new_figure(title or (finding if math.isfinite(ratio) else "Value norms"), 8.2, 3.4)
        axes = figure.subplots()
        colours = [TRIGGER if t in triggers else SINK if t == sink else ORDINARY for t in labels]
        axes.bar(np.arange(len(labels)), np.nan_to_num(median), color=colours, width=0.78)
        if len(values) > 1:
            for row in values:
                axes.plot(np.arange(len(labels)), row, ".", color=INK, markersize=2.6, alpha=0.55)
        _token_ticks(axes, labels, triggers, sink)
        axes.grid(axis="x", visible=False)
        axes.set_xlim(-0.7, len(labels) - 0.3)
        axes.set_ylabel(ylabel)
        axes.set_ylim(0, None)
        kinds = [("ordinary", ORDINARY)] + [("trigger", TRIGGER)] * bool(triggers) + [(f"{sink}", SINK)] * bool(at_sink)
        handles = [Patch(color=colour, label=name) for name, colour in kinds]
        axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1.0), ncols=3, borderaxespad=0.2)
        if math.isfinite(level):
            name = f"median ordinary\ntoken {format_number(level, 3)}"
            lines = [(level, name, INK), (0.1 * level, "10 % of it", MUTED)]
            for value, _, colour in lines:
                axes.axhline(value, color=colour, linewidth=1.1, linestyle=(0, (5, 2)))
            direct_labels(axes, lines, 2.5, size=8)
        if len(values) > 1:
            axes.set_title(f"bars: median of {len(values)} seeds, dots: seeds", color=MUTED, fontsize=8)
        return figure


def _token_ticks(axes: Axes, labels: Sequence[str], triggers: Collection[str], sink: str | None) -> None:
    size = 8.5 if len(labels) <= 40 else 6.5
    shown = [show_token(token) for token in labels]
    axes.set_xticks(np.arange(len(labels)), shown, fontsize=size)
    for token, tick in zip(labels, axes.get_xticklabels(), strict=True):
        tick.set_color(token_colour(token, triggers, sink))
        tick.set_fontweight("bold" if token in triggers else "normal")
    axes.tick_params(axis="x", length=0)


def intervention_bars(
    values: Mapping[str, Mapping[str, Any]],
    references: Mapping[str, Mapping[str, SupportsFloat]] | None = None,
    *,
    ylabel: str = "nats",
    title: str = "What removing the attention or the MLP costs",
) -> Figure:
    """Risks of a model and of the same model with parts removed, one panel per risk (figure F3).

    Args:
      values: for each metric (`"backcopy risk"`), for each intervention (`"full"`, `"no attention"`), values [S].
      references: for each metric, named levels drawn as dashed lines (`{"log V": 4.19, "oracle": 2.22}`).
      ylabel: unit.
      title: the finding.

    Returns:
      The figure: bars are medians, whiskers the range over seeds, dots the seeds.
    """
    check(
        values and all(values.values()), "values", dict(values), "metric -> intervention -> [S]", "Give one at least."
    )
    references = references or {}
    extra = sorted(set(references) - set(values))
    check(not extra, "references", extra, f"metrics of values, {list(values)}", "Rename them.")
    with style():
        widest = max(len(group) for group in values.values())
        figure = new_figure(title, min(11.0, 1.2 + len(values) * (0.9 + 0.95 * widest)), 3.6)
        row = figure.subplots(1, len(values), squeeze=False)[0]
        for axes, (metric, group) in zip(row, values.items(), strict=True):
            seeds = [np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in group.values()]
            check(
                all(s.ndim == 1 and s.size for s in seeds), f"values[{metric!r}]", [s.shape for s in seeds], "[S]", ""
            )
            triples = [over_seeds(s[:, None]) for s in seeds]
            median, low, high = (np.array([float(t[k][0]) for t in triples]) for k in range(3))
            x = np.arange(len(group))
            axes.bar(x, np.nan_to_num(median), width=0.66, color=[PALETTE[i % len(PALETTE)] for i in x], alpha=0.85)
            axes.errorbar(
                x, median, yerr=[median - low, high - median], fmt="none", ecolor=INK, elinewidth=1, capsize=3
            )
            for place, points in zip(x, seeds, strict=True):
                offsets = np.linspace(-0.16, 0.16, points.size) if points.size > 1 else np.zeros(1)
                axes.plot(place + offsets, points, "o", color=INK, markersize=2.5, alpha=0.6)
            lines = {name: float(value) for name, value in references.get(metric, {}).items()}
            top = max(np.nanmax(high, initial=0.0), max(lines.values(), default=0.0))
            for place, value, end in zip(x, median, high, strict=True):
                text = format_number(value, 3) if math.isfinite(value) else "diverged"
                axes.annotate(
                    text,
                    (place, end if math.isfinite(end) else 0),
                    xytext=(0, 4),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8.5,
                    fontweight="bold",
                    zorder=5,
                    bbox={"boxstyle": "square,pad=0.08", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
                )
            for name, value in lines.items():
                horizontal(axes, value, f"{name} {format_number(value, 3)}", MUTED, align="left")
            axes.set_ylim(min(0.0, 1.1 * float(np.nanmin(low, initial=0.0))), 1.16 * float(top) or 1.0)
            axes.set_xlim(-0.6, len(group) - 0.4)
            axes.set_xticks(x, list(group))
            axes.tick_params(axis="x", length=0)
            axes.grid(axis="x", visible=False)
            axes.set_title(metric)
        figure.axes[0].set_ylabel(ylabel)
        return figure


def entropy_vs_sink_logit(
    entropy: Any,
    sink_logit: Any,
    labels: Sequence[str],
    rho: Any = None,
    *,
    predicted: Any = None,
    highlight: Collection[str] = (),
    title: str | None = None,
) -> Figure:
    """Sink logit of each token against the entropy of its next-token law (the low-entropy figure).

    Args:
      entropy: H(P_v) in nats, [V].
      sink_logit: measured Δlogit of v towards the sink, [V] or [S, V]; NaN where a token was not seen.
      labels: V tokens.
      rho: Spearman correlation, a number or one per seed [S].
      predicted: predicted Δlogit [V], drawn as open circles.
      highlight: tokens drawn in red (by default the five lowest sink logits).
      title: the finding; by default made from `rho`.

    Returns:
      The figure: points are medians over seeds, bars the range.
    """
    x = np.asarray(entropy, dtype=np.float64)
    y = np.atleast_2d(np.asarray(sink_logit, dtype=np.float64))
    check(x.shape == (len(labels),), "entropy", f"of shape {x.shape}", f"[{len(labels)}]", "Give one per label.")
    check(y.ndim == 2 and y.shape[1] == x.size, "sink_logit", f"of shape {y.shape}", f"[S, {x.size}]", "Seeds first.")
    median, low, high = over_seeds(y)
    if title is None:
        title = "Tokens with a certain successor stay awake"
        if rho is not None:
            r = np.atleast_1d(np.asarray(rho, dtype=np.float64))
            span = f" ({r.min():.2f} … {r.max():.2f} over {r.size} seeds)" if r.size > 1 else ""
            title += f": Spearman ρ = {np.median(r):.2f}{span}"
    order = np.argsort(np.where(np.isfinite(median), median, np.inf))
    red = set(highlight) or {labels[i] for i in order[:5] if np.isfinite(median[i])}
    with style():
        figure = new_figure(title, 6.6, 4.2)
        axes = figure.subplots()
        if len(y) > 1:
            axes.vlines(x, low, high, color=ORDINARY, linewidth=0.8, alpha=0.8)
        colours = [TRIGGER if token in red else BLUE for token in labels]
        axes.scatter(x, median, c=colours, s=13, zorder=3, linewidths=0)
        if predicted is not None:
            guess = np.asarray(predicted, dtype=np.float64)
            check(guess.shape == x.shape, "predicted", f"of shape {guess.shape}", f"[{x.size}]", "Give one per label.")
            axes.scatter(x, guess, s=22, facecolors="none", edgecolors=INK, linewidths=0.8, label="theory")
            axes.legend(loc="lower right")
        axes.margins(0.05)
        for index in _labelled(axes, x, median, [i for i, token in enumerate(labels) if token in red]):
            token, px, py = labels[index], x[index], median[index]
            axes.annotate(
                show_token(token),
                (px, py),
                xytext=(3.5, 2),
                textcoords="offset points",
                fontsize=7,
                color=TRIGGER if token in red else INK,
                fontweight="bold" if token in red else "normal",
            )
        axes.set_xlabel("entropy of the next-token law H(P(·|v)) [nats]")
        axes.set_ylabel("Δlogit towards the sink")
        return figure


def _labelled(axes: Axes, x: np.ndarray, y: np.ndarray, first: Sequence[int]) -> list[int]:
    # Which points get a label: `first` in any case, then those whose label falls on no other label, outermost first.
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    places = axes.transData.transform(np.stack([x, y], axis=1))
    finite = [i for i in range(len(x)) if np.isfinite(places[i]).all()]
    centre = np.median(places[finite], axis=0) if finite else np.zeros(2)
    kept = [i for i in first if i in finite]
    for i in sorted(set(finite) - set(kept), key=lambda i: -float(np.abs(places[i] - centre).max())):
        near = np.abs(places[kept] - places[i]) < (9, 9)
        if not near.all(axis=1).any():
            kept.append(i)
    return kept
