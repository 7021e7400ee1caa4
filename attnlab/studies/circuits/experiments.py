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
WORDS = tt.Words(num_names=8, num_colours=6)  # with 20 and 12 three colours are guessed to the end


def mixture(shares: tuple[float, float, float] = (1.0, 2.0, 1.0), label_noise: float = 0.0) -> tt.CircuitMixture:
    """The three tasks over few words; coloured objects, which take longest, twice as often as the others."""
    coloured = tt.ColouredObjects(WORDS, label_noise=label_noise)
    return tt.CircuitMixture(tt.IndirectObject(WORDS), coloured, tt.MarkovText(WORDS), shares)


def _experiment(
    task: tt.CircuitMixture, layers: int, heads: int, width: int, steps: int, batch_size: int
) -> Experiment:
    model = Transformer(vocab_size=task.vocab_size, length=task.length, num_layers=layers, num_heads=heads, width=width)
    records = {"heads": log_spaced(24, analysis.copying_heads(task, 96))}
    return Experiment(task, model, adamw(3e-3), steps, batch_size, records)


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name: `mixture`, and `noisy`, coloured objects alone with three labels of ten wrong."""
    if preset == "smoke":
        return {"mixture": _experiment(tt.CircuitMixture(), 2, 2, 16, 30, 24)}
    steps = 4000 if preset == "laptop" else 12_000
    return {
        "mixture": _experiment(mixture(), 3, 8, 64, steps, 48),
        "noisy": _experiment(mixture((0.0, 1.0, 0.0), NOISE), 3, 8, 64, steps * 3 // 2, 48),
    }
