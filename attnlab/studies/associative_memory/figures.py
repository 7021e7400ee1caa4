"""Figures: what is read over the load, by age, while learning rules are conditioned, and in context."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.figures_comparison import curves_by_model
from attnlab.report.style import INK, MUTED, PALETTE, new_figure, style
from attnlab.studies.associative_memory import capacity, ladder
from theory import catalogue

LABELS = {
    "hebb": "Hebb",
    "forgetting": "Hebb, forgetting",
    "oja": "Oja",
    "delta": "delta",
    "delta_2": "delta, two passes",
    "nlms": "delta, normalised",
    "rls": "recursive least squares",
    "ridge": "ridge",
    "softmax": "softmax",
    "hedgehog": "Hedgehog, W = I",
    "elu": "ELU + 1",
    "mean": "mean label",
    "gd": "linear: one step",
    "inline": "InLine",
    "lla": "local linear",
}


def figures(lab: Any) -> dict[str, tuple[str, Figure]]:
    """The study's figures."""
    found = {
        "cosine": ("What is read, over the load; dotted: the laws", cosine(lab)),
        "accuracy": ("Nearest stored value, over the load; dotted: the law of Hebb's memory", accuracy(lab)),
        "age": ("Fidelity by age; dotted: the laws", age(lab)),
        "conditioning": ("Four conditioning experiments, by rule; dots: the closed forms", conditioning(lab)),
        "ladder": ("In-context regression by weights set by hand; dotted: the laws", steps_of_ladder(lab)),
    }
    if lab.trained():
        from attnlab.studies.comparison_figures import losses

        found["recall"] = ("Training loss on paired recall", losses(lab))
    return found


def cosine(lab: Any) -> Figure:
    """Mean cosine per draw over the number of pairs."""
    reads = capacity.read_all(lab)
    curves = {
        LABELS[name]: np.stack([r.cosine.mean(axis=1) for r in rows.values()], axis=1) for name, rows in reads.items()
    }
    laws = {LABELS[name]: [law.mean() for law in rows.values()] for name, rows in capacity.laws(lab).items()}
    return curves_by_model(
        capacity.loads(lab), curves, title="The delta rule holds more than Hebb's only below n = d", log_x=True,
        xlabel="pairs stored, keys and values of width 64", ylabel="cosine of read and stored", predicted=laws,
    )  # fmt: skip


def accuracy(lab: Any) -> Figure:
    """Share of reads nearest to the right value."""
    reads, loads = capacity.read_all(lab), capacity.loads(lab)
    curves = {
        LABELS[name]: np.stack([r.right.mean(axis=1) for r in rows.values()], axis=1) for name, rows in reads.items()
    }
    law = {LABELS["hebb"]: catalogue.nearest_accuracy(loads, capacity.WIDTH, capacity.WIDTH)}
    return curves_by_model(
        loads, curves, title="The nearest value survives a noise that the cosine does not", log_x=True,
        xlabel="pairs stored, keys and values of width 64", ylabel="share of right reads", predicted=law,
    )  # fmt: skip


def age(lab: Any) -> Figure:
    """Fidelity of a pair over how many were written after it, at the load of twice the width (or the most there is)."""
    pairs = min(2 * capacity.WIDTH, capacity.loads(lab)[-1])
    reads, laws = capacity.read_all(lab), capacity.laws(lab)
    names = ("hebb", "delta", "oja", "ridge")
    curves = {LABELS[name]: reads[name][pairs].fidelity[::-1] for name in names}
    predicted = {LABELS[name]: laws[name][pairs][::-1] for name in names}
    return curves_by_model(
        np.arange(pairs), curves, predicted=predicted, ylabel="fidelity",
        title=f"Delta and Oja remember what came last (n = {pairs}, d = {capacity.WIDTH})",
        xlabel="pairs written later",
    )  # fmt: skip


def steps_of_ladder(lab: Any) -> Figure:
    """Risk over the number of pairs, all mechanisms at their best."""
    told = lab.theory("noisy")
    names = ("mean", "softmax", "inline", "gd", "delta", "lla", "ridge")
    curves = {LABELS[name]: told[name]["risk"] for name in names}
    laws = {LABELS[name]: told[name]["law"] for name in names if "law" in told[name]}
    return curves_by_model(
        ladder.LENGTHS, curves, title="What attention can know of a regression after n pairs", log_x=True, log_y=True,
        xlabel=f"pairs in the prompt (d = {ladder.DIM}, noise {ladder.NOISY.noise_variance:g})",
        ylabel="squared error, noise of the query not counted", predicted=laws,
    )  # fmt: skip


PANELS = (
    ("extinction", 0, "Extinction: A with, then without outcome"),
    ("blocking", 1, "Blocking: B, after A alone"),
    ("blocking, control", 1, "Control: B, A not known before"),
    ("overshadowing", 1, "Overshadowing: B, of half the salience"),
)


def conditioning(lab: Any) -> Figure:
    """Associative strength, trial by trial: lines are mechanisms, dots the rules in closed form."""
    told = lab.theory("conditioning")
    with style():
        figure = new_figure("Rules that correct the outcome block and overshadow; Hebb's and Oja's do not", 9.4, 5.4)
        grid = figure.subplots(2, 2)
        for axes, (experiment, cue, title) in zip(grid.ravel(), PANELS, strict=True):
            for (name, rows), colour in zip(told[experiment].items(), PALETTE, strict=False):
                trials = np.arange(len(rows["measured"]))
                axes.plot(trials, rows["measured"][:, cue], color=colour, linewidth=1.4, label=LABELS[name])
                axes.plot(trials[::4], rows["law"][::4, cue], ".", color=colour, markersize=5)
            axes.set_title(title, fontsize=9, loc="left", color=INK)
            axes.set_ylim(-0.06, 1.26)  # Hebb's strength grows without end: what it does above is its slope
            axes.set_xlabel("trial")
            axes.set_ylabel("strength")
        grid[0, 1].legend(fontsize=7.5, labelcolor=MUTED, loc="upper left")
        return figure
