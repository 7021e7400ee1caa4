"""What each preset trains: the reference model on `GridQA`, and the same with a question of two tokens."""

from __future__ import annotations

from dataclasses import replace

import toy_tasks as tt
from attnlab.models import Transformer
from attnlab.studies.grounding.figures import figures as figures
from attnlab.studies.measured import Experiment
from attnlab.training import adamw

RATE = 3e-3
STEPS = {"smoke": 60, "laptop": 3000, "evening": 12000}


def reference(task: tt.GridQA) -> Transformer:
    """Two layers of four heads, width 32."""
    return Transformer(
        vocab_size=task.vocab_size, length=task.length, input_dim=task.width, num_layers=2, num_heads=4, width=32
    )


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name."""
    task, batch = tt.GridQA(), 16 if preset == "smoke" else 128
    found = {"plain": Experiment(task, reference(task), adamw(RATE), STEPS[preset], batch)}
    if preset == "smoke":
        return found
    two = replace(task, two_tokens=True)
    return found | {"two tokens": Experiment(two, reference(two), adamw(RATE), STEPS[preset], batch, most_seeds=3)}
