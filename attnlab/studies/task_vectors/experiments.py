"""What each preset trains: two small transformers on maps shown by examples, whose second layers attend or average."""

from __future__ import annotations

import toy_tasks as tt
from attnlab.attention import softmax, uniform
from attnlab.models import Transformer
from attnlab.studies.measured import Experiment
from attnlab.studies.task_vectors.figures import figures as figures
from attnlab.training import adamw

STEPS = {"smoke": 30, "laptop": 1500, "evening": 6000}


def experiments(preset: str) -> dict[str, Experiment]:
    """Two layers of four heads that know of places by rotation only, so that a query alone stands where any may.

    `choosing`: softmax in both layers, the query chooses what it reads. `even`: the second reads all tokens alike.
    """
    task = tt.InContextMaps(6, 3, 2) if preset == "smoke" else tt.InContextMaps()
    width = 16 if preset == "smoke" else 64
    found = {}
    for name, second in (("even", uniform), ("choosing", softmax)):
        model = Transformer(
            vocab_size=task.vocab_size,
            length=task.length,
            num_layers=2,
            num_heads=4,
            width=width,
            positions="rope",
            mechanism=(softmax, second),
        )
        found[name] = Experiment(task, model, adamw(2e-3), STEPS[preset], 64)
    return found
