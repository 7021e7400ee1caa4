"""Figures: recall over bytes of state, the phase change with its heads, memories without training, losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.studies.comparison_figures import losses

LABELS = {
    "taylor": "Taylor",
    "window_16": "window of 16",
    "ssd": "SSD",
    "delta": "delta rule",
    "gated_delta": "gated delta rule",
}


def figures(lab: Any) -> dict[str, Any]:
    """Of the runs that exist."""
    from attnlab.studies.associative_recall.experiments import MIXERS, PAIRS

    drawn = {}
    trained = {p: [n for n in MIXERS if f"{n}_{p}" in lab.trained()] for p in (2, *PAIRS)}
    if any(trained.values()):
        drawn["f1-table"] = (
            "Recall by mechanism, pairs and state",
            _table(lab, {p: n for p, n in trained.items() if n}),
        )
    if "plain" in lab.trained():
        drawn["f2-phase"] = ("Two plain layers: heads and loss over training", _phase(lab))
    drawn["f3-memories"] = ("Memories of random vectors, without training", _memories(lab))
    if lab.trained():
        drawn["f4-losses"] = ("Training loss", losses(lab))
    return drawn


def _table(lab: Any, trained: dict[int, list[str]]) -> Any:
    kept, most = lab.theory("state_bytes"), max(trained)
    panels = {
        f"accuracy, {p} pairs": {
            label(lab, n, most): lab.accuracy(f"{n}_{p}") if n in names else np.array([np.nan]) for n in trained[most]
        }
        for p, names in trained.items()
    }
    best = max(trained[most], key=lambda n: float(np.median(lab.accuracy(f"{n}_{most}"))))
    size = kept[f"{best}_{most}"] / 1024
    title = f"{most} pairs: {LABELS.get(best, best)} recalls most ({size:.3g} kB of state)"
    return seeds_by_model(panels, title=title, levels={f"accuracy, {p} pairs": {"guess": 1 / p} for p in trained})


def label(lab: Any, name: str, pairs: int) -> str:
    """A mechanism and the bytes that it holds."""
    return f"{LABELS.get(name, name)}, {lab.theory('state_bytes')[f'{name}_{pairs}'] / 1024:.3g} kB"


def _phase(lab: Any) -> Any:
    heads = lab.run("plain").trajectory["heads"]
    steps = np.asarray(heads["step"])
    scores = {
        "layer 0: previous token": heads["previous"].isel(layer=0, head=0),
        "layer 1: induction": heads["induction"].isel(layer=1, head=0),
        "layer 1: duplicate": heads["duplicate"].isel(layer=1, head=0),
    }
    curves = {name: np.asarray(x.transpose("seed", "step")) for name, x in scores.items()}
    loss_steps, loss = lab.loss_curve("plain")
    curves["loss, nats / log V"] = np.stack([np.interp(steps, loss_steps, row) for row in loss]) / np.log(
        lab.experiments["plain"].task.vocab_size
    )
    title = "The loss waits at the guess among the values shown, until one head looks back and the next finds the key"
    if lab.preset == "smoke":
        title = "Scores of heads and the loss over training"
    return curves_by_model(
        1 + steps, curves, title=title, xlabel="1 + training step", ylabel="share of attention; loss", log_x=True,
    )  # fmt: skip


def _memories(lab: Any) -> Any:
    from attnlab.studies.associative_recall.memory import PAIRS

    found = lab.theory("stacked")
    curves = {
        f"{name}, d = {width}": np.array([found[f"{name}.{width}.{p}"] for p in PAIRS])
        for name in ("hebb", "delta", "least_squares", "softmax")
        for width in (32, 64)
    }
    title = "One pass of the delta rule recalls less than Hebb's: what is written last overwrites"
    return curves_by_model(
        PAIRS, curves, title=title, xlabel="pairs written", ylabel="right among 4,096 values", log_x=True
    )
