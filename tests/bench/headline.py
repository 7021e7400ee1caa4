"""The main run of a study's laptop preset: a step over its products, its data, its first step after a warm start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import keys
from attnlab.training import losses
from attnlab.training.devices import microbatch_for, place
from attnlab.training.program import initial_state, make_step
from attnlab.training.settings import RunConfig
from tests.bench.laptop import Steps
from tests.bench.result import Result, alternate, noise
from tests.bench.step import peak

RUNS = {
    "bigram-backcopy": ("active_dormant", "softmax", 40, "< 0.10"),
    "recall": ("associative_recall", "plain", 20, "< 0.10"),
    "regression": ("icl_regression", "two_heads", 400, "< 0.25"),
}
"""Study, its run, steps of a chunk; the largest share of a step that making its data may have."""


def settings(name: str, steps: int | None = None, seeds: int = 1, record: bool = False) -> RunConfig:
    """That run as `attnlab.run` would set it up, `steps` in one chunk, without records unless asked for."""
    study, run, usual, _ = RUNS[name]
    e = import_module(f"attnlab.studies.{study}.experiments").experiments("laptop")[run]
    steps = steps or usual
    size = e.microbatch or microbatch_for(e.batch_size, getattr(e.task, "length", 1), e.model, "cpu")
    rest: dict[str, Any] = {"microbatch": size, "seed_axis": place(seeds, e.model).axis}
    rest |= {"record": e.record()} if record else {"chunk_steps": steps}
    loss, number = losses.natural(e.task), e.steps if record else steps
    return RunConfig(e.task, e.model, e.optimizer, number, tuple(range(seeds)), e.batch_size, loss=loss, **rest)


def product_flops(jaxpr: Any) -> float:
    """Operations in the matrix products of a trace, as often as they run; of programs by platform the general one."""
    total = 0.0
    for eqn in jaxpr.eqns:
        values = [x for v in eqn.params.values() for x in (v if isinstance(v, (tuple, list)) else (v,))]
        bodies = [body for x in values if hasattr(body := getattr(x, "jaxpr", x), "eqns")]
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shared = np.prod([eqn.invars[0].aval.shape[i] for i in contracted], initial=1.0)
            total += 2.0 * float(np.prod(eqn.outvars[0].aval.shape)) * float(shared)
        elif eqn.primitive.name == "cond":
            total += product_flops(bodies[-1])
        else:
            times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
            total += times * sum(product_flops(body) for body in bodies)
    return total


def step_products(config: RunConfig) -> float:
    """Operations in the matrix products of one training step of one seed."""
    step = make_step(config.task, config.model, config.loss, config.batch_size, config.microbatch)
    root = keys.root(0)
    state = jax.eval_shape(lambda root: initial_state(config.model, config.optimizer, root), root)
    return product_flops(jax.make_jaxpr(lambda root, state: step(config.optimizer, root, (), state))(root, state).jaxpr)


def headline_products(quick: bool) -> Iterator[Result]:
    """A training step over the sum of its matrix products at this machine's peak, one seed per core."""
    product, work = peak(1024, 2 if quick else 16)
    for name in RUNS:
        config = settings(name, 2 if quick else None, len(jax.devices()))
        train = Steps(config)
        seconds = alternate({"step": train, "matmul 1024": product}, 2 if quick else 9)
        per_step = min(seconds["step"]) / train.seed_steps
        ideal = step_products(config) * min(seconds["matmul 1024"]) / work
        details = {
            "ms_per_seed_step": round(1e3 * per_step, 4),
            "ms_of_products_at_peak": round(1e3 * ideal, 4),
            "peak_gflops": round(work / min(seconds["matmul 1024"]) / 1e9, 1),
            "microbatch": config.microbatch,
            "noise": noise(seconds),
        }
        yield Result(f"step_over_products_{name}", per_step / ideal, "ratio", "<= 1.5", details)


def sampling(config: RunConfig, steps: int) -> Callable[[], Any]:
    """Makes the batches of `steps` steps, every number of them, in one program."""

    @jax.jit
    def run(root: jax.Array) -> jax.Array:
        def one(step, total):
            batch = config.task.sample(keys.stream(root, "data", step), config.batch_size)
            kept = jax.lax.optimization_barrier((batch.inputs, batch.targets, batch.loss_mask))
            return total + sum(x.ravel()[0].astype(jnp.float32) for x in jax.tree.leaves(kept))

        return jax.lax.fori_loop(0, steps, one, jnp.zeros(()))

    root = keys.root(0)
    return lambda: jax.block_until_ready(run(root))


def headline_data(quick: bool) -> Iterator[Result]:
    """Making the batches over the whole step, one seed on one core."""
    for name, (_, _, _, goal) in RUNS.items():
        config = settings(name, 2 if quick else None)
        train = Steps(config, jax.devices()[:1])
        data = sampling(config, train.seed_steps)  # as many as one pass of the steps has
        seconds = alternate({"data": data, "step": train}, 2 if quick else 9)
        ms = {part: round(1e3 * min(found) / train.seed_steps, 4) for part, found in seconds.items()}
        details = {"ms_per_step": ms, "noise": noise(seconds)}
        yield Result(f"data_share_{name}", min(seconds["data"]) / min(seconds["step"]), "of a step", goal, details)


def warm_start(quick: bool) -> Iterator[Result]:
    """From the start of Python to the first step of a study's laptop run, 4 seeds, by a compilation cache on disk."""
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            cache = {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            env = os.environ | cache | {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
            taken = [_until_first_step(name, env) for _ in range(2 if quick else 5)]
        cold, *warm = taken
        details = {"cold": round(cold, 2), "warm": [round(x, 2) for x in warm]}
        yield Result(f"warm_start_{name}", min(warm), "s", "< 5", details)


def _until_first_step(name: str, env: dict[str, str]) -> float:
    """Seconds until a process of its own says that it could begin with step 1."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "tests.bench.starting", name]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        seconds = time.perf_counter() - began
    if said.strip() != "ready" or process.returncode:
        raise RuntimeError(f"{' '.join(command)}: ended with {process.returncode}, said {said!r}")
    return seconds


MEASURES = {"headline_products": headline_products, "headline_data": headline_data, "warm_start": warm_start}
