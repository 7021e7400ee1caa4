"""What each preset trains: five probes on bags of frozen vectors with few or many marks, and a model to be probed."""

from __future__ import annotations

import toy_tasks as tt
from attnlab.models import AttentionProbe, EfficientProbe, MeanProbe, Transformer
from attnlab.models.probes import Probe
from attnlab.studies.measured import Experiment
from attnlab.studies.probing.exact import exact
from attnlab.studies.probing.figures import figures as figures
from attnlab.training import adam, adamw

THEORY = {"exact": exact}
MARKS = (1, 2, 8, 24)
RATE, BATCH = 1e-2, 64
STEPS = {"smoke": 40, "laptop": 1500, "evening": 6000}
MODEL_STEPS = {"smoke": 20, "laptop": 1000, "evening": 6000}
PROBED = 2  # marks in the bags that the model reads


def probes(task: tt.MarkedBag) -> dict[str, Probe]:
    """The five of the table."""
    sizes = task.width, task.num_classes
    found: dict[str, Probe] = {"mean": MeanProbe(*sizes)}
    found |= {f"efficient {q}": EfficientProbe(*sizes, queries=q) for q in (1, 4, 8)}
    return found | {"attention": AttentionProbe(*sizes)}


def experiments(preset: str) -> dict[str, Experiment]:
    """`{marks} {probe}`, and `model`, a transformer that answers at the last place."""
    found = {}
    for marks in MARKS[::3] if preset == "smoke" else MARKS:
        task = tt.MarkedBag(num_marked=marks)
        for name, probe in probes(task).items():
            found[f"{marks} {name}"] = Experiment(task, probe, adam(RATE), STEPS[preset], BATCH, microbatch=BATCH)
    task = tt.MarkedBag(num_marked=PROBED)
    model = Transformer(
        vocab_size=task.vocab_size, length=task.length, input_dim=task.width, num_layers=2, num_heads=2, width=32
    )
    return found | {"model": Experiment(task, model, adamw(3e-3), MODEL_STEPS[preset], BATCH)}
