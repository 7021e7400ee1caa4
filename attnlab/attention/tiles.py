"""On CPU: the parallel form one sequence and some rows at a time, each with the keys that any of its rows sees.

A tile stays in the cache, and keys that no row of it can see are never computed. Tiles are made again for the gradient.
The sizes were chosen by hand-run timings on one CPU (2 MB of L2 per core); what comes of them is measured by
`python -m tests.bench --only attention`.
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

# Runs of rows, at most: with four a causal map is computed to five eighths. A program grows with them.
RUNS = 4
# Rows in a run, at least: shorter products are slower by more than what they leave out.
FEWEST = 128
# Numbers in the maps of a batch that stay in the cache as they are: up to here tiles were slower.
WHOLE = 2**18
# Numbers in the map of one head from which on it is left to a loop over rows.
MOST = 2**20

Mix = Callable[..., AttentionOutput]


class Tiles(NamedTuple):
    """How to cut.

    Attributes:
      loop: one sequence after the other; there is only one without it.
      rows: `(first, last, keys)` of each run of rows: it sees none but the first `keys` keys.
    """

    loop: bool
    rows: tuple[tuple[int, int, int], ...]


def tiles_for(queries: tuple[int, ...], num_keys: int, mask: Any) -> Tiles | None:
    """Tiles for `queries = (*B, H, T, K)` and a mask `[*M, T, U]`; None: the map is small, or too large for tiles.

    A mask that is traced hides how far its rows see.
    """
    lead, heads, num = prod(queries[:-3]), queries[-3], queries[-2]
    size = max(-(-num // RUNS), FEWEST)
    if num < 2 * size or num * num_keys > MOST or lead * heads * num * num_keys <= WHOLE:
        return None
    seen = None if mask is None or isinstance(mask, Tracer) else np.asarray(mask)
    rows = [(first, min(first + size, num)) for first in range(0, num, size)]
    cuts = tuple(
        (first, last, num_keys if seen is None else _last_seen(seen, first, last, num_keys)) for first, last in rows
    )
    return Tiles(lead > 1, cuts)


def _last_seen(seen: np.ndarray, first: int, last: int, num_keys: int) -> int:
    """How many keys there are up to the last one that any row from `first` to `last` sees, at least 1."""
    some = seen[..., first:last, :] if seen.shape[-2] > 1 else seen
    found = np.flatnonzero(np.broadcast_to(some.any(tuple(range(some.ndim - 1))), num_keys))
    return int(found[-1]) + 1 if found.size else 1


def mix_in_tiles(
    mix: Mix, tiles: Tiles, params: Any, tokens: Any, rows: Any, mask: Any, bias: Any, *, policy: Any
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

    def sequences(y: Any, axes: int) -> Any:
        if y is None:
            return None
        # A lone sequence has no axis: a reduction of four axes is slower than one of three, even if one of them is 1.
        flat = (-1,) if tiles.loop else ()
        return jnp.broadcast_to(y, (*lead, *y.shape[y.ndim - axes :])).reshape(*flat, *y.shape[y.ndim - axes :])

    arrays = {name: sequences(y, axes) for name, (y, axes) in by_sequence.items()}
    # In a loop the forward and the backward pass are programs of their own: nothing would undo the checkpoint.
    once = jax.checkpoint(some, prevent_cse=not tiles.loop, policy=policy)
    found = jax.lax.map(once, arrays) if tiles.loop else once(arrays)
    out = found.out.reshape(*lead, *found.out.shape[-3:])
    return AttentionOutput(out, None, None if found.null is None else found.null.reshape(out.shape[:-1]))


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
    parts = []
    for first, last, keys in cuts:

        def cut(y: Any, axis: int, start: int = first, stop: int = last) -> Any:
            return None if y is None else jax.lax.slice_in_dim(y, start, stop, axis=axis)

        clock = None if clocks is None else (cut(ticks, -1), cut(clocks, -1, 0, keys))
        here = rows(cut(x, -2), cut(at, -1), clock)
        seen, added = (cut(cut(y, -2), -1, 0, keys) for y in (mask, bias))
        known = tokens(cut(q, -2), _columns(cut(k, -2, 0, keys)), _columns(cut(v, -2, 0, keys)))
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
