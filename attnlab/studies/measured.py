"""What studies that compare models share: one kind of experiment, one lab with the usual measures, one way to say both.

A study of this kind is a folder of two modules: `__init__` (the table of claims, its notes; loads no jax) and
`experiments` with

- `experiments(preset) -> {name: Experiment}`, what is trained;
- `THEORY: {name: lab -> values}`, what is measured without training (may be left out);
- `figures(lab) -> {file: (caption, figure)}` (may be left out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from attnlab.studies.base import Check, Preset, Study


@dataclass(frozen=True)
class Experiment:
    """One training run of a preset, over all its seeds.

    Attributes:
      task, model, optimizer: what is trained on what, how.
      steps, batch_size: updates, sequences per update.
      records: what is recorded besides the loss, name -> schedule.
      microbatch: sequences per partial gradient; None = by rule.
      most_seeds: it is trained for no more seeds than this; None = for all of the study.
    """

    task: Any
    model: Any
    optimizer: Any
    steps: int
    batch_size: int = 32
    records: Mapping[str, Any] = field(default_factory=dict)
    microbatch: int | None = None
    most_seeds: int | None = None

    def record(self) -> dict[str, Any]:
        """What is recorded."""
        return dict(self.records)


def study(
    name: str,
    title: str,
    reference: str,
    presets: Sequence[Preset],
    checks: Sequence[Check],
    *,
    home: str,
    notes: str = "",
) -> Study:
    """A study whose `experiments` module is `<home>.experiments`, imported when its lab is opened."""

    def open_lab(*arguments: Any) -> Any:
        from attnlab.studies.measured_lab import MeasuredLab

        return MeasuredLab(import_module(f"{home}.experiments"), *arguments)

    def figures(lab: Any) -> Mapping[str, Any]:
        return lab.figures()

    def scrubbers(lab: Any) -> Mapping[str, Any]:
        return lab.scrubbers()

    return Study(name, title, reference, tuple(presets), tuple(checks), open_lab, figures, scrubbers, notes)


def values_of(lab: Any, part: str, key: str | None = None) -> np.ndarray:
    """What `THEORY[part]` gave, or its entry `key`."""
    found = lab.theory(part)
    return np.asarray(found if key is None else found[key])


def theory(part: str, key: str | None = None) -> Callable[[Any], np.ndarray]:
    """The measure of a claim that needs no training: `check(..., theory("capacity", "hebb"), ...)`."""
    return lambda lab: values_of(lab, part, key)
