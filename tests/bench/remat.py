"""What rematerialisation saves and costs: memory that the compiler reserves, operations of the trace. No clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import jax
import jax.numpy as jnp

import attnlab as al
from attnlab.accelerators.count import count
from attnlab.models.base import Remat
from attnlab.training import losses
from tests.bench.result import Result
from toy_tasks.base import Batch

LAYERS, WIDTH = 4, 64


def measure(quick: bool) -> Iterator[Result]:
    """Memory and operations of a gradient at T = 1024 (256 with --quick), 4 layers of width 64, against keeping all."""
    length = 256 if quick else 1024
    found = {remat: _cost(remat, length) for remat in get_args(Remat)}
    kept, plain = found["none"]
    for remat, (memory, flops) in found.items():
        details = {"MB": memory / 1e6, "GFLOP": flops / 1e9, "T": length, "D": WIDTH, "L": LAYERS}
        if remat != "none":
            yield Result(f"remat: memory, {remat}", memory / kept, "of none", "< 1.0", details)
            yield Result(f"remat: operations, {remat}", flops / plain, "of none", None, details)


def _cost(remat: Remat, length: int) -> tuple[int, float]:
    model = al.Transformer(vocab_size=64, length=length, num_layers=LAYERS, width=WIDTH, remat=remat)

    def loss(params: jax.Array, tokens: jax.Array) -> jax.Array:
        return losses.on_batch(model, Batch(tokens, tokens, jnp.ones(tokens.shape), {}))(params)

    shapes = jax.eval_shape(model.init, jax.random.key(0)), jax.ShapeDtypeStruct((1, length), jnp.int32)
    traced = jax.jit(jax.grad(loss)).trace(*shapes)
    memory = traced.lower().compile().memory_analysis()
    assert memory is not None, "every backend of today says what it reserves"
    return memory.temp_size_in_bytes, count(traced.jaxpr.jaxpr).flops


MEASURES = {"remat": measure}
