"""What every study's lab shares: train on demand, go on with what is on disk, remember what was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from attnlab import hosts, training
from attnlab.training.optimizers import Optimizer
from attnlab.training.precision import Precision, full


class Experiment(Protocol):
    """One training run of a preset, over all its seeds."""

    @property
    def task(self) -> Any: ...

    @property
    def model(self) -> Any: ...

    @property
    def optimizer(self) -> Optimizer: ...

    @property
    def steps(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def microbatch(self) -> int | None: ...

    @property
    def most_seeds(self) -> int | None:
        """It is trained for no more seeds than this, however many the study has; None = for all."""
        ...

    def record(self) -> dict[str, Any]:
        """What is recorded."""
        ...


class Runs:
    """The runs of one preset in `folder`.

    Attributes:
      folder, preset, seeds: where, which size, how many seeds.
      first_seed: they are `first_seed, first_seed + 1, ...`: initial parameters, batches of training. What is
        measured afterwards on fresh sequences, and what needs no training, is the same whatever the seeds.
      precision: in which they are trained.
      experiments: what the preset trains, by name.
      training_seconds: time spent in training so far (so that a claim's own time can be told from it).
    """

    def __init__(
        self,
        folder: Path,
        preset: str,
        experiments: Mapping[str, Experiment],
        seeds: int,
        progress: bool | None,
        say: Callable[[str], None],
        first_seed: int = 0,
        precision: Precision = full,
    ):
        self.folder, self.preset, self.seeds, self.first_seed = folder, preset, seeds, first_seed
        self.precision = precision
        self._progress, self._say = progress, say
        self.training_seconds = 0.0
        self.experiments = dict(experiments)
        self._memory: dict[Any, Any] = {}

    def once(self, name: Any, make: Callable[[], Any]) -> Any:
        """`make()`, remembered under `name`."""
        if name not in self._memory:
            self._memory[name] = make()
        return self._memory[name]

    def run(self, name: str) -> training.Run:
        """The run called `name`: trained now, gone on with, or read from disk."""
        return self.once(("run", name), lambda: self._train(name))

    def _train(self, name: str) -> training.Run:
        e = self.experiments[name]
        path = self.folder / "runs" / name
        began = time.perf_counter()
        if hosts.lead(path.exists):
            result = training.resume(path, progress=self._progress)
        else:
            number = self.seeds if e.most_seeds is None else min(self.seeds, e.most_seeds)
            self._say(f"training {name}: {e.steps} steps, {number} seeds, batch {e.batch_size}")
            result = training.run(
                e.task,
                e.model,
                e.optimizer,
                steps=e.steps,
                seeds=range(self.first_seed, self.first_seed + number),
                batch_size=e.batch_size,
                microbatch=e.microbatch,
                precision=self.precision,
                record=e.record(),
                path=path,
                progress=self._progress,
            )
        if result.interrupted:
            raise KeyboardInterrupt  # what was recorded is safe; the study can be gone on with
        seconds = time.perf_counter() - began
        self.training_seconds += seconds
        rate = result.stats["seed_steps_per_second"]
        self._say(
            f"  {name}: {seconds:.1f} s ({result.stats['compile_seconds']:.1f} s to compile, {rate:.0f} seed-steps/s)"
        )
        return result

    def trained(self) -> list[str]:
        """Names of the runs that exist by now, in the preset's order."""
        return [name for name in self.experiments if ("run", name) in self._memory or self._on_disk(name)]

    def _on_disk(self, name: str) -> bool:
        return (self.folder / "runs" / name / "manifest.json").exists()

    def describe(self) -> dict[str, Any]:
        """What was run, for the report."""
        return {
            name: {
                "model": repr(e.model),
                "optimizer": repr(e.optimizer),
                "steps": e.steps,
                "batch_size": e.batch_size,
                "task": e.task.describe(),
                "stats": self.run(name).stats,
            }
            for name, e in self.experiments.items()
            if name in self.trained()
        }
