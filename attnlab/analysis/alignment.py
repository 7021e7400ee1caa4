"""Does a trained model do what a predictor does: predictions, their slope in the query, and far from training.

References: von Oswald et al., Transformers Learn In-Context by Gradient Descent, arXiv 2212.07677 (the measures); He et
al., arXiv 2503.12734 (the debiased step that softmax heads are to be compared with).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.analysis.base import Dims, check_task, evaluation_batch
from attnlab.analysis.head_terms import ratio
from attnlab.analysis.prompts import predictor_reader, prompt_of, query_gradient, reader
from attnlab.config import require
from toy_tasks.base import Prompt


def alignment_terms(
    predictions: tuple[Float[Array, "B m"], Float[Array, "B m"]],
    slopes: tuple[Float[Array, "B m d"], Float[Array, "B m d"]],
) -> dict[str, Float[Array, " m"]]:
    """What `GDAlignment` measures, of given predictions and slopes of (model, predictor)."""
    (ours, theirs), (slope, other) = predictions, slopes
    norm, norm_other, apart = (_norm(s) for s in (slope, other, slope - other))
    gap = ours - theirs
    cosine = ratio(jnp.sum(slope * other, axis=-1), norm * norm_other)
    return {
        "gradient_cosine": jnp.mean(cosine, axis=0),
        "gradient_distance": jnp.mean(apart, axis=0),
        "gradient_relative": ratio(_size(apart), _size(norm_other)),
        "gradient_norm_ratio": ratio(_size(norm), _size(norm_other)),
        "prediction_distance": jnp.mean(jnp.abs(gap), axis=0),
        "prediction_relative": ratio(_size(gap), _size(theirs)),
        "prediction_cosine": ratio(jnp.mean(ours * theirs, axis=0), _size(ours) * _size(theirs)),
    }


@dataclass(frozen=True)
class GDAlignment:
    """`probe(model, params) -> {name: [m]}`: a model against a predictor on one fixed batch of prompts.

    Outputs, `g = d yhat / d x_q` and `|.|` Euclidean; `0 / 0 = 0`:
      gradient_cosine: mean over prompts of the cosine of `g_model` and `g_predictor`; 0 where one is 0.
      gradient_distance: mean of `|g_model - g_predictor|`.
      gradient_relative: `sqrt(mean |g_model - g_predictor|^2 / mean |g_predictor|^2)`.
      gradient_norm_ratio: `sqrt(mean |g_model|^2 / mean |g_predictor|^2)`.
      prediction_distance: mean of `|yhat_model - yhat_predictor|`.
      prediction_relative: `sqrt(mean gap^2 / mean yhat_predictor^2)`.
      prediction_cosine: cosine of the two vectors of all predictions.

    Attributes:
      task: what to sample prompts from.
      predictor: `(x [B, C, d], y [B, C, m], query [B, d]) -> [B, m]`, as `toy_tasks.regression_predictors`.
      batch_size, seed: of the prompts, the same for every step and trained seed.
      input_scale, weight_scale: see `rescaled`.
    """

    task: Any
    predictor: Callable[..., Array]
    batch_size: int = 512
    seed: int = 0
    input_scale: float = 1.0
    weight_scale: float = 1.0

    def __post_init__(self) -> None:
        check_task(self.task, self.batch_size, self.seed)
        require(callable(self.predictor), "predictor", self.predictor, "a function of (x, y, query)")

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        prompt = prompt_of(self.task, evaluation_batch(self.task, self.batch_size, self.seed))
        prompt = rescaled(prompt, self.input_scale, self.weight_scale)
        ours = query_gradient(reader(model, params, self.task), prompt)
        theirs = query_gradient(predictor_reader(self.predictor), prompt)
        return alignment_terms((ours[0], theirs[0]), (ours[1], theirs[1]))

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        return {name: ("output",) for name in names}


def gd_alignment(task: Any, predictor: Callable[..., Array], batch_size: int = 512, seed: int = 0) -> GDAlignment:
    """The probe of alignment with a predictor; see `GDAlignment`.

    Example:
      record = {"gd": every(1000, gd_alignment(task, DebiasedStep(0.88)))}
    """
    return GDAlignment(task, predictor, batch_size, seed)


def rescaled(prompt: Prompt, input_scale: Any = 1.0, weight_scale: Any = 1.0) -> Prompt:
    """The prompt with inputs times `input_scale` and labels times `input_scale * weight_scale`.

    Without label noise that is the same `x` at another scale with another length of `beta`. Noise is scaled with the
    labels, the ratio of signal to noise stays; to keep the noise itself, take a task with another `covariance`.
    """
    labels = input_scale * weight_scale
    return Prompt(prompt.x * input_scale, prompt.y * labels, prompt.query * input_scale)


@dataclass(frozen=True)
class ScaleSweep:
    """`probe(model, params)`: squared error off the training scale, relative to that of predicting 0.

    Outputs, one per scale; the query's label is that of the batch, scaled as those of the context (`rescaled`), and all
    scales see the same prompts:
      input_error `[input_scale, m]`: `mean (yhat - y)^2 / mean y^2` at these input scales, weights as in training.
      weight_error `[weight_scale, m]`: the same at these weight scales, inputs as in training.
      with `predictor`: input_error_predictor, weight_error_predictor, the predictor's own, and input_gap, weight_gap,
        `mean (yhat_model - yhat_predictor)^2 / mean y^2`.

    The defaults are von Oswald et al.'s.
    """

    task: Any
    predictor: Callable[..., Array] | None = None
    input_scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    weight_scales: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
    batch_size: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        check_task(self.task, self.batch_size, self.seed)
        for name in ("input_scales", "weight_scales"):
            object.__setattr__(self, name, tuple(float(s) for s in getattr(self, name)))
            require(len(getattr(self, name)) > 0, name, getattr(self, name), "one scale or more")

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        batch = evaluation_batch(self.task, self.batch_size, self.seed)
        prompt, target = prompt_of(self.task, batch), batch.targets[:, -1]
        read = reader(model, params, self.task)
        other = None if self.predictor is None else predictor_reader(self.predictor)

        def at(scales: tuple[Array, Array]) -> dict[str, Array]:
            here, label = rescaled(prompt, *scales), target * scales[0] * scales[1]
            ours, size = read(here), jnp.mean(label * label, axis=0)
            found = {"error": ratio(jnp.mean((ours - label) ** 2, axis=0), size)}
            if other is not None:
                theirs = other(here)
                found["error_predictor"] = ratio(jnp.mean((theirs - label) ** 2, axis=0), size)
                found["gap"] = ratio(jnp.mean((ours - theirs) ** 2, axis=0), size)
            return found

        found: dict[str, Array] = {}
        for name, scales in zip(("input", "weight"), self._pairs(), strict=True):
            found |= {f"{name}_{key}": value for key, value in jax.lax.map(at, scales).items()}
        return found

    def _pairs(self) -> Sequence[tuple[Array, Array]]:
        inputs, weights = jnp.array(self.input_scales), jnp.array(self.weight_scales)
        return (inputs, jnp.ones_like(inputs)), (jnp.ones_like(weights), weights)

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        return {name: (f"{name.partition('_')[0]}_scale", "output") for name in names}


def scale_sweep(task: Any, predictor: Callable[..., Array] | None = None, **options: Any) -> ScaleSweep:
    """The probe of errors at other input and weight scales; see `ScaleSweep`."""
    return ScaleSweep(task, predictor, **options)


def _norm(vectors: Array) -> Array:
    return jnp.sqrt(jnp.sum(vectors * vectors, axis=-1))


def _size(values: Array) -> Array:
    """Root mean square over prompts."""
    return jnp.sqrt(jnp.mean(values * values, axis=0))
