"""What each preset trains: needles in noise for three layers, needles in a language for two, attention only."""

from __future__ import annotations

from typing import Any

import toy_tasks as tt
from attnlab.models import Transformer
from attnlab.studies.measured import Experiment
from attnlab.studies.retrieval_heads.figures import figures as figures
from attnlab.studies.retrieval_heads.masks import by_hand
from attnlab.training import adamw, at

THEORY = {"by_hand": by_hand}


def _experiment(
    task: tt.NeedleCopy, layers: int, heads: int, width: int, steps: int, batch_size: int = 64, rate: float = 3e-3
) -> Experiment:
    model = Transformer(
        vocab_size=task.vocab_size,
        length=task.length,
        num_layers=layers,
        num_heads=heads,
        width=width,
        no_mlp=tuple(range(layers)),
    )
    return Experiment(task, model, adamw(rate), steps, batch_size, {"params": at([steps])})


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name.

    needle: noise, 3 layers of 4 heads. joint: a Markov language whose every token counts, 2 layers of 8 heads. surplus
    (evening): the same with four times as many heads of the same width.
    """
    if preset == "smoke":
        return {"needle": _experiment(tt.NeedleCopy(6, 5, 2), 2, 2, 16, 30, 16)}
    noise, language = tt.NeedleCopy(), tt.NeedleCopy(language="markov", joint=True)
    found: dict[str, Any] = {
        "needle": _experiment(noise, 3, 4, 64, 900 if preset == "laptop" else 2000),
        "joint": _experiment(language, 2, 8, 64, 3000 if preset == "laptop" else 6000),
    }
    if preset == "evening":
        found["surplus"] = _experiment(language, 4, 16, 128, 6000)
    return found
