"""One trained model at other context lengths, and how concentrated its attention is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab import keys
from attnlab.analysis.base import Dims, check_task, evaluation_batch
from attnlab.analysis.prompts import Reader, over_leading, predictor_reader, prompt_of, reader
from attnlab.config import require
from toy_tasks.base import Prompt


@dataclass(frozen=True)
class ContextRisk:
    """`probe(model, params) -> {name: [context]}`: squared error at several context lengths, on common prompts.

    A prompt of length `C` is the first `C` pairs of a longer one, with its query: lengths, steps, seeds and predictors
    all see the same, so that differences have less noise than risks.

    Outputs:
      risk: `mean (yhat - y)^2` over prompts and outputs; risk_se: its standard error over prompts.
      with `predictor`: predictor_risk, predictor_risk_se; difference `= risk - predictor_risk` and difference_se, by
        prompts in pairs.

    Attributes:
      task: with a field `context`; its other settings are those of the prompts.
      lengths: the `C`s.
      predictor: `(x [B, C, d], y [B, C, m], query [B, d]) -> [B, m]` to compare with; it sees each length by itself.
      batch_size, num_batches: so many prompts are held at once, so many times. seed: of the prompts.
    """

    task: Any
    lengths: tuple[int, ...]
    predictor: Callable[..., Array] | None = None
    batch_size: int = 2048
    num_batches: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_task(self.task, self.batch_size, self.seed)
        require(hasattr(self.task, "context"), "task", self.task, "a task with a field 'context'")
        object.__setattr__(self, "lengths", tuple(int(length) for length in self.lengths))
        require(len(self.lengths) > 0 and min(self.lengths) >= 1, "lengths", self.lengths, "one length or more, >= 1")
        require(self.batch_size * self.num_batches >= 2, "num_batches", self.num_batches, "2 prompts or more in all")

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        return self.of(reader(model, params, self.task))

    def of(self, read: Reader) -> dict[str, Float[Array, " context"]]:
        """The same for any function of a prompt (`Prompt -> [B, m]`)."""
        task = dataclasses.replace(self.task, context=max(self.lengths))
        root = keys.stream(keys.root(self.seed), "eval")
        readers = [read] if self.predictor is None else [read, predictor_reader(self.predictor)]

        def batch(index: Array) -> Array:
            drawn = task.sample(jax.random.fold_in(root, index), self.batch_size)
            prompt, label = prompt_of(task, drawn), drawn.targets[:, -1]
            errors = jnp.stack([jnp.stack([_error(r, prompt, label, c) for c in self.lengths]) for r in readers])
            rows = jnp.concatenate([errors, errors[:1] - errors[1:]])  # [1 or 3, context, B]
            mean = jnp.mean(rows, axis=-1)
            return jnp.stack([mean, jnp.sum((rows - mean[..., None]) ** 2, axis=-1)])

        mean, inside = jnp.moveaxis(jax.lax.map(batch, jnp.arange(self.num_batches)), 1, 0)
        total, prompts = jnp.mean(mean, axis=0), self.batch_size * self.num_batches
        squares = jnp.sum(inside + self.batch_size * (mean - total) ** 2, axis=0)
        error = jnp.sqrt(squares / (prompts - 1) / prompts)
        names = ("risk", "predictor_risk", "difference")[: len(total)]
        return {f"{n}{end}": x for end, rows in (("", total), ("_se", error)) for n, x in zip(names, rows, strict=True)}

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        return {name: ("context",) for name in names}


def _error(read: Reader, prompt: Prompt, label: Array, length: int) -> Float[Array, " B"]:
    short = Prompt(prompt.x[:, :length], prompt.y[:, :length], prompt.query)
    return jnp.mean((read(short) - label) ** 2, axis=-1)


def context_risk(task: Any, lengths: Sequence[int], **options: Any) -> ContextRisk:
    """The probe of risks at several context lengths; see `ContextRisk`."""
    return ContextRisk(task, tuple(lengths), **options)


class RiskCurve(NamedTuple):
    """`lengths [n]`; `risk [*S, n]` and its standard error over prompts, `error [*S, n]`."""

    lengths: Array
    risk: Array
    error: Array


def risk_curve(model: Any, params: Any, task: Any, lengths: Sequence[int], **options: Any) -> RiskCurve:
    """Squared error of trained models against context length; leading axes of `params` (seeds) are kept.

    Args:
      options: of `ContextRisk`: batch_size, num_batches, seed.

    Example:
      risk_curve(model, run.params, task, (10, 20, 40, 70, 100)).risk     # [S, 5]
    """
    probe = context_risk(task, lengths, **options)
    found = jax.jit(lambda p: over_leading(lambda one: probe(model, one), model, p))(params)
    return RiskCurve(jnp.asarray(probe.lengths), found["risk"], found["risk_se"])


def predictor_curve(predictor: Callable[..., Array], task: Any, lengths: Sequence[int], **options: Any) -> RiskCurve:
    """The same of a predictor, on the same prompts as `risk_curve` with these options."""
    probe = context_risk(task, lengths, **options)
    found = jax.jit(lambda: probe.of(predictor_reader(predictor)))()
    return RiskCurve(jnp.asarray(probe.lengths), found["risk"], found["risk_se"])


@dataclass(frozen=True)
class Concentration:
    """`probe(model, params)`: `sum_c A_c^2` of the query's attention weights, `1 / C` if uniform, 1 if on one pair.

    With Gaussian inputs and `KQ = omega I` it is about `e^{d omega^2} / C` for long contexts (He et al., 2503.12734).

    Outputs: concentration `[H]`, mean over prompts; concentration_q10, concentration_q90 `[H]`; with `by_prompt`
    concentration_by_prompt `[B, H]`, for histograms.

    Attributes:
      layer: whose weights.
    """

    task: Any
    batch_size: int = 512
    seed: int = 0
    layer: int = 0
    by_prompt: bool = False

    def __post_init__(self) -> None:
        check_task(self.task, self.batch_size, self.seed)

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        site = f"blocks.{self.layer}.attn.weights"
        inputs = evaluation_batch(self.task, self.batch_size, self.seed).inputs
        _, tape = model.apply(params, inputs, tape=(site,))
        weights = tape[site][..., -1, :]
        each = jnp.sum(weights * weights, axis=-1)
        low, high = jnp.quantile(each, jnp.array([0.1, 0.9]), axis=0)
        found = {"concentration": jnp.mean(each, axis=0), "concentration_q10": low, "concentration_q90": high}
        return found | ({"concentration_by_prompt": each} if self.by_prompt else {})

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        return {name: ("prompt", "head") if name.endswith("by_prompt") else ("head",) for name in names}


def concentration(task: Any, batch_size: int = 512, seed: int = 0, **options: Any) -> Concentration:
    """The probe of `sum_c A_c^2`; see `Concentration`."""
    return Concentration(task, batch_size, seed, **options)
