"""Queries and keys of one head cut into blocks; sweeps over the blocks of keys that a block of queries can see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Span(NamedTuple):
    """Which keys each row may see: those from `first[t]` to `last[t]`, both included; none if `last < first`."""

    first: Int[Array, " t"]
    last: Int[Array, " t"]


class Keys(NamedTuple):
    """All keys of a head, `n` blocks of `u`, less their mean: sums then round like numbers of the size of differences.

    Attributes:
      k: `[n, u, K]`, less `origin[K]`.
      v: `[n, u, E]`.
      seen: `[n, u]`, whether any row may see them, or None.
    """

    k: Float[Array, "n u K"]
    v: Float[Array, "n u E"]
    origin: Float[Array, " K"]
    seen: Bool[Array, "n u"] | None


class Queries(NamedTuple):
    """A block of `t` rows of one head.

    Attributes:
      q: `[t, K]`. ridge: `[t]`.
      span: see `Span`. mask: `[n, t, u]` or None; what it hides is hidden besides the span.
      begin, end: the blocks of keys to be read are `begin` to `end - 1`.
    """

    q: Float[Array, "t K"]
    ridge: Float[Array, " t"]
    span: Span
    mask: Bool[Array, "n t u"] | None
    begin: Int[Array, ""]
    end: Int[Array, ""]


class Block(NamedTuple):
    """Block `number` of the keys, and which of them each of `t` rows sees."""

    number: Int[Array, ""]
    k: Float[Array, "u K"]
    v: Float[Array, "u E"]
    seen: Bool[Array, "t u"]


def visible(queries: Queries, keys: Keys, number: Int[Array, ""]) -> Bool[Array, "t u"]:
    """What the queries see of block `number` of the keys."""
    width = keys.k.shape[1]
    u = number * width + jnp.arange(width)
    first, last = queries.span
    seen = (u >= first[:, None]) & (u <= last[:, None])
    if keys.seen is not None:
        seen &= keys.seen[number]
    if queries.mask is not None:
        seen &= queries.mask[number]
    return seen


def sweep(queries: Queries, keys: Keys, body: Callable[[Any, Block], Any], start: Any) -> Any:
    """`carry = body(carry, block)` for every block of keys that some row may see, in order."""

    def one(number: Array, carry: Any) -> Any:
        return body(carry, Block(number, keys.k[number], keys.v[number], visible(queries, keys, number)))

    return jax.lax.fori_loop(queries.begin, queries.end, one, start)


def rounded_up(number: int, block: int) -> int:
    """The least multiple of `block` that is at least `number`."""
    return -(-number // block) * block


def pad_to(x: Array, length: int, axis: int, value: Any = 0) -> Array:
    """`x` with `value` appended along `axis` until it has `length`."""
    more = length - x.shape[axis]
    widths = [(0, more if place == axis % x.ndim else 0) for place in range(x.ndim)]
    return jnp.pad(x, widths, constant_values=value) if more else x


def reach(
    span: Span, seen: Bool[Array, "m U"] | None, block_q: int, block_k: int
) -> tuple[Int[Array, " b"], Int[Array, " b"]]:
    """`begin, end` of every block of queries: keys outside these blocks are seen by none of its rows.

    `span` has whole blocks of rows; `seen`, what the rows of a block (`m = b`) or all rows (`m = 1`) may see besides,
    has whole blocks of keys.
    """
    first, last = (y.reshape(-1, block_q) for y in span)
    begin = jnp.min(jnp.where(first <= last, first, jnp.iinfo(jnp.int32).max), axis=1) // block_k
    end = jnp.max(jnp.where(first <= last, last, -1), axis=1) // block_k + 1
    if seen is not None:
        some = jnp.any(seen.reshape(seen.shape[0], -1, block_k), axis=-1)
        after = some.shape[-1] - jnp.argmax(some[:, ::-1], axis=-1)
        begin = jnp.maximum(begin, jnp.argmax(some, axis=-1))
        end = jnp.minimum(end, jnp.where(jnp.any(some, axis=-1), after, 0))
    return begin.astype(jnp.int32), end.astype(jnp.int32)
