"""`run` and `resume`: a training run is an initial value problem, its record is an argument."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import config as configs
from attnlab import keys, trajectory
from attnlab.config import require
from attnlab.training import devices as device_rules
from attnlab.training import losses
from attnlab.training.optimizers import AdamW, Optimizer, as_optimizer
from attnlab.training.plan import Plan, default_chunk_steps, make_plan
from attnlab.training.program import State, initial_state, make_chunk, make_step
from attnlab.training.progress import bar
from attnlab.training.record import Every, Schedule
from attnlab.trajectory import Trajectory, TrajectoryWriter, state

OUTCOMES = {0: "finished", 1: "diverged: the training loss was not finite", 2: "not finished: interrupted"}


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on; its JSON is in the manifest, so the run can be repeated and resumed from it."""

    task: Any
    model: Any
    optimizer: Any = field(default_factory=AdamW)
    steps: int = 1000
    seeds: tuple[int, ...] = (0,)
    batch_size: int = 64
    record: Mapping[str, Schedule] = field(default_factory=dict)
    loss: Any = losses.next_token
    edits: tuple[Any, ...] = ()
    chunk_steps: int = 100
    microbatch: int | None = None
    seed_axis: str = "map"

    def __post_init__(self):
        for name in ("steps", "batch_size", "chunk_steps"):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 1, name, value, "an integer >= 1")
        require(len(self.seeds) > 0, "seeds", self.seeds, "a number >= 1 or a list of seeds")
        require(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "distinct seeds")
        require(all(s >= 0 for s in self.seeds), "seeds", self.seeds, "integers >= 0")
        require("loss" not in self.record, "record", "loss", "another name", "'loss' is always recorded.")
        if self.microbatch is not None:
            divides = self.microbatch >= 1 and self.batch_size % self.microbatch == 0
            require(divides, "microbatch", self.microbatch, f"a divisor of batch_size={self.batch_size}")
        for name, want in (("vocab_size", ">="), ("length", ">=")):
            ours, theirs = getattr(self.model, name, None), getattr(self.task, name, None)
            if ours is not None and theirs is not None:
                require(ours >= theirs, f"model.{name}", ours, f"{want} the task's {name}={theirs}")

    def schedules(self) -> dict[str, Schedule]:
        """The records, with the training loss at 500 or so steps."""
        return {"loss": Every(max(1, self.steps // 500)), **self.record}

    def plan(self) -> Plan:
        return make_plan(self.schedules(), self.steps, self.chunk_steps)


@dataclass(frozen=True)
class Run:
    """What `run` returns: where it lives, what was recorded, how it ended.

    Attributes:
      path: the run directory.
      config: what was run.
      params: final parameters, leaves `[S, ...]`.
      outcome: per seed 0 (finished), 1 (diverged) or 2 (interrupted); sentences in `OUTCOMES`.
      diverged_at: per seed the step at which the loss ceased to be finite, or -1.
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

    def __repr__(self) -> str:
        ends = ", ".join(f"{np.sum(self.outcome == code)} {text.split(':')[0]}" for code, text in OUTCOMES.items())
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
    loss: Any = losses.next_token,
    edits: Sequence[Any] = (),
    chunk_steps: int | None = None,
    microbatch: int | None = None,
    seed_axis: device_rules.SeedAxis = "auto",
    devices: Sequence[Any] | None = None,
    progress: bool | None = None,
) -> Run:
    """Train `model` on `task` for `steps` updates, for every seed, and record what `record` says.

    Seed `s` depends on `jax.random.key(s)` alone: its initial values on the stream `init`, the batch of step `t` on
    the stream `data` at `t`. It trains to the same trajectory whichever seeds it is run with, up to rounding.

    Args:
      task: what to learn (`toy_tasks`, or anything with `sample`).
      model: what learns (`init`, `apply`).
      optimizer: `attnlab.adamw(...)`, `adam`, `sgd`, or an optax transformation. Default: AdamW(1e-3).
      steps: updates.
      seeds: how many (then 0, 1, ...), or which.
      batch_size: sequences per update.
      record: names -> schedules, e.g. `{"params": every(50)}`. The training loss is always there, as `loss`.
      path: the run directory; must not exist. Default: a new one under `runs/`.
      loss: `(logits, batch) -> [B, T]` per position; averaged under the batch's mask.
      edits: edits that hold throughout training (clamped training).
      chunk_steps: updates between two saved states. Default: a twentieth of the run, 100 to 1,000.
      microbatch: sequences per partial gradient. Default: what fits the cache on CPU, all elsewhere.
      seed_axis: `map`, `vmap`, `auto` (by rule), or `measure` (time both here, take the faster).
      devices: over which the seeds are sharded. Default: all.
      progress: show a bar; default: on a terminal.

    Raises:
      ConfigError: a bad setting. RunExistsError: `path` exists.
    """
    labels = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
    require(len(labels) > 0, "seeds", seeds, "a number >= 1 or a list of seeds")
    placement = device_rules.place(len(labels), model, seed_axis, devices)
    length = getattr(task, "length", 1)
    config = RunConfig(
        task=task,
        model=model,
        optimizer=AdamW() if optimizer is None else as_optimizer(optimizer),
        steps=steps,
        seeds=labels,
        batch_size=batch_size,
        record=dict(record or {}),
        loss=loss,
        edits=tuple(edits),
        chunk_steps=default_chunk_steps(steps) if chunk_steps is None else chunk_steps,
        microbatch=microbatch
        if microbatch is not None or not isinstance(batch_size, int) or batch_size < 1
        else device_rules.microbatch_for(batch_size, length, model, placement.devices[0].platform),
        seed_axis=placement.axis,
    )
    where = _default_path(config) if path is None else Path(path)
    if config.seed_axis == "measure":
        config = dataclasses.replace(config, seed_axis=measured_axis(config, devices))
        placement = device_rules.place(len(labels), model, config.seed_axis, devices)
    manifest = {"kind": "run", "config": configs.encode(config), "placement": placement.describe()}
    where = trajectory.create(where, manifest)
    return _Session(config, placement, where).go(progress)


def resume(path: str | Path, *, devices: Sequence[Any] | None = None, progress: bool | None = None, **given: Any) -> Run:
    """Go on with a run that was interrupted, to the same final parameters bit for bit on the same kind of devices.

    Args:
      path: the run directory.
      devices, progress: as for `run`.
      given: settings that no file can hold (a lambda, an optax transformation), by their name in `run`.

    Raises:
      DamagedFileError: a file of the run is damaged. ConfigError: a setting that must be given again.
    """
    config = load_config(path, **given)
    placement = device_rules.place(len(config.seeds), config.model, config.seed_axis, devices)  # type: ignore[arg-type]
    return _Session(config, placement, Path(path)).go(progress)


def load_config(path: str | Path, **given: Any) -> RunConfig:
    """The `RunConfig` of a run directory, with `given` in place of what no file can hold."""
    image = dict(trajectory.read_manifest(path)["config"])
    image.pop("$type", None)
    for name in given:
        require(name in image, "resume", name, f"a setting of the run: {', '.join(sorted(image))}")
    values = {name: given[name] if name in given else configs.decode(value) for name, value in image.items()}
    return configs.build(RunConfig, values)


def measured_axis(config: RunConfig, devices: Sequence[Any] | None = None, steps: int = 5) -> str:
    """`map` or `vmap`, whichever runs a few steps of this very configuration faster on these devices."""
    seconds = {}
    for axis in ("map", "vmap"):
        trial = dataclasses.replace(config, seed_axis=axis, steps=steps, chunk_steps=steps, record={})
        session = _Session(trial, device_rules.place(len(config.seeds), config.model, axis, devices), None)
        session.compile()
        session.advance(0, session.start())
        began = time.perf_counter()
        jax.block_until_ready(session.advance(0, session.start()))
        seconds[axis] = time.perf_counter() - began
    return min(seconds, key=seconds.__getitem__)


def _default_path(config: RunConfig) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / f"{type(config.task).__name__}-{stamp}"


class _Session:
    """One process's part of a run: the compiled program, the writer, the saved state."""

    def __init__(self, config: RunConfig, placement: device_rules.Placement, path: Path | None):
        self.config, self.placement, self.path = config, placement, path
        self.plan = config.plan()
        pad = placement.padded - len(config.seeds)
        self._labels = config.seeds + config.seeds[-1:] * pad
        roots = jnp.stack([keys.root(seed) for seed in self._labels])
        self.roots = device_rules.put(roots, placement, by_seed=True)
        self.optimizer = device_rules.put(self._optimizers(pad), placement, by_seed=True)
        self.edits = device_rules.put(jax.tree.map(jnp.asarray, config.edits), placement, by_seed=False)
        self.program: Any = None
        self.compile_seconds = 0.0

    def _optimizers(self, pad: int) -> Optimizer:
        """The optimizer with every number as `[S]`."""
        num = len(self.config.seeds)

        def spread(path: Any, value: Any) -> jax.Array:
            value = jnp.asarray(value, jnp.float32)
            name = f"optimizer{jax.tree_util.keystr(path)}"
            require(value.shape in ((), (num,)), name, value.shape, f"a number or one per seed, shape ({num},)")
            value = jnp.broadcast_to(value, (num,))
            return jnp.concatenate([value, jnp.broadcast_to(value[-1:], (pad,))])

        return jax.tree_util.tree_map_with_path(spread, self.config.optimizer)

    def start(self) -> State:
        """State at step 0, on the devices."""
        init = jax.jit(jax.vmap(lambda o, r: initial_state(self.config.model, o, r)))
        return device_rules.put(init(self.optimizer, self.roots), self.placement, by_seed=True)

    def _schedule(self, chunk: int) -> tuple[Any, Any]:
        return device_rules.put((self.plan.gaps[chunk], self.plan.flags[chunk]), self.placement, by_seed=False)

    def functions(self) -> dict[str, Any]:
        return {name: schedule.of for name, schedule in self.config.schedules().items()}

    def compile(self) -> None:
        """Lower and compile the run's program: once, whatever the schedules."""
        began = time.perf_counter()
        c = self.config
        step = make_step(c.task, c.model, c.loss, c.batch_size, c.microbatch)
        slots = {name: self.plan.slots(name) for name in self.plan.names}
        chunk = make_chunk(step, c.model, self.functions(), slots)
        jitted = jax.jit(device_rules.distribute(chunk, self.placement), donate_argnums=(2,))
        shapes = jax.eval_shape(self.start)
        if len(self.placement.devices) > 1:
            sharding = jax.tree.map(lambda x: x.sharding, self.roots)
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
        lowered = jitted.lower(self.optimizer, self.roots, shapes, self.edits, *self._schedule(0))
        self.program = lowered.compile()
        self.compile_seconds = time.perf_counter() - began

    def advance(self, chunk: int, at: State) -> tuple[State, Any]:
        """Run one chunk on the devices."""
        return self.program(self.optimizer, self.roots, at, self.edits, *self._schedule(chunk))

    def records(self) -> dict[str, Any]:
        """Per record the shapes of one snapshot of one seed."""
        shapes = jax.eval_shape(lambda r, o: initial_state(self.config.model, o, r), self.roots[0], self.optimizer)
        found = {}
        for name, of in self.functions().items():
            tree = {"loss": shapes.loss_sum} if name == "loss" else jax.eval_shape(
                lambda p, of=of: of(self.config.model, p), shapes.params
            )
            found[name] = tree
        return found

    def go(self, progress: bool | None) -> Run:
        assert self.path is not None
        c, plan = self.config, self.plan
        began = time.perf_counter()
        rows = {name: tuple(len(r) for r in plan.steps[name]) for name in plan.names}
        layout = trajectory.Plan(tuple(plan.ends.tolist()), rows)
        writer = TrajectoryWriter(self.path, self.records(), layout, seeds=c.seeds)
        states = self.path / "state"
        done, at = self._restore(writer, states)
        if done < plan.num_chunks:
            self.compile()
        interrupted = False
        num = len(c.seeds)
        first = int(plan.ends[done - 1]) if done else 0
        with bar(c.steps, num, progress, label=self.path.name, start=first) as advance:
            for chunk in range(done, plan.num_chunks):
                try:
                    tick = time.perf_counter()
                    at, buffers = self.advance(chunk, at)
                    data = self._fetch(buffers, chunk)
                    steps = {name: plan.steps[name][chunk] for name in plan.names}
                    writer.append(chunk, data, steps, seconds=time.perf_counter() - tick)
                    state.save(states, int(plan.ends[chunk]), at)
                    lost = int(np.sum(np.asarray(at.diverged_at)[:num] >= 0))
                    advance(int(plan.ends[chunk]), f"{lost} diverged" if lost else "")
                except KeyboardInterrupt:
                    interrupted = True
                    break
        return self._finish(writer, at, interrupted, time.perf_counter() - began, first)

    def _restore(self, writer: TrajectoryWriter, states: Path) -> tuple[int, State]:
        """Chunks done and the state after them: the newest state whose chunks are all in the journal."""
        for step in sorted(state.steps(states), reverse=True):
            chunks = writer.chunks_until(step)
            if chunks <= writer.chunks_done and chunks and self.plan.ends[chunks - 1] == step:
                writer.truncate_to(chunks)
                state.drop_after(states, step)
                like = jax.eval_shape(self.start)
                return chunks, device_rules.put(state.restore(states, step, like), self.placement, by_seed=True)
        writer.truncate_to(0)
        state.drop_after(states, -1)
        return 0, self.start()

    def _fetch(self, buffers: Any, chunk: int) -> dict[str, Any]:
        """One transfer per chunk; surplus seeds and empty slots dropped."""
        num = len(self.config.seeds)
        host = jax.device_get(buffers)
        counts = {name: len(self.plan.steps[name][chunk]) for name in self.plan.names}
        return {name: jax.tree.map(lambda x, n=counts[name]: x[:num, :n], host[name]) for name in host}

    def _finish(self, writer: TrajectoryWriter, at: State, interrupted: bool, seconds: float, first: int) -> Run:
        c, num = self.config, len(self.config.seeds)
        final = jax.device_get(at)
        diverged = np.asarray(final.diverged_at)[:num]
        outcome = np.where(diverged >= 0, 1, 2 if interrupted else 0)
        done = int(np.asarray(final.step)[0]) - first
        rate = done * num / max(seconds - self.compile_seconds, 1e-9)
        stats = {
            "seconds": seconds,
            "compile_seconds": self.compile_seconds,
            "seed_steps_per_second": rate,
            "resumed_at": first,
            **self.placement.describe(),
        }
        if not interrupted and not writer.finished:
            codes = [int(code) for code in outcome]
            sentences = {str(code): OUTCOMES[code] for code in sorted(set(codes))}
            writer.finish({"outcome": codes, "meaning": sentences, "diverged_at": diverged.tolist(), "stats": stats})
        params = jax.tree.map(lambda x: x[:num], final.params)
        assert self.path is not None
        return Run(self.path, c, params, outcome, diverged, stats)

