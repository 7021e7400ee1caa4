"""The settings of a run: checked, written into its manifest, read back from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import config as configs
from attnlab import keys, trajectory
from attnlab.config import require
from attnlab.models.base import Remat
from attnlab.training import losses
from attnlab.training import precision as precisions
from attnlab.training.devices import SeedAxis
from attnlab.training.optimizers import AdamW, as_optimizer
from attnlab.training.plan import EVENTS, Plan, make_plan
from attnlab.training.precision import Precision
from attnlab.training.program import State, evaluate, initial_state
from attnlab.training.record import Every, Schedule
from attnlab.trajectory import RunDirError

BUFFER_BYTES = 2**28
# What the rows of one chunk may take, over all seeds: 256 MiB on the device, and once more on the host while they are
# written. Also well under the 2 GiB that one file of a trajectory can hold.


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on; its JSON is in the manifest, so the run can be repeated and resumed from it.

    The fields are those of `run`, decided; `max_events` is the most rows of one record in a chunk. `roots` is the seed
    that each entry of the seed axis draws from, where that is not its label: one seed may then train several times,
    with other numbers in the optimizer each time. `data_shards`: how many devices shared each batch.
    """

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
    seed_axis: SeedAxis = "map"
    max_events: int = EVENTS
    roots: tuple[int, ...] | None = None
    data_shards: int = 1
    precision: Precision = precisions.full
    remat: Remat | None = None

    def __post_init__(self):
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        object.__setattr__(self, "seeds", seed_labels(self.seeds))
        if self.roots is not None:
            object.__setattr__(self, "roots", root_seeds(self.roots, len(self.seeds)))
        object.__setattr__(self, "edits", tuple(self.edits) if isinstance(self.edits, list | tuple) else (self.edits,))
        for name in ("steps", "batch_size", "chunk_steps", "max_events", "data_shards"):
            require(_is_count(getattr(self, name)), name, getattr(self, name), "an integer >= 1")
        require(hasattr(self.task, "sample"), "task", self.task, "an object with sample(key, batch_size)")
        complete = hasattr(self.model, "init") and hasattr(self.model, "apply")
        require(complete, "model", self.model, "an object with init(key) and apply(params, inputs, *, tape, edits)")
        precisions.computed(self.model, self.precision, self.remat)
        require(self.seed_axis in get_args(SeedAxis), "seed_axis", self.seed_axis, ", ".join(get_args(SeedAxis)))
        require(isinstance(self.record, Mapping), "record", self.record, "a dict from names to schedules")
        require("loss" not in self.record, "record", "loss", "another name", "'loss' is always recorded.")
        for name, schedule in self.record.items():
            right = hasattr(schedule, "at") and callable(getattr(schedule, "of", None))
            require(right, f"record[{name!r}]", schedule, "a schedule: every(...), log_spaced(...), at(...)")
        shared = self.batch_size % self.data_shards == 0
        require(shared, "data_shards", self.data_shards, f"a divisor of batch_size={self.batch_size}")
        if self.microbatch is not None:
            rows = self.batch_size // self.data_shards
            divides = _is_count(self.microbatch) and rows % self.microbatch == 0
            per_device = f"batch_size={rows}" if self.data_shards == 1 else f"the {rows} sequences of a device"
            require(divides, "microbatch", self.microbatch, f"a divisor of {per_device}")
        for name in ("vocab_size", "length"):
            ours, theirs = getattr(self.model, name, None), getattr(self.task, name, None)
            if ours is not None and theirs is not None:
                require(ours >= theirs, f"model.{name}", ours, f">= the task's {name}={theirs}")

    @property
    def computed(self) -> Any:
        """The model as a step computes it; what is recorded is a function of `model`."""
        return precisions.computed(self.model, self.precision, self.remat)

    @property
    def drawn_from(self) -> tuple[int, ...]:
        """The seed that each entry of the seed axis draws from. `[S]`"""
        return self.seeds if self.roots is None else self.roots

    def schedules(self) -> dict[str, Schedule]:
        """The records, with the training loss at 500 or so steps."""
        return {"loss": Every(max(1, self.steps // 500)), **self.record}

    def plan(self) -> Plan:
        """When what is recorded, in chunks."""
        return make_plan(self.schedules(), self.steps, self.chunk_steps, self.max_events)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def seed_labels(seeds: Any) -> tuple[int, ...]:
    """`4` -> (0, 1, 2, 3); a list of seeds stays as it is."""
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        require(seeds >= 1, "seeds", seeds, "a number >= 1 or a list of seeds")
        return tuple(range(seeds))
    labels: tuple[Any, ...] = tuple(seeds) if np.iterable(seeds) and not isinstance(seeds, str | bytes) else ()
    whole = all(hasattr(s, "__index__") and not isinstance(s, bool) and s >= 0 for s in labels)
    require(len(labels) > 0 and whole, "seeds", seeds, "a number >= 1, or a list of integers >= 0")
    require(len({int(s) for s in labels}) == len(labels), "seeds", seeds, "distinct seeds")
    return tuple(int(s) for s in labels)


def root_seeds(roots: Any, num_seeds: int) -> tuple[int, ...]:
    """One seed per entry of the seed axis; the same one may occur again."""
    given: tuple[Any, ...] = tuple(roots) if np.iterable(roots) and not isinstance(roots, str | bytes) else ()
    whole = all(hasattr(s, "__index__") and not isinstance(s, bool) and 0 <= s < 2**32 for s in given)
    allowed = f"None, or {num_seeds} integers from 0 to 2^32 - 1, one per entry of `seeds`"
    require(len(given) == num_seeds and whole, "roots", roots, allowed)
    return tuple(int(s) for s in given)


def one_state(config: RunConfig) -> State:
    """Shapes of the state of one seed; traced, not computed."""
    numbers = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), jnp.result_type(float)), config.optimizer)
    return cast(State, jax.eval_shape(lambda o: initial_state(config.model, o, keys.root(0)), numbers))


