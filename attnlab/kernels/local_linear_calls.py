"""The Pallas calls of local linear attention: how its arrays are laid out for the kernels, and its derivative rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array

from attnlab.kernels.blocks import pad_to
from attnlab.kernels.local_linear_gradient import Turned
from attnlab.kernels.local_linear_heads import Fixed, Heads, cut_up
from attnlab.kernels.local_linear_kernel import (
    Columns,
    Numbers,
    Rows,
    attend_kernel,
    pull_keys_kernel,
    pull_rows_kernel,
)
from attnlab.kernels.local_linear_rows import Plan, Saved
from attnlab.kernels.targets import Pallas, Target, compiler_params, power_of_two

Shape = jax.ShapeDtypeStruct


@dataclass(frozen=True)
class Calls:
    """What is fixed when a program is compiled.

    Attributes:
      visited: how many pairs of blocks a head has to go through, for the estimate of its cost.
    """

    plan: Plan
    pallas: Pallas
    visited: int


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attention(calls: Calls, heads: Heads, fixed: Fixed) -> Array:
    """The output `[N, M, E]`; what `local_linear_heads.attention` computes."""
    return _remember(calls, heads, fixed)[0]


def _remember(calls: Calls, heads: Heads, fixed: Fixed) -> tuple[Array, Any]:
    rows, columns, numbers = _laid_out(calls.plan, heads, fixed)
    out, saved = calls.pallas.run(partial(_forward, calls), rows, columns, numbers)
    return out.reshape(out.shape[0], -1, out.shape[-1])[:, : heads.q.shape[1]], (heads, fixed, saved)


def _back(calls: Calls, kept: tuple[Heads, Fixed, Saved], g: Array) -> tuple[Heads, None]:
    heads, fixed, saved = kept
    rows, columns, numbers = _laid_out(calls.plan, heads, fixed)
    num, num_keys = heads.q.shape[1], heads.k.shape[1]
    g = _blocks(pad_to(g, rows.q.shape[1] * calls.plan.block_q, 1), calls.plan.block_q)
    rows = rows._replace(saved=saved, g=g)
    dq, ridge, turned = calls.pallas.run(partial(_backward_rows, calls), rows, columns, numbers)
    rows, numbers = rows._replace(turned=turned), _of_keys(numbers, columns.k.shape[1])
    dk, dv = calls.pallas.run(partial(_backward_keys, calls), rows, columns, numbers)
    dq, ridge, dk, dv = (x.reshape(len(x), -1, *x.shape[3:]) for x in (dq, jnp.swapaxes(ridge, 2, 3), dk, dv))
    return Heads(dq[:, :num], ridge[:, :num, 0], dk[:, :num_keys], dv[:, :num_keys]), None


attention.defvjp(_remember, _back)


def _blocks(x: Array, size: int) -> Array:
    """`[N, M, W] -> [N, b, t, W]`; of numbers, `[N, M] -> [N, b, 1, t]`."""
    tail = (size, x.shape[2]) if x.ndim == 3 else (1, size)
    return x.reshape(x.shape[0], -1, *tail)


def _laid_out(plan: Plan, heads: Heads, fixed: Fixed) -> tuple[Rows, Columns, Numbers]:
    padded, fixed, (begin, end) = cut_up(plan, heads, fixed)
    t, u = plan.block_q, plan.block_k
    first, last = (_blocks(x[None], t) for x in fixed.span)
    mask = None if fixed.mask is None else fixed.mask.astype(jnp.int8)
    if mask is not None:
        mask = jnp.swapaxes(mask.reshape(len(mask), -1, t, mask.shape[2] // u, u), 2, 3)
    seen = None if fixed.seen is None else _blocks(fixed.seen.astype(jnp.int32), u)
    origin = jnp.mean(padded.k, axis=1, keepdims=True)
    rows = Rows(_blocks(padded.q, t), _blocks(padded.ridge, t), first, last, mask)
    columns = Columns(_blocks(padded.k - origin, u), _blocks(padded.v, u), origin, seen)
    tol, most = fixed.control
    return rows, columns, Numbers(begin, end, tol[None], most[None])


def _of_keys(numbers: Numbers, blocks: int) -> Numbers:
    """Which blocks of queries read each block of keys: between the first and the last of them."""
    j = jnp.arange(blocks)
    reads = (numbers.begin[:, None] <= j) & (j < numbers.end[:, None])
    begin = jnp.argmax(reads, axis=0)
    end = jnp.where(jnp.any(reads, axis=0), len(reads) - jnp.argmax(reads[::-1], axis=0), begin)
    return numbers._replace(begin=begin.astype(jnp.int32), end=end.astype(jnp.int32))


def _like(x: Array) -> Any:
    return Shape(x.shape, x.dtype)


def _forward(calls: Calls, target: Target) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        rows, columns, _ = args
        vector, number = _like(rows.q), _like(rows.ridge)
        out = Shape((*rows.q.shape[:3], columns.v.shape[-1]), rows.q.dtype)
        saved = Saved(number, vector, vector, number, number, number, number)
        return _call(calls, target, attend_kernel, args, (out, saved), Products(7, 1, 3))

    return run


def _backward_rows(calls: Calls, target: Target) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        vector, number = _like(args[0].q), _like(args[0].ridge)
        out = (vector, number, Turned(vector, number, number))
        return _call(calls, target, pull_rows_kernel, args, out, Products(9 + bool(calls.plan.floor), 2, 3))

    return run


def _backward_keys(calls: Calls, target: Target) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        out = (_like(args[1].k), _like(args[1].v))
        return _call(calls, target, pull_keys_kernel, args, out, Products(6 + 2 * bool(calls.plan.floor), 2, 1))

    return run


class Products(NamedTuple):
    """Of a kernel, for each pair: products with `K` and with `E` channels, exponentials; conjugate gradients once."""

    keys: int
    values: int
    exponentials: int


def _call(
    calls: Calls,
    target: Target,
    kernel: Callable[..., None],
    args: tuple[Rows, Columns, Numbers],
    like: tuple[Any, ...],
    products: Products,
) -> Any:
    """`kernel` for every block of keys if it is theirs, else of queries."""
    of_keys = kernel is pull_keys_kernel
    rows, columns, numbers = args
    wide = _fitted(target, rows._replace(mask=None)), _fitted(target, columns)
    out = _fitted(target, like)
    specs = [
        jax.tree.map(partial(_spec, not of_keys), wide[0])._replace(mask=_mask_spec(not of_keys, rows.mask)),
        jax.tree.map(partial(_spec, of_keys), wide[1])._replace(origin=_spec(False, wide[1].origin)),
        jax.tree.map(partial(_scalars, target), numbers),
    ]
    found = pl.pallas_call(
        partial(kernel, calls.plan),
        name=f"local_linear_{kernel.__name__.removesuffix('_kernel')}",
        grid=(rows.q.shape[0], (columns.k if of_keys else rows.q).shape[1]),
        in_specs=specs,
        out_specs=jax.tree.map(partial(_spec, True), out),
        out_shape=out,
        compiler_params=compiler_params(target, "parallel", "parallel"),
        cost_estimate=_cost(calls, products, args, out),
        metadata={} if of_keys else {"least": "one step of conjugate gradients"},
        interpret=calls.pallas.interpret,
    )(wide[0]._replace(mask=rows.mask), wide[1], numbers)
    return jax.tree.map(lambda x, to: x[tuple(map(slice, to.shape))], tuple(found), like)


def _fitted(target: Target, tree: Any) -> Any:
    """With as many channels as Triton wants; the further ones are 0. Blocks have such sizes already."""

    def fit(x: Any) -> Any:
        width = power_of_two(x.shape[-1])
        return Shape((*x.shape[:-1], width), x.dtype) if isinstance(x, Shape) else pad_to(x, width, -1)

    return tree if target == "tpu" else jax.tree.map(fit, tree)


def _spec(own: bool, x: Any) -> pl.BlockSpec:
    """The block of the kernel, or all of its head; of what all heads share the same for all."""
    shared, rest = x.shape[0] == 1, (0,) * (x.ndim - 2)
    if own:
        return pl.BlockSpec((None, None, *x.shape[2:]), lambda head, block: (0 if shared else head, block, *rest))
    return pl.BlockSpec((None, *x.shape[1:]), lambda head, block: (0 if shared else head, 0, *rest))


def _mask_spec(own: bool, x: Any) -> pl.BlockSpec | None:
    """The rows of the kernel's block of queries, or the columns of its block of keys."""
    if x is None or own:
        return None if x is None else _spec(True, x)
    shared, (blocks, _, t, u) = x.shape[0] == 1, x.shape[1:]
    return pl.BlockSpec((None, blocks, 1, t, u), lambda head, block: (0 if shared else head, 0, block, 0, 0))


def _scalars(target: Target, x: Array) -> pl.BlockSpec:
    if target == "gpu":
        return pl.BlockSpec(x.shape, lambda head, block: (0,))
    from jax.experimental.pallas import tpu

    return pl.BlockSpec(memory_space=tpu.SMEM)


def _cost(calls: Calls, products: Products, args: tuple[Rows, Columns, Numbers], out: Any) -> pl.CostEstimate:
    rows, columns, _ = args
    pairs = rows.q.shape[0] * calls.visited * calls.plan.block_q * calls.plan.block_k
    flops = 2 * pairs * (products.keys * rows.q.shape[-1] + products.values * columns.v.shape[-1])
    moved = sum(prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves((args, out)))
    return pl.CostEstimate(flops, pairs * products.exponentials, moved)
