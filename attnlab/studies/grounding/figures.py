"""The picture: every method over its dose, on the exact frontier of rules that weigh the prior. And heads, maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlab.report.figures_comparison import seeds_by_model
from attnlab.report.style import INK, MUTED, PALETTE, new_figure, over_seeds, style
from attnlab.studies.comparison_figures import losses
from attnlab.studies.grounding import measures
from attnlab.studies.grounding.lines import LINES, PLANTED, UNPLANTED, line, shown

_MARKERS = ("o", "s", "^", "D", "v", "P")
_SHARES = {
    "consistent": "accuracy where the colour is canonical",
    "accuracy": "accuracy, all pictures",
    "gap": "accuracy above that of the frontier,\nat equal hallucination",
}


def figures(lab: Any) -> Mapping[str, Any]:
    """What can be drawn of the runs that exist."""
    trained = lab.trained()
    if "plain" not in trained:
        return {}
    found = {"f1-frontier": ("Seven families of fixes on one frontier", picture(lab))}
    if lab.preset == "smoke":
        return found
    if "two tokens" in trained:
        found["f2-planted"] = ("The same with a planted sink", planted_picture(lab))
    found["f3-heads"] = ("Which heads: divergence, mass, effect", _heads(lab))
    found["f4-looking"] = ("Where the model looks", _looking(lab))
    found["f5-losses"] = ("Training loss", _losses(lab))
    return found


def picture(lab: Any) -> Figure:
    """The methods on the model as it is."""
    title = "Fixes of hallucination move along the exact frontier of the prior, or fall below it; none is above it"
    return on_frontier(lab, shown(lab, UNPLANTED), title, (0.15, 0.7))


def planted_picture(lab: Any) -> Figure:
    """The methods that are made for sinks, with a planted one."""
    title = "A planted sink makes the model lean on the prior; taking its mass away takes that back"
    return on_frontier(lab, shown(lab, PLANTED), title, (0.35, 0.65))


def on_frontier(lab: Any, names: Sequence[str], title: str, limits: tuple[float, float]) -> Figure:
    """Medians over seeds of each method in three panels; the mark grows with the distance from the neutral dose."""
    weights = np.linspace(-3, 12, 601)
    edge = measures.bayes(lab, weights)
    seen = (edge.hallucination >= limits[0]) & (edge.hallucination <= limits[1])
    with style():
        figure = new_figure(title, 12.0, 8.4)
        panels = figure.subplots(2, 2).ravel()
        for axes, which in zip(panels, _SHARES, strict=False):
            if which == "gap":
                axes.axhline(0, color=INK, linewidth=5, alpha=0.22, zorder=1)
            else:
                height = getattr(edge, which)
                axes.plot(edge.hallucination[seen], height[seen], color=INK, linewidth=5, alpha=0.22, zorder=1)
                for weight in (0, 0.5, 1, 1.5, 2, 3):
                    _mark_rule(axes, measures.bayes(lab, (weight,)), which, f"w = {weight:g}", limits)
            for number, name in enumerate(names):
                _draw(axes, lab, name, which, number)
            axes.set_xlim(*limits)
            axes.set_ylim(*_heights(edge, seen, which))
            axes.set_xlabel("hallucination: share of canonical answers where the colour is another")
            axes.set_ylabel(_SHARES[which])
        handles, labels = panels[0].get_legend_handles_labels()
        panels[3].set_axis_off()
        heading = "marks grow with the distance from the dose that does nothing\n"
        heading += "thick: the exact frontier of rules argmax [w log prior + evidence]\n"
        heading += "medians over seeds; doses far below the frontier are out of the panels"
        panels[3].legend(handles, labels, loc="center left", title=heading, alignment="left")
        return figure


def _heights(edge: Any, seen: np.ndarray, which: str) -> tuple[float, float]:
    """Limits that show the frontier, and what is a little below it."""
    if which == "gap":
        return -0.06, 0.012
    height = getattr(edge, which)[seen]
    space = height.max() - height.min()
    return height.min() - 0.6 * space, height.max() + 0.14 * space


def _mark_rule(axes: Axes, rule: Any, which: str, label: str, limits: tuple[float, float]) -> None:
    x, y = float(rule.hallucination[0]), float(getattr(rule, which)[0])
    if limits[0] <= x <= limits[1]:
        axes.plot([x], [y], marker="|", color=INK, markersize=15, zorder=1.5)
        box = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
        axes.annotate(
            label,
            (x, y),
            (-4, 10),
            textcoords="offset points",
            fontsize=8,
            color=MUTED,
            ha="center",
            bbox=box,
            zorder=4,
        )


def _draw(axes: Axes, lab: Any, name: str, which: str, number: int) -> None:
    found, one = line(lab, name), LINES[name]
    height = -measures.gap(lab, name) if which == "gap" else found[which]
    x, y = (over_seeds(values)[0] for values in (found["hallucination"], height))
    colour, marker = PALETTE[number % len(PALETTE)], _MARKERS[number % len(_MARKERS)]
    dash = "-" if number < len(PALETTE) else (0, (4, 2))
    doses = f"{one.doses[0]:g} to {one.doses[-1]:g}"
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.2, alpha=0.9, label=f"{one.label}: {doses}",
              marker=marker, markersize=3)  # fmt: skip
    far = np.abs(np.arange(len(x)) - one.doses.index(one.neutral))
    face = colour if number < len(PALETTE) else "white"
    axes.scatter(x, y, s=8 + 14 * far, edgecolors=colour, facecolors=face, marker=marker, alpha=0.85, zorder=3)


def _heads(lab: Any) -> Figure:
    """Heads of both layers in the order of their effect, seed by seed: which is which differs between seeds."""
    table, picks = measures.head_table(lab), measures.first_picks(lab)
    effect = table["effect"].reshape(lab.seeds, -1)
    order = np.argsort(-np.abs(effect), axis=1)
    names = [f"{number + 1}. in effect" for number in range(order.shape[1])]

    def column(values: np.ndarray) -> dict[str, np.ndarray]:
        ordered = np.take_along_axis(values.reshape(lab.seeds, -1), order, axis=1)
        return {name: ordered[:, i] for i, name in enumerate(names)}

    panels = {
        "change of accuracy when the head is ablated (mean, all rows)": column(effect),
        "divergence of its output from that for a blank picture": column(table["divergence"]),
        "mass of the answering row on the picture": column(table["mass"]),
        "accuracy in conflict when guided away from the head": column(picks["objective"]),
    }
    title = "One head counts. Without the picture its output moves the most; others look at the picture as well"
    return seeds_by_model(panels, title=title)


def _looking(lab: Any) -> Figure:
    hits = {name: measures.looked(key)(lab) for name, key in _HITS.items()}
    carve = {name: measures.carve(key)(lab) for name, key in _CARVE.items()}
    rows = hits | carve
    if "two tokens" in lab.trained():
        rows |= {name: measures.gift(key)(lab) for name, key in _GIFT.items()}
    title = (
        "It looks at the right patch, be its answer right or wrong; sinks hide that, ratios and shifts show it again"
    )
    return seeds_by_model({"largest entry at the patch that is asked for, share of sequences": rows}, title=title)


_HITS = {
    "attention, right answers": "right",
    "attention, wrong answers": "wrong",
    "general question (control)": "general",
    "grad-att, right answers": "gradient_right",
    "grad-att, wrong answers": "gradient_wrong",
}
_CARVE = {
    "two salient patches: attention": "salient_raw",
    "two salient patches: relative": "salient_relative",
    "two salient patches: control": "salient_control",
}
_GIFT = {"one sink, two tokens: attention": "raw", "one sink, two tokens: gaze shift": "shift"}


def _losses(lab: Any) -> Figure:
    levels = {"the question alone": lab.experiments["plain"].task.plateaus["question"].loss}
    return losses(lab, title="Both models leave the prior and reach the noise of the task", levels=levels)
