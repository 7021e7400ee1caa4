"""A regression model as a function of the prompt, whatever layout it reads: what measurements at the query share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.config import require
from toy_tasks.base import Batch, Prompt

Reader = Callable[[Prompt], Array]


def prompt_of(task: Any, batch: Batch) -> Prompt:
    """The prompts of a batch, from the batch itself or by `task.prompt`."""
    if isinstance(batch.inputs, Prompt):
        return batch.inputs
    require(hasattr(task, "prompt"), "task", task, "a task whose inputs are a Prompt, or with prompt(batch)")
    return task.prompt(batch)


def reader(model: Any, params: Any, task: Any) -> Reader:
    """`Prompt -> Float[B, m]`: the model's prediction of the query's label, last in the sequence.

    For a task whose batches are not prompts, the prompt is put into its layout by `task.assemble(prompt, asked)`.
    """

    def read(prompt: Prompt) -> Array:
        inputs, outputs = prompt, prompt.y.shape[-1]
        if getattr(task, "layout", "columns") != "columns":
            inputs = task.assemble(prompt, jnp.zeros_like(prompt.y[..., 0, :])).inputs
        return model.apply(params, inputs)[0][..., -1, :outputs]

    return read


def predictor_reader(predictor: Callable[..., Array]) -> Reader:
    """The same for a predictor `(x [B, C, d], y [B, C, m], query [B, d]) -> [B, m]`."""
    return lambda prompt: predictor(prompt.x, prompt.y, prompt.query)


def query_gradient(read: Reader, prompt: Prompt) -> tuple[Float[Array, "B m"], Float[Array, "B m d"]]:
    """The predictions and `d yhat_i / d x_q`: the weights of the linear function that the reader sees at the query.

    One backward pass per output: prompts must not depend on each other.
    """
    predictions, pull = jax.vjp(lambda query: read(Prompt(prompt.x, prompt.y, query)), prompt.query)
    outputs = predictions.shape[-1]
    chosen = jnp.broadcast_to(jnp.eye(outputs, dtype=predictions.dtype)[:, None], (outputs, *predictions.shape))
    (slopes,) = jax.vmap(pull)(chosen)
    return predictions, jnp.moveaxis(slopes, 0, -2)


def extra_axes(model: Any, params: Any) -> int:
    """How many leading axes (seeds, snapshots) parameters have beyond those that `model.init` gives."""
    like = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
    found = {leaf.ndim - one.ndim for leaf, one in zip(jax.tree.leaves(params), like, strict=True)}
    require(len(found) == 1 and min(found) >= 0, "params", found, "parameters with the same leading axes in every leaf")
    return found.pop()


def over_leading(function: Callable[[Any], Any], model: Any, params: Any) -> Any:
    """`function(params)` for every seed, one after the other; the leading axes of `params` lead in the results."""
    for _ in range(extra_axes(model, params)):
        function = _mapped(function)
    return function(params)


def _mapped(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda many: jax.lax.map(function, many)
