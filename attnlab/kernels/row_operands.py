"""What the passes over blocks read, and how it lies: for a block of rows, and turned for a block of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from attnlab.kernels.blocks import pad_to
from attnlab.kernels.row_blocks import Keys, Pulled, Rows, attend, pull_keys, pull_rows
from attnlab.kernels.row_plan import Plan, keys_of_rows, rows_of_keys


class Heads(NamedTuple):
    """What has a gradient: `q[N, M, K]`, `k[N, U, K]`, `v[N, U, E]`; `N` pairs of batch entry and key head.

    Attributes:
      row_shift, key_shift: `[N, M]`, `[N, U]`, added to the logits, or None.
      null: `[N, M]`, logit of a place without a value, or None.
      score: `[N, M, E]`, what the finish reads besides, or None.
    """

    q: Any
    k: Any
    v: Any
    row_shift: Any = None
    key_shift: Any = None
    null: Any = None
    score: Any = None


class Fixed(NamedTuple):
    """What has none: positions of rows `at[M]`; `row_segment[n, M]`, `key_segment[n, U]`, `mask[n, M, U]` or None.

    `n` is `N`, or 1 for all.
    """

    at: Any
    row_segment: Any = None
    key_segment: Any = None
    mask: Any = None


class Operands(NamedTuple):
    """Arrays of one pass, all `[n, a, b]` (in a pass `[a, b]`, of a block of its own kind a part), or None."""

    q: Any
    k: Any
    v: Any
    at: Any
    row_shift: Any
    key_shift: Any
    row_segment: Any
    key_segment: Any
    mask: Any
    null: Any = None
    score: Any = None
    g: Any = None
    c: Any = None
    delta: Any = None


OF_ROWS = ("q", "at", "row_shift", "row_segment", "null", "score", "g", "c", "delta")
"""What belongs to rows; the mask belongs to both."""

Cut = Callable[[Any, int, Array, int], Array]
"""`(x, axis, number, size) -> part number of that size`."""


def padded(plan: Plan, heads: Heads, fixed: Fixed) -> tuple[Heads, Fixed]:
    """Whole blocks. Rows that were added are cut off later, keys that were added are not seen."""
    rows, keys = plan.num_q * plan.block_q, plan.num_k * plan.block_k
    sizes = (rows, keys, keys, rows, keys, rows, rows)
    heads = Heads(*(None if x is None else pad_to(x, size, 1) for x, size in zip(heads, sizes, strict=True)))
    at, row_segment, key_segment, mask = fixed
    at = pad_to(at, rows, 0)
    row_segment = None if row_segment is None else pad_to(row_segment, rows, 1)
    key_segment = None if key_segment is None else pad_to(key_segment, keys, 1, -1)
    mask = None if mask is None else pad_to(pad_to(mask.astype(jnp.int8), rows, 1), keys, 2)
    return heads, Fixed(at, row_segment, key_segment, mask)


def for_rows(heads: Heads, fixed: Fixed, **more: Any) -> Operands:
    """Rows in columns: `[n, M, 1]`, what is known of keys `[n, 1, U]`."""
    return _laid(heads, fixed, 2, 1, fixed.mask, more)


def for_keys(heads: Heads, fixed: Fixed, **more: Any) -> Operands:
    """The other way round."""
    mask = None if fixed.mask is None else jnp.swapaxes(fixed.mask, 1, 2)
    return _laid(heads._replace(null=None, score=None), fixed, 1, 2, mask, more)


def _laid(heads: Heads, fixed: Fixed, row_axis: int, key_axis: int, mask: Any, more: dict[str, Any]) -> Operands:
    def along(x: Any, axis: int) -> Any:
        return None if x is None else jnp.expand_dims(x, axis)

    rows = {
        "at": fixed.at[None],
        "row_shift": heads.row_shift,
        "row_segment": fixed.row_segment,
        "null": heads.null,
        "c": more.pop("c", None),
        "delta": more.pop("delta", None),
    }
    keys = {"key_shift": heads.key_shift, "key_segment": fixed.key_segment}
    laid = {name: along(x, row_axis) for name, x in rows.items()} | {
        name: along(x, key_axis) for name, x in keys.items()
    }
    return Operands(heads.q, heads.k, heads.v, mask=mask, score=heads.score, **laid, **more)


def _maybe(x: Any, read: Callable[[Any], Array]) -> Any:
    return None if x is None else read(x)


def _load_keys(plan: Plan, x: Operands, cut: Cut) -> Callable[[Array], Keys]:
    def load(number: Array) -> Keys:
        def column(y: Any) -> Any:
            return _maybe(y, lambda y: cut(y, 1, number, plan.block_k))

        k, v = (cut(y, 0, number, plan.block_k) for y in (x.k, x.v))
        return Keys(number, k, v, column(x.key_shift), column(x.key_segment), column(x.mask))

    return load


def _rows(x: Operands) -> Rows:
    whole = [_maybe(y, lambda y: y[...]) for y in (x.q, x.at, x.row_shift, x.row_segment)]
    return Rows(*whole)


def forward_block(plan: Plan, x: Operands, block: Array, cut: Cut) -> tuple[Array, Array]:
    """`out[t, E]` before the finish, `c[t, 1]`, of a block of rows; keys are whole."""
    null = _maybe(x.null, lambda y: y[...])
    return attend(plan, _rows(x), null, _load_keys(plan, x, cut), keys_of_rows(plan, block), x.v.shape[-1])


def rows_back(plan: Plan, x: Operands, block: Array, cut: Cut) -> tuple[Array, Array]:
    """Gradients of `q[t, K]` and the shift `[t, 1]` of a block of rows; keys are whole."""
    pulled = Pulled(x.g[...], x.c[...], x.delta[...])
    return pull_rows(plan, _rows(x), pulled, _load_keys(plan, x, cut), keys_of_rows(plan, block))


def keys_back(plan: Plan, x: Operands, block: Array, cut: Cut) -> tuple[Array, Array, Array]:
    """Gradients of `k[u, K]`, `v[u, E]` and the shift `[u, 1]` of a block of keys; rows are whole."""

    def load(number: Array) -> tuple[Rows, Pulled, Array | None]:
        def row(y: Any) -> Any:
            return _maybe(y, lambda y: cut(y, 1, number, plan.block_q))

        q, g = (cut(y, 0, number, plan.block_q) for y in (x.q, x.g))
        rows = Rows(q, row(x.at), row(x.row_shift), row(x.row_segment))
        return rows, Pulled(g, row(x.c), row(x.delta)), row(x.mask)

    shift, segment = (_maybe(y, lambda y: y[...]) for y in (x.key_shift, x.key_segment))
    keys = Keys(block, x.k[...], x.v[...], shift, segment, None)
    return pull_keys(plan, keys, load, rows_of_keys(plan, block))
