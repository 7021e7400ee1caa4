"""One training step: its data, its operations against this machine's peak, its microbatch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from attnlab import keys
from attnlab.cpu import cores
from tests.bench.laptop import Steps, config, step_flops
from tests.bench.result import Result, alternate, noise


def data_share(quick: bool) -> Iterator[Result]:
    """Making the batches over the whole step, laptop size, one seed on one core."""
    settings = config(steps=5 if quick else 40)

    @jax.jit
    def sample(root: jax.Array) -> jax.Array:
        def one(step, total):
            batch = settings.task.sample(keys.stream(root, "data", step), settings.batch_size)
            used = (
                batch.inputs,
                batch.targets,
                batch.loss_mask.astype(jnp.int32),
            )  # what a step reads: nothing is left out
            return total + sum(jnp.sum(x) for x in used)

        return jax.lax.fori_loop(0, settings.steps, one, jnp.zeros((), jnp.int32))

    step, root = Steps(settings, jax.devices()[:1]), keys.root(0)
    seconds = alternate({"data": lambda: sample(root).block_until_ready(), "step": step}, 2 if quick else 9)
    per_step = {name: round(1e3 * min(found) / settings.steps, 4) for name, found in seconds.items()}
    details = {"ms_per_step": per_step, "noise": noise(seconds)}
    yield Result("data_share", per_step["data"] / per_step["step"], "of a step", "< 0.10", details)


def peak(size: int, repeats: int) -> tuple[Callable[[], None], float]:
    """A float32 matrix product per device, all devices at once, `repeats` in a row; and its operations in all."""
    devices = jax.devices()
    mesh = Mesh(np.array(devices), ("core",))

    def products(a, b):
        # Scaled, so that it neither grows nor dies: a product with denormals or infinities could take another time.
        return jax.lax.fori_loop(0, repeats, lambda _, x: (x @ b) * (1.0 / size), a)

    specs = P("core")
    run = jax.jit(
        jax.shard_map(jax.vmap(products), mesh=mesh, in_specs=(specs, specs), out_specs=specs, check_vma=False)
    )
    place = NamedSharding(mesh, specs)
    ones = jax.device_put(jnp.ones((len(devices), size, size)), place)
    return lambda: jax.block_until_ready(run(ones, ones)), 2.0 * size**3 * repeats * len(devices)


def flops(quick: bool) -> Iterator[Result]:
    """Training-step GFLOP/s over the float32 matmul peak of the same cores, one seed per core."""
    count = len(jax.devices())
    peaks = {
        f"matmul {size}": peak(size, repeats) for size, repeats in (((1024, 2),) if quick else ((1024, 16), (2048, 2)))
    }
    for length, goal, steps in ((64, "> 0.6", 40), (256, "> 0.35", 8)):
        settings = config(steps=2 if quick else steps, seeds=count, length=length)
        train = Steps(settings)
        seconds = alternate({"step": train, **{n: run for n, (run, _) in peaks.items()}}, 2 if quick else 9)
        done = {"step": step_flops(settings) * train.seed_steps, **{n: work for n, (_, work) in peaks.items()}}
        rate = {name: done[name] / min(found) / 1e9 for name, found in seconds.items()}
        best = max(rate[name] for name in peaks)
        details = {
            "gflops": {name: round(x, 1) for name, x in rate.items()},
            "cores_used": count,
            "ms_per_seed_step_of_a_core": round(1e3 * min(seconds["step"]) * count / train.seed_steps, 3),
            "microbatch": settings.microbatch,
            "noise": noise(seconds),
        }
        if count != cores():
            details["note"] = f"{cores()} cores, {count} devices: the unused cores count for neither side"
        yield Result(f"flops_share_T{length}", rate["step"] / best, "of peak", goal, details)


def microbatch(quick: bool) -> Iterator[Result]:
    """Milliseconds per step by microbatch size, one seed on one core: what `CACHE_NUMBERS` rests on."""
    for length, sizes in ((64, (1, 2, 4, 8, 16, 32, 64)), (256, (1, 2, 4, 8, 64))):
        base = config(steps=2 if quick else (20 if length == 64 else 4), length=length)
        sizes = sizes[1::3] if quick else sizes
        passes = {str(n): Steps(dataclasses.replace(base, microbatch=n), jax.devices()[:1]) for n in sizes}
        seconds = alternate(passes, 2 if quick else 5)
        table = {name: round(1e3 * min(found) / base.steps, 3) for name, found in seconds.items()}
        chosen = str(base.microbatch)
        details = {"ms_per_step": table, "chosen": base.microbatch, "noise": noise(seconds)}
        if chosen in table:
            yield Result(f"microbatch_T{length}", table[chosen] / min(table.values()), "of the best", None, details)
        else:
            yield Result(f"microbatch_T{length}", min(table.values()), "ms, best", None, details)


MEASURES = {"data_share": data_share, "flops": flops, "microbatch": microbatch}
