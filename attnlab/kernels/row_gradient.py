"""Attention of any `RowMap` in blocks, of padded heads, with its gradient: one pass there, two back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.kernels.row_blocks import slope
from attnlab.kernels.row_operands import (
    Cut,
    Fixed,
    Heads,
    Operands,
    for_keys,
    for_rows,
    forward_block,
    keys_back,
    padded,
    rows_back,
)
from attnlab.kernels.row_plan import Plan
from attnlab.kernels.row_runs import Engine, run


@dataclass(frozen=True)
class Setting:
    """A plan and what runs it."""

    plan: Plan
    engine: Engine


def _forward(setting: Setting, heads: Heads, fixed: Fixed, keep: bool) -> tuple[Array, Array | None, Array | None]:
    """Of padded heads: the output `[N, M, E]`; to be kept: the same before the finish, and `c[N, M]`."""
    plan, finish = setting.plan, setting.plan.finish
    shape, kind = (*heads.q.shape[:2], heads.v.shape[-1]), jnp.promote_types(heads.q.dtype, jnp.float32)
    out = jax.ShapeDtypeStruct(shape, heads.v.dtype)
    kept = (jax.ShapeDtypeStruct((*shape[:2], 1), kind),) if keep else ()
    raw = (out,) if keep and finish is not None else ()

    def one(plan: Plan, x: Operands, block: Array, cut: Cut) -> tuple[Array, ...]:
        mixed, c = forward_block(plan, x, block, cut)
        finished = mixed if finish is None else finish(mixed, x.score[...].astype(mixed.dtype))
        return (finished, *((c,) if keep else ()), *((mixed,) if raw else ()))

    found = run(setting.engine, plan, one, for_rows(heads, fixed), (out, *kept, *raw), (1, 1), "forward")
    if not keep:
        return found[0], None, None
    return found[0], found[-1] if raw else found[0], found[1][..., 0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attention(setting: Setting, heads: Heads, fixed: Fixed) -> Array:
    """The output `[N, M, E]`."""
    out, _, _ = _forward(setting, *padded(setting.plan, heads, fixed), keep=False)
    return out[:, : heads.q.shape[1]]


def _remember(setting: Setting, heads: Heads, fixed: Fixed) -> tuple[Array, Any]:
    out, raw, c = _forward(setting, *padded(setting.plan, heads, fixed), keep=True)
    return out[:, : heads.q.shape[1]], (heads, fixed, raw, c)


def _back(setting: Setting, kept: tuple[Heads, Fixed, Array, Array], g: Array) -> tuple[Heads, None]:
    heads, fixed, raw, c = kept
    plan, like = setting.plan, heads
    kind = c.dtype
    heads, fixed = padded(plan, heads, fixed)
    g = jnp.pad(g, ((0, 0), (0, heads.q.shape[1] - g.shape[1]), (0, 0)))
    by_score = None
    if plan.finish is not None:
        _, pull = jax.vjp(plan.finish, raw.astype(kind), heads.score.astype(kind))
        pulled, by_score = pull(g.astype(kind))
        g = pulled.astype(g.dtype)
    delta = jnp.sum(raw.astype(kind) * g.astype(kind), axis=-1)
    more = {"g": g, "c": c, "delta": delta}

    def results(*arrays: tuple[Array, Any]) -> tuple[Any, ...]:
        return tuple(jax.ShapeDtypeStruct((*x.shape[:2], width), kind) for x, width in arrays)

    q, k, v = heads.q, heads.k, heads.v
    shapes = results((q, q.shape[-1]), (q, 1))
    by_q, by_row = run(
        setting.engine,
        plan,
        rows_back,
        for_rows(heads._replace(null=None, score=None), fixed, **more),
        shapes,
        (2, 1),
        "rows",
    )
    shapes = results((k, k.shape[-1]), (v, v.shape[-1]), (k, 1))
    by_k, by_v, by_key = run(setting.engine, plan, keys_back, for_keys(heads, fixed, **more), shapes, (2, 2), "keys")
    by_null = None
    if heads.null is not None and plan.map.total is not None:
        by_null = -slope(plan.map.total, heads.null.astype(kind), c)[1] * delta
    found = Heads(by_q, by_k, by_v, by_row[..., 0], by_key[..., 0], by_null, by_score)
    return Heads(
        *(None if x is None else y[:, : x.shape[1]].astype(x.dtype) for x, y in zip(like, found, strict=True))
    ), None


attention.defvjp(_remember, _back)
