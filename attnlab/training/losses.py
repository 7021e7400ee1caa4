"""Losses per position, in nats; the training step averages them under the batch's mask."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toy_tasks.base import Batch


def next_token(logits: Float[Array, "*B T V"], batch: Batch) -> Float[Array, "*B T"]:
    """Cross entropy of the next token: `-log softmax(logits_t)[target_t]`."""
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probs, batch.targets[..., None], axis=-1)[..., 0]