def row_shapes(config: RunConfig) -> dict[str, Any]:
    """Per record, what one seed yields at one snapshot, as shapes and dtypes; traced, not computed."""
    state = one_state(config)
    return {
        name: jax.eval_shape(lambda s, n=name, of=schedule.of: evaluate(n, of, config.model, s), state)
        for name, schedule in config.schedules().items()
    }


def events_that_fit(config: RunConfig, padded_seeds: int) -> int:
    """How many rows of everything `BUFFER_BYTES` hold, at most `EVENTS`."""
    row = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(row_shapes(config)))
    return max(1, min(EVENTS, BUFFER_BYTES // max(row * padded_seeds, 1)))


def load_config(path: str | Path, **given: Any) -> RunConfig:
    """The `RunConfig` of a run directory, with `given` in place of what no file can hold.

    Raises:
      ConfigError: an unknown setting, one that must be given, or one given that is not what the run was begun with.
    """
    manifest = trajectory.read_manifest(path)
    if not isinstance(manifest.get("config"), Mapping) or "task" not in manifest["config"]:
        raise RunDirError(f"{path}: its manifest has no settings of a training run; it was not made by attnlab.run.")
    image = {name: value for name, value in manifest["config"].items() if name != "$type"}
    for name, value in given.items():
        require(name in image, "resume", name, f"a setting of the run: {', '.join(sorted(image))}")
        spelled = json.dumps(image[name], sort_keys=True)
        same = "$opaque" in spelled or json.dumps(configs.encode(value), sort_keys=True) == spelled
        hint = "Leave it out, or begin a new run."
        require(same, f"resume: {name}", value, "what the run was begun with, for what its file can hold", hint)
    values = {name: given[name] if name in given else configs.decode(value) for name, value in image.items()}
    return configs.build(RunConfig, values)
