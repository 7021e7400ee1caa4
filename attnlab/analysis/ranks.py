"""Rank correlation on the device: whether a weight grows with the score it was made from.

Of host arrays `attnlab.analysis.spearman` says the same; this one is jit-able and takes a row per query. Ranks are
piecewise constant, so nothing here has a gradient other than 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.attention.base import HostOrDevice

MINIMUM = 3  # as `attnlab.analysis.spearman`: of two points every correlation is 1 or -1


def average_ranks(x: Float[Array, "*B U"], where: Bool[Array, "*B U"] | None = None) -> Float[Array, "*B U"]:
    """Rank of each entry among those of `where`, from 1; ties share the mean of their ranks. 0 outside `where`.

    Entries that are NaN, or infinite where some are left out, have no rank of their own: they tie at the end.
    """
    seen = jnp.ones(x.shape, bool) if where is None else where
    held = jnp.where(seen & ~jnp.isnan(x), x, jnp.inf)
    place = jnp.broadcast_to(jnp.arange(x.shape[-1]), x.shape)
    ordered, order = jax.lax.sort((held, place), dimension=x.ndim - 1, num_keys=1)
    edge = jnp.ones((*x.shape[:-1], 1), bool)
    new = ordered[..., 1:] != ordered[..., :-1]
    first = jax.lax.cummax(jnp.where(jnp.concatenate([edge, new], axis=-1), place, 0), axis=x.ndim - 1)
    last = jnp.where(jnp.concatenate([new, edge], axis=-1), place, x.shape[-1])
    last = jax.lax.cummin(last, axis=x.ndim - 1, reverse=True)
    rank = ((first + last) / 2 + 1).astype(x.dtype)
    return jnp.where(seen, jnp.put_along_axis(jnp.zeros_like(x), order, rank, axis=-1, inplace=False), 0)


def rank_correlation(
    x: Float[Array, "*B U"], y: Float[Array, "*B U"], where: Bool[Array, "*B U"] | None = None
) -> Float[Array, "*B"]:
    """Spearman's correlation of each row over the entries of `where`: Pearson's correlation of their ranks.

    NaN where fewer than 3 entries are left, where one row is constant, and where an entry is NaN.
    """
    seen = jnp.ones(x.shape, bool) if where is None else where
    count = jnp.sum(seen, axis=-1, keepdims=True)
    middle = (count + 1) / 2  # ranks sum to n (n + 1) / 2, ties or not
    first, second = (jnp.where(seen, average_ranks(row, seen) - middle, 0).astype(x.dtype) for row in (x, y))
    spread = jnp.sum(first * first, axis=-1) * jnp.sum(second * second, axis=-1)
    broken = jnp.any(seen & (jnp.isnan(x) | jnp.isnan(y)), axis=-1)
    defined = (count[..., 0] >= MINIMUM) & (spread > 0) & ~broken
    return jnp.where(defined, jnp.sum(first * second, axis=-1) / jnp.sqrt(jnp.where(spread > 0, spread, 1)), jnp.nan)


def monotonicity(
    weights: Float[Array, "*B T U"],
    scores: Float[Array, "*B T U"],
    mask: Bool[HostOrDevice, "*M T U"] | None = None,
) -> Float[Array, "*B T"]:
    """`rank_correlation(A_i, s_i)` over the keys that query `i` may see: 1 if the weight grows with the score.

    Softmax has 1; of feature maps it says how well they keep the order of `q . k` (Hedgehog, 2402.04347). NaN for rows
    that see fewer than 3 keys or weigh all of them alike.
    """
    seen = jnp.ones(weights.shape, bool) if mask is None else jnp.broadcast_to(jnp.asarray(mask), weights.shape)
    return rank_correlation(weights, scores, seen)
