"""Teaching a linear attention the weights of softmax, row by row (Zhang et al., 2402.04347)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.attention.base import HostOrDevice


class Distillation(NamedTuple):
    """Mean over rows, in nats: `cross_entropy`, the loss of the paper, and `kl`, which is 0 where the rows agree."""

    cross_entropy: Array
    kl: Array


def distillation_loss(
    teacher_weights: Float[Array, "*B T U"],
    student_weights: Float[Array, "*B T U"],
    mask: Bool[HostOrDevice, "*M T U"] | None = None,
    eps: float = 1e-12,
) -> Distillation:
    """`CE_t = -sum_u p_tu log s_tu` and `KL_t = CE_t - H(p_t)` over visible `u`, mean over rows that see something.

    `p` are rows of the teacher (its gradient is cut), `s` of the student, each summing to 1. A student's weight below
    `eps` counts as `eps` (1e-12 in LoLCATs), so its gradient is finite.
    """
    teacher = jax.lax.stop_gradient(teacher_weights)
    visible = jnp.ones(teacher.shape[-2:], bool) if mask is None else jnp.asarray(mask)
    teacher = jnp.where(visible, teacher, 0)
    logs = jnp.log(jnp.maximum(student_weights, eps))
    cross_entropy = -jnp.sum(teacher * jnp.where(visible, logs, 0), axis=-1)
    entropy = -jnp.sum(jax.scipy.special.xlogy(teacher, teacher), axis=-1)
    counted = jnp.broadcast_to(jnp.any(visible, axis=-1), cross_entropy.shape)
    num = jnp.maximum(jnp.sum(counted), 1)

    def mean(rows):
        return jnp.sum(jnp.where(counted, rows, 0)) / num

    return Distillation(mean(cross_entropy), mean(cross_entropy - entropy))
