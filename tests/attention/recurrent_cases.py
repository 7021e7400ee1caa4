"""The recurrent mechanisms under test, what they are fed, and all their views compiled as one program each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attnlab.attention import Dims
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.recurrent_catalogue import RECURRENT
from attnlab.attention.rules import Oja
from attnlab.attention.ttt import TTTLinear

BATCH, HEADS, LENGTH, HEAD_DIM, WIDTH = 1, 2, 7, 4, 5
CHUNK = 4  # does not divide the length: the last chunk is padded

# What is compiled here runs once or twice: LLVM's optimisation, three fifths of the time, would not pay.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


# Mini-batches that do not divide the length either; their size is in the shape of a parameter.
UNDER_TEST = tuple(replace(m, mini_batch=3) if isinstance(m, TTTLinear) else m for m in RECURRENT)


def dims_of(mechanism: Any, head_dim: int = HEAD_DIM) -> Dims:
    return Dims(HEADS, head_dim, WIDTH)


class Inputs(NamedTuple):
    """Parameters, `q, k, v [B, H, T, K]`, `x[B, T, D]`."""

    params: Any
    q: Any
    k: Any
    v: Any
    x: Any


def params_of(mechanism: Any, head_dim: int = HEAD_DIM, seed: int = 0) -> dict[str, np.ndarray]:
    """Half a standard normal for every parameter, whatever `init` says: only its shapes are asked for."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: mechanism.init(key, dims_of(mechanism, head_dim)), jax.random.key(0))
    return {name: 0.5 * rng.normal(size=leaf.shape) for name, leaf in sorted(shapes.items())}


def inputs_of(mechanism: Any, dtype: Any = np.float64, head_dim: int = HEAD_DIM, seed: int = 0) -> Inputs:
    """Standard normal tokens."""
    rng = np.random.default_rng(seed + 1)
    q, k, v = (rng.normal(size=(BATCH, HEADS, LENGTH, head_dim)) for _ in range(3))
    x = rng.normal(size=(BATCH, LENGTH, WIDTH))
    return jax.tree.map(lambda a: np.asarray(a, dtype), Inputs(params_of(mechanism, head_dim, seed), q, k, v, x))


def parallel(mechanism: Any, params, q, k, v, x):
    return mechanism.apply(params, q, k, v, x=x).out


def by_map(mechanism: Any, params, q, k, v, x):
    return mechanism.apply(params, q, k, v, x=x, view="map").out


def by_step(mechanism: Any, params, q, k, v, x):
    """Token by token from the start."""

    def one(state, token):
        q, k, v, x = token
        out, state = mechanism.step(params, state, q, k, v, x=x)
        return state, out

    first = mechanism.start(params, q.shape[:1], LENGTH, Dims(q.shape[1], q.shape[-1], x.shape[-1]), q.dtype)
    _, out = jax.lax.scan(one, first, (*(jnp.moveaxis(a, -2, 0) for a in (q, k, v)), jnp.moveaxis(x, -2, 0)))
    return jnp.moveaxis(out, 0, -2)


VIEWS = {"parallel": parallel, "map": by_map, "step": by_step}


class Result(NamedTuple):
    """Outputs of a view, and the gradient of `sum(weight * out)` in parameters, queries, keys, values and `x`."""

    out: Any
    gradient: Any


def chunked(mechanism: Any) -> Any:
    """In chunks of `CHUNK`, those of the rule too if it has some; if it has none, as it is."""
    if not isinstance(mechanism, Recurrent):
        return mechanism
    rule = replace(mechanism.rule, chunk=CHUNK) if isinstance(mechanism.rule, Oja) else mechanism.rule
    return replace(mechanism, chunk=CHUNK, rule=rule)


@cache
def compiled(mechanism: Any) -> Callable[[Inputs, Any], dict[str, Any]]:
    """`(inputs, weight) -> {view: Result, "weights": A}`, one program for all views and their gradients."""
    views = {name: view for name, view in VIEWS.items() if name != "map" or mechanism.has_map(HEAD_DIM)}

    def everything(inputs: Inputs, weight: jax.Array) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, view in views.items():

            def projected(params, q, k, v, x, view=view):
                out = view(chunked(mechanism), params, q, k, v, x)
                return jnp.sum(weight * out), out

            (_, out), gradient = jax.value_and_grad(projected, argnums=(0, 1, 2, 3, 4), has_aux=True)(*inputs)
            found[name] = Result(out, Inputs(*gradient))
        if "map" in views:
            found["weights"] = chunked(mechanism).apply(*inputs[:4], x=inputs.x, view="map").weights
        return found

    return jax.jit(everything, compiler_options=QUICK)


@cache
def outputs(mechanism: Any) -> Callable[[Inputs], Any]:
    """The parallel output alone, compiled."""
    return jax.jit(lambda inputs: parallel(mechanism, *inputs), compiler_options=QUICK)


@cache
def weights(mechanism: Any) -> Callable[[Inputs], Any]:
    """The mixing matrix alone, compiled."""
    return jax.jit(lambda inputs: mechanism.apply(*inputs[:4], x=inputs.x, view="map").weights, compiler_options=QUICK)


def weight_of(like: np.ndarray, seed: int = 7) -> np.ndarray:
    """What outputs are summed with to get a number with a gradient."""
    return np.random.default_rng(seed).normal(size=like.shape).astype(like.dtype)
