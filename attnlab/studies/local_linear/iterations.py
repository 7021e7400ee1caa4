"""How many steps conjugate gradients need, row by row, and what ending early saves."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import keys
from attnlab.kernels import EXACT, Solver, local_linear_attention, solve_report

LENGTH, WIDTH = 512, 64
RIDGES = (10.0, 1.0, 0.3, 0.1, 0.03, 0.01)
STEPS = (*range(1, 17), *range(18, 33, 2), *range(36, 81, 4))
ERROR = 1e-3  # of an output, relative to its norm
FULL = 32  # sweeps of the released kernel, always


def draw(seed: int) -> tuple[Any, Any, Any]:
    """Gaussian queries, keys and values in float32, one head of 512 tokens of width 64."""
    root = keys.root(seed)
    q, k, v = (jax.random.normal(keys.stream(root, name), (1, LENGTH, WIDTH), jnp.float32) for name in ("q", "k", "v"))
    return q, k, v


def iterations(lab: Any) -> dict[str, np.ndarray]:
    """Steps until a row's output has a relative error below 1e-3 for good, per draw.

    `{ridge}.median`, `.worst`, `.late` (worst of the rows from 256 on) in float64, `{ridge}.worst_32` in float32;
    `saved`: share of 32 sweeps that ending early saves at ridge 10, in float32.
    """
    draws = 1 if lab.preset == "smoke" else 2
    ridges = (10.0,) if lab.preset == "smoke" else RIDGES
    found: dict[str, list[float]] = {}
    for seed in range(draws):
        single = draw(seed)
        with jax.enable_x64(True):
            q, k, v = (x.astype(jnp.float64) for x in single)
            for ridge in ridges:
                steps = steps_needed(q, k, v, ridge)
                parts = {"median": np.median(steps), "worst": np.max(steps), "late": np.max(steps[LENGTH // 2 :])}
                for name, value in parts.items():
                    found.setdefault(f"{ridge:g}.{name}", []).append(float(value))
        least = ridges[-1]
        found.setdefault(f"{least:g}.worst_32", []).append(float(np.max(steps_needed(*single, least))))
        found.setdefault("saved", []).append(saved(*single[:2], 10.0))
    return {name: np.array(values) for name, values in found.items()}


def steps_needed(q: Any, k: Any, v: Any, ridge: float) -> np.ndarray:
    """`[T]`: the least of `STEPS` from which on the error stays small; infinite if none."""

    @jax.jit
    def errors(q, k, v):
        right = local_linear_attention(q, k, v, ridge, solver=EXACT)

        def one(steps):
            out = local_linear_attention(q, k, v, ridge, solver=Solver("cg", tol=0.0, max_iters=steps))
            return (jnp.linalg.norm(out - right, axis=-1) / jnp.linalg.norm(right, axis=-1))[0]

        return jax.lax.map(one, jnp.asarray(STEPS))

    late = np.asarray(errors(q, k, v)) >= ERROR  # [steps, T]
    last = np.where(late.any(0), len(STEPS) - 1 - np.argmax(late[::-1], axis=0), -1)  # last step count that was too few
    return np.append(np.asarray(STEPS, float), np.inf)[last + 1]


def saved(q: Any, k: Any, ridge: float) -> float:
    """Share of 32 sweeps that is saved: blocks of 128 queries end when all their rows rest."""
    steps = np.asarray(solve_report(q, k, ridge, solver=Solver("cg", tol=ERROR)).iterations)[0]
    sweeps = np.max(steps.reshape(-1, 128), axis=1)
    return float(1 - np.mean(np.minimum(sweeps, FULL)) / FULL)
