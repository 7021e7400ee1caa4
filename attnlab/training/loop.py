"""`run` and `resume`: a training run is an initial value problem, its record is an argument."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from attnlab import config as configs
from attnlab import hosts, trajectory
from attnlab.config import require
from attnlab.models.base import Remat
from attnlab.training import devices as device_rules
from attnlab.training import losses
from attnlab.training import precision as precisions
from attnlab.training.keeper import Keeper
from attnlab.training.optimizers import AdamW
from attnlab.training.plan import default_chunk_steps
from attnlab.training.precision import Precision
from attnlab.training.program import State
from attnlab.training.progress import bar
from attnlab.training.record import Schedule
from attnlab.training.session import Session, measured_axis
from attnlab.training.settings import RunConfig, events_that_fit, load_config, seed_labels
from attnlab.training.shards import on_host
from attnlab.training.stopping import stop_request
from attnlab.trajectory import RunExistsError, Trajectory
from attnlab.trajectory.files import located

OUTCOMES = {0: "finished", 1: "diverged: loss or parameters were not finite", 2: "not finished: interrupted"}


@dataclass(frozen=True)
class Run:
    """What `run` returns: where it lives, what was recorded, how it ended.

    Attributes:
      path: the run directory.
      config: what was run.
      params: final parameters, on the host, leaves `[S, ...]`.
      outcome: per seed 0 (finished), 1 (diverged) or 2 (interrupted); sentences in `OUTCOMES`.
      diverged_at: per seed the first step whose loss was not finite (if only the final parameters are not: the last
        step), or -1.
      stats: seconds to compile and in all, seed-steps per second, number of compiled programs, placement.
    """

    path: Path
    config: RunConfig
    params: Any
    outcome: np.ndarray
    diverged_at: np.ndarray
    stats: dict[str, Any]

    @property
    def trajectory(self) -> Trajectory:
        """The records, opened lazily."""
        return trajectory.open(self.path)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it early: `resume(path)` goes on."""
        return bool(np.any(self.outcome == 2))

    def __repr__(self) -> str:
        words = zip(("finished", "diverged", "interrupted"), np.bincount(self.outcome, minlength=3), strict=True)
        ends = ", ".join(f"{count} {word}" for word, count in words if count)
        speed = f"{self.stats['seconds']:.1f} s, {self.stats['seed_steps_per_second']:.0f} seed-steps/s"
        return f"Run({str(self.path)!r}: {self.config.steps} steps x {len(self.config.seeds)} seeds, {speed}; {ends})"


