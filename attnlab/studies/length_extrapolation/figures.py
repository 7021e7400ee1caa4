"""Figures of the study of length: the planted match, the entropy of a row, the trained models at other lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from attnlab.report.figures_comparison import curves_by_model


def _curves(found: Any, title: str, ylabel: str) -> Figure:
    lengths = found["lengths"]
    names = [key.split(".")[0] for key in found if key.endswith(f".{lengths[0]}")]

    def over(name: str, end: str) -> np.ndarray:
        return np.array([float(found[f"{name}.{length}{end}"]) for length in lengths])

    return curves_by_model(
        lengths, {name: over(name, "") for name in names}, title=title, xlabel="keys in the row", ylabel=ylabel,
        log_x=True, predicted={name: over(name, ".theory") for name in names},
    )  # fmt: skip


def trained(lab: Any, what: str, title: str, ylabel: str) -> Figure:
    """A measure of every model over the length that it is asked at."""
    found = lab.theory("lengths")
    data = {name: found[f"{name}.{what}"] for name in lab.experiments}
    return curves_by_model(
        found["lengths"], data, title=title, xlabel="length asked", ylabel=ylabel, log_x=True, log_y=what == "loss",
    )  # fmt: skip


def figures(lab: Any) -> dict[str, Any]:
    """File -> caption and figure."""
    found = lab.theory("lengths")
    first, last = found["lengths"][0], found["lengths"][-1]
    kept = {n: float(np.median(found[f"{n}.accuracy"][:, -1])) for n in lab.experiments}
    title = f"Trained at {first}, asked at {last}: " + ", ".join(f"{n} {kept[n]:.2f}" for n in list(kept)[:4])
    return {
        "planted": (
            "Weight of the one key that matches (cosine .8, width 64); dotted: quadrature",
            _curves(
                lab.theory("planted"),
                "One match among n: only LSSAR with p = 15 holds it", "weight of the match",
            ),
        ),
        "entropy": (
            "Entropy of rows of independent N(0, 1) logits; dotted: theory",
            _curves(
                lab.theory("spread"),
                "Softmax disperses; a temperature that grows like log n concentrates", "entropy / log n",
            ),
        ),
        "accuracy": ("Accuracy of the trained models by length", trained(lab, "accuracy", title, "accuracy")),
        "loss": ("Loss of the trained models by length", trained(lab, "loss", title, "loss, nats")),
    }  # fmt: skip
