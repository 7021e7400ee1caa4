"""One process's part of a run: what is on the devices, and the compiled program. Knows no files."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from attnlab import hosts, keys
from attnlab.config import require
from attnlab.training import devices as device_rules
from attnlab.training.devices import Placement
from attnlab.training.optimizers import Optimizer
from attnlab.training.program import State, initial_state, make_chunk, make_step
from attnlab.training.settings import RunConfig, one_state
from attnlab.training.shards import Parts, rows_here

CHUNK_BY_SEED = (True, True, True, False, False, False)  # (optimizer, root, state, edits, gaps, flags)


class Session:
    """The arguments of the program on the devices, and the program.

    Attributes:
      plan: the chunks.
      roots, optimizer: root key and numbers of the optimizer by (padded) seed.
      edits: what holds throughout training.
      program: the compiled chunk, after `compile`.
      lower_seconds, compile_seconds: time to trace and lower it; the same and to compile it.
    """

    def __init__(self, config: RunConfig, placement: Placement):
        self.config, self.placement, self.plan = config, placement, config.plan()
        self.num_seeds = len(config.seeds)
        roots = jnp.stack([keys.root(seed) for seed in config.drawn_from])
        self.roots = self.put(roots)
        self.optimizer = self.put(self._optimizers())
        self.edits = device_rules.put(jax.tree.map(jnp.asarray, config.edits), placement, by_seed=False)
        self.program: Any = None
        self.compile_seconds = 0.0
        self.lower_seconds = 0.0
        self._lowered: Any = None

    def put(self, tree: Any) -> Any:
        """`[S, ...]` on the host or anywhere, to `[padded, ...]` on the run's devices."""
        padded = device_rules.pad(tree, self.num_seeds, self.placement.padded)
        return device_rules.put(padded, self.placement, by_seed=True)

    def unpad(self, tree: Any) -> Any:
        """Without the surplus seeds. Of several processes each gets a copy then: the rest does not divide evenly."""
        num, padded = self.num_seeds, self.placement.padded
        if hosts.count() == 1 or num == padded:
            return device_rules.unpad(tree, num, padded)
        return jax.jit(lambda t: device_rules.unpad(t, num, padded), out_shardings=self._everywhere)(tree)

    @property
    def _everywhere(self) -> Any:
        return NamedSharding(self.placement.mesh, PartitionSpec())

    def saved_like(self) -> State:
        """Shapes of the saved state, and where its arrays are to go."""
        if hosts.count() == 1:
            return self.state_like()
        whole = self.num_seeds == self.placement.padded
        return self.state_like(sharding=self.roots.sharding if whole else self._everywhere)

    def taken_up(self, saved: State) -> State:
        """A restored state, as the program takes it."""
        return saved if hosts.count() > 1 and self.num_seeds == self.placement.padded else self.put(saved)

    def _optimizers(self) -> Optimizer:
        """The optimizer with every number as `[S]`."""
        num = self.num_seeds

        def spread(path: Any, value: Any) -> jax.Array:
            value = jnp.asarray(value, float)
            name = f"optimizer{jax.tree_util.keystr(path)}"
            require(value.shape in ((), (num,)), name, value.shape, f"a number or one per seed, shape ({num},)")
            return jnp.broadcast_to(value, (num,))

        return jax.tree_util.tree_map_with_path(spread, self.config.optimizer)

    def start(self) -> State:
        """State at step 0, on the devices.

        Seed by seed and operation by operation: a compiled initialisation takes longer to compile than the training
        program of a small model, and the parameters are the very ones that `model.init` gives when called by hand.
        """
        model, optimizer = self.config.model, self._optimizers()
        states = [
            initial_state(model, jax.tree.map(lambda x, s=s: x[s], optimizer), keys.root(seed))
            for s, seed in enumerate(self.config.drawn_from)
        ]
        return self.put(jax.tree.map(_stack, *states))

    def state_like(self, num_seeds: int | None = None, **kind: Any) -> State:
        """Shapes of the state, by default without surplus seeds, as it is saved."""
        num = self.num_seeds if num_seeds is None else num_seeds
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((num, *x.shape), x.dtype, **kind), one_state(self.config))

    def schedule(self, chunk: int) -> tuple[Any, Any]:
        """Gaps and flags of a chunk, on the devices."""
        return device_rules.put((self.plan.gaps[chunk], self.plan.flags[chunk]), self.placement, by_seed=False)

    def trace(self) -> Any:
        """Trace the program; `.lower(lowering_platforms=("tpu",))` of the result needs no such device."""
        c = self.config
        shards = self.placement.data_shards
        rows = c.batch_size // shards
        microbatch = None if c.microbatch is None else math.gcd(c.microbatch, rows)
        step = make_step(c.task, c.computed, c.loss, c.batch_size, microbatch, shards)
        functions = {name: schedule.of for name, schedule in c.schedules().items()}
        slots = {name: self.plan.slots(name) for name in self.plan.names}
        chunk = make_chunk(step, c.model, functions, slots)
        spread = device_rules.distribute(chunk, self.placement, CHUNK_BY_SEED)

        def training(*args: Any) -> tuple[State, Any]:  # by this name it is found in logs and profiles
            return spread(*args)

        shapes = self.state_like(self.placement.padded, sharding=self.roots.sharding)
        with c.precision.scope():
            return jax.jit(training, donate_argnums=(2,)).trace(
                self.optimizer, self.roots, shapes, self.edits, *self.schedule(0)
            )

    def lower(self) -> None:
        """Trace and lower the program. Whatever is wrong with task, model, edits or records shows here, in seconds."""
        began = time.perf_counter()
        self._lowered = self.trace().lower()
        self.lower_seconds = self.compile_seconds = time.perf_counter() - began

    def compile(self) -> None:
        """Compile the run's program: once, whatever the schedules."""
        if self._lowered is None:
            self.lower()
        began = time.perf_counter()
        lowered: Any = self._lowered
        self.program, self._lowered = lowered.compile(), None
        self.compile_seconds += time.perf_counter() - began

    def advance(self, chunk: int, at: State) -> tuple[State, Any]:
        """Run one chunk on the devices. `at` is used up."""
        return self.program(self.optimizer, self.roots, at, self.edits, *self.schedule(chunk))

    def fetch(self, buffers: Any, chunk: int, parts: Parts) -> tuple[dict[str, Any], range]:
        """The rows of a chunk on the host, in one transfer, without surplus seeds and empty slots; and their parts."""
        host, mine = rows_here(buffers, self.num_seeds, parts)
        counts = {name: len(self.plan.steps[name][chunk]) for name in self.plan.names}
        return {n: jax.tree.map(lambda x, k=counts[n]: x[:, :k], rows) for n, rows in host.items()}, mine


