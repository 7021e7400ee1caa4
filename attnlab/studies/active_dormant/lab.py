"""What the claims of the study are measured with: trains on demand, evaluates once, remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from attnlab import analysis
from attnlab.edits import remove_block
from attnlab.studies.active_dormant import metric_side, theory_side
from attnlab.studies.active_dormant.experiments import experiments
from attnlab.studies.lab import Runs
from attnlab.tape import Edit

EVALUATION = 256  # sequences behind every final number, as in the specification's reference runs


class Lab(Runs):
    """The runs of one preset in `folder`, and everything measured on them."""

    def __init__(self, folder: Path, preset: str, *rest: Any):
        super().__init__(folder, preset, experiments(preset), *rest)

    # Theory and task

    def theory(self, part: str) -> dict[str, Any]:
        """Values measured without training (`theory_side`, `metric_side`)."""
        parts: dict[str, Callable[[], Any]] = {
            "task": lambda: theory_side.task_statistics(self.seeds),
            "authors": theory_side.authors_batch,
            "construction": theory_side.construction,
            "sink_flow": theory_side.sink_flow,
            "drain_flow": theory_side.drain_flow,
            "joint_flow": theory_side.joint_flow,
            "relu_flow": theory_side.relu_flow,
            "residual_peak": theory_side.residual_peak,
            "metric": lambda: metric_side.unit_values(self.seeds),
            "repeated": lambda: metric_side.repeated_tokens(self.seeds),
        }
        return self.once(("theory", part), parts[part])

    @cached_property
    def expected(self) -> Any:
        """Closed forms of the paper's task."""
        return theory_side.expected()

    # Measures of a run

    def final_measures(self, name: str) -> dict[str, np.ndarray]:
        """Every sink measure of the final parameters, leaves `[S, ...]`, on `EVALUATION` sequences."""
        e = self.experiments[name]
        probe = analysis.sinks(e.task, batch_size=EVALUATION, by_token=True)
        return self.once(("final", name), lambda: self._evaluate(probe, name))

    def _evaluate(self, probe: Any, name: str, edits: tuple[Edit, ...] = ()) -> Any:
        model, params = Edited(self.experiments[name].model, edits), self.run(name).params
        return jax.device_get(jax.jit(lambda p: jax.lax.map(lambda q: probe(model, q), p))(params))

    def final(self, name: str, metric: str, layer: int = 0) -> np.ndarray:
        """One measure at the end, `[S]`; heads are averaged."""
        return pick(self.final_measures(name)[metric], 1, layer)

    def curve(self, name: str, metric: str, layer: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Steps `[N]` and values `[S, N]` recorded during training."""
        data = self.run(name).trajectory["sinks"]
        return np.asarray(data.step), pick(np.asarray(data[metric]), 2, layer)

    def at(self, name: str, step: int, metric: str, layer: int = 0) -> np.ndarray:
        """One measure at a recorded step, `[S]`."""
        trajectory = self.run(name).trajectory
        for record in ("marks", "sinks"):
            if record in trajectory.records and step in trajectory.steps(record):
                return pick(np.asarray(trajectory[record][metric].sel(step=step)), 1, layer)
        raise LookupError(f"{name}: {metric} was not recorded at step {step}.")

    def interventions(self, name: str) -> dict[str, dict[str, np.ndarray]]:
        """Risks with parts ablated, `{part: {risk: [S]}}`."""
        e = self.experiments[name]
        probe = analysis.interventions(e.task, batch_size=EVALUATION)
        return self.once(("interventions", name), lambda: self._evaluate(probe, name))

    def intervened(self, name: str, part: str) -> dict[str, np.ndarray]:
        """Risks with one part ablated (zero ablation of what it writes)."""
        return self.interventions(name)[part]

    # Quantities of single claims

    def reduced_drain(self, name: str = "reduced") -> tuple[np.ndarray, np.ndarray]:
        """Steps `[N]` and norm of the reduced model's value of <s> with its mean over the vocabulary removed, `[S, N]`.

        A constant added to all logits changes nothing, so the mean is a gauge: only what is left can drain.
        """
        trajectory = self.run(name).trajectory
        value = np.asarray(trajectory["bos_value"], np.float64)
        centred = value - value.mean(axis=-1, keepdims=True)
        return trajectory.steps("bos_value"), np.linalg.norm(centred, axis=-1)

    def low_information_mass(self, name: str) -> np.ndarray:
        """Mass that non-trigger rows put on triggers and newlines, `[S]`."""
        return self.final(name, "dormant_mass_triggers") + self.final(name, "dormant_mass_newline")

    def trigger_value_ratio(self, name: str) -> np.ndarray:
        """Value norm of triggers over that of ordinary tokens, `[S]`."""
        return self.final(name, "value_norm_trigger") / self.final(name, "value_norm_ordinary")

    def ablation_factor(self, name: str) -> np.ndarray:
        """The smaller of the backcopy risks without attention and without MLP, over the full one, `[S]`."""
        full = self.intervened(name, "full")["backcopy"]
        return np.minimum(*(self.intervened(name, part)["backcopy"] for part in ("no_attention", "no_mlp"))) / full

    def loss_drop(self, name: str) -> np.ndarray:
        """Training loss of the last record over that of the first, `[S]`."""
        loss = np.asarray(self.run(name).trajectory["loss"])
        return loss[:, -1] / loss[:, 1]

    def finite_share(self) -> float:
        """Share of finite values among the averaged sink measures of all runs at the end."""
        names = ("backcopy", "excess_bigram", "bos_attention", "sink_logit", "value_ratio")
        values = np.concatenate([np.ravel(self.final(run, m)) for run in self.experiments for m in names])
        return float(np.mean(np.isfinite(values)))

    def log_slope(self, name: str, start: int = 1000) -> tuple[np.ndarray, np.ndarray]:
        """Slope and correlation of the sink logit with ln t from `start` on, each `[S]`."""
        line = analysis.log_slope(*self.curve(name, "sink_logit"), window=(start, np.inf))
        return line.slope, line.r

    def line(self, name: str, metric: str, start: int) -> np.ndarray:
        """Correlation of a measure with the step from `start` on, `[S]`."""
        steps, values = self.curve(name, metric)
        late = steps >= start
        return np.array([np.corrcoef(steps[late], row[late])[0, 1] for row in values])

    def concentration(self, name: str, early: int = 1000) -> np.ndarray:
        """sd / mean of the sink logit over tokens at the end over that at `early`, `[S]`."""
        late = self.final(name, "sink_logit_sd") / self.final(name, "sink_logit")
        return late / (self.at(name, early, "sink_logit_sd") / self.at(name, early, "sink_logit"))

    def largest_after(self, name: str, start: int, metric: str) -> np.ndarray:
        """Largest recorded value from `start` on, `[S]`."""
        steps, values = self.curve(name, metric)
        return values[:, steps >= start].max(axis=1)

    def block_effect(self, name: str, metric: str, layer: int) -> np.ndarray:
        """A measure of `layer` in the full model over the same with block 0 zeroed, `[S]`."""
        probe = analysis.sinks(self.experiments[name].task, batch_size=EVALUATION)
        zeroed = self.once(("without block 0", name), lambda: self._evaluate(probe, name, (remove_block(0),)))
        return self.final(name, metric, layer) / np.abs(pick(zeroed[metric], 1, layer))

    def structure_order(self) -> np.ndarray:
        """1 where the residual peak orders by structure as in the paper's figure, `[S]`."""
        peak = {
            n: self.final(n, "residual_peak")
            for n in ("three_adam", "three_no_attention_2", "two", "mlp_tf_mlp", "attn_tf_mlp")
        }
        small = np.maximum(peak["two"], peak["mlp_tf_mlp"])
        weakest = np.minimum(peak["two"], peak["mlp_tf_mlp"])
        ordered = (peak["three_adam"] > peak["three_no_attention_2"]) & (peak["three_no_attention_2"] > small)
        return (ordered & (weakest > peak["attn_tf_mlp"])).astype(float)

    def logits_by_token(self, name: str) -> np.ndarray:
        """Sink logit by token at the end, `[S, V]` (nan for triggers, <s> and unseen tokens)."""
        task = self.experiments[name].task
        logits = np.array(pick(np.moveaxis(self.final_measures(name)["sink_logit_by_token"], -1, 1), 2, 0), np.float64)
        logits[:, [*task.triggers, *([] if task.bos_id is None else [task.bos_id])]] = np.nan
        return logits

    def entropy_correlation(self, name: str) -> np.ndarray:
        """Spearman correlation of row entropy and sink logit, `[S]`."""
        return analysis.entropy_correlation(self.experiments[name].task, self.logits_by_token(name))

    def certain_tokens_lowest(self, name: str, among: int = 5) -> np.ndarray:
        """1 where the tokens `q` and `3` are among the lowest sink logits, `[S]`."""
        task = self.experiments[name].task
        logits = self.logits_by_token(name)
        ids = {task.names.index("q"), task.names.index("3")}
        return np.array(
            [float(ids <= set(np.argsort(np.where(np.isnan(r), np.inf, r))[:among].tolist())) for r in logits]
        )


@dataclass(frozen=True)
class Edited:
    """A model under fixed edits."""

    model: Any
    edits: tuple[Edit, ...]

    def apply(self, params: Any, tokens: Any, *, tape: Any = (), edits: Any = ()) -> Any:
        return self.model.apply(params, tokens, tape=tape, edits=(*self.edits, *edits))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def pick(values: Any, lead: int, layer: int) -> np.ndarray:
    """A measure `[*lead, (L, (H))]` of one layer, averaged over heads: `[*lead]`."""
    values = np.asarray(values)
    if values.ndim > lead:
        values = np.take(values, layer, axis=lead)
    return values.reshape(*values.shape[:lead], -1).mean(axis=-1) if values.ndim > lead else values
