"""Configurations x seeds x learning rates as one list and one labelled table: what `al.sweep` and `attnlab sweep` do.

Training, grouping and resuming are `attnlab.training.sweep`; here are the usual measures and what is written of them:
`table.csv`, `table.nc` (xarray), `sweep.png` and `report.html`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlab import hosts, training
from attnlab.config import require
from attnlab.studies import sweep_report
from attnlab.studies.compare import model_for
from attnlab.studies.examples import axes, mechanisms_called, task_with
from attnlab.studies.measures import Measures
from attnlab.studies.reproduce import free_folder
from attnlab.training import Cell, Sweep, adamw, grid


def sweep(
    cells: Sequence[Cell],
    *,
    path: str | Path | None = None,
    measure: training.Measure | None = None,
    say: Any = None,
    **options: Any,
) -> Sweep:
    """Train every cell for all its seeds, measure it, and write one table, one picture and one page.

    Cells that differ only in seeds and in the numbers of their optimizers are one compiled program. Killed or
    interrupted, it goes on with `attnlab resume FOLDER` or `al.resume_sweep(path)`.

    Args:
      cells: `al.Cell`s, as `al.grid` makes them.
      path: the folder; must not exist. Default: a new one under `runs/`.
      measure: `run -> {quantity: [S]}`. Default: `Measures()`: loss on fresh sequences, accuracy, gap to the oracle,
        risks, steps to leave the plateau, as far as the task defines them.
      say, options: as for `attnlab.training.sweep` (`record`, `seed_axis`, `devices`, ...).

    Example:
      def make(mechanism, learning_rate):
          model = al.Transformer(vocab_size=64, length=32, mechanism=mechanism)
          return al.Cell(task, model, al.adamw(learning_rate), steps=500, seeds=3)

      found = al.sweep(al.grid(make, mechanism=[al.attention.softmax, mine], learning_rate=[1e-3, 3e-3, 1e-2]))
      found.table.accuracy.median("seed")     # xarray: mechanism, learning_rate
      found.best(over="learning_rate", metric="accuracy")
    """
    folder = Path(hosts.lead(lambda: str(free_folder("sweep")))) if path is None else Path(path)
    found = training.sweep(cells, path=folder, measure=Measures() if measure is None else measure, say=say, **options)
    hosts.lead(lambda: sweep_report.write(found))
    return found


def resume_sweep(path: str | Path, *, say: Any = None, **options: Any) -> Sweep:
    """Go on with a sweep (see `attnlab.training.resume_sweep`) and write its table, picture and page."""
    found = training.resume_sweep(path, say=say, **options)
    hosts.lead(lambda: sweep_report.write(found))
    return found


def entries_called(mechanisms: Sequence[str], learning_rates: Sequence[float], seeds: int) -> int:
    """How many seeds one program can have at most: for the choice of cores, before anything is computed."""
    names = [m.name for m in mechanisms_called(mechanisms)]
    require(len(names) > 0, "--mechanisms", mechanisms, "one name or more")
    require(len(set(names)) == len(names), "--mechanisms", " ".join(names), "names that differ")
    rates = " ".join(map(str, learning_rates))
    right = len(learning_rates) > 0 and all(math.isfinite(rate) and rate > 0 for rate in learning_rates)
    require(right, "--learning-rates", rates, "one number > 0 or more")
    require(len(set(learning_rates)) == len(learning_rates), "--learning-rates", rates, "numbers that differ")
    require(seeds >= 1, "--seeds", seeds, "an integer >= 1")
    return seeds * len(learning_rates)


def cells_called(
    task: str,
    mechanisms: Sequence[str],
    learning_rates: Sequence[float],
    task_settings: Sequence[str] = (),
    model_settings: Sequence[str] = (),
    **training_settings: Any,
) -> list[Cell]:
    """The grid that the options of the command line say: mechanisms, settings with several values, learning rates.

    Args:
      task_settings, model_settings: `field=value` or `field=value,value,...` (`examples.axes`).
      training_settings: steps, seeds, batch_size of every cell.
    """
    chosen = {m.name: m for m in mechanisms_called(mechanisms)}
    ours, theirs = axes("--set", task_settings), axes("--model", model_settings)
    swept = [name for name, values in (*ours.items(), *theirs.items()) if len(values) > 1]
    for name in swept:
        free = swept.count(name) == 1 and name not in ("mechanism", "learning_rate")
        require(free, "--model" if name in theirs else "--set", name, "a field that is not swept by another option")
    tasks: dict[str, Any] = {}
    models: dict[str, Any] = {}

    def make(mechanism: str, learning_rate: float, **values: Any) -> Cell:
        for_task = {name: values[name] if len(found) > 1 else found[0] for name, found in ours.items()}
        for_model = {name: values[name] if len(found) > 1 else found[0] for name, found in theirs.items()}
        asked, built = repr(for_task), repr((for_task, for_model, mechanism))
        if asked not in tasks:
            tasks[asked] = task_with(task, for_task)
        if built not in models:
            models[built] = model_for(tasks[asked], chosen[mechanism], **for_model)
        return Cell(tasks[asked], models[built], adamw(learning_rate), **training_settings)

    several = {name: found for given in (ours, theirs) for name, found in given.items() if len(found) > 1}
    return grid(make, mechanism=list(chosen), **several, learning_rate=list(learning_rates))
