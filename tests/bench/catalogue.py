"""The attention catalogue: time and memory against the length, chunks against single tokens, softmax against JAX's own.

Every program runs on one core with one thread, and its seconds are those of the processor: what other processes take is
not counted, though the cache that they take is. Figures are medians of rounds in which all variants take turns.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import attention
from attnlab.attention import MECHANISMS, Dims, KVCache, causal_mask
from tests.bench.result import Result, alternate, noise

WEIGHTS = (
    *(attention.softmax, attention.alibi, attention.forgetting, attention.ssa, attention.differential),
    *(attention.sigmoid, attention.relu, attention.lssar, attention.entmax),
)
LINEAR = (
    *(attention.identity_kernel, attention.linear, attention.ssd, attention.gla, attention.delta_net),
    *(attention.gated_delta_net, attention.delta_product, attention.rwkv7, attention.mesa),
)
FAMILIES = {
    "weights": (WEIGHTS, (256, 1024, 2048, 4096, 8192, 16384), "<= 2.1"),
    "linear": (LINEAR, (256, 2048, 8192, 16384), "<= 1.1"),
}
HEAD_DIM = 32  # of one sequence and one head, unless said otherwise: a map of 16384 positions is 1 GB
UPPER = 2048  # slopes are over lengths from here: below, maps and moments are made whole, and calls cost by themselves
REACH = 1.0  # longest run that is still made, in seconds
TURN = 0.03  # shorter runs are repeated until a turn takes so long


class Shape(NamedTuple):
    """Sequences, heads, positions, head width."""

    batch: int
    heads: int
    length: int
    head_dim: int


class Program(NamedTuple):
    """A compiled mechanism with its inputs, and the bytes of its outputs and of what it needs besides."""

    run: Callable[[], Any]
    memory: int


def compiled(function: Callable[..., Any], arguments: tuple[Any, ...], backward: bool) -> Program:
    """`function(*arguments)` alone, or the gradient of the sum of its squares in all arguments."""
    if backward:
        forward, numbers = function, tuple(range(len(arguments)))
        function = jax.grad(lambda *a: jnp.sum(jnp.square(forward(*a))), argnums=numbers)
    program = jax.jit(function).lower(*arguments).compile()
    memory = program.memory_analysis()
    if memory is None:
        raise RuntimeError(f"{jax.default_backend()}: no memory analysis of compiled programs")
    needed = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return Program(lambda: jax.block_until_ready(program(*arguments)), needed)


def parallel(mechanism: Any, shape: Shape, backward: bool) -> Program:
    """The parallel form on standard normal tokens, causal, with the mechanism's initial parameters."""
    batch, heads, length, head_dim = shape
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(batch, heads, length, head_dim)), jnp.float32) for _ in range(3))
    x = jnp.asarray(rng.normal(size=(batch, length, heads * head_dim)), jnp.float32)
    params = mechanism.init(jax.random.key(0), Dims(heads, head_dim, heads * head_dim))
    causal_only = getattr(mechanism, "causal_only", False)

    def apply(params, q, k, v, x):
        mask = None if causal_only else causal_mask(length)
        return mechanism.apply(params, q, k, v, x=x, mask=mask).out

    return compiled(apply, (params, q, k, v, x), backward)


