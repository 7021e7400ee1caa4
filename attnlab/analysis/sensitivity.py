"""How a map answers to its query, and an output to its input: injectivity, norm of the Jacobian.

These take functions, not arrays: `q -> rows of A`, `X -> O`. Of a mechanism,

    attend = lambda q: mechanism.apply(params, q, k, v, view="map").weights
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from attnlab.analysis.head_terms import ratio
from attnlab.analysis.map_rows import root
from attnlab.config import require

Attend = Callable[[Array], Array]


def injectivity(attend: Attend, queries: Float[Array, "*B N K"]) -> Float[Array, "*B"]:
    """`min |A(q) - A(q')| / |q - q'|` over pairs of distinct queries: 0 if two of them get the same row.

    Args:
      attend: `[*B, N, K] -> [*B, N, U]`, one row per query, each depending on its own query alone.
      queries: two or more. Pairs of equal queries are left out; infinite if no other pair is there.
    """
    require(queries.shape[-2] >= 2, "queries", queries.shape, "two queries or more, [*B, N, K]")
    apart, moved = _distances(queries), _distances(attend(queries))
    return jnp.min(jnp.where(apart > 0, moved / jnp.where(apart > 0, apart, 1), jnp.inf), axis=(-1, -2))


def collinear_change(attend: Attend, queries: Float[Array, "*B N K"], factor: float = 2.0) -> Float[Array, "*B N"]:
    """`|A(f q) - A(q)| / |A(q)|`: how much of a row a longer query changes (2412.06590).

    Linear attention with a homogeneous feature map and normalised rows has 0: it cannot tell `q` from `2 q`. Two rows
    of 0 count as equal.
    """
    require(factor != 1, "factor", factor, "a number other than 1")
    rows = attend(queries)
    change = attend(factor * queries) - rows
    return ratio(*(root(jnp.sum(x * x, axis=-1)) for x in (change, rows)))


def jacobian_norm(
    function: Callable[[Array], Array],
    x: Float[Array, "*S"],
    *,
    key: Key[Array, ""] | None = None,
    iterations: int = 50,
) -> Float[Array, ""]:
    """`|∂O/∂X|_2`, the largest singular value of the derivative of `function` at `x`, all axes taken as one.

    Args:
      key: None: exactly, by the whole Jacobian. Else by power iteration on `J^T J` from a random direction.
      iterations: of the power iteration, each one product with `J` and one with `J^T`. What it gives is never above
        the norm, and rises to it.
    """
    if key is None:
        jacobian = jax.jacrev(function)(x).reshape(-1, x.size)
        return jnp.linalg.svd(jacobian, compute_uv=False)[0]
    require(iterations >= 1, "iterations", iterations, "an integer >= 1")
    forward = jax.linearize(function, x)[1]
    backward = jax.linear_transpose(forward, x)

    def step(direction, _):
        image = forward(direction)
        back = backward(image)[0]
        size = _length(back)
        return jnp.where(size == 0, direction, back / jnp.where(size == 0, 1, size)), None

    start = jax.random.normal(key, x.shape, x.dtype)
    direction, _ = jax.lax.scan(step, start / _length(start), length=iterations)
    return _length(forward(direction))


def _length(x: Array) -> Array:
    return root(jnp.sum(x * x))


def _distances(points: Float[Array, "*B N M"]) -> Float[Array, "*B N N"]:
    gaps = points[..., :, None, :] - points[..., None, :, :]
    return root(jnp.sum(gaps * gaps, axis=-1))
