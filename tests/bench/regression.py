"""In-context regression at the paper's size (`d = 5, C = 40, H = 2, B = 256`): speed, data, distance from ideal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from attnlab import keys
from attnlab.models import RegressionAttention
from attnlab.training import adam
from attnlab.training.devices import place
from attnlab.training.losses import squared_error
from attnlab.training.settings import RunConfig
from tests.bench.laptop import Steps
from tests.bench.result import Result, Times, alternate, noise
from tests.bench.seeds import child
from tests.bench.step import peak
from toy_tasks import LinearRegression

DIM, CONTEXT, HEADS, BATCH = 5, 40, 2, 256


@dataclasses.dataclass(frozen=True, eq=False)
class LibraryNormal(LinearRegression):
    """The same task with `jax.random.normal`, the inverse distribution function."""

    def _draw(self, key: Any, shape: tuple[int, ...]) -> Any:
        return jax.lax.optimization_barrier(jax.random.normal(key, shape))


def settings(steps: int, seeds: int, heads: int = HEADS, task: Any = None) -> RunConfig:
    """A run of this size, placed as `attnlab.run` places it."""
    task = LinearRegression(DIM, CONTEXT) if task is None else task
    model = RegressionAttention(DIM, heads)
    axis = place(seeds, model).axis
    rest: dict[str, Any] = {"chunk_steps": steps, "microbatch": BATCH, "seed_axis": axis, "loss": squared_error}
    return RunConfig(task, model, adam(1e-3), steps, tuple(range(seeds)), BATCH, **rest)


def regression_speed(quick: bool) -> Iterator[Result]:
    """Seed-steps per second of in-context regression for 1, 8 and 64 seeds on all cores."""
    steps = {1: 1000, 8: 400, 64: 50}
    runs = {f"{s} seeds": Steps(settings(max(2, n // 50) if quick else n, s)) for s, n in steps.items()}
    seconds = alternate(runs, 2 if quick else 7)
    rate = {name: runs[name].seed_steps / min(found) for name, found in seconds.items()}
    for name, value in rate.items():
        details = {"ms_per_seed_step": round(1e3 / value, 4), "noise": noise(seconds)[name]}
        yield Result(f"regression_{name.replace(' ', '_')}", value, "seed-steps/s", None, details)
    yield Result("regression_64_over_1", rate["1 seeds"] / rate["64 seeds"], "cost ratio", "<= 0.9", {})


def regression_seeds(quick: bool) -> Iterator[Result]:
    """A seed-step among 64 seeds on all cores over a loop that dispatches every step of one seed, and one fused seed.

    The single seeds run in a process where JAX threads each operation over all cores.
    """
    steps, alone, rounds = (2, 20, 1) if quick else (50, 1000, 5)
    many = Steps(settings(steps, 64))
    seconds, apart = Times(), Times()
    for _ in range(1 if quick else 2):  # this process, then the other one, twice
        seconds.setdefault("64 seeds", []).extend(alternate({"64 seeds": many}, rounds)["64 seeds"])
        for name, found in child("loop", "regression", rounds, alone).items():
            apart.setdefault(name, []).extend(found)
    cost = {"64 seeds": min(seconds["64 seeds"]) / many.seed_steps} | {n: min(x) / alone for n, x in apart.items()}
    details = {"ms_per_seed_step": {n: round(1e3 * x, 4) for n, x in cost.items()}, "noise": noise(seconds | apart)}
    ours = cost["64 seeds"]
    loop, fused = ours / cost["loop over steps, all cores"], ours / cost["1 seed, all cores"]
    yield Result("regression_seeds_over_step_loop", loop, "ratio", "<= 0.4", details)
    yield Result("regression_seeds_over_one_fused", fused, "ratio", "<= 0.9", details)


def matmul_flops(heads: int = HEADS) -> float:
    """Operations in the products over the context, of one step: logits and mixing, forward and backward.

    `2 B H C D` each: logits, mixed tokens, and the gradients of weights and of what is asked; data have no gradient.
    The products without a context axis are a fortieth of that and not counted.
    """
    return 4 * 2.0 * BATCH * heads * CONTEXT * (DIM + 1)


def regression_ideal(quick: bool) -> Iterator[Result]:
    """A training step over the time of its matrix products at this machine's peak."""
    count = len(jax.devices())
    steps = 10 if quick else 400
    train = Steps(settings(steps, 4 * count))
    product, work = peak(1024, 2 if quick else 16)
    seconds = alternate({"step": train, "matmul 1024": product}, 2 if quick else 7)
    per_step = min(seconds["step"]) / train.seed_steps
    ideal = matmul_flops() * min(seconds["matmul 1024"]) / work
    details = {
        "us_per_seed_step": round(1e6 * per_step, 2),
        "us_of_products_at_peak": round(1e6 * ideal, 2),
        "note": "products of width 6 and a softmax over 40: bound by memory and elementwise work, not by products",
        "noise": noise(seconds),
    }
    yield Result("regression_step_over_products", per_step / ideal, "ratio", None, details)


def regression_data(quick: bool) -> Iterator[Result]:
    """Making the prompts over the whole step, 4 seeds on one core, by number of heads; and over the library's."""
    steps, seeds, one_core = (5 if quick else 200), 4, jax.devices()[:1]
    ours, library = LinearRegression(DIM, CONTEXT), LibraryNormal(DIM, CONTEXT)
    roots = jnp.stack([keys.root(seed) for seed in range(seeds)])

    def data(task: Any) -> Any:
        def sample(root: jax.Array) -> jax.Array:
            def one(step, total):
                batch = task.sample(keys.stream(root, "data", step), BATCH)
                kept = jax.lax.optimization_barrier((batch.inputs, batch.targets))  # made in full, read in one place
                return total + sum(x.ravel()[0] for x in jax.tree.leaves(kept))

            return jax.lax.fori_loop(0, steps, one, jnp.zeros(()))

        run = jax.jit(jax.vmap(sample))
        return lambda: run(roots).block_until_ready()

    variants: dict[str, Any] = {"data": data(ours), "data, jax.random.normal": data(library)}
    for heads in (1, 2, 4, 8):
        variants[f"step, {heads} heads"] = Steps(settings(steps, seeds, heads), one_core)
    variants["step, 2 heads, jax.random.normal"] = Steps(settings(steps, seeds, task=library), one_core)
    seconds: Times = alternate(variants, 2 if quick else 7)
    done = {name: getattr(run, "seed_steps", steps * seeds) for name, run in variants.items()}
    ms = {name: round(1e3 * min(found) / done[name], 4) for name, found in seconds.items()}
    details = {"ms_per_seed_step": ms, "noise": noise(seconds)}
    for heads in (1, 2, 4, 8):
        goal = "< 0.25" if heads == HEADS else None
        yield Result(
            f"regression_data_share_{heads}", ms["data"] / ms[f"step, {heads} heads"], "of a step", goal, details
        )
    whole = ms["data, jax.random.normal"] / ms["step, 2 heads, jax.random.normal"]
    yield Result("regression_data_share_library", whole, "of a step", None, {})
    yield Result("regression_normal_over_library", ms["data"] / ms["data, jax.random.normal"], "ratio", None, {})
    both = ms["step, 2 heads"] / ms["step, 2 heads, jax.random.normal"]
    yield Result("regression_step_over_library", both, "ratio", None, {})


MEASURES = {
    "regression_seeds": regression_seeds,
    "regression_speed": regression_speed,
    "regression_ideal": regression_ideal,
    "regression_data": regression_data,
}
