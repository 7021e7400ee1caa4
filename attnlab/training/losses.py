"""Losses per position and their mean under the batch's mask, which is what training minimises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toy_tasks.base import Batch

Loss = Callable[[Any, Batch], Array]


def next_token(logits: Float[Array, "*B T V"], batch: Batch) -> Float[Array, "*B T"]:
    """Cross entropy of the next token, in nats: `-log softmax(logits_t)[target_t]`."""
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probs, batch.targets[..., None], axis=-1)[..., 0]


def squared_error(predictions: Float[Array, "*B T m"], batch: Batch) -> Float[Array, "*B T"]:
    """`mean_i (prediction_ti - target_ti)^2`, the mean over the `m` outputs."""
    gap = predictions - batch.targets
    return jnp.mean(gap * gap, axis=-1)


def natural(task: Any) -> Loss:
    """`squared_error` for a task whose targets are real numbers, `next_token` for one whose targets are tokens."""
    if not hasattr(task, "sample"):
        return next_token  # no task at all: the settings say so
    targets = jax.eval_shape(lambda key: task.sample(key, 1).targets, jax.random.key(0))
    return squared_error if jnp.issubdtype(targets.dtype, jnp.floating) else next_token


def total_weight(batch: Batch) -> Float[Array, ""]:
    """Sum of the loss mask; 1 if no position counts, so that the loss is then 0 and not 0/0."""
    weight = jnp.sum(batch.loss_mask)
    return jnp.where(weight > 0, weight, 1.0)


def weighted_sum(model: Any, params: Any, batch: Batch, loss: Loss = next_token, edits: Sequence[Any] = ()) -> Array:
    """`sum_{b,t} mask[b, t] loss[b, t]` of the model on a batch. `[]`"""
    logits, _ = model.apply(params, batch.inputs, edits=edits)
    return jnp.sum(loss(logits, batch) * batch.loss_mask)


def on_batch(model: Any, batch: Batch, loss: Loss = next_token, edits: Sequence[Any] = ()) -> Callable[[Any], Array]:
    """The training loss on one fixed batch as a function of the parameters, as `gradient_flow` takes it.

    A large batch stands for the population loss of a task: `on_batch(model, task.sample(key, 4096))`.
    """
    return lambda params: weighted_sum(model, params, batch, loss, edits) / total_weight(batch)
