"""Attention in blocks, by loops of plain JAX, against the whole map and the catalogue's rows: memory and time."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from attnlab.attention import causal_mask, softmax
from attnlab.kernels import attention, row_maps
from tests.bench.local_linear import Form, held, passes, runs_of
from tests.bench.result import Result, alternate, noise

HEADS, WIDTH = 4, 64
MAPS = {"softmax": row_maps.SOFTMAX, "sigmoid": row_maps.sigmoid(-7.0), "lssa": row_maps.LSSA}


def arrays(num: int) -> tuple[jax.Array, ...]:
    """`q, k, v [1, H, T, K]`, standard normal, float32."""
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=(1, HEADS, num, WIDTH)), jnp.float32) for _ in range(3))


def by(implementation: str, name: str = "softmax") -> Form:
    return lambda q, k, v: attention(q, k, v, map=MAPS[name], implementation=implementation)


def by_rows(q, k, v):
    """The catalogue's softmax, which takes long sequences some rows at a time."""
    return softmax.apply({}, q, k, v, mask=causal_mask(q.shape[-2])).out


def versus_map(quick: bool) -> Iterator[Result]:
    """Softmax in blocks over the whole map, forward and backward, 4 heads of 64: memory and time."""
    for num in (128,) if quick else (256, 1024, 2048):
        args = arrays(num)
        forms = {"scan": by("scan"), "map": by("map"), "rows": by_rows}
        programs = {name: passes(form, args)["with backward"] for name, form in forms.items()}
        seconds = alternate(runs_of(programs, args), 1 if quick else 3)
        best = {name: min(found) for name, found in seconds.items()}
        memory = {name: held(program) for name, program in programs.items()}
        details = {
            "ms": {name: round(1e3 * x, 2) for name, x in best.items()},
            "MB": {name: round(x, 3) for name, x in memory.items()},
            "noise": noise(seconds),
        }
        yield Result(f"blocks_memory_T{num}", memory["scan"] / memory["map"], "of whole", "< 1.0", details)
        yield Result(f"blocks_time_T{num}", best["scan"] / best["map"], "of whole", "< 1.0", details)


def memory_slope(quick: bool) -> Iterator[Result]:
    """Slope of log bytes over log T, forward and backward, by linear fit."""
    lengths = (256, 512) if quick else (1024, 2048, 4096, 8192)
    for name in MAPS:
        memory = [held(passes(by("scan", name), arrays(num))["with backward"]) for num in lengths]
        slope = float(np.polyfit(np.log(lengths), np.log(memory), 1)[0])
        details = {"MB": dict(zip(map(str, lengths), (round(x, 3) for x in memory), strict=True))}
        yield Result(f"blocks_memory_slope_{name}", slope, "", "<= 1.1", details)


MEASURES = {"blocks_versus_map": versus_map, "blocks_memory_slope": memory_slope}
