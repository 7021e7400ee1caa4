"""What is known of tokens and of the rows of a map; the parallel form some rows at a time, for long sequences.

A map that has left the cache is written and read back several times, and its memory grows with the square of the
length. Blocks are made again for the gradient, except weights named `COSTLY`. Short sequences, and whoever asks for the
map, get it whole. The sizes below were chosen by hand-run timings on one CPU (1 MB of L2 per core); what comes of them
is measured by `python -m tests.bench --only catalogue`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention import pieces
from attnlab.attention.base import AttentionOutput, Params, SiteFn, no_site, wants
from attnlab.attention.tiles import mix_in_tiles, tiles_for

# Numbers in a map that is made at once: up to here blocks were no faster.
WHOLE = 2**20
# Numbers in a block.
BLOCK = 2**19
# Rows in a block: fewer make the matrix products thin.
FEWEST = 32
# Weights under this name are kept for the gradient: to find them again would cost more than to read them.
COSTLY = "costly weights"


class Tokens(NamedTuple):
    """What is known of each token: `q, k, v [*B, H, T, K]`, and how far its clock moves, `tick [*B, H, T]` or None."""

    q: Array
    k: Array
    v: Array
    tick: Array | None = None


class Rows(NamedTuple):
    """What is known of the rows that are mixed.

    Attributes:
      x: `[*B, T, D]` what the layer reads at the queries, or None.
      at: `[T]` positions of the queries.
      clock: of queries `[*B, H, T]` and keys `[*B, H, U]`, or None.
    """

    x: Array | None
    at: Array
    clock: tuple[Array, Array] | None = None


def rows_at_once(queries: tuple[int, ...], num_keys: int) -> int | None:
    """Rows in a block, a power of two, for `queries = (*B, H, T, K)`; None: the map is small enough to be whole."""
    lead, num = prod(queries[:-2]), queries[-2]
    if lead * num * num_keys <= WHOLE:
        return None
    fitting = max(BLOCK // (lead * num_keys), FEWEST)
    size = 1 << (fitting.bit_length() - 1)
    return size if 2 * size <= num else None


class _Names:
    """Notes the names of sites; asked whether anyone wants one, it asks `site`."""

    def __init__(self, site: SiteFn):
        self._site = site
        self.names: list[str] = []

    def __call__(self, name: str, value: Array) -> Array:
        self.names.append(name)
        return value

    def wants(self, name: str) -> bool:
        return wants(self._site, name)

    def offer(self, name: str) -> None:
        self.names.append(name)


def mix_apart(
    mix: Callable[..., AttentionOutput],
    params: Params,
    tokens: Tokens,
    rows: Rows,
    *,
    mask: Any,
    bias: Any,
    site: SiteFn,
) -> AttentionOutput:
    """`mix(...)` of some rows at a time if the map is large; of all at once if anyone reads or edits a site of it.

    On CPU in tiles (`attention.tiles`), for the lengths for which there are any.

    Args:
      mix: the parallel view of `Pairwise.mix`, whose rows need no other rows.
    """

    def whole(params, tokens, rows, mask, bias, site=site):
        return mix(params, tokens, rows, mask=mask, bias=bias, view="parallel", site=site)

    arguments = (params, tokens, rows, mask, bias)
    size = rows_at_once(tokens.q.shape, tokens.k.shape[-2])
    tiles = tiles_for(tokens.q.shape, tokens.k.shape[-2], mask)
    if size is None and tiles is None:
        return whole(*arguments)
    names = _Names(site)
    jax.eval_shape(lambda *arguments: whole(*arguments, site=names), *arguments)
    if any(wants(site, name) for name in names.names):
        return whole(*arguments)
    if (offer := getattr(site, "offer", None)) is not None:
        for name in names.names:
            offer(name)

    def unseen(*arguments):
        return whole(*arguments, site=no_site)

    def in_rows(*arguments):
        return unseen(*arguments) if size is None else _mix_by_rows(unseen, *arguments, size=size)

    if tiles is None:
        return in_rows(*arguments)

    def in_tiles(*arguments):
        return mix_in_tiles(unseen, tiles, *arguments, policy=_KEEP)

    return jax.lax.platform_dependent(*arguments, cpu=in_tiles, default=in_rows)


# What is not made again for the gradient.
_KEEP = jax.checkpoint_policies.save_only_these_names(COSTLY)


def _mix_by_rows(
    mix: Callable[..., AttentionOutput], params: Params, tokens: Tokens, rows: Rows, mask: Any, bias: Any, *, size: int
) -> AttentionOutput:
    """`mix(params, tokens, rows, mask, bias)` of `size` rows at a time."""
    num, pairs = tokens.q.shape[-2], (tokens.q.shape[-2], tokens.k.shape[-2])
    mask, bias = (None if y is None else jnp.broadcast_to(y, (*y.shape[:-2], *pairs)) for y in (mask, bias))
    clock, clocks = (None, None) if rows.clock is None else rows.clock
    by_row = [(tokens.q, -2), (rows.x, -2), (rows.at, -1), (clock, -1), (mask, -2), (bias, -2)]

    def some(block: list[Any]) -> AttentionOutput:
        q, x, at, clock, mask, bias = block
        here = Rows(x, at, None if clock is None or clocks is None else (clock, clocks))
        return mix(params, Tokens(q, tokens.k, tokens.v), here, mask, bias)

    # In a loop the forward and the backward pass are programs of their own: nothing there would undo the checkpoint.
    # The last block is filled with the last row, which is as finite as the others.
    blocks = [None if y is None else pieces.pieces(y, axis, size, fill=None) for y, axis in by_row]
    found = jax.lax.map(jax.checkpoint(some, prevent_cse=False, policy=_KEEP), blocks)
    null = None if found.null is None else pieces.whole(found.null, -1, num)
    return AttentionOutput(pieces.whole(found.out, -2, num), None, null)
