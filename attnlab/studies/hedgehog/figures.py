"""Figures of the Hedgehog study: how students near softmax, what swapping keeps, what maps do untrained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.studies.comparison_figures import losses

Found = Mapping[str, Mapping[str, np.ndarray]]


def _rows(share: Any) -> str:
    return f"{float(np.median(share)):.2g}"


def divergence(found: Found) -> Figure:
    """KL from the teacher over distillation steps; those without parameters as levels."""
    taught = {name: f["curve"] for name, f in found.items() if f["curve"].shape[1]}
    levels = {name: float(np.median(f["after"])) for name, f in found.items() if not f["curve"].shape[1]}
    best = min(taught, key=lambda name: float(np.median(taught[name][:, -1])))
    steps = np.arange(next(iter(taught.values())).shape[1])
    return curves_by_model(
        steps, taught, title=f"Taught the rows of softmax, {best} comes closest", xlabel="distillation step",
        ylabel="KL from softmax, nats", log_y=True, levels=levels,
    )  # fmt: skip


def swapped_models(lab: Any, found: Found) -> Figure:
    """Accuracy with the student in the place of softmax, and the divergence of its heads before and after."""
    teacher = lab.accuracy("softmax")
    panels = {
        "accuracy in the place of softmax": {"softmax": teacher} | {n: f["accuracy"] for n, f in found.items()},
        "KL from softmax after, nats": {"softmax": np.zeros_like(teacher)} | {n: f["after"] for n, f in found.items()},
        "KL before, nats": {"softmax": np.zeros_like(teacher)} | {n: f["before"] for n, f in found.items()},
    }
    kept = _rows(found["hedgehog"]["kept"])
    return seeds_by_model(panels, title=f"Swapped in untuned, the distilled Hedgehog keeps {kept} of the accuracy")


def kernels(lab: Any) -> Figure:
    """The three metrics of each map on random queries and keys; a dot per draw."""
    found = lab.theory("kernels")
    names = [name.split(".")[0] for name in found if name.endswith(".kl")]
    words = {
        "evenness": "entropy over log n",
        "order": "rank correlation of weight and q · k",
        "kl": "KL from softmax, nats",
    }
    panels = {text: {name: found[f"{name}.{what}"] for name in names} for what, text in words.items()}
    return seeds_by_model(panels, title="On random vectors only Taylor is near softmax; Hedgehog at W = I keeps order")


def figures(lab: Any, found: Found) -> dict[str, Any]:
    """File -> caption and figure."""
    drawn: dict[str, Any] = {
        "distillation": ("Divergence of students from their teacher while they learn", divergence(found)),
        "swapped": ("The model with the student in all layers, untuned", swapped_models(lab, found)),
        "kernels": ("Feature maps on Gaussian queries and keys, 24 draws", kernels(lab)),
    }
    scratch = [name for name in lab.experiments if name in lab.trained()]
    if len(scratch) > 1:
        task = lab.experiments["softmax"].task
        levels = {"guess among those shown": task.plateaus["context"].loss}
        title = "From scratch softmax leaves the plateau, Taylor late if at all; ELU + 1 and Hedgehog at W = I stay"
        drawn["scratch"] = ("Training loss from scratch", losses(lab, scratch, title=title, levels=levels))
    return drawn
