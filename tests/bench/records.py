"""What recording costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import jax

import attnlab as al
from attnlab import trajectory
from attnlab.training.devices import place
from attnlab.training.keeper import Keeper
from attnlab.training.session import Session
from tests.bench.laptop import config
from tests.bench.result import Result, alternate, noise

STEPS, SNAPSHOTS, CHUNK = 2000, 200, 100


def record_overhead(quick: bool) -> Iterator[Result]:
    """200 snapshots of everything in 2,000 steps over none, from the first step to the last byte on disk.

    Measured on the first 200 steps with 20 snapshots, evenly spaced: the same chunks of 100 steps, as many snapshots
    per step, so the same share. Parameters, all sink measures on 64 sequences, attention maps of 2 sequences; one seed
    per core. Both sides make a run directory, record the loss, and save state as every run does.
    """
    steps = CHUNK if quick else 2 * CHUNK
    gap = STEPS // SNAPSHOTS
    with tempfile.TemporaryDirectory() as folder:
        task = config(1).task
        everything = {
            "params": al.every(gap),
            "sinks": al.every(gap, al.analysis.sinks(task, batch_size=64)),
            "maps": al.every(gap, al.analysis.attention_maps(task, sequences=2)),
        }
        wanted = {"none": {}, "params": {"params": everything["params"]}, "all": everything}
        variants = {name: _training(Path(folder), name, steps, record) for name, record in wanted.items()}
        seconds = alternate(variants, 1 if quick else 5)
        written = sum(f.stat().st_size for f in Path(folder).glob("all-1/trajectory.zarr/**/*") if f.is_file())
    fastest = {name: min(found) for name, found in seconds.items()}
    details = {
        "seconds": {name: round(x, 3) for name, x in fastest.items()},
        "steps": steps,
        "snapshots": steps // gap + 1,
        "seeds": len(jax.devices()),
        "megabytes_on_disk": round(written / 1e6, 2),
        "noise": noise(seconds),
    }
    yield Result("record_overhead", fastest["all"] / fastest["none"] - 1, "of the time", "< 0.05", details)


def _training(folder: Path, name: str, steps: int, record: dict) -> Callable[[], None]:
    """A whole run without its compilation, into a new directory each time."""
    settings = config(steps, len(jax.devices()), chunk_steps=CHUNK, record=record)
    session = Session(settings, place(len(settings.seeds), settings.model, settings.seed_axis))
    session.compile()
    records, numbers = Keeper.check(session.config), count()

    def run() -> None:
        path = trajectory.create(folder / f"{name}-{next(numbers)}", {"kind": "bench"})
        keeper = Keeper(path, session, records)
        done, at = keeper.restore()
        for chunk in range(done, session.plan.num_chunks):
            tick = time.perf_counter()
            at, buffers = session.advance(chunk, at)
            rows, mine = session.fetch(buffers, chunk, keeper.parts)
            last = chunk == session.plan.num_chunks - 1
            keeper.append(chunk, rows, mine, at, time.perf_counter() - tick, must_save=last)
        keeper.finish({})

    return run


MEASURES = {"record_overhead": record_overhead}