def _stack(*leaves: Any) -> Any:
    """Leaves of all seeds in one array; on the host, where that needs no program (typed keys cannot go there)."""
    keyed = jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key)
    return jnp.stack(leaves) if keyed else np.stack([np.asarray(x) for x in leaves])


def measured_axis(config: RunConfig, devices: Any = None, steps: int = 5, rounds: int = 3) -> device_rules.SeedAxis:
    """`map` or `vmap`, whichever runs a few steps of this very configuration faster on these devices."""
    trials: dict[device_rules.SeedAxis, Session] = {}
    axes: tuple[device_rules.SeedAxis, ...] = ("map", "vmap")
    for axis in axes:
        trial = dataclasses.replace(config, seed_axis=axis, steps=steps, chunk_steps=steps, record={})
        session = Session(trial, device_rules.place(len(config.seeds), config.model, axis, devices, config.data_shards))
        session.compile()
        trials[axis] = session
    seconds = {axis: min(_seconds(trials[axis], rounds)) for axis in axes}
    return min(axes, key=hosts.lead(lambda: seconds).__getitem__)


def _seconds(session: Session, rounds: int) -> Iterator[float]:
    """Seconds of each of `rounds` passes, after one that does not count."""
    for number in range(rounds + 1):
        at = jax.block_until_ready(session.start())
        began = time.perf_counter()
        jax.block_until_ready(session.advance(0, at))
        if number:
            yield time.perf_counter() - began
