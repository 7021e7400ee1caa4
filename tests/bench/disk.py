"""Saving state and writing records."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from attnlab import trajectory
from attnlab.training.settings import one_state
from attnlab.trajectory import TrajectoryWriter, state
from tests.bench.laptop import config
from tests.bench.result import Result

SEEDS = 4


def state_save(quick: bool) -> Iterator[Result]:
    """Seconds to save the resumable state of 4 laptop seeds so that it survives `kill -9`: renamed, hashed, synced."""
    rng = np.random.default_rng(0)
    shapes = one_state(config(1, SEEDS))
    full = jax.tree.map(lambda x: rng.normal(size=(SEEDS, *x.shape)).astype(x.dtype), shapes)
    size = sum(x.nbytes for x in jax.tree.leaves(full))
    with tempfile.TemporaryDirectory() as folder:
        seconds = [state.save(Path(folder) / "state", step, full) for step in range(1, 4 if quick else 12)][1:]
        began = time.perf_counter()
        state.restore(Path(folder) / "state", state.latest(Path(folder) / "state") or 0, full)
        restored = time.perf_counter() - began
    details = {"megabytes": round(size / 1e6, 2), "fastest": round(min(seconds), 4), "restore": round(restored, 4)}
    yield Result("state_save", statistics.median(seconds), "s", None, details)


def trajectory_write(quick: bool) -> Iterator[Result]:
    """MB/s of parameters into a trajectory, 4 laptop seeds, chunks of 64 snapshots, compressed, hashed, synced."""
    rng = np.random.default_rng(0)
    params = one_state(config(1, SEEDS)).params
    rows, chunks = (8, 2) if quick else (64, 4)
    drift = np.linspace(1, 1.1, rows, dtype=np.float32)
    data = jax.tree.map(
        lambda x: (rng.normal(size=(SEEDS, 1, *x.shape)) * drift.reshape(1, rows, *[1] * x.ndim)).astype(x.dtype),
        params,
    )
    size = sum(x.nbytes for x in jax.tree.leaves(data))
    plan = trajectory.Plan(tuple(rows * (j + 1) for j in range(chunks)), {"params": (rows,) * chunks})
    with tempfile.TemporaryDirectory() as folder:
        path = trajectory.create(Path(folder) / "run", {"kind": "bench"})
        writer = TrajectoryWriter(path, {"params": params}, plan, seeds=SEEDS)
        seconds = []
        for chunk, end in enumerate(plan.ends):
            began = time.perf_counter()
            writer.append(chunk, {"params": data}, {"params": np.arange(end - rows + 1, end + 1)})
            seconds.append(time.perf_counter() - began)
        stored = sum(f.stat().st_size for f in path.rglob("c.*"))
        began = time.perf_counter()
        found = trajectory.open(path)
        for step in itertools.islice(found.steps("params"), 0, None, rows):
            found.params_at(int(step))
        read = time.perf_counter() - began
    details = {
        "megabytes_per_chunk": round(size / 1e6, 2),
        "stored_over_raw": round(stored / (size * chunks), 3),
        "fastest": round(min(seconds), 4),
        "seconds_to_open_and_read_a_snapshot_per_chunk": round(read, 3),
    }
    yield Result("trajectory_write", size / 1e6 / statistics.median(seconds), "MB/s", None, details)


MEASURES = {"state_save": state_save, "trajectory_write": trajectory_write}
