"""The figures of the study: recall, copying, logits, indicators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.studies.deconstructing.measures import above_plateau

_INDICATORS = {
    "entropy": "entropy of a row, nats",
    "frobenius": "concentration |A|",
    "head_diversity": "std across heads",
    "bos_mass": "weight on the first token",
}


def figures(lab: Any) -> Mapping[str, Any]:
    """What can be drawn of the runs that exist."""
    names = lab.trained()
    recalls = [name for name in names if not name.startswith("copy ")]
    copies = [name for name in names if name.startswith("copy ")]
    found: dict[str, Any] = {}
    if recalls:
        found["recall"] = ("Recall alone and beside a standard layer", _recall(lab, recalls))
        mixing = [name for name in recalls if not name.startswith("mlp") and not name.startswith("alternating")]
        if mixing:
            found["indicators"] = ("Indicators of the first layer's maps", _indicators(lab, mixing))
    if copies:
        found["copying"] = ("Risk on triggers of Bigram-Backcopy", _copying(lab, copies))
    pooling = [name for name in recalls if name.startswith("non_approximate")]
    if pooling:
        found["logits"] = ("Logits over training", _logits(lab, [*pooling, "standard standard"]))
    return found


def _recall(lab: Any, names: list[str]) -> Any:
    models = list(dict.fromkeys(name.split()[0] for name in names))
    alone, hybrid, skipped = "X X", "X standard", "X standard, X removed at evaluation"
    panels: dict[str, dict[str, Any]] = {alone: {}, hybrid: {}, skipped: {}}
    for x in models:
        one, two = f"{x} {x}", f"{x} standard"
        panels[alone][x] = lab.accuracy(one) if one in names else [np.nan]
        panels[hybrid][x] = lab.accuracy(two) if two in names else [np.nan]
        panels[skipped][x] = lab.accuracy(two, edits=_removed()) if two in names else [np.nan]
    chance = lab.experiments[names[0]].task.plateaus["place"].accuracy
    title = "One standard layer recalls behind pooling and behind a map from noise, not behind an MLP"
    return seeds_by_model(panels, title=title, levels={panel: {"place": chance} for panel in panels})


def _removed() -> tuple[Any, ...]:
    from attnlab.edits import remove_block

    return (remove_block(0),)


def _copying(lab: Any, names: list[str]) -> Any:
    risk = "backcopy risk, nats"
    rows = {name.removeprefix("copy "): lab.risk(name, "backcopy") for name in names}
    first = names[0].removeprefix("copy ")
    plateau = float(np.median(lab.risk(names[0], "backcopy") - above_plateau(first)(lab)))
    title = "A map that never saw the sequence copies as well as attention"
    return seeds_by_model({risk: rows}, title=title, levels={risk: {"no mixing": plateau}})


def _logits(lab: Any, names: list[str]) -> Any:
    curves, steps = {}, np.zeros(0)
    for name in names:
        trajectory = lab.run(name).trajectory
        steps = np.asarray(trajectory.steps("logits"))
        curves[name.replace("non_approximate", "pooling")] = np.asarray(trajectory["logits"], float)[..., 0]
    return curves_by_model(
        steps,
        curves,
        title="At this size the logits of pooling grow alike with and without a standard layer behind it",
        xlabel="training step",
        ylabel="largest |logit| of the first layer",
        log_y=True,
        levels={"paper, alone": 1e3, "paper, hybrid": 10},
    )


def _indicators(lab: Any, names: list[str]) -> Any:
    panels = {told: {name: lab.mixing(name, metric, 0) for name in names} for metric, told in _INDICATORS.items()}
    title = "First of two layers: Taylor orders normalised apart have maps without bound, the others are alike"
    return seeds_by_model(panels, title=title, log=(_INDICATORS["frobenius"], _INDICATORS["head_diversity"]))
