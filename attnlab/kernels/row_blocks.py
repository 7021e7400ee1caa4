"""Attention of any `RowMap` block by block, as pure functions of the numbers of one block: what all backends share.

Rows are queries; heads that share keys are rows beside each other. On the way there and for the gradient of rows,
blocks of logits lie as `[t, u]`; for the gradient of keys as `[u, t]` (`flipped`), so that what is known of a row is
never turned around.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.kernels.row_plan import Plan


class Rows(NamedTuple):
    """Of a block of rows: `q[t, K]`; `at`, `shift`, `segment` are `[t, 1]` (flipped `[1, t]`), the last two or None."""

    q: Array
    at: Array
    shift: Array | None
    segment: Array | None


class Keys(NamedTuple):
    """Of block `number` of keys: `k[u, K]`, `v[u, E]`; `shift`, `segment` are `[1, u]` (flipped `[u, 1]`) or None.

    `mask`: `[t, u]` (flipped `[u, t]`), not 0 where a row may look besides, or None.
    """

    number: Array
    k: Array
    v: Array
    shift: Array | None
    segment: Array | None
    mask: Array | None


def _times(a: Array, b: Array, contract: tuple[int, int], kind: Any) -> Array:
    return jax.lax.dot_general(a, b, (((contract[0],), (contract[1],)), ((), ())), preferred_element_type=kind)


def _logits(plan: Plan, rows: Rows, keys: Keys, kind: Any, flipped: bool) -> tuple[Array, Array | None]:
    """Logits of a block of pairs, and which are seen (None: all)."""
    left, right = (keys.k, rows.q) if flipped else (rows.q, keys.k)
    logits = plan.scale * _times(left, right, (1, 1), kind)
    for shift in (rows.shift, keys.shift):
        logits = logits if shift is None else logits + shift
    u = keys.number * plan.block_k + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 0 if flipped else 1)
    seen: list[Array] = []
    if plan.num_keys < plan.num_k * plan.block_k:
        seen.append(u < plan.num_keys)
    if plan.causal:
        seen.append(u <= rows.at)
    if plan.window is not None:
        seen.append(u > rows.at - plan.window)
    if rows.segment is not None:
        seen.append(rows.segment == keys.segment)
    if keys.mask is not None:
        seen.append(keys.mask.astype(jnp.int32) != 0)
    every = None
    for one in seen:
        every = one if every is None else every & one
    return logits, every


def _only(seen: Array | None, x: Array) -> Array:
    return x if seen is None else jnp.where(seen, x, 0)


def attend(
    plan: Plan, rows: Rows, null: Array | None, load: Callable[[Array], Keys], span: tuple[Any, Any], width: int
) -> tuple[Array, Array]:
    """`out[t, E]` before the finish, and `c[t, 1]`: one pass over the blocks of keys from `span[0]` to `span[1] - 1`.

    Args:
      null: `[t, 1]`, the logit of a place without a value, or None.
      load: the keys of a block.
    """
    row_map, kind = plan.map, jnp.promote_types(rows.q.dtype, jnp.float32)
    least = float(jnp.finfo(kind).min)
    column = (rows.q.shape[0], 1)

    def add(number: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        keys = load(number)
        logits, seen = _logits(plan, rows, keys, kind, False)
        out, *rest = carry
        c = jnp.zeros(column, kind)
        if row_map.top is not None:
            tops = row_map.top(logits)
            tops = tops if seen is None else jnp.where(seen, tops, least)
            c = jnp.maximum(rest[1], jnp.max(tops, axis=1, keepdims=True))
            kept = jnp.exp(rest[1] - c)
            out, rest = out * kept, [rest[0] * kept, c]
        weights = _only(seen, row_map.weight(logits, c))
        if row_map.total is not None:
            same = row_map.total == row_map.weight
            totals = weights if same else _only(seen, row_map.total(logits, c))
            rest[0] = rest[0] + jnp.sum(totals, axis=1, keepdims=True)
        return out + _times(weights.astype(keys.v.dtype), keys.v, (1, 0), kind), *rest

    start = [jnp.zeros((rows.q.shape[0], width), kind)]
    if row_map.total is not None:
        start.append(jnp.zeros(column, kind))
    if row_map.top is not None:
        start.append(jnp.full(column, least, kind))
    if null is not None and row_map.total is not None:
        if row_map.top is not None:
            start[2] = row_map.top(null)
        start[1] = row_map.total(null, start[2] if row_map.top is not None else start[1])
    out, *rest = jax.lax.fori_loop(*span, add, tuple(start))
    if row_map.total is None:
        return out, jnp.zeros(column, kind)
    sees = rest[0] > 0
    safe = jnp.where(sees, rest[0], 1)
    c = jnp.log(safe) if row_map.top is None else jnp.where(sees, rest[1] + jnp.log(safe), 0)
    return out / safe, c


class Pulled(NamedTuple):
    """What is known of a block of rows on the way back: `g[t, E]` the gradient of `out`; `c`, `delta` as `Rows.at`."""

    g: Array
    c: Array
    delta: Array


def slope(function: Callable[[Array, Array], Array], logits: Array, c: Array) -> tuple[Array, Array]:
    """`f(l, c)` and its derivative by `l`, elementwise."""
    return jax.jvp(lambda x: function(x, c), (logits,), (jnp.ones_like(logits),))


def _pull(plan: Plan, rows: Rows, pulled: Pulled, keys: Keys, kind: Any, flipped: bool) -> tuple[Array, Array]:
    """Weights of a block of pairs and the gradient of its logits."""
    logits, seen = _logits(plan, rows, keys, kind, flipped)
    row_map = plan.map
    c = jnp.broadcast_to(pulled.c, logits.shape)
    weights, rise = slope(row_map.weight, logits, c)
    left, right = (keys.v, pulled.g) if flipped else (pulled.g, keys.v)
    towards = rise * _times(left, right, (1, 1), kind)
    if row_map.total == row_map.weight:
        towards = towards - rise * pulled.delta
    elif row_map.total is not None:
        towards = towards - slope(row_map.total, logits, c)[1] * pulled.delta
    return _only(seen, weights), _only(seen, towards)


def pull_rows(
    plan: Plan, rows: Rows, pulled: Pulled, load: Callable[[Array], Keys], span: tuple[Any, Any]
) -> tuple[Array, Array]:
    """The gradient of `q[t, K]` and of the shift of rows `[t, 1]`."""
    kind = jnp.promote_types(rows.q.dtype, jnp.float32)

    def add(number: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        keys = load(number)
        _, towards = _pull(plan, rows, pulled, keys, kind, False)
        by_q = _times(towards.astype(keys.k.dtype), keys.k, (1, 0), kind)
        return carry[0] + by_q, carry[1] + jnp.sum(towards, axis=1, keepdims=True)

    start = jnp.zeros(rows.q.shape, kind), jnp.zeros((rows.q.shape[0], 1), kind)
    by_q, by_shift = jax.lax.fori_loop(*span, add, start)
    return plan.scale * by_q, by_shift


def pull_keys(
    plan: Plan, keys: Keys, load: Callable[[Array], tuple[Rows, Pulled, Array | None]], span: tuple[Any, Any]
) -> tuple[Array, Array, Array]:
    """The gradient of `k[u, K]`, `v[u, E]` and of the shift of keys `[u, 1]`; `load` gives a block of rows, flipped."""
    kind = jnp.promote_types(keys.k.dtype, jnp.float32)

    def add(number: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rows, pulled, mask = load(number)
        weights, towards = _pull(plan, rows, pulled, keys._replace(mask=mask), kind, True)
        by_k = _times(towards.astype(rows.q.dtype), rows.q, (1, 0), kind)
        by_v = _times(weights.astype(pulled.g.dtype), pulled.g, (1, 0), kind)
        return carry[0] + by_k, carry[1] + by_v, carry[2] + jnp.sum(towards, axis=1, keepdims=True)

    start = tuple(jnp.zeros(shape, kind) for shape in (keys.k.shape, keys.v.shape, (keys.k.shape[0], 1)))
    by_k, by_v, by_shift = jax.lax.fori_loop(*span, add, start)
    return plan.scale * by_k, by_v, by_shift
