"""Figures: recall over the width of queries and keys, training, parity, and softmax by kernels of finite order."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from attnlab.report.figures_comparison import seeds_by_model
from attnlab.studies.comparison_figures import losses
from attnlab.studies.dsf.identities import ORDERS

PARITY = ("beta_1", "beta_2", "gated_delta", "softmax", "ssd")


def figures(lab: Any) -> dict[str, tuple[str, Figure]]:
    """The study's figures."""
    found = {"orders": ("Softmax by kernels of finite order, no training", orders(lab))}
    names = lab.trained()
    recall = [name for name in names if name not in PARITY]
    if recall:
        rows = {name.replace("_", ", K = ", 1) if name.count("_") == 1 else name: lab.accuracy(name) for name in recall}
        title = "Linear attention recalls more with wider keys"
        found["recall"] = ("Accuracy on fresh sequences, every seed", seeds_by_model({"accuracy": rows}, title=title))
        found["training"] = ("Training loss on recall", losses(lab, recall, "Training loss on recall"))
    parity = [name for name in names if name in PARITY]
    if parity:
        title = "A state that changes sign learns parity"
        levels = {"coin": lab.experiments[parity[0]].task.plateaus["coin"].loss}
        found["parity"] = ("Training loss on parity", losses(lab, parity, title, levels=levels))
    return found


def orders(lab: Any) -> Figure:
    """Largest error of the output against softmax for each order."""
    errors = lab.theory("orders")["error"]
    rows = {f"order {p}": [error] for p, error in zip(ORDERS, errors, strict=True)}
    quantity = "largest error of an output"
    title = "Kernels of finite order approach softmax"
    return seeds_by_model({quantity: rows}, title=title, log=(quantity,))
