"""Query heads that share the keys of one head (grouped-query attention) as more rows against the same keys.

`G` key heads, `H` query heads, `R = H / G`: `[*B, H, T, ..] -> [N, T R, ..]`, `N` the product of `*B` and `G`. The `R`
rows of one position lie next to each other, so that a block of rows is a stretch of time.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from attnlab.attention.base import HostOrDevice
from attnlab.config import require
from attnlab.kernels.blocks import Span


def together(x: Shaped[Array, "*B H T W"], groups: int) -> Shaped[Array, "N M W"]:
    """`[*B, H, T, W] -> [N, T R, W]`."""
    *_, heads, num, width = x.shape
    share = heads // groups
    x = jnp.swapaxes(x.reshape(-1, groups, share, num, width), 2, 3)
    return x.reshape(-1, num * share, width)


def apart(x: Array, shape: tuple[int, ...]) -> Array:
    """The way back, `[N, T R, ..] -> [*B, H, T, ..]`; `shape` is that of the queries."""
    *batch, heads, num, _ = shape
    share, rest = x.shape[1] // num, x.shape[2:]
    x = jnp.swapaxes(x.reshape(-1, heads // share, num, share, *rest), 2, 3)
    return x.reshape(*batch, heads, num, *rest)


def span_of(
    num: int, num_keys: int, causal: bool, window: int | None, at: Int[HostOrDevice, " T"] | None, share: int
) -> Span:
    """Which keys the rows of queries at positions `at` see; without it the queries are the last positions."""
    t = jnp.arange(num_keys - num, num_keys) if at is None else jnp.asarray(at)
    first = jnp.zeros_like(t) if window is None else jnp.maximum(t - window + 1, 0)
    last = t if causal else jnp.full_like(t, num_keys - 1)
    return Span(*(jnp.repeat(x, share).astype(jnp.int32) for x in (first, last)))


def masks_of(
    mask: Bool[Array, "*M R W"], shape: tuple[int, ...], groups: int
) -> tuple[Bool[Array, "n M U"] | None, Bool[Array, "n U"] | None]:
    """A mask of pairs and none of keys, or the other way round: no larger than what it is made of demands.

    Args:
      mask: broadcastable to `shape`, `[*B, H, T, U]`.

    Returns:
      `[1 or N, T R, U]` and None; or, of a mask that is the same for all rows, None and `[1 or N, U]`.
    """
    *batch, heads, num, num_keys = shape
    share = heads // groups
    try:
        jnp.broadcast_shapes(mask.shape, shape)
    except ValueError:
        require(False, "mask", f"shape {list(mask.shape)}", f"what broadcasts to [*B, H, T, U] = {list(shape)}")
    mask = mask.reshape(*(1,) * (len(shape) - mask.ndim), *mask.shape)
    per_head, per_row = mask.shape[-3] > 1, mask.shape[-2] > 1
    of_keys = not per_row and (not per_head or share == 1)
    common = all(size == 1 for size in mask.shape[:-3]) and not per_head
    lead = (1,) * (len(batch) + 1) if common else (*batch, heads)
    if of_keys:
        lead = lead if common else (*batch, groups)
        return None, jnp.broadcast_to(mask[..., 0, :], (*lead, num_keys)).reshape(-1, num_keys)
    mask = jnp.broadcast_to(mask, (*lead, num, num_keys))
    if not common:
        return together(mask, groups), None
    return jnp.repeat(mask.reshape(1, num, num_keys), share, axis=1), None
