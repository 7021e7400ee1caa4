"""The lab of studies that compare models: trains on demand, measures on fresh batches, remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from attnlab import analysis
from attnlab.studies import measures
from attnlab.studies.lab import Runs
from attnlab.studies.measured import Experiment


class MeasuredLab(Runs):
    """The runs of one preset in `folder`, and what is measured on them."""

    experiments: dict[str, Experiment]

    def __init__(self, source: Any, folder: Path, preset: str, *rest: Any):
        super().__init__(folder, preset, source.experiments(preset), *rest)
        self._source = source

    def theory(self, part: str) -> Any:
        """What is measured without training: the study's `THEORY[part](lab)`, once."""
        return self.once(("theory", part), lambda: self._source.THEORY[part](self))

    def figures(self) -> Mapping[str, Any]:
        """The study's own figures, or the loss of every run."""
        drawn = getattr(self._source, "figures", None)
        if drawn is not None:
            return drawn(self)
        from attnlab.studies.comparison_figures import losses

        return {"losses": ("Training loss", losses(self))} if self.trained() else {}

    def scrubbers(self) -> Mapping[str, Any]:
        """The study's own scrubbers, if it has any."""
        made = getattr(self._source, "scrubbers", None)
        return {} if made is None else made(self)

    # ---- on fresh batches

    def evaluate(self, name: str, measure: Callable[..., Any], *, label: Any, **options: Any) -> Any:
        """Mean over fresh batches of `measure(task, output, batch) -> tree`, for every seed: leaves `[S, ...]`.

        Args:
          label: names the measure in the lab's memory, with the options.
          options: `task` (another one than the trained), `edits`, `model` (another one with the same parameters),
            `params` (others than the trained, leaves `[S, ...]`; not remembered), `sequences` (how many), `at_once`
            (how many of them at a time: fewer where they are long).
        """

        def run() -> Any:
            e = self.experiments[name]
            task, model = options.get("task") or e.task, options.get("model") or e.model
            size = {"sequences": measures.SEQUENCES if self.preset != "smoke" else measures.AT_ONCE}
            size |= {name: options[name] for name in ("sequences", "at_once", "edits") if name in options}
            return measures.on_fresh(task, model, given, measure, **size)

        if (given := options.get("params")) is not None:
            return run()
        given = self.run(name).params
        told = tuple((k, options[k]) for k in sorted(options) if k != "edits")
        known = ("evaluate", name, label, told, tuple(map(repr, options.get("edits", ()))))
        return self.once(known, run)

    def risks(self, name: str, **options: Any) -> dict[str, np.ndarray]:
        """The task's named risks of the final parameters on fresh sequences, each `[S]`."""
        return self.evaluate(name, lambda task, out, batch: task.risks(out, batch), label="risks", **options)

    def risk(self, name: str, which: str, **options: Any) -> np.ndarray:
        """One of `risks`, `[S]`."""
        return self.risks(name, **options)[which]

    def loss(self, name: str, **options: Any) -> np.ndarray:
        """The loss that training minimises, on fresh sequences, `[S]`."""
        return self.evaluate(name, measures.loss, label="loss", **options)

    def accuracy(self, name: str, **options: Any) -> np.ndarray:
        """Share of the counted positions whose most probable token is the target, `[S]`."""
        return self.evaluate(name, measures.accuracy, label="accuracy", **options)

    def usual(self, name: str, **options: Any) -> dict[str, np.ndarray]:
        """All that the task defines of `loss`, `accuracy` and `oracle_gap`, in one pass, each `[S]`.

        The gap is the loss above that of the exact oracle on the same sequences, in nats.
        """
        return self.evaluate(name, measures.usual, label="usual", **options)

    def probe(self, name: str, probe: Callable[[Any, Any], Any], *, label: Any, step: int | None = None) -> Any:
        """`probe(model, params)` of every seed at the end (or at a recorded step of `params`), leaves `[S, ...]`."""

        def run() -> Any:
            model, found = self.experiments[name].model, self.run(name)
            params = found.params if step is None else found.trajectory.params_at(step)
            return jax.device_get(jax.jit(lambda p: jax.lax.map(lambda q: probe(model, q), p))(params))

        return self.once(("probe", name, label, step), run)

    def mixing(self, name: str, metric: str, layer: int | None = None, **options: Any) -> np.ndarray:
        """A figure of `analysis.mixing` at the end, `[S]`: the mean over heads and over layers (or of one layer)."""
        probe = analysis.mixing(self.experiments[name].task, **options)
        values = np.asarray(self.probe(name, probe, label=("mixing", tuple(sorted(options.items()))))[metric])
        if layer is not None:
            values = values[:, layer : layer + 1]
        return np.nanmean(values.reshape(len(values), -1), axis=1)

    # ---- over training

    def loss_curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps `[N]` and training loss `[S, N]`."""
        trajectory = self.run(name).trajectory
        return np.asarray(trajectory.steps("loss")), np.asarray(trajectory["loss"])

    def steps_to_leave(self, name: str, plateau: float, share: float = 0.1) -> np.ndarray:
        """When the training loss is below `(1 - share) plateau` for three records in a row; NaN if never. `[S]`"""
        return measures.left_plateau(self.run(name), plateau, share)
