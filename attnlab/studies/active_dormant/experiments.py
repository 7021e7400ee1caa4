"""What each preset trains: task, model, optimizer, steps, and what is recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import toy_tasks as tt
from attnlab import analysis, attention
from attnlab.models import BackcopyReduced, Transformer
from attnlab.training import adamw, at, log_spaced, sgd
from attnlab.training.optimizers import Optimizer


def value_of_bos(model: BackcopyReduced, params: Any) -> Any:
    """What attending to <s> adds to the logits of the reduced model, `[V]`."""
    return model.ov(params, 0, 0).dense()[model.bos]


@dataclass(frozen=True)
class Experiment:
    """One training run of a preset (over all its seeds).

    Attributes:
      task, model, optimizer: what is trained on what, how.
      steps, batch_size: updates, sequences per update.
      dense: number of steps (evenly in log) at which the sink measures are recorded.
      sparse: number of steps at which parameters and attention maps are recorded.
      marks: further steps at which the sink measures are recorded.
      microbatch: sequences per partial gradient; None = by rule.
      most_seeds: it is trained for no more seeds than this; None = for all of the study.
    """

    task: tt.BigramBackcopy
    model: Any
    optimizer: Optimizer
    steps: int
    batch_size: int = 64
    dense: int = 100
    sparse: int = 40
    marks: tuple[int, ...] = ()
    microbatch: int | None = None
    most_seeds: int | None = None

    def record(self) -> dict[str, Any]:
        """The records of the run."""
        measure = analysis.sinks(self.task, batch_size=64, by_token=True)
        maps = analysis.attention_maps(self.task, sequences=2)
        marks = tuple(m for m in self.marks if m <= self.steps)
        return {
            "params": log_spaced(self.sparse),
            "sinks": log_spaced(self.dense, measure),
            "maps": log_spaced(self.sparse, maps),
            **({"bos_value": log_spaced(self.dense, value_of_bos)} if isinstance(self.model, BackcopyReduced) else {}),
            **({"marks": at(marks, measure)} if marks else {}),
        }


@dataclass(frozen=True)
class Scale:
    """A size of the paper's experiment: `T`, `D`, batch, learning rate."""

    length: int
    width: int
    batch_size: int
    learning_rate: float
    delimiter: bool

    def task(self, **options: Any) -> tt.BigramBackcopy:
        return tt.BigramBackcopy.tiny_shakespeare(
            num_triggers=3, length=self.length, delimiter=self.delimiter, **options
        )

    def make(self, steps: int, *, mechanism=attention.softmax, layers=1, optimizer=None, task=None, **model: Any):
        task = self.task() if task is None else task
        net = Transformer(
            vocab_size=task.vocab_size,
            length=self.length,
            width=self.width,
            num_layers=layers,
            mechanism=mechanism,
            **model,
        )
        rule = adamw(self.learning_rate) if optimizer is None else optimizer
        return Experiment(task, net, rule, steps, self.batch_size)

    def reduced(self, steps: int) -> Experiment:
        """The paper's reduced model, AdamW 0.03."""
        task = self.task()
        assert task.bos_id is not None
        net = BackcopyReduced(task.vocab_size, self.length, task.triggers, task.bos_id)
        return Experiment(task, net, adamw(0.03), steps, self.batch_size)


SMOKE = Scale(length=16, width=16, batch_size=8, learning_rate=3e-3, delimiter=False)
LAPTOP = Scale(length=64, width=64, batch_size=64, learning_rate=1e-3, delimiter=False)
EVENING = replace(LAPTOP, batch_size=32)
PAPER = Scale(length=256, width=256, batch_size=512, learning_rate=3e-4, delimiter=True)


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name."""
    if preset == "smoke":
        return {
            "softmax": SMOKE.make(60),
            "relu": SMOKE.make(60, mechanism=attention.relu),
            "reduced": SMOKE.reduced(60),
        }
    if preset == "laptop":
        return {
            "softmax": LAPTOP.make(2000),
            "relu": LAPTOP.make(2000, mechanism=attention.relu),
            "reduced": LAPTOP.reduced(1000),
        }
    if preset == "evening":
        no_bos = EVENING.task(bos=False)
        with_bos = (
            attention.softmax,
            attention.softmax_off_by_one,
            attention.key_bias,
            attention.sigmoid,
            attention.relu,
        )
        without = (attention.softmax, attention.key_bias, attention.sigmoid)
        return {
            **{m.name: EVENING.make(2000, mechanism=m) for m in with_bos},
            **{f"no_bos_{m.name}": EVENING.make(2000, mechanism=m, task=no_bos) for m in without},
        }
    return _paper()


def _paper() -> dict[str, Experiment]:
    def three(steps=10_000, **options: Any) -> Experiment:
        return PAPER.make(steps, layers=3, remat="layers", **options)  # else 15.6 of the 16 GB of a TPU v5e

    marks = (80, 90, 100, 200, 500, 1000, 2000, 5000, 10_000)
    found = {
        "softmax": PAPER.make(10_000),
        "relu": PAPER.make(1000, mechanism=attention.relu, optimizer=adamw(3e-3)),
        "reduced": PAPER.reduced(5000),
        "no_bos": PAPER.make(10_000, task=PAPER.task(bos=False)),
        "three_adam": three(),
        "three_sgd": three(optimizer=sgd(0.03, momentum=0.9, weight_decay=1e-4)),
        "three_relu": three(mechanism=attention.relu),
        "three_no_attention_2": three(no_attention=(2,)),
        "two": PAPER.make(10_000, layers=2, remat="layers"),
        "mlp_tf_mlp": three(no_attention=(0, 2)),
        "attn_tf_mlp": three(no_attention=(2,), no_mlp=(0,)),
    }
    return {name: replace(e, marks=marks) for name, e in found.items()}
