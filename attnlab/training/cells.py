"""What a sweep is made of: cells, grids of cells, and the groups of them that share one compiled program."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from attnlab import config as configs
from attnlab import keys
from attnlab.config import require
from attnlab.models.base import Remat
from attnlab.training import losses
from attnlab.training import precision as precisions
from attnlab.training.keeper import Keeper
from attnlab.training.optimizers import AdamW, as_optimizer
from attnlab.training.precision import Precision
from attnlab.training.program import make_step
from attnlab.training.record import Schedule
from attnlab.training.settings import RunConfig, one_state, seed_labels

Label = str | float | int | bool
SHARED = ("task", "model", "steps", "batch_size", "record", "loss", "edits", "precision", "remat")
"""What the cells of a group have in common; the numbers of their optimizers and their seeds are an array axis."""


@dataclass(frozen=True)
class Cell:
    """One configuration of a sweep, trained for each of its seeds.

    Attributes:
      task, model, optimizer, steps, seeds, batch_size, record, loss, edits, precision, remat: as for `run`. Every
        number of the optimizer is a single one: another rate is another cell.
      at: its place in the table, name -> number or text; `grid` fills it in.
    """

    task: Any
    model: Any
    optimizer: Any = field(default_factory=AdamW)
    steps: int = field(kw_only=True)
    seeds: tuple[int, ...] = field(default=(0,), kw_only=True)
    batch_size: int = field(default=64, kw_only=True)
    record: Mapping[str, Schedule] = field(default_factory=dict, kw_only=True)
    loss: Any = field(default=None, kw_only=True)
    edits: tuple[Any, ...] = field(default=(), kw_only=True)
    precision: Precision = field(default=precisions.full, kw_only=True)
    remat: Remat | None = field(default=None, kw_only=True)
    at: Mapping[str, Label] = field(default_factory=dict, kw_only=True)

    def __post_init__(self):
        object.__setattr__(self, "optimizer", AdamW() if self.optimizer is None else as_optimizer(self.optimizer))
        object.__setattr__(self, "seeds", seed_labels(self.seeds))
        object.__setattr__(self, "loss", losses.natural(self.task) if self.loss is None else self.loss)
        object.__setattr__(self, "edits", tuple(self.edits) if isinstance(self.edits, list | tuple) else (self.edits,))
        for path, number in jax.tree_util.tree_flatten_with_path(self.optimizer)[0]:
            name = f"optimizer{jax.tree_util.keystr(path)}"
            require(np.shape(number) == (), name, number, "one number", "Make a cell for each: al.grid(...) does.")
        for name, label in self.at.items():
            require(isinstance(label, Label), f"at[{name!r}]", label, "a number or a text")


def grid(make: Callable[..., Cell], **axes: Sequence[Any]) -> list[Cell]:
    """A cell for every combination of the axes' values, the last axis fastest.

    Args:
      make: makes a cell; called with one value of every axis, by name. What it leaves alone is the same everywhere.
      axes: name -> values: numbers and texts, or anything with a `name` (mechanisms). Each is a dimension of the table.

    Example:
      al.grid(
          lambda pairs, learning_rate: al.Cell(tt.MQAR(num_pairs=pairs), model, al.adamw(learning_rate), steps=500),
          pairs=[4, 8],
          learning_rate=[1e-3, 3e-3],
      )
    """
    labels = {}
    for name, values in axes.items():
        labels[name] = [label_of(value) for value in values]
        require(len(labels[name]) > 0, f"axis {name}", values, "one value or more")
        require(len(set(labels[name])) == len(labels[name]), f"axis {name}", labels[name], "values that differ")
    cells = []
    for places in itertools.product(*(range(len(found)) for found in labels.values())):
        cell = make(**{name: axes[name][place] for name, place in zip(axes, places, strict=True)})
        at = {name: labels[name][place] for name, place in zip(axes, places, strict=True)}
        cells.append(dataclasses.replace(cell, at={**cell.at, **at}))
    return cells


def label_of(value: Any) -> Label:
    """What stands for a value in a table: numbers and texts for themselves, a mechanism for its name."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, Label) else str(getattr(value, "name", value))


