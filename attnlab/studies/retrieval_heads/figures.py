"""Figures: what a head's score says of its effect, sets masked by score and at random, kinds of ablation, losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.report.style import PALETTE, new_figure, style
from attnlab.studies.comparison_figures import losses
from attnlab.studies.retrieval_heads import masks


def figures(lab: Any) -> dict[str, Any]:
    """Of the runs that exist."""
    drawn = {}
    for name in lab.trained():
        drawn[f"f1-{name}-scores"] = (f"Score and effect of every head, {name}", _scores(lab, name))
        drawn[f"f2-{name}-masks"] = (f"Heads masked by score and at random, {name}", _masks(lab, name))
        drawn[f"f3-{name}-kinds"] = (f"What ablation means, {name}", _kinds(lab, name))
    if lab.trained():
        drawn["f4-losses"] = ("Training loss", losses(lab))
    return drawn


def _scores(lab: Any, name: str) -> Figure:
    """One mark per head and seed: its score, and the accuracy that is left without it, by layer."""
    scores, left = masks.scores(lab, name), masks.singles(lab, name)
    with style():
        figure = new_figure("A head that scores 0 can be the one that matters", 6.4, 4.2)
        axes = figure.subplots()
        for layer in range(scores.shape[1]):
            axes.plot(
                scores[:, layer].ravel(), left[:, layer].ravel(), "o", markersize=5, alpha=0.75,
                color=PALETTE[layer], label=f"layer {layer}",
            )  # fmt: skip
        axes.axhline(float(np.median(masks.plain(lab, name))), color="0.6", linewidth=0.8, linestyle=":")
        axes.set_xlabel("retrieval score")
        axes.set_ylabel("accuracy with this head made uniform")
        axes.set_xlim(-0.05, 1.05)
        axes.set_ylim(-0.03, 1.03)
        axes.legend(frameon=False, loc="lower center")
        return figure


def _masks(lab: Any, name: str) -> Figure:
    heads = masks.scores(lab, name)[0].size
    counts = [n for n in (1, 2, 3, 4, 6, 8, 12, 16) if n <= heads]
    drawn = {
        "highest scores": np.stack([masks.by_score(lab, name, n) for n in counts], axis=1),
        f"at random, score < {masks.IDLE:g}": np.stack([masks.idle_at_random(lab, name, n) for n in counts], axis=1),
    }
    drawn = {label: values for label, values in drawn.items() if np.isfinite(values).any()}
    return curves_by_model(
        np.array(counts), drawn, title="Masked at random, heads without a score are missed as well",
        xlabel="heads made uniform", ylabel="accuracy", marks=True,
        levels={"chance": lab.experiments[name].task.chance},
    )  # fmt: skip


def _kinds(lab: Any, name: str) -> Figure:
    worst = {str(kind): masks.singles(lab, name, kind) for kind in masks.KINDS}
    worst["uniform, decoding only"] = masks.singles(lab, name, "uniform", True)
    panels = {
        f"layer {layer}: accuracy without its worst head": {k: x[:, layer].min(axis=1) for k, x in worst.items()}
        for layer in range(masks.scores(lab, name).shape[1])
    }
    return seeds_by_model(panels, title="What a head is replaced by decides how much it is missed")
