"""Many seeds: what one costs, in turn, together, or one group per core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax

from attnlab.training.devices import VMAP_BELOW_WIDTH, place
from tests.bench.laptop import Steps, config, with_axis
from tests.bench.result import Result, Times, alternate, noise

SEEDS = 8


def child(module: str, *arguments: Any, flags: str = "") -> Any:
    """What `python -m tests.bench.MODULE` prints as JSON, in a process with these `XLA_FLAGS` and no cache."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_FLAGS", "JAX_"))} | {"XLA_FLAGS": flags}
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def seed_cost(quick: bool) -> Iterator[Result]:
    """A seed-step among 8 seeds over one of a single fused seed, and over a loop that dispatches every step."""
    yield from _seed_cost("", quick, 20, (64, 64, 64), "<= 1.0", "<= 0.6")
    yield from _seed_cost("toy_", quick, 400, (16, 16, 8), None, None)


def _seed_cost(
    prefix: str, quick: bool, steps: int, size: tuple[int, int, int], over_one: str | None, over_loop: str | None
) -> Iterator[Result]:
    steps, rounds = (max(2, steps // 20), 2) if quick else (steps, 5)
    one_core = jax.devices()[:1]
    one, many = config(steps, 1, *size), config(steps, SEEDS, *size)
    many = with_axis(many, place(SEEDS, many.model).axis)
    variants = {
        "8 seeds, all cores": Steps(many),
        "8 seeds, one core": Steps(many, one_core),
        "1 seed, one core": Steps(one, one_core),
    }
    seconds: Times = {}
    apart: Times = {}
    for _ in range(1 if quick else 2):  # this process, then the other one, twice
        for name, found in alternate(variants, rounds).items():
            seconds.setdefault(name, []).extend(found)
        for name, found in child("loop", "bigram-backcopy", rounds, steps, *size).items():
            apart.setdefault(name, []).extend(found)
    cost = {name: min(found) / variants[name].seed_steps for name, found in seconds.items()}
    cost |= {name: min(found) / steps for name, found in apart.items()}
    details = {
        "ms_per_seed_step": {name: round(1e3 * x, 4) for name, x in cost.items()},
        "microbatch": {"loop over steps": one.batch_size, "all others": one.microbatch},
        "noise": noise(seconds | apart),
    }
    alone, loop, ours = cost["1 seed, all cores"], cost["loop over steps, all cores"], cost["8 seeds, all cores"]
    yield Result(f"{prefix}seed_cost_over_one_seed", ours / alone, "ratio", over_one, details)
    yield Result(f"{prefix}seed_cost_over_step_loop", ours / loop, "ratio", over_loop, details)
    same = {"note": "one core on both sides: what the seed axis itself costs"}
    ratio = cost["8 seeds, one core"] / cost["1 seed, one core"]
    yield Result(f"{prefix}seed_cost_on_one_core", ratio, "ratio", None, same)


def seed_axis(quick: bool) -> Iterator[Result]:
    """Milliseconds per seed-step by width: map and vmap, on one core and sharded. What the placement rules rest on."""
    for width, length, batch, steps in ((16, 16, 8, 400), (16, 64, 64, 40), (32, 64, 64, 20), (64, 64, 64, 10)):
        if quick and (width, length) not in ((16, 16), (64, 64)):
            continue
        settings = config(max(2, steps // 20) if quick else steps, SEEDS, width, length, batch)
        variants = {
            f"{axis}, {'all cores' if devices is None else 'one core'}": Steps(with_axis(settings, axis), devices)
            for axis in ("map", "vmap")
            for devices in (jax.devices()[:1], None)
        }
        seconds = alternate(variants, 2 if quick else 5)
        table = {name: round(1e3 * min(found) / variants[name].seed_steps, 4) for name, found in seconds.items()}
        chosen = place(SEEDS, settings.model).axis
        details = {
            "ms_per_seed_step": table,
            "rule": f"{chosen} on all devices; vmap below width {VMAP_BELOW_WIDTH}",
            "noise": noise(seconds),
        }
        ratio = table[f"{chosen}, all cores"] / min(table.values())
        yield Result(f"seed_axis_D{width}_T{length}_B{batch}", ratio, "of the best", None, details)


MEASURES = {"seed_cost": seed_cost, "seed_axis": seed_axis}
