"""What each preset trains: a small model that answers questions about pictures."""

from __future__ import annotations

import toy_tasks as tt
from attnlab.models import Transformer
from attnlab.studies.interactions.figures import figures as figures
from attnlab.studies.interactions.theory_side import THEORY as THEORY
from attnlab.studies.measured import Experiment
from attnlab.training import adamw

STEPS = {"smoke": 30, "laptop": 2500, "evening": 8000}


def experiments(preset: str) -> dict[str, Experiment]:
    """`model`, two layers on `GridQA`."""
    task = tt.GridQA(num_patches=6, num_shapes=6, objects=(2, 5))
    model = Transformer(
        vocab_size=task.vocab_size, length=task.length, input_dim=task.width, num_layers=2, num_heads=4, width=32
    )
    return {"model": Experiment(task, model, adamw(3e-3), STEPS[preset], 16 if preset == "smoke" else 64)}