@dataclass(frozen=True)
class Group:
    """Cells that are trained as one run; its seed axis `[S]` holds every seed of every cell, cell by cell.

    Attributes:
      name: of its run directory.
      numbers: places of its cells in the sweep's list.
      at, seeds: those of its cells.
    """

    name: str
    numbers: tuple[int, ...]
    at: tuple[Mapping[str, Label], ...]
    seeds: tuple[tuple[int, ...], ...]

    @property
    def roots(self) -> tuple[int, ...]:
        """The seed that each entry draws from. `[S]`"""
        return tuple(itertools.chain(*self.seeds))

    @property
    def labels(self) -> tuple[int, ...]:
        """How the run calls its entries: by their seeds if these differ, else by number. `[S]`"""
        return self.roots if len(set(self.roots)) == len(self.roots) else tuple(range(len(self.roots)))

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """`[S]` cell by cell."""
        return np.split(values, np.cumsum([len(seeds) for seeds in self.seeds])[:-1])

    def config(self, cells: Sequence[Cell]) -> RunConfig:
        """What its run trains (device and memory not yet decided)."""
        ours = [cells[number] for number in self.numbers]
        shared = {name: getattr(ours[0], name) for name in SHARED}
        counts = [len(seeds) for seeds in self.seeds]

        def entries(*numbers: Any) -> Any:
            same = all(number == numbers[0] for number in numbers)
            return numbers[0] if same else np.repeat(np.asarray(numbers, float), counts)

        optimizer = jax.tree.map(entries, *(cell.optimizer for cell in ours))
        roots = None if self.labels == self.roots else self.roots
        return RunConfig(**shared, optimizer=optimizer, seeds=self.labels, roots=roots)


def groups_of(cells: Sequence[Cell]) -> tuple[Group, ...]:
    """The cells that share a program, group by group, in the order in which they come."""
    found: dict[Hashable, list[int]] = {}
    for number, cell in enumerate(cells):
        shared = tuple(_identity(getattr(cell, name)) for name in SHARED)
        found.setdefault((shared, jax.tree.structure(cell.optimizer)), []).append(number)
    varied = {name for name in cells[0].at if len({cell.at[name] for cell in cells}) > 1}
    width = max(3, len(str(len(found))))
    groups = []
    for count, numbers in enumerate(found.values()):
        at, seeds = [cells[n].at for n in numbers], [cells[n].seeds for n in numbers]
        common = {name: at[0][name] for name in at[0] if name in varied and len({a[name] for a in at}) == 1}
        groups.append(Group(f"{count:0{width}d}{_short(common)}", tuple(numbers), tuple(at), tuple(seeds)))
    return tuple(groups)


def _short(at: Mapping[str, Label]) -> str:
    """`-softmax-num_pairs=4`, fit for a file name."""
    words = [str(value) if isinstance(value, str) else f"{name}={value}" for name, value in at.items()]
    return re.sub(r"[^A-Za-z0-9_.=+]+", "-", "".join(f"-{word}" for word in words))[:60].rstrip("-.")


def _identity(value: Any) -> Hashable:
    """Equal for settings that mean the same. Functions without a place in a module are the same only if identical."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        return (type(value), *(_identity(getattr(value, name)) for name in fields))
    if isinstance(value, Mapping):
        return tuple((name, _identity(item)) for name, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(_identity, value))
    text = configs.dumps(value)
    return id(value) if "$opaque" in text else text


def checked(cells: Sequence[Cell], reserved: Sequence[str]) -> list[Cell]:
    """The cells, named; numbered as `cell` if none of them has a name.

    Raises:
      ConfigError: no cells, names that are not in all of them, are taken, or do not tell two cells apart.
    """
    found = list(cells)
    require(bool(found) and all(isinstance(c, Cell) for c in found), "cells", cells, "one `Cell` or more")
    if len(found) > 1 and not any(cell.at for cell in found):
        found = [dataclasses.replace(cell, at={"cell": number}) for number, cell in enumerate(found)]
    names = list(found[0].at)
    seen: dict[Hashable, int] = {}
    for number, cell in enumerate(found):
        require(list(cell.at) == names, f"cells[{number}].at", dict(cell.at), f"the names of the first, {names}")
        twin = seen.setdefault(tuple(cell.at.values()), number)
        require(twin == number, f"cells[{number}].at", dict(cell.at), f"another place than that of cells[{twin}]")
    for name in names:
        plain = name.isidentifier() and name not in reserved
        require(plain, "name in `at`", name, f"a Python name other than {', '.join(reserved)}")
    return found


def trace(config: RunConfig) -> None:
    """Raise what is wrong with task, model, edits or records: in a second or less, nothing is compiled."""
    config.plan()
    Keeper.check(config)
    step = make_step(config.task, config.computed, config.loss, config.batch_size, None)
    numbers = jax.tree.map(lambda _: jax.ShapeDtypeStruct((), np.dtype(jax.numpy.result_type(float))), config.optimizer)
    root = keys.root(0)
    jax.eval_shape(lambda optimizer, state: step(optimizer, root, config.edits, state), numbers, one_state(config))