def run(
    task: Any,
    model: Any,
    optimizer: Any = None,
    *,
    steps: int,
    seeds: int | Sequence[int] = 1,
    batch_size: int = 64,
    record: Mapping[str, Schedule] | None = None,
    path: str | Path | None = None,
    loss: Any = None,
    edits: Sequence[Any] = (),
    chunk_steps: int | None = None,
    microbatch: int | None = None,
    seed_axis: device_rules.SeedAxis = "auto",
    devices: Sequence[Any] | None = None,
    data_shards: int | None = None,
    precision: Precision = precisions.full,
    remat: Remat | None = None,
    progress: bool | None = None,
    roots: Sequence[int] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Train `model` on `task` for `steps` updates, for every seed, and record what `record` says.

    Seed `s` depends on `jax.random.key(s)` alone: its initial values on the stream `init`, the batch of step `t` on
    the stream `data` at `t`. It trains to the same trajectory whichever seeds it is run with, up to rounding.

    Ctrl-C ends a run after the chunk under way, with outcome 2; a second one ends it at once. Either way, and after
    any kill, `resume(path)` goes on.

    Args:
      task: what to learn (`toy_tasks`, or anything with `sample`).
      model: what learns (`init`, `apply`).
      optimizer: `attnlab.adamw(...)`, `adam`, `sgd`, or an optax transformation. Default: AdamW(1e-3).
      steps: updates.
      seeds: how many (then 0, 1, ...), or which.
      batch_size: sequences per update.
      record: names -> schedules, e.g. `{"params": every(50)}`. The training loss is always there, as `loss`.
      path: the run directory, also in an object store (`gs://...`, `s3://...`); must not exist. Default: a new one
        under `runs/`.
      loss: `(logits, batch) -> [B, T]` per position; averaged under the batch's mask. Default: `squared_error` if the
        task's targets are real numbers, `next_token` if they are tokens (`attnlab.training.losses`).
      edits: edits that hold throughout training (clamped training).
      chunk_steps: updates of one program call, after which records are written. Default: a twentieth of the run, 100
        to 1,000.
      microbatch: sequences per partial gradient. Default: what fits the cache on CPU, all elsewhere.
      seed_axis: `map`, `vmap`, `auto` (by rule), or `measure` (time both here, take the faster).
      devices: over which the seeds are sharded. Default: all.
      data_shards: how many devices share each batch; the seeds are sharded over groups of so many. Batches are the same
        on any mesh, gradients up to the order of a sum. Default: on accelerators what the seeds leave over, 1 on CPU.
      precision: of `attnlab.precision`: `full`, `highest` (exact products: theory on a TPU), `bfloat16` (narrow
        activations, float32 parameters, sums and records).
      remat: what the gradient makes again in place of keeping it: `attention` or `layers` for long sequences, `none`.
        Default: as the model says.
      progress: show a bar; default: on a terminal.
      roots: the seed that each entry of `seeds` draws from; default: itself. With it the labels in `seeds` are only
        names, and one seed can train with several rates: `adamw([1e-3, 3e-3]), seeds=2, roots=(7, 7)`.
      stop: asked before every chunk; True ends the run there, as Ctrl-C does. Default: Ctrl-C.

    Raises:
      ConfigError: a bad setting. RunExistsError: `path` exists. Nothing is written in either case.
    """
    labels = seed_labels(seeds)
    if data_shards is None:
        data_shards = device_rules.shards_for(len(labels), batch_size, devices)
    placement = device_rules.place(len(labels), model, seed_axis, devices, data_shards)
    config = RunConfig(
        task=task,
        model=model,
        optimizer=AdamW() if optimizer is None else optimizer,
        steps=steps,
        seeds=labels,
        batch_size=batch_size,
        record={} if record is None else record,
        loss=losses.natural(task) if loss is None else loss,
        edits=edits,  # type: ignore[arg-type]  (made a tuple there)
        chunk_steps=default_chunk_steps(steps) if chunk_steps is None else chunk_steps,
        microbatch=microbatch,
        seed_axis=placement.axis,
        roots=roots,  # type: ignore[arg-type]  (the same)
        data_shards=data_shards,
        precision=precision,
        remat=remat,
    )
    where = located(hosts.lead(lambda: str(_default_path(task))) if path is None else path)
    if hosts.lead(where.exists):
        raise RunExistsError(f"{where} exists; a run never overwrites anything. Give a new path, or resume that run.")
    if microbatch is None:
        length, platform = getattr(task, "length", 1), placement.devices[0].platform
        size = device_rules.microbatch_for(batch_size // data_shards, length, model, platform)
        config = dataclasses.replace(config, microbatch=size)
    config = dataclasses.replace(config, max_events=events_that_fit(config, placement.padded))
    if config.seed_axis == "measure":
        config = dataclasses.replace(config, seed_axis=measured_axis(config, devices))
        placement = device_rules.place(len(labels), model, config.seed_axis, devices, data_shards)
    session = Session(config, placement)
    session.lower()
    records = Keeper.check(config)
    manifest = {"kind": "run", "config": configs.encode(config), "placement": placement.describe()}
    hosts.lead(lambda: str(trajectory.create(where, manifest)))
    return _go(session, Keeper(where, session, records), progress, stop)


def resume(
    path: str | Path,
    *,
    devices: Sequence[Any] | None = None,
    data_shards: int | None = None,
    progress: bool | None = None,
    stop: Callable[[], bool] | None = None,
    **given: Any,
) -> Run:
    """Go on with a run that was interrupted, to the same final parameters bit for bit on the same kind of devices.

    Args:
      path: the run directory.
      devices, progress, stop: as for `run`.
      data_shards: as for `run`. Default: as it was begun, or as many as there are; with another number of devices to a
        batch the parameters are the same up to rounding.
      given: settings that no file can hold (a lambda, an optax transformation), by their name in `run`.

    Raises:
      DamagedFileError: a file of the run is damaged. ConfigError: a setting that must be given again.
    """
    config = load_config(path, **given)
    if data_shards is None:
        found = len(jax.devices() if devices is None else devices)
        data_shards = device_rules.shards_within(config.batch_size, min(config.data_shards, found))
    placement = device_rules.place(len(config.seeds), config.model, config.seed_axis, devices, data_shards)
    shared = config.batch_size % data_shards == 0
    require(shared, "data_shards", data_shards, f"a divisor of batch_size={config.batch_size}")
    session = Session(config, placement)
    return _go(session, Keeper(located(path), session, Keeper.check(config)), progress, stop)


def _default_path(task: Any) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / f"{type(task).__name__}-{stamp}"


def _go(session: Session, keeper: Keeper, progress: bool | None, stop: Callable[[], bool] | None = None) -> Run:
    """Chunk after chunk from where the directory stands: compute, write the records, save the state."""
    began = time.perf_counter()
    c, plan = session.config, session.plan
    done, at = keeper.restore()
    first = now = int(plan.ends[done - 1]) if done else 0
    training = 0.0
    asking = stop_request() if stop is None else nullcontext(stop)
    progress = progress if hosts.leads() else False
    with asking as asked, bar(c.steps, session.num_seeds, progress, keeper.path.name, first) as advance:
        if done < plan.num_chunks:
            advance(first, "compiling")
            session.compile()
            advance(first)
        stopping = bool(hosts.gather(asked()).any())
        for chunk in range(done, plan.num_chunks):
            if stopping:
                break
            tick = time.perf_counter()
            with hosts.contact():
                at, buffers = session.advance(chunk, at)
                rows, mine = session.fetch(buffers, chunk, keeper.parts)
            seconds = time.perf_counter() - tick
            training += seconds
            now = int(plan.ends[chunk])
            stopping = bool(hosts.gather(asked()).any())
            keeper.append(chunk, rows, mine, at, seconds, must_save=stopping or chunk == plan.num_chunks - 1)
            lost = int(np.sum(on_host(at.diverged_at)[: session.num_seeds] >= 0))
            advance(now, f"{lost} diverged" if lost else "")
    stats = {
        "seconds": time.perf_counter() - began + session.lower_seconds,
        "compile_seconds": session.compile_seconds,
        "training_seconds": training,
        "seed_steps_per_second": (now - first) * session.num_seeds / max(training, 1e-9),
        "programs": int(session.program is not None),
        "resumed_at": first,
        **session.placement.describe(),
    }
    return _finish(session, keeper, at, now, stats)


def _finish(session: Session, keeper: Keeper, at: State, now: int, stats: dict[str, Any]) -> Run:
    c, num = session.config, session.num_seeds
    final, lost = on_host((at.params, at.diverged_at))
    params, diverged = jax.tree.map(lambda x: x[:num], (final, lost))
    whole = np.ones(num, bool)
    for leaf in jax.tree.leaves(params):
        whole &= np.isfinite(leaf.astype(np.float32)).reshape(num, -1).all(axis=1)
    diverged = np.where((diverged < 0) & ~whole, now, diverged)
    outcome = np.where(diverged >= 0, 1, 0 if now == c.steps else 2)
    if now == c.steps:
        codes = [int(code) for code in outcome]
        meaning = {str(code): OUTCOMES[code] for code in sorted(set(codes))}
        keeper.finish({"outcome": codes, "meaning": meaning, "diverged_at": diverged.tolist(), "stats": stats})
    return Run(keeper.path, c, params, outcome, diverged, stats)
