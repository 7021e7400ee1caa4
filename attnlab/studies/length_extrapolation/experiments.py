"""What each preset trains: a passkey at one length, to be asked at others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import toy_tasks as tt
from attnlab.attention import catalogue as mechanisms
from attnlab.models import Transformer
from attnlab.studies.length_extrapolation import figures as drawings
from attnlab.studies.length_extrapolation.rows import planted_table, spread_table
from attnlab.studies.measured import Experiment
from attnlab.training import adamw

TRAINED = {"smoke": 16, "laptop": 64, "evening": 64}
ASKED = {"smoke": (16, 32), "laptop": (64, 256, 1024), "evening": (64, 128, 256, 512, 1024)}
AT_LENGTH = {"smoke": 64, "laptop": 128, "evening": 512}  # sequences per length and seed
TOKENS = 2**14  # evaluated at a time: a map of 1024 x 1024 per sequence must fit


def passkey(length: int, mechanism: Any, positions: str, steps: int, width: int = 64) -> Experiment:
    """One layer, one head, no MLP; a convolution of width 3 lets a token see the key in front of it.

    Fillers are values: only the key tells the one that is asked. No parameter depends on the length.
    """
    task = tt.Passkey(num_keys=4, num_values=16, num_fillers=0, length=length)
    model = Transformer(
        vocab_size=task.vocab_size,
        length=length,
        num_layers=1,
        width=width,
        no_mlp=(0,),
        mechanism=mechanism,
        positions=positions,  # type: ignore[arg-type]
        short_conv=3,
    )
    return Experiment(task, model, adamw(2e-3), steps)


def models(length: int) -> dict[str, tuple[Any, str]]:
    """Name -> mechanism and positions of the models trained at `length`."""
    return {
        "softmax": (mechanisms.softmax, "none"),
        "softmax_rope": (mechanisms.softmax, "rope"),
        "alibi": (mechanisms.alibi, "none"),
        "forgetting": (mechanisms.forgetting, "none"),
        "ssa": (mechanisms.ssa_query, "none"),
        "lssar": (mechanisms.lssar, "none"),
        "lssar_rope": (mechanisms.lssar, "rope"),
        "sigmoid_rope": (mechanisms.sigmoid_for(length), "rope"),
        "lssa": (mechanisms.lssa, "none"),
        "log_count": (replace(mechanisms.log_count, temper=mechanisms.LogCount(length)), "none"),
        "log_count_rope": (replace(mechanisms.log_count, temper=mechanisms.LogCount(length)), "rope"),
        "ssa_rope": (mechanisms.ssa_query, "rope"),
        "lssa_rope": (mechanisms.lssa, "rope"),
        "sigmoid": (mechanisms.sigmoid_for(length), "none"),
    }


LAPTOP = (
    "softmax", "softmax_rope", "alibi", "forgetting", "ssa", "lssar", "lssar_rope", "sigmoid_rope", "log_count",
    "log_count_rope",
)  # fmt: skip


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name."""
    length = TRAINED[preset]
    known = models(length)
    if preset == "smoke":
        return {name: passkey(length, *known[name], steps=60, width=16) for name in ("softmax", "lssar_rope")}
    chosen = LAPTOP if preset == "laptop" else tuple(known)
    return {name: passkey(length, *known[name], steps=400 if preset == "laptop" else 2000) for name in chosen}


def asked(lab: Any, name: str, length: int) -> dict[str, np.ndarray]:
    """`loss` and `accuracy` of a trained model on sequences of `length`, each `[S]`."""
    e = lab.experiments[name]
    options = {"sequences": AT_LENGTH[lab.preset], "at_once": max(1, min(64, TOKENS // length))}
    if length == e.task.length:
        return lab.risks(name, **options)
    return lab.risks(name, task=e.task.at_length(length), model=replace(e.model, length=length), **options)


def curves(lab: Any) -> dict[str, np.ndarray]:
    """`lengths`, and `{model}.accuracy`, `{model}.loss` of every model of the preset, each `[S, lengths]`."""
    lengths = ASKED[lab.preset]
    found = {"lengths": np.asarray(lengths)}
    for name in lab.experiments:
        risks = [asked(lab, name, length) for length in lengths]
        found |= {f"{name}.{what}": np.stack([r[what] for r in risks], axis=-1) for what in ("accuracy", "loss")}
    return found


THEORY = {"planted": planted_table, "spread": spread_table, "lengths": curves}


def figures(lab: Any) -> dict[str, Any]:
    """The study's figures."""
    return drawings.figures(lab)
