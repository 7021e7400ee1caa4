"""Figures: fixations over sizes of arrays, asymmetry by diet, what pointers pay, a head among herrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.studies.comparison_figures import losses
from attnlab.studies.visual_search import distractors, scanning, searching


def figures(lab: Any) -> Mapping[str, Any]:
    """What can be drawn of the runs that exist."""
    trained = lab.trained()
    found: dict[str, Any] = {}
    if all(f"diet {diet}" in trained for diet in searching.DIETS):
        found["f1-asymmetry"] = ("Search asymmetry by diet", _asymmetry(lab))
        found["f2-search"] = ("Fixations over the size of the array, diet of 90 % V", _search(lab))
    pointers = [name for name in trained if name.startswith("pointer ")]
    if pointers:
        found["f3-paths"] = ("Paths that pointers make by themselves", _paths(lab, pointers))
        found["f4-losses"] = ("Training loss on scanpaths", losses(lab, pointers, "Training on scanpaths"))
    if "herrings" in trained:
        found["f5-herrings"] = ("Recall among herrings", _herrings(lab))
    return found


READOUTS = {
    "learned code, largest": ("code", "largest"),
    "learned denoising, drawn": ("denoised", "drawn"),
}


def _asymmetry(lab: Any) -> Any:
    panels: dict[str, dict[str, Any]] = {}
    for label, (readout, rule) in READOUTS.items():
        panels[label] = {
            f"{diet} % V": searching.asymmetry(searching.learned(lab, diet, readout, rule))  # type: ignore[arg-type]
            for diet in searching.DIETS
        }
    panels["exact posterior means, drawn"] = {
        f"{diet} % V": np.atleast_1d(searching.asymmetry(lab.theory("ideal")[f"{diet}.drawn"]))
        for diet in searching.DIETS
    }
    return seeds_by_model(panels, title="Asymmetry (above 0: O among V is found faster) follows the diet")


def _search(lab: Any) -> Any:
    means = searching.learned(lab, "90", "denoised", "drawn")
    curves = {"V among O": means[:, 1], "O among V": means[:, 0]}
    return curves_by_model(
        np.array(searching.SIZES),
        curves,
        title="Searches for each kind among the other, trained on 90 % V, fixations drawn",
        xlabel="items",
        ylabel="fixations until the target is found",
    )


def _paths(lab: Any, names: list[str]) -> Any:
    panels: dict[str, dict[str, Any]] = {part: {} for part in scanning.PARTS}
    for name in names:
        for part, values in scanning.paths(lab, name).items():
            panels[part][name.removeprefix("pointer ")] = values
    levels = {part: {"searcher": value} for part, value in lab.theory("searcher").items()}
    return seeds_by_model(panels, title="Paths of pointers beside those of the searcher (lines)", levels=levels)


def _herrings(lab: Any) -> Any:
    found = {f"mass over {over}": distractors.curve(lab, over)["correct"] for over in ("herrings", "primes")}
    found = {name: values[:, -4:] for name, values in found.items()}
    return curves_by_model(
        np.array(distractors.HERRINGS),
        found,
        title="What resembles the cue, and what was seen more often, takes its share",
        xlabel="herrings, or primes",
        ylabel="probability of the right value",
    )
