"""Figures: accuracy over marks beside the exact law; probes of a trained model's activations; losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.studies.comparison_figures import losses


def figures(lab: Any) -> Mapping[str, Any]:
    """What can be drawn of the runs that exist."""
    names = [name for name in lab.trained() if name != "model"]
    found = {}
    if names:
        found["f1-marks"] = ("Accuracy over marks", _marks(lab, names))
    if "model" in lab.trained():
        found["f2-taps"] = ("Probes of a trained model", _taps(lab))
    if names:
        few = [name for name in names if name.startswith("1 ")]
        found["f3-losses"] = ("Training loss, one mark", losses(lab, few or names))
    return found


def _marks(lab: Any, names: list[str]) -> Any:
    from attnlab.studies.probing import bags

    marks = sorted({int(name.split()[0]) for name in names})
    kinds = list(dict.fromkeys(name.partition(" ")[2] for name in names))
    whole = [kind for kind in kinds if all(f"{m} {kind}" in names for m in marks)]
    curves = {kind: np.stack([bags.accuracy(lab, m, kind) for m in marks], axis=1) for kind in whole}
    curves["exact law"] = np.array([bags.best(lab, m) for m in marks])
    return curves_by_model(
        np.array(marks),
        curves,
        title="Attending pays where few tokens carry the class; all attention does equally well",
        xlabel="marked tokens of 49",
        ylabel="accuracy on fresh bags",
        log_x=True,
        marks=True,
        levels={"chance": 1 / 8},
    )


def _taps(lab: Any) -> Any:
    from attnlab.studies.probing import bags

    kinds = {"mean": "mean of all places", "efficient": "efficient, 4 queries", "last": "last place alone"}
    if lab.preset == "smoke":  # each is trained by a program of its own
        kinds = {"mean": kinds["mean"]}
    panels = {
        f"accuracy of a probe of `{site}`": {told: bags.tapped(lab, site, kind) for kind, told in kinds.items()}
        for site in bags.sites(lab)
    }
    level = {"the model": float(np.median(bags.model_accuracy(lab)))}
    title = "A transformer on bags of two marks: where its layers gather the class"
    return seeds_by_model(panels, title=title, levels=dict.fromkeys(panels, level))
