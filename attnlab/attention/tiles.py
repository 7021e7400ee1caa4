"""On CPU: the parallel form in tiles of some sequences and rows, each with the keys that any of its rows sees.

A tile stays in the cache, and keys that a causal row cannot see are never computed. If there are several groups of
sequences, theirs are made again for the gradient. The sizes were chosen by hand-run timings on one CPU (2 MB of L2 per
core); what comes of them is measured by `python -m tests.bench --only attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from attnlab.attention.base import AttentionOutput

# Runs of rows: with four a causal map is computed to five eighths. A program grows with them.
RUNS = 4
# Rows in a run, at least; shorter products are no faster than what they leave out.
FEWEST = 64
# Queries from which on there are tiles.
SHORTEST = 256
# Numbers in the map of the sequences that are mixed at once.
GROUP = 2**18
# Numbers in the map of one head from which on tiles are left to a loop over rows: a program grows with its tiles.
MOST = 2**20

Mix = Callable[..., AttentionOutput]


class Tiles(NamedTuple):
    """How to cut.

    Attributes:
      sequences: so many at a time, a divisor of all.
      groups: so many times.
      rows: `(first, last, keys)` of each run of rows: it sees none but the first `keys` keys.
    """

    sequences: int
    groups: int
    rows: tuple[tuple[int, int, int], ...]


def tiles_for(queries: tuple[int, ...], num_keys: int, mask: Any) -> Tiles | None:
    """Tiles for `queries = (*B, H, T, K)` and a mask `[*M, T, U]`; None: the map is small, or too large for tiles.

    A mask that is traced hides how far its rows see.
    """
    lead, heads, num = prod(queries[:-3]), queries[-3], queries[-2]
    if num < SHORTEST or num * num_keys > MOST:
        return None
    size = max(-(-num // RUNS), FEWEST)
    known = mask is not None and not isinstance(mask, Tracer)
    rows = []
    for first in range(0, num, size):
        last, keys = min(first + size, num), num_keys
        if known:
            seen = np.asarray(mask)[..., first:last, :] if mask.shape[-2] > 1 else np.asarray(mask)
            any_row = np.broadcast_to(seen.any(tuple(range(seen.ndim - 1))), (num_keys,))
            keys = max(int(np.flatnonzero(any_row)[-1]) + 1 if any_row.any() else 1, 1)
        rows.append((first, last, keys))
    fitting = max(GROUP // (heads * num * num_keys), 1)
    sequences = max(size for size in range(1, min(fitting, lead) + 1) if lead % size == 0)
    return Tiles(sequences, lead // sequences, tuple(rows))


def mix_in_tiles(
    mix: Mix, tiles: Tiles, params: Any, tokens: Any, rows: Any, mask: Any, bias: Any, policy: Any
) -> AttentionOutput:
    """`mix(params, tokens, rows, mask, bias)`, tile by tile; `policy` of the checkpoint says what is not made again."""
    q, k, v, _ = tokens
    lead, pairs = q.shape[:-3], (q.shape[-2], k.shape[-2])
    by_sequence: dict[str, Any] = {"q": (q, 3), "k": (k, 3), "v": (v, 3), "x": (rows.x, 2)}
    by_sequence |= dict(zip(("ticks", "clocks"), [(y, 2) for y in rows.clock or (None, None)], strict=True))
    shared = {}
    for name, y in (("mask", mask), ("bias", bias)):
        y = None if y is None else jnp.broadcast_to(y, (*y.shape[:-2], *pairs))
        if y is None or prod(y.shape[:-3]) == 1:
            shared[name] = None if y is None else y.reshape(y.shape[-3:])
        else:
            by_sequence[name] = (y, 3)

    def some(arrays: dict[str, Any]) -> AttentionOutput:
        return _by_rows(mix, tiles.rows, params, type(tokens), type(rows), rows.at, **shared, **arrays)

    def grouped(y: Any, axes: int) -> Any:
        if y is None:
            return None
        y = jnp.broadcast_to(y, (*lead, *y.shape[y.ndim - axes :]))
        return y.reshape(tiles.groups, tiles.sequences, *y.shape[len(lead) :])

    groups = {name: grouped(y, axes) for name, (y, axes) in by_sequence.items()}
    if tiles.groups == 1:
        again = jax.checkpoint(some, policy=policy) if _large(q, k) else some
        found = again(jax.tree.map(lambda y: y[0], groups))
    else:
        # In a loop the forward and the backward pass are programs of their own: nothing would undo the checkpoint.
        found = jax.lax.map(jax.checkpoint(some, prevent_cse=False, policy=policy), groups)
    out = found.out.reshape(*lead, *found.out.shape[-3:])
    return AttentionOutput(out, None, None if found.null is None else found.null.reshape(out.shape[:-1]))


def _large(q: Any, k: Any) -> bool:
    return prod(q.shape[:-1]) * k.shape[-2] > MOST


def _by_rows(
    mix: Mix,
    cuts: tuple[tuple[int, int, int], ...],
    params: Any,
    tokens: Any,
    rows: Any,
    at: Any,
    *,
    q: Any,
    k: Any,
    v: Any,
    x: Any,
    ticks: Any,
    clocks: Any,
    mask: Any,
    bias: Any,
) -> AttentionOutput:
    """The tiles of some sequences, side by side in the program."""
    k, v = _columns(k), _columns(v)
    parts = []
    for first, last, keys in cuts:

        def cut(y: Any, axis: int, start: int = first, stop: int = last) -> Any:
            return None if y is None else jax.lax.slice_in_dim(y, start, stop, axis=axis)

        clock = None if clocks is None else (cut(ticks, -1), cut(clocks, -1, 0, keys))
        here = rows(cut(x, -2), cut(at, -1), clock)
        seen, added = (cut(cut(y, -2), -1, 0, keys) for y in (mask, bias))
        known = tokens(cut(q, -2), cut(k, -2, 0, keys), cut(v, -2, 0, keys))
        parts.append(mix(params, known, here, seen, added))
    out = jnp.concatenate([part.out for part in parts], axis=-2)
    null = None if parts[0].null is None else jnp.concatenate([part.null for part in parts], axis=-1)
    return AttentionOutput(out, None, null)


def _columns(x: jax.Array) -> jax.Array:
    """`x [*B, U, K]`, laid out as `[*B, K, U]`, and so its gradient.

    That is the sum over rows of outer products with the gradient of the map. With `U` innermost it is a product of a
    small matrix with the map; else the map is transposed first, which takes longer than the product.
    """
    return jnp.swapaxes(jax.lax.optimization_barrier(jnp.swapaxes(x, -1, -2)), -1, -2)
