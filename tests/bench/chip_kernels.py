"""Pallas kernels against the forms that XLA compiles, on the chip that is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab.attention.scan import Steps, chunked_core
from attnlab.kernels import INTERPRETED, PALLAS, Pallas, local_linear_attention, recurrence
from tests.bench.local_linear import passes, runs_of
from tests.bench.result import Result, alternate, noise

SIZES = ((1024, 64), (1024, 128), (4096, 64))  # eight heads


def gated_delta(core: Callable[..., Any]) -> Callable[..., jax.Array]:
    """The gated delta rule with keys of norm 1, strengths of a half and decays of 0.9."""

    def form(q, k, v):
        k = k / jnp.linalg.norm(k, axis=-1, keepdims=True)
        steps = Steps(q, 0.5 * k, jnp.full(k.shape[:-1], np.log(0.9), k.dtype), 0.9 * k, -0.5 * k)
        return core(steps, v, jnp.zeros((k.shape[0], k.shape[-1], v.shape[-1]), jnp.float32))[0]

    return form


def forms(pallas: Pallas) -> dict[str, dict[str, Callable[..., jax.Array]]]:
    """By kernel, and compiled by XLA: recurrences in the chunks of the catalogue and in the kernel's."""
    chunks = {f"chunks of {size}": gated_delta(partial(chunked_core, chunk=size)) for size in (16, 64)}
    ridge = partial(local_linear_attention, ridge=1.0)
    return {
        "gated_delta": {"kernel": gated_delta(partial(recurrence, pallas=pallas)), **chunks},
        "lla": {"kernel": partial(ridge, pallas=pallas), "loops": ridge},
    }


def kernels(quick: bool) -> Iterator[Result]:
    """Time of a kernel over that of the best other form; on a CPU (`--quick` only) interpreted, which says nothing."""
    cpu = jax.default_backend() == "cpu"
    if cpu and not quick:
        return
    rng = np.random.default_rng(0)
    for num, width in ((64, 16),) if quick else SIZES:
        args = tuple(jnp.asarray(rng.normal(size=(8, num, width)), jnp.float32) for _ in range(3))
        for what, variants in forms(INTERPRETED if cpu else PALLAS).items():
            programs = {name: passes(form, args) for name, form in variants.items()}
            for part in ("forward", "with backward"):
                chosen = {name: both[part] for name, both in programs.items()}
                seconds = alternate(runs_of(chosen, args), 1 if quick else 5)
                best = {name: min(found) for name, found in seconds.items()}
                ratio = best["kernel"] / min(x for name, x in best.items() if name != "kernel")
                times = {name: round(1e3 * x, 3) for name, x in best.items()}
                details = {"ms": times, "interpreted": cpu, "noise": noise(seconds)}
                where = f"T{num}_K{width}_{part.replace(' ', '_')}"
                yield Result(f"{what}_kernel_{where}", ratio, "of the best other", None if cpu else "< 1.0", details)


MEASURES = {"chip_kernels": kernels}
