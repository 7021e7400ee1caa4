"""Local linear attention: the blockwise form against the one that builds the map, in time and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab.attention import causal_mask, lla
from attnlab.kernels import CG, EXACT, Solver, local_linear_attention, solve_report
from tests.bench.result import Result, alternate, noise

SIZES = ((256, 32), (256, 64), (1024, 32), (1024, 64))
Form = Callable[..., jax.Array]


def arrays(num: int, width: int) -> tuple[jax.Array, ...]:
    """`q, k, v [1, 1, T, K]`, standard normal, float32."""
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=(1, 1, num, width)), jnp.float32) for _ in range(3))


def whole(q, k, v):
    """The catalogue's: `[T, U]` weights, `[T, U, K]` centred keys, `[T, K, K]` matrices."""
    return lla.apply({"log_ridge": jnp.zeros(1)}, q, k, v, mask=causal_mask(q.shape[-2])).out


def blockwise(solver: Solver) -> Form:
    return lambda q, k, v: local_linear_attention(q, k, v, 1.0, solver=solver)


FORMS: dict[str, Form] = {"whole": whole, "exact": blockwise(EXACT), "cg": blockwise(CG)}


def passes(form: Form, args: tuple[jax.Array, ...]) -> dict[str, Any]:
    """The compiled forward pass, and forward with backward."""

    def total(*args):
        return jnp.sum(jnp.square(form(*args)))

    both = {"forward": form, "with backward": jax.grad(total, (0, 1, 2))}
    return {name: jax.jit(f).lower(*args).compile() for name, f in both.items()}


def runs_of(programs: dict[str, Any], args: tuple[jax.Array, ...]) -> dict[str, Callable[[], Any]]:
    """Compiled programs as what is timed."""
    return {name: lambda program=program: jax.block_until_ready(program(*args)) for name, program in programs.items()}


def held(program: Any) -> float:
    return program.memory_analysis().temp_size_in_bytes / 1e6


def versus_whole(quick: bool) -> Iterator[Result]:
    """Local linear attention in blocks over the form that builds the map: time and memory, one head, ridge 1."""
    for num, width in ((64, 8),) if quick else SIZES:
        args = arrays(num, width)
        programs = {name: passes(form, args) for name, form in FORMS.items()}
        for part in ("forward", "with backward"):
            chosen = {name: both[part] for name, both in programs.items()}
            seconds = alternate(runs_of(chosen, args), 1 if quick else 3)
            best = {name: min(found) for name, found in seconds.items()}
            memory = {name: round(held(program), 3) for name, program in chosen.items()}
            details = {
                "ms": {name: round(1e3 * x, 2) for name, x in best.items()},
                "MB": memory,
                "noise": noise(seconds),
            }
            where = f"T{num}_K{width}_{part.replace(' ', '_')}"
            for name in ("exact", "cg"):
                yield Result(f"lla_{name}_time_{where}", best[name] / best["whole"], "of whole", "< 1.0", details)
                yield Result(f"lla_{name}_memory_{where}", memory[name] / memory["whole"], "of whole", "< 1.0", details)


def memory_slope(quick: bool) -> Iterator[Result]:
    """Slope of log bytes over log T, forward and backward, by linear fit."""
    lengths = (64, 128, 256) if quick else (512, 1024, 2048, 4096)
    for name in ("cg", "exact"):
        memory = [held(passes(FORMS[name], arrays(num, 32))["with backward"]) for num in lengths]
        slope = float(np.polyfit(np.log(lengths), np.log(memory), 1)[0])
        details = {"MB": dict(zip(map(str, lengths), (round(x, 3) for x in memory), strict=True))}
        yield Result(f"lla_{name}_memory_slope", slope, "", "<= 1.1", details)


def early_exit(quick: bool) -> Iterator[Result]:
    """Conjugate gradients that end with their rows over 32 sweeps whatever happens (T = 512, K = 64): sweeps, time."""
    num, width = (64, 8) if quick else (512, 64)
    q, k, v = arrays(num, width)
    fixed = Solver(tol=0.0, max_iters=32)
    for ridge, goal in ((10.0, "< 0.3"), (1.0, None), (0.1, None)):
        report = solve_report(q, k, ridge)
        rows = np.asarray(report.iterations).reshape(-1, CG.blocks(num, num)[0])
        programs = {}
        for name, solver in (("exit", CG), ("fixed", fixed)):
            options = {"ridge": ridge, "solver": solver}
            programs[name] = jax.jit(partial(local_linear_attention, **options)).lower(q, k, v).compile()
        seconds = alternate(runs_of(programs, (q, k, v)), 1 if quick else 5)
        details = {
            "iterations": {"median": float(np.median(rows)), "worst": int(rows.max())},
            "time": round(min(seconds["exit"]) / min(seconds["fixed"]), 3),
            "noise": noise(seconds),
        }
        yield Result(f"lla_sweeps_ridge_{ridge:g}", float(rows.max(1).mean()) / 32, "of 32", goal, details)


MEASURES = {"lla_versus_whole": versus_whole, "lla_memory_slope": memory_slope, "lla_early_exit": early_exit}
