"""Conjugate gradients for many small positive definite systems at once, each row with its own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Solved(NamedTuple):
    """`x[T, K]`; how many steps each row took; `|b - M x| / |b|` as the recursion has it (0 where `b = 0`)."""

    x: Float[Array, "T K"]
    iterations: Int[Array, " T"]
    residual: Float[Array, " T"]


def conjugate_gradient(
    times: Callable[[Float[Array, "T K"]], Float[Array, "T K"]],
    b: Float[Array, "T K"],
    tol: Float[Array, ""],
    max_iters: Int[Array, ""],
) -> Solved:
    """`x_t = M_t^-1 b_t` (Hestenes, Stiefel, 1952), from `x = 0`; `times(y)` gives `M_t y_t` of all rows.

    A row rests once `|b - M x| <= tol |b|`; the loop ends when all rest, or after `max_iters` products. A row that is
    not finite rests too.
    """

    def squared(y: Array) -> Array:
        return jnp.sum(jnp.square(y), axis=-1)

    size = squared(b)

    def active(rr: Array) -> Array:
        return (rr > jnp.square(tol) * size) & jnp.isfinite(rr)

    def unfinished(state) -> Array:
        *_, rr, _, number = state
        return (jnp.max(active(rr).astype(jnp.int32)) > 0) & (number < max_iters)

    def step(state):
        x, r, p, rr, iterations, number = state
        goes = active(rr)
        image = times(p)
        along = jnp.sum(p * image, axis=-1)
        alpha = jnp.where(goes, rr / jnp.where(goes, along, 1), 0)[:, None]
        x, r = x + alpha * p, r - alpha * image
        new = jnp.where(goes, squared(r), rr)
        beta = jnp.where(goes, new / jnp.where(goes, rr, 1), 0)[:, None]
        return x, r, jnp.where(goes[:, None], r + beta * p, p), new, iterations + goes, number + 1

    start = (jnp.zeros_like(b), b, b, size, jnp.zeros(b.shape[0], jnp.int32), jnp.zeros((), jnp.int32))
    x, _, _, rr, iterations, _ = jax.lax.while_loop(unfinished, step, start)
    return Solved(x, iterations, jnp.sqrt(rr / jnp.where(size == 0, 1, size)))
