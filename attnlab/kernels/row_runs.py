"""The passes over blocks on a machine: as Pallas kernels (TPU, CUDA, or interpreted), or as loops of plain JAX.

A Pallas program works on one block and loops over the others itself: the keys of one head (for the gradient of keys its
rows) have to fit into the fast memory of a TPU core. The same body is lowered by Mosaic for TPU and by Triton for CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array

from attnlab.kernels.row_operands import OF_ROWS, Operands
from attnlab.kernels.row_plan import Plan, keys_of_rows

Engine = Literal["pallas", "interpret", "scan"]
Pass = Callable[[Plan, Operands, Array, Callable[..., Array]], tuple[Array, ...]]


def _cut_ref(ref: Any, axis: int, number: Any, size: int) -> Array:
    if ref.shape[axis] == size:  # the only block: TPUs take no computed index that is no multiple of 128
        return ref[...]
    part = pl.ds(pl.multiple_of(number * size, size), size)
    return ref[part, :] if axis == 0 else ref[:, part]


def _cut_array(x: Array, axis: int, number: Any, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, number * size, size, axis)


def visited(plan: Plan) -> int:
    """How many pairs of blocks a pass goes through."""
    return sum(max(end - begin, 0) for begin, end in (keys_of_rows(plan, block) for block in range(plan.num_q)))


def cost(plan: Plan, operands: Operands, results: Any, products: tuple[int, int]) -> pl.CostEstimate:
    """Of a pass with so many matrix products over `K` and over `E` per pair; each number is read or written once."""
    num, width, values = operands.q.shape[0], operands.q.shape[-1], operands.v.shape[-1]
    pairs = num * visited(plan) * plan.block_q * plan.block_k
    moved = sum(x.size * x.dtype.itemsize for x in (*jax.tree.leaves(operands), *jax.tree.leaves(results)))
    flops = 2 * pairs * (products[0] * width + products[1] * values)
    return pl.CostEstimate(flops=flops, transcendentals=pairs, bytes_accessed=moved)


def run(
    engine: Engine,
    plan: Plan,
    one: Pass,
    operands: Operands,
    like: tuple[Any, ...],
    products: tuple[int, int],
    name: str,
) -> tuple[Array, ...]:
    """`one` for every block of every head.

    Args:
      like: shapes and dtypes of the results, `[N, blocks * size, W]`.
      products: see `cost`.
    """
    by_rows = name != "keys"
    if engine == "scan":
        return _loops(plan, one, operands, like, by_rows)
    size, count = (plan.block_q, plan.num_q) if by_rows else (plan.block_k, plan.num_k)

    def spec(field: str, x: Any) -> Any:
        if x is None:
            return None
        own = field == "mask" or (field in OF_ROWS) == by_rows
        lead = x.shape[0] > 1
        rows = size if own else x.shape[1]
        return pl.BlockSpec((None, rows, x.shape[2]), lambda n, i: (n if lead else 0, i if own else 0, 0))

    def kernel(refs: Operands, *out: Any) -> None:
        for ref, value in zip(out, one(plan, refs, pl.program_id(1), _cut_ref), strict=True):
            ref[...] = value.astype(ref.dtype)

    results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in like]
    return pl.pallas_call(
        kernel,
        grid=(operands.q.shape[0], count),
        in_specs=[Operands(*(spec(field, x) for field, x in zip(Operands._fields, operands, strict=True)))],
        out_specs=[pl.BlockSpec((None, size, x.shape[2]), lambda n, i: (n, i, 0)) for x in like],
        out_shape=results,
        cost_estimate=cost(plan, operands, results, products),
        interpret=engine == "interpret",
        name=f"attention_{name}",
    )(operands)


def _loops(plan: Plan, one: Pass, operands: Operands, like: tuple[Any, ...], by_rows: bool) -> tuple[Array, ...]:
    size, count = (plan.block_q, plan.num_q) if by_rows else (plan.block_k, plan.num_k)

    def head(x: Operands) -> tuple[Array, ...]:
        def block(number: Array) -> tuple[Array, ...]:
            own = {
                field: _cut_array(y, 0, number, size)
                for field, y in x._asdict().items()
                if y is not None and (field == "mask" or (field in OF_ROWS) == by_rows)
            }
            return one(plan, x._replace(**own), number, _cut_array)

        found = jax.lax.map(block, jnp.arange(count, dtype=jnp.int32))
        return tuple(y.reshape(-1, y.shape[-1]) for y in found)

    common = Operands(*(None if x is None or x.shape[0] == 1 else 0 for x in operands))
    single = Operands(
        *(x[0] if x is not None and axis is None else x for x, axis in zip(operands, common, strict=True))
    )
    if all(axis is None for axis in common):
        found = tuple(y[None] for y in head(single))
    else:
        found = jax.vmap(head, (common,))(single)
    return tuple(y.astype(z.dtype) for y, z in zip(found, like, strict=True))
