"""What each preset trains: one model on three tasks, and one whose coloured objects have noisy labels."""

from __future__ import annotations

import toy_tasks as tt
from attnlab import analysis
from attnlab.models import Transformer
from attnlab.studies.circuits.exact import exact
from attnlab.studies.circuits.figures import figures as figures
from attnlab.studies.measured import Experiment
from attnlab.training import adamw, log_spaced

THEORY = {"exact": exact}
NOISE = 0.3  # of the labels of coloured objects in the run `noisy`


def _experiment(
    task: tt.CircuitMixture, layers: int, heads: int, width: int, steps: int, batch_size: int
) -> Experiment:
    model = Transformer(vocab_size=task.vocab_size, length=task.length, num_layers=layers, num_heads=heads, width=width)
    records = {"heads": log_spaced(24, analysis.copying_heads(task, 96))}
    return Experiment(task, model, adamw(1e-3), steps, batch_size, records)


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name: `mixture`, and `noisy` with three labels of ten wrong in one of its tasks."""
    if preset == "smoke":
        return {"mixture": _experiment(tt.CircuitMixture(), 2, 2, 16, 30, 24)}
    steps = 2500 if preset == "laptop" else 8000
    noisy = tt.CircuitMixture(coloured=tt.ColouredObjects(label_noise=NOISE))
    return {
        "mixture": _experiment(tt.CircuitMixture(), 4, 8, 64, steps, 96),
        "noisy": _experiment(noisy, 4, 8, 64, steps, 96),
    }
