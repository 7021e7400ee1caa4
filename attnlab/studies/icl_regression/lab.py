"""What the claims of the study are measured with: trains on demand, evaluates once, remembers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import toy_tasks as tt
from attnlab import analysis
from attnlab.analysis import head_terms
from attnlab.models import RegressionAttention
from attnlab.studies.icl_regression import evaluate, theory_side
from attnlab.studies.icl_regression.experiments import Experiment, experiments
from attnlab.studies.lab import Runs
from theory import icl

PROMPTS = {"smoke": 4_000}  # behind every risk of a trained model; elsewhere:
MANY_PROMPTS = 100_000
WHEN_ENTERED = 1_000  # step by which every seed has left the plateau and has chosen its signs


class Lab(Runs):
    """The runs of one preset in `folder`, and everything measured on them."""

    experiments: dict[str, Experiment]

    def __init__(self, folder: Path, preset: str, *rest: Any):
        super().__init__(folder, preset, experiments(preset), *rest)
        self.prompts = PROMPTS.get(preset, MANY_PROMPTS)

    def theory(self, part: str) -> Any:
        """Values measured without training (`theory_side`)."""
        small = self.preset == "smoke"
        parts: dict[str, Callable[[], Any]] = {
            "estimators": lambda: theory_side.estimator_table((10, 40, 100) if small else theory_side.LENGTHS),
            "table": lambda: theory_side.table_errors(self.theory("estimators")),
            "exact": theory_side.exact_risks,
            "bayes": theory_side.bayes_gap,
            "shifted": theory_side.shifted,
            "flow_facts": lambda: theory_side.flow_facts(2 if small else 8),
            "exact_values": theory_side.exact_values,
            "softmax_lengths": lambda: self.theory("exact_values")["softmax_lengths"],
            "sum_lengths": lambda: self.theory("exact_values")["sum_lengths"],
            "one_head": theory_side.one_head,
            "zhang_risk": lambda: {"risk": icl.best_preconditioned_risk(self.setting("zhang"), "plain")},
            "same_sign": theory_side.same_sign_share,
            "curvature": theory_side.curvature,
            "shared_step": theory_side.shared_step,
            "lengths": theory_side.constructed_lengths,
            "von_oswald": theory_side.von_oswald,
        }
        return self.once(("theory", part), parts[part])

    # ---- risks

    def risk(self, name: str, context: int | None = None) -> np.ndarray:
        """Risk of the final parameters on fresh prompts, `[S]`, at the training length or another."""
        return self.risk_and_error(name, context)[0]

    def risk_and_error(self, name: str, context: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The same with its standard error."""
        e = self.experiments[name]
        task = e.task if context is None else evaluate.at_context(e.task, context)

        def measure():
            return evaluate.model_risk(task, e.model, self.run(name).params, self.prompts)

        return self.once(("risk", name, task.context), measure)

    def above(self, name: str, other: str) -> np.ndarray:
        """Risk over the median risk of `other`, the difference, `[S]`."""
        return self.risk(name) - np.median(self.risk(other))

    def relative_to(self, name: str, value: float, context: int | None = None) -> np.ndarray:
        """`|risk / value - 1|`, `[S]`."""
        return np.abs(self.risk(name, context) / value - 1)

    def prefix_curve(self, name: str) -> np.ndarray:
        """Squared error after `n = 0..C` pairs over that of the predictor 0, `[S, C + 1]` (layout `interleaved`)."""
        e = self.experiments[name]
        params, scale = self.run(name).params, float(np.trace(e.task.priors[0] @ e.task.input_covariance))

        def curve(batch):
            found = jax.vmap(lambda p: e.model.apply(p, batch.inputs)[0])(params)
            return jnp.mean((found - batch.targets)[..., 0::2, 0] ** 2, axis=1)

        def measure():
            batches = [analysis.evaluation_batch(e.task, 512, seed) for seed in range(self.prompts // 10_000 or 1)]
            step = jax.jit(curve)
            return np.mean([np.asarray(step(b)) for b in batches], axis=0) / scale

        return self.once(("prefixes", name), measure)

    # ---- circuits

    def patterns(self, name: str) -> dict[str, np.ndarray]:
        """The pattern of the heads at the end (`analysis.head_patterns`), leaves `[S, ...]`."""
        return self.once(("patterns", name), lambda: self.probe(name, analysis.head_patterns()))

    def matrices(self, name: str, step: int | None = None) -> dict[str, np.ndarray]:
        """`kq [S, H, D, D]`, `ov [S, H, D, m]`, `omega [S, H]` and `mu [S, H, m]`, at the end or at a recorded step."""
        run = self.run(name)
        kq, ov = self.experiments[name].model.circuits(run.params if step is None else run.trajectory.params_at(step))
        head = head_terms.read_heads(kq, ov)
        return jax.device_get({"kq": kq, "ov": ov, "omega": head.omega, "mu": head.mu})

    def sharing(self, name: str) -> dict[str, np.ndarray]:
        """How the heads share several tasks at the end (`analysis.superposition`)."""
        probe = analysis.superposition(self.experiments[name].task)
        return self.once(("sharing", name), lambda: self.probe(name, probe))

    def probe(self, name: str, probe: Any) -> dict[str, np.ndarray]:
        """A probe of the final parameters of every seed."""
        model, params = self.experiments[name].model, self.run(name).params
        return jax.device_get(jax.jit(lambda p: jax.lax.map(lambda q: probe(model, q), p))(params))

    def head(self, name: str, measure: str, reduce: Callable[..., Any]) -> np.ndarray:
        """A measure of heads at the end, reduced over them (and outputs): `[S]`."""
        return reduce(self.patterns(name)[measure].reshape(self.seeds, -1), axis=1)

    def recorded(self, name: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps `[N]` and a pattern during training, `[S, N, ...]`."""
        data = self.run(name).trajectory["patterns"]
        return np.asarray(data.step), np.asarray(data[measure])

    def preconditioner_error(self, name: str) -> np.ndarray:
        """`|Gamma - Gamma*| / |Gamma*|` of `Gamma = sum_h mu_h KQ_h^T`, `[S]`."""
        gamma, best = self.patterns(name)["step_matrix"][:, 0], self.best_preconditioner(name)
        return np.linalg.norm(gamma - best, axis=(1, 2)) / np.linalg.norm(best)

    def identity_error(self, name: str) -> np.ndarray:
        """Relative distance of `Gamma` from its best multiple of the identity, `[S]`."""
        gamma = self.patterns(name)["step_matrix"][:, 0]
        mean = np.trace(gamma, axis1=1, axis2=2)[:, None, None] / gamma.shape[-1]
        return np.linalg.norm(gamma - mean * np.eye(gamma.shape[-1]), axis=(1, 2)) / np.linalg.norm(gamma, axis=(1, 2))

    def best_preconditioner(self, name: str) -> np.ndarray:
        """`Gamma*` of the debiased step for the run's task."""
        return np.asarray(icl.best_preconditioner(self.setting(name), "debiased"))

    def setting(self, name: str) -> icl.Setting:
        """The theory's description of the run's task."""
        return icl.Setting.of(self.experiments[name].task)

    def group_difference(self, name: str) -> np.ndarray:
        """Relative difference of `|sum mu omega / sum mu|` between positive and negative heads, `[S]`."""
        found = self.patterns(name)
        omega, mu = found["omega"], found["mu"][..., 0]
        sizes = []
        for sign in (1, -1):
            weight = np.where(np.sign(mu) == sign, np.abs(mu), 0)
            sizes.append(np.abs(np.sum(weight * omega, axis=1) / np.sum(weight, axis=1)))
        return np.abs(sizes[0] / sizes[1] - 1)

    # ---- signs

    def same_sign(self, name: str, step: int | None = None) -> np.ndarray:
        """1 where all active heads have one sign, at the end or at the recorded step nearest to `step`, `[S]`."""
        steps, found = self.recorded(name, "same_sign")
        place = -1 if step is None else int(np.argmin(np.abs(steps - step)))
        return found[:, place, 0].astype(float)

    def opposite(self, name: str) -> np.ndarray:
        """1 where there are positive and negative heads at the end, `[S]`."""
        found = self.patterns(name)
        return ((found["num_positive"][:, 0] > 0) & (found["num_negative"][:, 0] > 0)).astype(float)

    # ---- the valley

    def at_step(self, name: str, measure: str, step: int) -> np.ndarray:
        """A pattern at the recorded step nearest to `step`, `[S, ...]`."""
        steps, values = self.recorded(name, measure)
        return values[:, int(np.argmin(np.abs(steps - step)))]

    def omega_size(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and the mean `|omega|` over heads, `[S, N]`."""
        steps, omega = self.recorded(name, "omega")
        return steps, np.abs(omega).mean(axis=-1)

    def rises_after(self, name: str, start: int, window: int = 5) -> np.ndarray:
        """Largest rise of mean `|omega|` from `start` on, relative, running means over `window` records, `[S]`."""
        steps, size = self.omega_size(name)
        kernel = np.ones(window) / window
        smooth = np.array([np.convolve(row[steps >= start], kernel, "valid") for row in size])
        return np.max(smooth - np.minimum.accumulate(smooth, axis=1), axis=1) / smooth[:, 0]

    # ---- linear attention

    def linear_preconditioner(self, name: str) -> np.ndarray:
        """`KQ` of inputs, transposed, times the label entry of `OV`, of one layer of linear attention: `[S, d, d]`."""
        model, params = self.experiments[name].model, self.run(name).params
        kq, ov = jax.device_get(jax.vmap(model.circuits)(params))
        d = self.experiments[name].task.dim
        return np.swapaxes(np.einsum("shij,sh->sij", kq[:, :, :d, :d], ov[:, :, d, 0]), 1, 2)

    def linear_error(self, name: str) -> np.ndarray:
        """Its relative distance from the best preconditioner of the plain step, `[S]`."""
        best = np.asarray(icl.best_preconditioner(self.setting(name), "plain"))
        return np.linalg.norm(self.linear_preconditioner(name) - best, axis=(1, 2)) / np.linalg.norm(best)

    def oswald_alignment(self, measure: str) -> np.ndarray:
        """A measure of `analysis.gd_alignment` between von Oswald's trained layer and the best step, `[S]`."""
        task = self.experiments["von_oswald"].task
        step = tt.GradientStep(self.theory("von_oswald")["eta"])
        probe = analysis.gd_alignment(task, step)
        return self.once(("alignment", "von_oswald"), lambda: self.probe("von_oswald", probe))[measure][:, 0]

    def finite_share(self) -> float:
        """Share of finite numbers among the patterns of all runs that have them."""
        runs = [n for n, e in self.experiments.items() if isinstance(e.model, RegressionAttention)]
        values = np.concatenate([np.ravel(x) for n in runs for x in self.patterns(n).values()])
        return float(np.mean(np.isfinite(values)))

    def excess_over_least_squares(self, name: str) -> np.ndarray:
        """`prefix_curve` above `max(0, 1 - n / d)`, `[S, C + 1]`."""
        curve = self.prefix_curve(name)
        return curve - np.maximum(0, 1 - np.arange(curve.shape[1]) / self.experiments[name].task.dim)
