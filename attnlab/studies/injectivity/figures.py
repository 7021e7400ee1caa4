"""The figures of the study: maps of random and trained heads, the ladder, the first order of softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.studies.comparison_figures import losses

_CHANGE = "change of a row when its query is doubled, |A(2q) − A(q)| / |A(q)|"


def figures(lab: Any) -> Mapping[str, Any]:
    """What can be drawn of the runs that exist."""
    recalls = [name for name in lab.trained() if name.startswith("recall ")]
    found = {
        "doubled": ("Before training: rows of doubled queries", _doubled(lab)),
        "taylor": ("InLine is softmax to first order", _taylor(lab)),
    }
    if recalls:
        found["heads"] = ("Over training: rows of doubled queries", _heads(lab, recalls))
        title = "On recall the divided identity kernel gets stuck; centred, the same kernel learns"
        levels = {"mean of the context": lab.experiments[recalls[0]].task.plateaus["context"].loss}
        found["losses"] = ("Training loss on paired recall", losses(lab, recalls, title, levels=levels))
    regressions = [name for name in lab.trained() if name.startswith("regression ")]
    if regressions:
        found["ladder"] = ("The ladder: recall and linear regression", _ladder(lab, regressions))
    return found


def _doubled(lab: Any) -> Any:
    panels = {_CHANGE: {name: [value] for name, value in lab.theory("doubled").items()}}
    return seeds_by_model(panels, title="Division by the row sum hides the length of a query; centring shows it")


def _taylor(lab: Any) -> Any:
    found = lab.theory("taylor")
    order = np.argsort(found["sizes"])
    sizes, gaps = found["sizes"][order], found["gaps"][order]
    return curves_by_model(
        sizes,
        {"largest gap": gaps},
        title="The gap between softmax and InLine falls with the square of the logits",
        xlabel="size ε of the logits (dotted: ε² through the first point)",
        ylabel="max |softmax(ε s) V − InLine(ε q)|",
        log_x=True,
        log_y=True,
        predicted={"largest gap": gaps[0] * (sizes / sizes[0]) ** 2},
    )


def _heads(lab: Any, names: list[str]) -> Any:
    curves, steps = {}, np.zeros(0)
    for name in names:
        heads = lab.run(name).trajectory
        after = np.asarray(heads.steps("heads")) > 0  # a logarithmic axis has no 0
        steps = np.asarray(heads.steps("heads"))[after]
        curves[name.removeprefix("recall ")] = np.asarray(heads["heads"]["doubled"]).mean(axis=-1)[:, after]
    return curves_by_model(
        steps,
        curves,
        title="InLine learns to read the length of a query; sharp softmax rows stop changing; divided kernels never do",
        xlabel="training step",
        ylabel=_CHANGE.partition(",")[0] + "\n(mean over heads)",
        log_x=True,
    )


def _ladder(lab: Any, names: list[str]) -> Any:
    risk = "risk on regression, labels of variance 1 (lines: the best of theory)"
    rows = {name.removeprefix("regression "): lab.loss(name) for name in names}
    theory = lab.theory("ladder")
    levels = {risk: {"InLine": theory["debiased"], "softmax": theory["softmax"]}}
    recall = {name: lab.accuracy(f"recall {name}") for name in rows}
    title = "Recall rises from order 0 over order 1 to softmax; for a linear function order 1 beats softmax"
    return seeds_by_model({"accuracy on paired recall": recall, risk: rows}, title=title, levels=levels)
