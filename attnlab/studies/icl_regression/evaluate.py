"""Risks on fresh prompts: of trained models over their seeds, and of the predictors they are compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import toy_tasks as tt
from attnlab import keys

CHUNK = 2_000  # prompts evaluated at a time


def at_context(task: tt.LinearRegression, context: int) -> tt.LinearRegression:
    """The same law with another number of pairs."""
    return dataclasses.replace(task, context=context)


def mean_square(
    task: tt.LinearRegression, predict: Callable[[Any], Any], prompts: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over `prompts` of `predict(batch) - target` squared, a mean over outputs.

    Args:
      predict: `batch -> [*S, B, T, m]`; every leading axis is kept.
      seed: of the stream `eval`, which no training uses.
    """
    chunk = min(CHUNK, prompts)
    count = -(-prompts // chunk)
    root = keys.root(seed)

    def part(number):
        batch = task.sample(keys.stream(root, "eval", number), chunk)
        gap = predict(batch) - batch.targets
        weight = batch.loss_mask / jnp.sum(batch.loss_mask, axis=-1, keepdims=True)
        square = jnp.sum(jnp.mean(gap * gap, axis=-1) * weight, axis=-1)  # [*S, B]
        return jnp.mean(square, axis=-1), jnp.mean(square * square, axis=-1)

    first, second = jax.jit(lambda: jax.lax.map(part, jnp.arange(count)))()
    mean, power = (np.asarray(x, np.float64).mean(axis=0) for x in (first, second))
    return mean, np.sqrt(np.maximum(power - mean**2, 0) / (chunk * count))


def model_risk(task: tt.LinearRegression, model: Any, params: Any, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Risk of every seed's parameters on the same prompts, `[S]`, and its standard error."""
    return mean_square(task, lambda b: jax.vmap(lambda p: model.apply(p, b.inputs)[0])(params), prompts)


def predictor_risks(
    task: tt.LinearRegression, predictors: Mapping[str, Callable], prompts: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Risk and standard error of each predictor (`toy_tasks.regression_predictors`), on the same prompts."""
    names = list(predictors)
    stack = lambda b: jnp.stack([task.predict(predictors[n], b) for n in names])  # noqa: E731
    mean, error = mean_square(task, stack, prompts, seed)
    return {n: (float(m), float(e)) for n, m, e in zip(names, mean, error, strict=True)}
