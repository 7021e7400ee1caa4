"""A sequence in pieces of one length, for loops that take some tokens or rows at a time, and whole again."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array


def pieces(x: Array, axis: int, size: int, fill: float | None = 0.0) -> Array:
    """Pieces of `size` of `axis`, on a new first axis: `[*B, T, W] -> [n, *B, size, W]` for `axis=-2`.

    Args:
      axis: counted from the end, negative.
      fill: what the last piece is filled up with; None = the last entry along `axis`.
    """
    rows = jnp.moveaxis(x, axis, 0)
    widths = [(0, -rows.shape[0] % size)] + [(0, 0)] * (rows.ndim - 1)
    rows = jnp.pad(rows, widths, mode="edge") if fill is None else jnp.pad(rows, widths, constant_values=fill)
    return jnp.moveaxis(rows.reshape(-1, size, *rows.shape[1:]), 1, axis)


def whole(parts: Array, axis: int, num: int) -> Array:
    """The first `num` entries of `axis` in one again, without what filled the last piece."""
    rows = jnp.moveaxis(parts, (0, axis), (0, 1))
    return jnp.moveaxis(rows.reshape(-1, *rows.shape[2:])[:num], 0, axis)
