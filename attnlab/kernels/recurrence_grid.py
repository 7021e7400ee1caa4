"""How the chunks of a recurrence are laid out for a kernel, and in which order it goes through them.

Arrays of `N` heads: what tokens have, `[N, n, C, ..]` in `n` chunks of `C`; states, `[N, K, W]`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import jax
from jax.experimental import pallas as pl
from jaxtyping import Array

from attnlab.kernels.blocks import pad_to
from attnlab.kernels.recurrence_chunk import Tokens, inverse_flops
from attnlab.kernels.targets import Pallas, Target, compiler_params, power_of_two

Shape = jax.ShapeDtypeStruct


def through(
    target: Target,
    tokens: Tokens,
    first: Any,
    last: Any,
    chunk: Callable[[Any, Array], Array],
    reverse: bool = False,
) -> None:
    """`state = chunk(place, state)` for every chunk, from what `first` holds; the last state goes to `last`.

    On a TPU the grid is the loop, a block has one chunk, and `last` is the same block in all its steps.
    """
    if target == "gpu":
        num = tokens.v.shape[0]

        def one(number: Array, state: Array) -> Array:
            return chunk(num - 1 - number if reverse else number, state)

        last[...] = jax.lax.fori_loop(0, num, one, first[...])
        return

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        last[...] = first[...]

    last[...] = chunk(..., last[...])


def loaded(tokens: Tokens, place: Any, dtype: Any) -> Tokens:
    """The tokens of a chunk."""
    return jax.tree.map(lambda ref: ref[place].astype(dtype), tokens)


def store(ref: Any, place: Any, x: Array) -> None:
    """`x`, in the dtype of where it goes."""
    ref[place] = x.astype(ref.dtype)


def call(
    pallas: Pallas,
    target: Target,
    name: str,
    kernel: Callable[..., None],
    args: tuple[Any, ...],
    like: tuple[Any, ...],
    one: Callable[..., Any],
    reverse: bool = False,
) -> tuple[Any, ...]:
    """`kernel(*args, *out)` on references, once for each chunk (`tpu`) or each head (`gpu`).

    Args:
      like: what comes out, by shapes and dtypes.
      one: what the kernel computes of a chunk, of arguments like its own, to count operations.
      reverse: the last chunk first.
    """
    heads, chunks = args[0].v.shape[:2]
    like = jax.tree.map(lambda x: Shape(x.shape, x.dtype), like)
    wide, out = (tuple(_fitted(target, x) for x in tree) for tree in (args, like))
    specs = partial(jax.tree.map, partial(_spec, target, chunks, reverse))
    found = pl.pallas_call(
        kernel,
        name=name,
        grid=(heads, chunks) if target == "tpu" else (heads,),
        in_specs=specs(wide),
        out_specs=specs(out),
        out_shape=out,
        compiler_params=compiler_params(target, "parallel", "arbitrary"),
        cost_estimate=_cost(one, wide, out, heads * chunks),
        interpret=pallas.interpret,
    )(*wide)
    return jax.tree.map(lambda x, to: x[tuple(map(slice, to.shape))], tuple(found), like)


def _fitted(target: Target, tree: Any) -> Any:
    """With as many channels as Triton wants; the further ones are 0. Chunks have such a size already."""
    if target == "tpu":
        return tree

    def fit(x: Any) -> Any:
        *lead, rows, channels = x.shape
        rows, channels = power_of_two(rows), power_of_two(channels)
        if isinstance(x, Shape):
            return Shape((*lead, rows, channels), x.dtype)
        return pad_to(pad_to(x, channels, -1), rows, -2)

    if isinstance(tree, Tokens):  # whose logarithms have no channels
        return jax.tree.map(fit, tree._replace(log_decay=None))._replace(log_decay=tree.log_decay)
    return fit(tree)


def _spec(target: Target, chunks: int, reverse: bool, x: Array) -> pl.BlockSpec:
    """One head, or on a TPU one chunk of one head."""
    if target == "gpu":
        return pl.BlockSpec((None, *x.shape[1:]), lambda head: (head, *(0,) * (x.ndim - 1)))
    if x.ndim == 3:
        return pl.BlockSpec((None, *x.shape[1:]), lambda head, chunk: (head, 0, 0))
    return pl.BlockSpec(
        (None, None, *x.shape[2:]), lambda head, chunk: (head, chunks - 1 - chunk if reverse else chunk, 0, 0)
    )


def _cost(one: Callable[..., Any], args: Any, out: Any, times: int) -> pl.CostEstimate:
    """Operations of `one`, as often as it runs; every array read or written once."""
    first, *_ = args
    kind = args[-1].dtype
    cut = jax.tree.map(lambda x: Shape(x.shape[1 if x.ndim == 3 else 2 :], kind), tuple(args))
    chunk = pl.estimate_cost(one, *cut)
    more = 0 if first.a is None else inverse_flops(first.v.shape[-2])
    moved = sum(prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves((args, out)))
    return pl.CostEstimate(times * (chunk.flops + more), times * chunk.transcendentals, moved)
