"""Local linear attention as Pallas kernels: the functions of `local_linear_rows` and `_gradient` on references.

A kernel has one block of one head. Forward, and backward for the rows: a block of queries, which sweeps over the keys
of its head, once more for every step of conjugate gradients, until all its rows rest. Backward for the keys: a block of
keys, which goes through the queries, whose second solve is done. Keys, or rows, of one head must fit into the fast
memory of a TPU core: of a v5e, 4096 tokens of 64 channels, or 8192 forward alone (float32; compiled, not run).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array

from attnlab.kernels.blocks import Block, Keys, Queries, Span, sweep, visible
from attnlab.kernels.local_linear_gradient import Turned, besides_pairs, onto_keys, pair, turn
from attnlab.kernels.local_linear_rows import Plan, Saved, attend
from attnlab.kernels.solver import Control


class Rows(NamedTuple):
    """Queries in `b` blocks of `t`: `[N, b, t, W]`; numbers of a row `[N, b, 1, t]`; 1 for `N` if all heads share it.

    Attributes:
      q, ridge: see `Heads`. first, last: see `Span`.
      mask: `[.., b, n, t, u]` or None, not 0 where a row may look.
      saved, turned, g: for the way back, as far as they are known.
    """

    q: Array
    ridge: Array
    first: Array
    last: Array
    mask: Array | None
    saved: Saved | None = None
    turned: Turned | None = None
    g: Array | None = None


class Columns(NamedTuple):
    """Keys, less their mean `origin[N, 1, K]`, in `n` blocks: `k, v [N, n, u, W]`; `seen[.., n, 1, u]` or None."""

    k: Array
    v: Array
    origin: Array
    seen: Array | None


class Numbers(NamedTuple):
    """Scalars: the blocks that each block reads, `begin, end [b or n]`; `tol[1]`, `max_iters[1]`."""

    begin: Array
    end: Array
    tol: Array
    max_iters: Array


class _At:
    """Block `number` of a reference to all blocks of a head, or the one block that it is; truth values if `truth`."""

    def __init__(self, ref: Any, own: bool, truth: bool = False):
        self.ref, self.own, self.truth = ref, own, truth
        self.shape = (1, *ref.shape) if own else ref.shape

    def __getitem__(self, number: Any) -> Array:
        value = self.ref[...] if self.own else self.ref[number]
        return value.astype(jnp.int32) != 0 if self.truth else value


class _Mask:
    """What the rows of a block of queries may see of block `number` of the keys."""

    def __init__(self, ref: Any, block: Any, own: bool):
        self.ref, self.block, self.own = ref, block, own

    def __getitem__(self, number: Any) -> Array:
        value = self.ref[number] if self.own else self.ref[self.block, 0]
        return value.astype(jnp.int32) != 0


class Taken(NamedTuple):
    """A block of queries out of references."""

    queries: Queries
    saved: Saved
    turned: Turned
    g: Any


_VECTORS = {"mean", "x", "y"}  # of `Saved` and `Turned`; the others are numbers
_TRUTHS = {"floored", "clipped"}


def _take(rows: Rows, block: Any, own: bool, begin: Any = 0, end: Any = 0) -> Any:
    """The block that the references are, or block `block` of those of a head."""

    def vector(ref: Any) -> Array:
        return ref[...] if own else ref[block]

    def take(name: str, ref: Any) -> Array:
        if name in _VECTORS:
            return vector(ref)
        return vector(ref)[0] > 0 if name in _TRUTHS else vector(ref)[0]

    def all_of(kind: Any, refs: Any) -> Any:
        return None if refs is None else kind(*(take(name, x) for name, x in zip(kind._fields, refs, strict=True)))

    mask: Any = None if rows.mask is None else _Mask(rows.mask, block, own)
    span = Span(vector(rows.first)[0], vector(rows.last)[0])
    queries = Queries(vector(rows.q), vector(rows.ridge)[0], span, mask, begin, end)
    g = None if rows.g is None else vector(rows.g)
    return Taken(queries, all_of(Saved, rows.saved), all_of(Turned, rows.turned), g)


def _put(into: Any, values: Any) -> None:
    """Every value to its reference."""
    for ref, x in zip(jax.tree.leaves(into), jax.tree.leaves(values), strict=True):
        x = x.astype(ref.dtype)
        ref[...] = x[None, :] if x.ndim == 1 else x


def _keys(columns: Columns, own: bool) -> Keys:
    seen: Any = None if columns.seen is None else _At(columns.seen, own, truth=True)
    k: Any = _At(columns.k, own)
    v: Any = _At(columns.v, own)
    return Keys(k, v, columns.origin[...][0], seen)


def attend_kernel(plan: Plan, rows: Rows, columns: Columns, numbers: Numbers, out: Any, saved: Any) -> None:
    """The output of a block of queries, and what the way back needs."""
    block = pl.program_id(1)
    queries = _take(rows, block, True, numbers.begin[block], numbers.end[block]).queries
    control = Control(numbers.tol[0], numbers.max_iters[0])
    found, kept, _ = attend(plan, control, queries, _keys(columns, False))
    _put((out, saved), (found, kept))


def pull_rows_kernel(
    plan: Plan, rows: Rows, columns: Columns, numbers: Numbers, dq: Any, ridge: Any, turned: Any
) -> None:
    """Gradients of a block of queries and of its ridges, and the second solve."""
    block = pl.program_id(1)
    queries, saved, _, g = _take(rows, block, True, numbers.begin[block], numbers.end[block])
    keys = _keys(columns, False)
    found = turn(plan, Control(numbers.tol[0], numbers.max_iters[0]), queries, keys, saved, g)
    of_rows = (queries, keys.origin, saved, found)

    def add(total: Array, part: Block) -> Array:
        return total + plan.scale * (pair(plan, *of_rows, g, part).dl @ part.k)

    pulled = besides_pairs(plan, *of_rows)
    _put((dq, ridge, turned), (sweep(queries, keys, add, pulled.q), pulled.ridge, found))


def pull_keys_kernel(plan: Plan, rows: Rows, columns: Columns, numbers: Numbers, dk: Any, dv: Any) -> None:
    """Gradients of a block of keys and of its values."""
    number, keys = pl.program_id(1), _keys(columns, True)
    k, v = keys.k[number], keys.v[number]

    def add(block: Array, total: tuple[Array, Array]) -> tuple[Array, Array]:
        queries, saved, turned, g = _take(rows, block, False)
        of_rows = (queries, keys.origin, saved, turned, g)
        part = Block(number, k, v, visible(queries, keys, number))
        more = onto_keys(plan, *of_rows, part, pair(plan, *of_rows, part))
        return total[0] + more[0], total[1] + more[1]

    nothing = jnp.zeros_like(k), jnp.zeros_like(v)
    _put((dk, dv), jax.lax.fori_loop(numbers.begin[number], numbers.end[number], add, nothing))
