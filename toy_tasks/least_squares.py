"""Ridge regression and its limit without regularisation, in float32, for many small systems at once.

The matrix is never squared: `X^T X` would square its condition number, and a noiseless context of `n = d` pairs, whose
smallest singular value is often 1e-2 of the largest, would lose all its digits.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

EXACT = jax.lax.Precision.HIGHEST  # accelerators otherwise round the factors of float32 products


def ridge(
    x: Float[Array, "... C r"],
    y: Float[Array, "... C k"],
    strength: Any,
    rows: Any,
    columns: Any = None,
) -> Float[Array, "... r k"]:
    """`argmin_w |y - x w|^2 + strength |w|^2`; where the strength is 0, the solution of minimum norm.

    By Householder QR of `[x; sqrt(strength) I]`, and where a strength is (or could be) 0 by the singular values.

    Args:
      x, y: rows of pairs that do not count are 0.
      strength: a number >= 0, or an array that broadcasts with the leading axes.
      rows: how many rows of `x` can differ from 0, hence a bound of its rank. Broadcasts with the leading axes.
      columns: the same for columns; None = `r`.
    """
    num, dim = x.shape[-2:]
    lead = jnp.broadcast_shapes(x.shape[:-2], y.shape[:-2], np.shape(strength))
    if num == 0:
        return jnp.zeros((*lead, dim, y.shape[-1]), x.dtype)
    x, y = (jnp.broadcast_to(a, (*lead, *a.shape[-2:])) for a in (x, y))
    positive = not isinstance(strength, Tracer) and bool(np.all(np.asarray(strength) > 0))
    added = jnp.broadcast_to(jnp.asarray(strength, x.dtype), lead)[..., None]
    if positive:
        below = jnp.sqrt(added)[..., None] * jnp.eye(dim, dtype=x.dtype)
        nothing = jnp.zeros((*lead, dim, y.shape[-1]), y.dtype)
        factor, rest = _triangular(jnp.concatenate([x, below], axis=-2), jnp.concatenate([y, nothing], axis=-2))
        return jax.lax.linalg.triangular_solve(factor, rest, left_side=True)
    factor, rest = _triangular(x, y) if num > dim else (x, y)
    left, values, right = jnp.linalg.svd(factor, full_matrices=False)
    rank = jnp.minimum(rows, dim if columns is None else columns)
    cut = jnp.finfo(x.dtype).eps * 2 * max(num, dim) ** 0.5 * values[..., :1]
    counts = (jnp.arange(values.shape[-1]) < jnp.asarray(rank)[..., None]) & (values > cut)
    safe = jnp.where(counts, values, 1.0)
    gain = jnp.where(counts, safe / (safe * safe + added), 0.0)
    along = jnp.einsum("...cs,...ck->...sk", left, rest, precision=EXACT)
    return jnp.einsum("...sr,...s,...sk->...rk", right, gain, along, precision=EXACT)


def _triangular(x: Array, y: Array) -> tuple[Array, Array]:
    """`R, Q^T y` of the thin decomposition `x = Q R`."""
    dim = x.shape[-1]
    factor = jnp.linalg.qr(jnp.concatenate([x, y], axis=-1), mode="r")[..., :dim, :]
    return factor[..., :dim], factor[..., dim:]