def repeated(run: Callable[[], Any], times: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(times):
            run()

    return several


def medians(programs: dict[Any, Program], times: dict[Any, int], rounds: int) -> tuple[dict[Any, float], Any]:
    """Processor seconds of one run of each program, and the noise; `times` runs of it are one turn."""
    variants = {str(name): repeated(program.run, times[name]) for name, program in programs.items()}
    seconds = alternate(variants, rounds, time.process_time)
    return {name: statistics.median(seconds[str(name)]) / times[name] for name in programs}, noise(seconds)


def once(program: Program) -> float:
    """Processor seconds of a run that is not the first: a cold one says little, and would end the lengths too early."""
    program.run()
    began = time.process_time()
    program.run()
    return time.process_time() - began


def upper(lengths: Sequence[int]) -> list[int]:
    """Those from `UPPER`; the last two if these are fewer."""
    return [length for length in lengths if length >= min(UPPER, *lengths[-2:])]


def slope(found: dict[int, float]) -> float:
    """Of `log found` against `log length`, least squares over the upper lengths."""
    chosen = upper(list(found))
    return float(np.polyfit(np.log(chosen), np.log([found[length] for length in chosen]), 1)[0])


def within_reach(programs: dict[int, Program], power: float) -> tuple[dict[int, float], str | None]:
    """Seconds of one run for the lengths that can be waited for; and what was left out, if anything was."""
    seconds: dict[int, float] = {}
    for length, program in programs.items():
        expected = max((s * (length / n) ** power for n, s in list(seconds.items())[-1:]), default=0.0)
        if expected > REACH:
            return seconds, f"T = {length} would take about {expected:.1f} s a run"
        seconds[length] = once(program)
    return seconds, None


def catalogue_lengths(quick: bool) -> Iterator[Result]:
    """Slopes of time and memory against T = 256 ... 16384, log-log, forward and with the gradient."""
    for family, (mechanisms, lengths, goal) in FAMILIES.items():
        lengths = (256, 1024, 2048) if quick else lengths
        for backward in (False, True):
            what = f"{family}_gradient" if backward else family
            memory = {}
            for mechanism in mechanisms[:2] if quick else mechanisms:
                programs = {n: parallel(mechanism, Shape(1, 1, n, HEAD_DIM), backward) for n in lengths}
                first, stopped = within_reach(programs, 2.0 if family == "weights" else 1.0)
                times = {n: math.ceil(TURN / s) for n, s in first.items()}
                seconds, noisy = medians({n: programs[n] for n in first}, times, 1 if quick else 3)
                memory[mechanism.name] = {n: program.memory for n, program in programs.items()}
                details = {
                    "ms": {n: round(1e3 * s, 3) for n, s in seconds.items()},
                    "slope_over": upper(list(seconds)),
                    "stopped": stopped,
                    "noise": noisy,
                }
                name = f"time_{mechanism.name}{'_gradient' if backward else ''}"
                yield Result(name, slope(seconds), "slope", goal, details)
            steepest = max(memory, key=lambda name: slope(memory[name]))
            details = {
                "steepest": steepest,
                "slopes": {name: round(slope(found), 3) for name, found in memory.items()},
                "megabytes": {n: {m: round(b / 1e6, 2) for m, b in found.items()} for n, found in memory.items()},
            }
            yield Result(f"memory_{what}", slope(memory[steepest]), "slope, steepest", goal, details)


def catalogue_state(quick: bool) -> Iterator[Result]:
    """Bytes of the decode state at T = 16384 over those at 256, of every mechanism; caches of keys grow by 64."""
    dims, sizes = Dims(2, HEAD_DIM, 2 * HEAD_DIM), {}
    for mechanism in MECHANISMS:
        start = getattr(mechanism, "start", None)
        if start is None:
            continue

        def state(length, mechanism=mechanism, start=start):
            return start(mechanism.init(jax.random.key(0), dims), (), length, dims)

        shapes = {n: jax.eval_shape(lambda n=n: state(n)) for n in (256, 16384)}
        held = [sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one)) for one in shapes.values()]
        sizes[mechanism.name] = (isinstance(shapes[256], KVCache), *held)
    for kind, cached, goal in (("state", False, "<= 1"), ("cache", True, "<= 64")):
        grown = {name: last / first for name, (is_cache, first, last) in sizes.items() if is_cache == cached}
        held = [last for is_cache, _, last in sizes.values() if is_cache == cached]
        details = {"mechanisms": len(grown), "bytes_at_16384": [min(held), max(held)], "least": min(grown.values())}
        yield Result(f"{kind}_growth_256_to_16384", max(grown.values()), "ratio", goal, details)


def catalogue_chunks(quick: bool) -> Iterator[Result]:
    """The recurrence in chunks over the same token by token, at two shapes and several chunk sizes."""
    mechanisms = (attention.ssd, attention.gla, attention.gated_delta_net)
    shapes = (Shape(8, 4, 256, 32), Shape(1, 4, 2048, 32))
    for shape in shapes[:1] if quick else shapes:
        for mechanism in mechanisms[:1] if quick else mechanisms:
            for backward in (False, True):
                sizes: Sequence[int | None] = (None, mechanism.chunk, 4 * (mechanism.chunk or 1))
                programs = {n: parallel(replace(mechanism, chunk=n), shape, backward) for n in sizes}
                seconds, noisy = medians(programs, dict.fromkeys(sizes, 1), 1 if quick else 7)
                details = {
                    "shape": shape._asdict(),
                    "ms": {str(n or "token by token"): round(1e3 * s, 3) for n, s in seconds.items()},
                    "over_tokens": {n: round(s / seconds[None], 3) for n, s in seconds.items() if n},
                    "noise": noisy,
                }
                name = f"chunks_{mechanism.name}_T{shape.length}{'_gradient' if backward else ''}"
                ratio = seconds[mechanism.chunk] / seconds[None]
                yield Result(name, ratio, "over tokens", "<= 1.0" if backward else None, details)


def catalogue_softmax(quick: bool) -> Iterator[Result]:
    """Our softmax, causal, over `jax.nn.dot_product_attention` (XLA) on the same tokens in its own layout."""
    shapes = (Shape(32, 4, 64, 32), Shape(8, 4, 256, 32), Shape(2, 4, 1024, 32), Shape(1, 2, 4096, 32))
    for shape in shapes[:2] if quick else shapes:
        batch, heads, length, head_dim = shape
        rng = np.random.default_rng(0)
        tokens = [jnp.asarray(rng.normal(size=(batch, length, heads, head_dim)), jnp.float32) for _ in range(3)]

        def library(q, k, v):
            return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla")

        def ours(q, k, v, length=length):
            return attention.softmax.apply({}, q, k, v, mask=causal_mask(length)).out

        for backward in (False, True):
            heads_first = tuple(jnp.swapaxes(y, 1, 2) for y in tokens)
            programs = {"ours": compiled(ours, heads_first, backward), "jax": compiled(library, (*tokens,), backward)}
            turns = max(1, 2**22 // (batch * heads * length**2))
            seconds, noisy = medians(programs, dict.fromkeys(programs, turns), 1 if quick else 7)
            details = {
                "shape": shape._asdict(),
                "ms": {name: round(1e3 * s, 3) for name, s in seconds.items()},
                "megabytes": {name: round(program.memory / 1e6, 2) for name, program in programs.items()},
                "noise": noisy,
            }
            name = f"softmax_over_jax_T{length}{'_gradient' if backward else ''}"
            yield Result(name, seconds["ours"] / seconds["jax"], "ratio", "<= 1.0", details)


MEASURES = {
    "catalogue_lengths": catalogue_lengths,
    "catalogue_state": catalogue_state,
    "catalogue_chunks": catalogue_chunks,
    "catalogue_softmax": catalogue_softmax,
}
