"""Any mechanisms on any task, one table: what each learns, how fast, where it looks, what it costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import analysis, hosts
from attnlab.attention import Mechanism
from attnlab.config import build, encode, require
from attnlab.models import Transformer
from attnlab.report.tables import as_text, format_spread
from attnlab.studies.measured import Experiment
from attnlab.studies.measured_lab import MeasuredLab
from attnlab.studies.measures import plateau_of
from attnlab.studies.reproduce import new_folder
from attnlab.training import adamw
from attnlab.training.precision import Precision, full

COLUMNS = {
    "loss": "loss on fresh sequences",
    "oracle_gap": "loss above the exact oracle's",
    "accuracy": "share of right tokens",
    "bos_mass": "mass on position 0",
    "bos_share": "share of the mass on position 0",
    "evenness": "entropy over log n",
    "left_plateau": "steps to leave the plateau",
    "us_per_token": "microseconds of training per token",
}
"""What the table says of each mechanism; a quantity that the task does not define is NaN."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
      task, model: as trained (the model with the first mechanism).
      values: mechanism -> quantity (`COLUMNS`) -> one number per seed.
      path: folder with the runs, `comparison.json` and `comparison.png`.
    """

    task: Any
    model: Any
    values: dict[str, dict[str, tuple[float, ...]]]
    path: Path

    def rows(self) -> list[list[str]]:
        """Header, then a row per mechanism: median and range over seeds of every quantity that is known."""
        known = [c for c in COLUMNS if any(np.isfinite(v[c]).any() for v in self.values.values())]
        return [["mechanism", *known]] + [
            [name, *(format_spread(v[c], "never") for c in known)] for name, v in self.values.items()
        ]

    def __str__(self) -> str:
        return as_text(self.rows())


def model_for(task: Any, mechanism: Mechanism, **options: Any) -> Transformer:
    """The tiny transformer that reads `task` and says what it asks: tokens, or vectors, at either end."""
    batch = jax.eval_shape(lambda key: task.sample(key, 1), jax.random.key(0))
    plain = hasattr(batch.inputs, "dtype")
    require(plain, "task", task, "one whose inputs are one array", "For LinearRegression: layout='interleaved'.")
    ends: dict[str, Any] = {"vocab_size": getattr(task, "vocab_size", None)}
    for end, array in (("input_dim", batch.inputs), ("output_dim", batch.targets)):
        ends[end] = array.shape[-1] if jnp.issubdtype(array.dtype, jnp.floating) else None
    return build(Transformer, {"length": task.length, "mechanism": mechanism, **ends, **options})


def compare(
    task: Any,
    mechanisms: Sequence[Mechanism],
    *,
    seeds: int = 3,
    steps: int = 1000,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    precision: Precision = full,
    plateau: float | None = None,
    path: str | Path | None = None,
    progress: bool | None = None,
    say: Any = None,
    **model: Any,
) -> Comparison:
    """Train the tiny transformer with each mechanism on `task`, over seeds, and lay the results side by side.

    Args:
      task: see `toy_tasks.base.Task`; with `oracle` and a plateau the table says more.
      mechanisms: of `attnlab.attention`, or your own (ten lines, `attention.from_weights`).
      seeds, steps, batch_size, learning_rate, precision: of the training (AdamW).
      plateau: height of the loss before the mechanism is used; default: the task's highest `plateaus`, or `log V`.
      path: folder for runs, table and picture; must not exist. Default: a new one under `runs/`.
      model: options of `Transformer`: num_layers, width, positions, short_conv, head_norm, ...

    Example:
      print(compare(tt.MQAR(num_pairs=8), [attention.softmax, mine], seeds=4, num_layers=2))
    """
    require(len(mechanisms) > 0, "mechanisms", mechanisms, "one mechanism or more")
    names = [m.name for m in mechanisms]
    require(len(set(names)) == len(names), "mechanisms", names, "mechanisms of different names")
    runs = {
        m.name: Experiment(task, model_for(task, m, **model), adamw(learning_rate), steps, batch_size)
        for m in mechanisms
    }
    if path is not None:
        require(not hosts.lead(Path(path).exists), "path", str(path), "a folder that does not exist")
    folder = new_folder(path, "compare", {})
    lab = MeasuredLab(_Source(runs), folder, "compare", seeds, progress, say or (lambda text: None), 0, precision)
    level = plateau_of(task) if plateau is None else plateau
    values = {name: {c: tuple(map(float, v)) for c, v in _measure(lab, name, level).items()} for name in names}
    found = Comparison(task, runs[names[0]].model, values, folder)
    if hosts.leads():
        _write(found, lab, level)
    return found


@dataclass(frozen=True)
class _Source:
    runs: dict[str, Experiment]

    def experiments(self, preset: str) -> dict[str, Experiment]:
        return self.runs


def _measure(lab: MeasuredLab, name: str, plateau: float | None) -> dict[str, np.ndarray]:
    e = lab.experiments[name]
    nothing = np.full(len(lab.run(name).trajectory.seeds), np.nan)
    found = {c: nothing for c in COLUMNS} | lab.usual(name)
    maps = lab.probe(name, analysis.mixing(e.task, parts=("sink", "spread")), label="compare")
    for metric in ("bos_mass", "bos_share", "evenness"):
        if metric in maps:
            found[metric] = np.nanmean(np.asarray(maps[metric]).reshape(len(nothing), -1), axis=1)
    if plateau is not None:
        found["left_plateau"] = lab.steps_to_leave(name, plateau)
    per_second = lab.run(name).stats["seed_steps_per_second"] * e.batch_size * e.task.length
    found["us_per_token"] = np.full(len(nothing), 1e6 / per_second)
    return found


def _write(found: Comparison, lab: MeasuredLab, plateau: float | None) -> None:
    from attnlab.report import write_figures
    from attnlab.report.figures_comparison import seeds_by_model
    from attnlab.studies.comparison_figures import losses

    image = {"task": encode(found.task), "model": encode(found.model), "values": _finite(found.values)}
    (found.path / "comparison.json").write_text(json.dumps(image, indent=1))
    known = found.rows()[0][1:]
    panels = {COLUMNS[c]: {name: v[c] for name, v in found.values.items()} for c in known}
    title = f"{len(found.values)} mechanisms on {type(found.task).__name__}"
    levels = {} if plateau is None else {"plateau": plateau}
    drawn = {
        "comparison": seeds_by_model(panels, title=title),
        "losses": losses(lab, title=f"Training loss on {type(found.task).__name__}", levels=levels),
    }
    write_figures(found.path, drawn)


def _finite(values: dict[str, dict[str, tuple[float, ...]]]) -> dict[str, Any]:
    return {m: {c: [x if np.isfinite(x) else None for x in v] for c, v in row.items()} for m, row in values.items()}
