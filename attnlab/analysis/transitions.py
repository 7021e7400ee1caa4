"""What a linear recurrence `S_i = Λ_i S_{i-1} + ...` keeps: eigenvalues of its transitions, products of them.

`Λ[*B, T, K, K]` acts on the key axis of the state; `dense_transitions` makes it of a diagonal and a rank one,
`transitions_of` of a recurrent mechanism's steps. Eigenvalues in [0, 1] forget, of modulus 1 keep, negative ones flip:
without them a recurrence cannot count modulo two (2411.12537). Every mechanism has them: of attention normalised by
`η_i` they are `η_{i-1} / η_i` (2405.15731).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.attention.scan import Steps
from attnlab.config import require


class Spectrum(NamedTuple):
    """Of each token's transition.

    Attributes:
      eigenvalues: `Complex[*B, T, K]`, largest modulus first.
      radius: `Float[*B, T]`, the largest modulus.
      volume: `Float[*B, T]`, the product of the moduli, `|det Λ_i|`.
    """

    eigenvalues: Array
    radius: Array
    volume: Array


def dense_transitions(
    decay: Float[Array, "*B T K"], b: Float[Array, "*B T K"] | None = None, a: Float[Array, "*B T K"] | None = None
) -> Float[Array, "*B T K K"]:
    """`Λ_i = diag(α_i) + b_i a_i^T`. The delta rule has `α = 1, b = -β k, a = k`, its gated form `b = -α β k`."""
    require((a is None) == (b is None), "a", None if a is None else a.shape, "given if b is, and only then")
    diagonal = decay[..., None] * jnp.eye(decay.shape[-1], dtype=decay.dtype)
    return diagonal if a is None or b is None else diagonal + b[..., :, None] * a[..., None, :]


def transitions_of(steps: Steps) -> Float[Array, "*B T K K"]:
    """`Λ_i` of what tokens do to the state of a recurrent mechanism, `mechanism.steps(params, q, k, v, x=x)`."""
    decay = jnp.ones_like(steps.q) if steps.log_decay is None else jnp.exp(steps.log_decay)
    parts = [decay if steps.log_decay is None or steps.per_channel else decay[..., None]]
    parts += [] if steps.a is None or steps.b is None else [steps.b, steps.a]
    shape = jnp.broadcast_shapes(steps.q.shape, *(part.shape for part in parts))
    return dense_transitions(*(jnp.broadcast_to(part, shape) for part in parts))


def transition_spectrum(transitions: Float[Array, "*B T K K"]) -> Spectrum:
    """Eigenvalues of every `Λ_i`, `1` (K - 1 times) and `1 - β |k|^2` for the delta rule."""
    values = jnp.linalg.eigvals(transitions)
    order = jnp.argsort(-jnp.abs(values), axis=-1)
    values = jnp.take_along_axis(values, order, axis=-1)
    size = jnp.abs(values)
    return Spectrum(values, size[..., 0], jnp.prod(size, axis=-1))


def surviving(transitions: Float[Array, "*B T K K"]) -> Float[Array, "*B T K"]:
    """Singular values of `Λ_T ... Λ_{u+2} Λ_{u+1}`, largest first: what is left at the end of a write at token `u`.

    The first bounds what a read-out can find of it, the last what it must; entry `u = T` is 1. Of diagonal transitions
    they are the products `Π |λ|` of each channel, in order of size.
    """
    later = jnp.moveaxis(transitions, -3, 0)
    end = jnp.broadcast_to(jnp.eye(transitions.shape[-1], dtype=transitions.dtype), later.shape[1:])
    _, products = jax.lax.scan(lambda after, step: (after @ step, after), end, later, reverse=True)
    return jnp.linalg.svd(jnp.moveaxis(products, 0, -3), compute_uv=False)


def effective_memory(transitions: Float[Array, "*B T K K"]) -> Float[Array, "*B K"]:
    """`Σ_u surviving_u`: how many tokens the last state holds, direction by direction, the longest first.

    Of a constant decay `λ` it is `(1 - λ^T) / (1 - λ)`, of a recurrence that keeps everything `T`.
    """
    return jnp.sum(surviving(transitions), axis=-2)
