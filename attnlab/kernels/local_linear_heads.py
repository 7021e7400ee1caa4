"""Local linear attention of many heads: the loops over heads and blocks of queries, and its derivative rule."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.kernels.blocks import Keys, Queries, Span, pad_to, reach, rounded_up
from attnlab.kernels.conjugate_gradient import Solved
from attnlab.kernels.local_linear_gradient import PulledKeys, pull
from attnlab.kernels.local_linear_rows import Plan, Saved, attend
from attnlab.kernels.solver import Control


class Heads(NamedTuple):
    """Key heads side by side, `N` of them, each with the `M` rows of all query heads that it serves.

    Attributes:
      q: `[N, M, K]`. ridge: `[N, M]`.
      k: `[N, U, K]`. v: `[N, U, E]`.
    """

    q: Array
    ridge: Array
    k: Array
    v: Array


class Fixed(NamedTuple):
    """What has no gradient.

    Attributes:
      span: what a row may see, `[M]` each.
      mask: `[1 or N, M, U]` or None. seen: of all rows alike, `[1 or N, U]` or None.
      control: when conjugate gradients end.
    """

    span: Span
    mask: Array | None
    seen: Array | None
    control: Control


def cut_up(plan: Plan, heads: Heads, fixed: Fixed) -> tuple[Heads, Fixed, tuple[Array, Array]]:
    """Everything padded to whole blocks, and which blocks of keys each block of queries must read."""
    num, keys = rounded_up(heads.q.shape[1], plan.block_q), rounded_up(heads.k.shape[1], plan.block_k)
    padded = Heads(
        pad_to(heads.q, num, 1), pad_to(heads.ridge, num, 1, 1), pad_to(heads.k, keys, 1), pad_to(heads.v, keys, 1)
    )
    span = Span(pad_to(fixed.span.first, num, 0), pad_to(fixed.span.last, num, 0, -1))
    mask, seen, some = fixed.mask, fixed.seen, None
    if mask is not None:
        mask = pad_to(pad_to(mask, keys, 2), num, 1)
        some = jnp.any(mask.reshape(-1, num // plan.block_q, plan.block_q, keys), axis=(0, 2))
    if seen is not None:
        seen = pad_to(seen, keys, 1)
        some = jnp.any(seen, axis=0, keepdims=True)
    return padded, fixed._replace(span=span, mask=mask, seen=seen), reach(span, some, plan.block_q, plan.block_k)


def _over_heads(plan: Plan, heads: Heads, fixed: Fixed, limits: tuple[Array, Array], one: Any, *more: Any) -> Any:
    """`one(queries, keys, *more)` of every head; `queries`, and `more` of each row, are cut into blocks and stacked."""
    masks = {name: x for name, x in (("mask", fixed.mask), ("seen", fixed.seen)) if x is not None}
    common = {name: x[0] for name, x in masks.items() if x.shape[0] == 1}
    own = {name: x for name, x in masks.items() if name not in common}

    def cut(tree: Any, size: int) -> Any:
        return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)

    def head(arrays: tuple[Heads, dict[str, Array], Any]) -> Any:
        (q, ridge, k, v), own, more = arrays
        masks = {"mask": None, "seen": None, **common, **own}
        origin = jnp.mean(k, axis=0)
        q, ridge, span, mask, more = cut((q, ridge, fixed.span, masks["mask"], more), plan.block_q)
        k, v, seen = cut((k - origin, v, masks["seen"]), plan.block_k)
        if mask is not None:
            mask = jnp.swapaxes(mask.reshape(*mask.shape[:2], -1, plan.block_k), 1, 2)
        return one(Queries(q, ridge, span, mask, *limits), Keys(k, v, origin, seen), *more)

    if plan.heads_at_once is None:
        return jax.vmap(head)((heads, own, more))
    return jax.lax.map(head, (heads, own, more), batch_size=plan.heads_at_once)


def _joined(tree: Any) -> Any:
    """Blocks side by side again."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def forward(plan: Plan, heads: Heads, fixed: Fixed) -> tuple[Array, Saved, Solved]:
    """The output `[N, M, E]`; what the way back needs, of padded rows; how the solution went (padded)."""

    def head(queries: Queries, keys: Keys) -> tuple[Array, Saved, Solved]:
        return _joined(jax.lax.map(lambda part: attend(plan, fixed.control, part, keys), queries))

    out, saved, solved = _over_heads(plan, *cut_up(plan, heads, fixed), head)
    return out[:, : heads.q.shape[1]], saved, solved


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attention(plan: Plan, heads: Heads, fixed: Fixed) -> Array:
    """The output `[N, M, E]`."""
    return forward(plan, heads, fixed)[0]


def _remember(plan: Plan, heads: Heads, fixed: Fixed) -> tuple[Array, Any]:
    out, saved, _ = forward(plan, heads, fixed)
    return out, (heads, fixed, saved)


def _back(plan: Plan, kept: tuple[Heads, Fixed, Saved], g: Array) -> tuple[Heads, None]:
    """Block after block of queries; the gradients of keys and values are added up on the way."""
    heads, fixed, saved = kept
    num, num_keys = heads.q.shape[1], heads.k.shape[1]
    padded, fixed, limits = cut_up(plan, heads, fixed)

    def head(queries: Queries, keys: Keys, saved: Saved, g: Array) -> Any:
        def block(into: PulledKeys, part: tuple[Queries, Saved, Array]) -> tuple[PulledKeys, Any]:
            queries, saved, g = part
            pulled, into = pull(plan, fixed.control, queries, keys, saved, g, into)
            return into, pulled

        nothing = PulledKeys(jnp.zeros_like(keys.k), jnp.zeros_like(keys.v))
        return _joined(jax.lax.scan(block, nothing, (queries, saved, g)))

    g = pad_to(g, padded.q.shape[1], 1)
    into, pulled = _over_heads(plan, padded, fixed, limits, head, saved, g)
    return Heads(pulled.q[:, :num], pulled.ridge[:, :num], into.k[:, :num_keys], into.v[:, :num_keys]), None


attention.defvjp(_remember, _back)
