"""Figures: accuracy over length with theory's verdict, word problems by model, weights by hand, losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.studies.comparison_figures import losses
from attnlab.studies.state_tracking.repeated import verdict

LABELS = {
    "parity_beta_1": "delta rule, strengths to 1",
    "parity_beta_2": "delta rule, strengths to 2",
    "delta_1": "delta rule, to 1",
    "delta_2": "delta rule, to 2",
    "product": "two factors, to 2",
    "product_unit": "two factors, to 1",
    "gated_delta": "gated delta rule, to 1",
    "ssd": "SSD",
}


def figures(lab: Any) -> dict[str, Any]:
    """Of the runs that exist."""
    from attnlab.studies.state_tracking.experiments import lengths

    names = lab.trained()
    drawn: dict[str, Any] = {"f1-hand-built": ("Weights by hand, 1000 random letters", _hand_built(lab))}
    parity = [n for n in names if n.startswith("parity")]
    if parity:
        title = "Parity: what each strength reaches, over the length asked"
        drawn["f2-parity"] = ("Parity over length", _over_length(lab, parity, lengths(lab, parity[0]), title))
    words = [n for n in names if n.startswith("S3_") and lab.experiments[n].model.positions == "none"]
    if words:
        title = "Words over S3: what one layer reaches, over the length asked"
        drawn["f3-words"] = ("Word problem of S3 over length", _over_length(lab, words, lengths(lab, words[0]), title))
    tagged = [n for n in names if hasattr(lab.experiments[n].task, "group")]
    if tagged:
        drawn["f4-groups"] = ("Accuracy at the trained length, every seed", _groups(lab, tagged))
        drawn["f5-losses"] = ("Training loss", losses(lab, tagged, "Training loss on word problems"))
    return drawn


def label(name: str) -> str:
    """A mechanism and theory's verdict on it; of words over a group, behind its name."""
    rest = name if name.startswith("parity") else name.split("_", 1)[1]
    told = LABELS.get(rest, rest.replace("softmax_", "softmax, layers: "))
    return f"{told} (theory: {verdict(name)})"


def _over_length(lab: Any, names: list[str], lengths: tuple[int, ...], title: str) -> Any:
    from attnlab.studies.state_tracking.experiments import accuracy_at, guess

    curves = {label(n): np.stack([accuracy_at(lab, n, length) for length in lengths], axis=1) for n in names}
    return curves_by_model(
        np.array(lengths), curves, title=title, xlabel=f"tokens; trained at {lengths[0]}", ylabel="accuracy",
        log_x=True, marks=True, levels={"guess": guess(lab, names[0])},
    )  # fmt: skip


def _groups(lab: Any, names: list[str]) -> Any:
    from attnlab.studies.state_tracking.experiments import guess

    rows = {f"{n.split('_', 1)[0]}: {label(n)}": lab.accuracy(n) for n in names}
    levels = {f"guess, {round(1 / g)} elements:": g for g in {guess(lab, n) for n in names}}
    title = "Accuracy over all prefixes; the line is a guess"
    return seeds_by_model({"accuracy": rows}, title=title, levels={"accuracy": levels})


def _hand_built(lab: Any) -> Any:
    found = lab.theory("hand_built")
    cases = [n.removesuffix(".guess") for n in found if n.endswith(".guess")]
    keys = {n.replace("_", " in "): n for n in cases}
    keys |= {f"{n}, strengths cut at 1": f"{n}.cut" for n in cases if f"{n}.cut.right" in found}
    right = {told: [found[f"{n}.right"]] for told, n in keys.items()}
    guesses = {told: [found[f"{n.removesuffix('.cut')}.guess"]] for told, n in keys.items()}
    title = "The weights of theory track every group through the mechanisms; cut off at strength 1 they guess"
    return seeds_by_model({"share of right prefixes": right, "what a guess gets right": guesses}, title=title)
