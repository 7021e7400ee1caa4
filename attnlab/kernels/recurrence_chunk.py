"""The recurrence of `attention.scan` over one chunk, in operations that Mosaic and Triton have.

The same formulas as there (`L`, `U`, `O`), for decays that all channels share. Sums of `log α` between two tokens are
again sums of numbers of one sign, never differences of prefix sums: `between_ij = sum_m [m <= i] log α_m [m > j]`, one
product of matrices.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.attention.scan import inverse_of_unit_lower


class Tokens(NamedTuple):
    """`C` tokens as in `attention.scan.Steps`, of one head: `q, k, a, b [C, K]`, `v[C, W]`, `log_decay[1, C]`.

    `a` and `b`, and `log_decay`, may be None: no erasure, no decay.
    """

    q: Array
    k: Array
    v: Array
    log_decay: Array | None
    a: Array | None
    b: Array | None


class _Decays(NamedTuple):
    """See `attention.scan`: `upto, before [C, C]`, `start, start_before, to_end [C, 1]`, `whole [1, 1]`."""

    upto: Array
    before: Array
    start: Array | float
    start_before: Array | float
    to_end: Array | float
    whole: Array | float


def _decays(log_decay: Array | None, size: int, dtype: jnp.dtype) -> _Decays:
    i, j = (jax.lax.broadcasted_iota(jnp.int32, (size, size), axis) for axis in (0, 1))
    if log_decay is None:
        upto, before = (jnp.where(seen, 1, 0).astype(dtype) for seen in (j <= i, j < i))
        return _Decays(upto, before, 1.0, 1.0, 1.0, 1.0)
    after = jnp.where(i > j, 1, 0).astype(dtype)

    def ratio(seen: Array) -> tuple[Array, Array]:
        logs = jnp.where(seen, log_decay, 0)
        between = jnp.exp(jnp.dot(logs, after, precision="highest"))
        return jnp.where(seen, between, 0), jnp.exp(jnp.sum(logs, axis=1, keepdims=True))

    upto, start = ratio(j <= i)
    before, start_before = ratio(j < i)
    to_end = jnp.exp(jnp.sum(jnp.where(j > i, log_decay, 0), axis=1, keepdims=True))
    return _Decays(upto, before, start, start_before, to_end, jnp.exp(jnp.sum(log_decay, axis=1, keepdims=True)))


def advance(state: Float[Array, "K W"], tokens: Tokens, early: bool) -> tuple[Float[Array, "C W"], Float[Array, "K W"]]:
    """Outputs of a chunk and the state after it; all in one dtype, float32 at least."""
    q, k, v, log_decay, a, b = tokens
    decay = _decays(log_decay, q.shape[0], v.dtype)
    start, ratio = (decay.start_before, decay.before) if early else (decay.start, decay.upto)
    out = (q * start) @ state + ((q @ k.T) * ratio) @ v
    end = decay.whole * state + (k * decay.to_end).T @ v
    if a is not None and b is not None:
        found = (a * decay.start_before) @ state + ((a @ k.T) * decay.before) @ v
        u = inverse_of_unit_lower((a @ b.T) * decay.before) @ found
        out = out + ((q @ b.T) * ratio) @ u
        end = end + (b * decay.to_end).T @ u
    return out, end


def inverse_flops(size: int) -> int:
    """Operations of `inverse_of_unit_lower`, which `pallas.estimate_cost` does not see: two products for each doubling.

    The first doubling is a sum.
    """
    return 4 * size**3 * max((size - 1).bit_length() - 1, 0)
