"""The folder of a sweep: what it is, what is in it by now.

    sweep.json           measure, settings, and the cells, group by group; written before anything is trained
    runs/000-.../        a run directory for every group
    values/000-....json  what was measured on it when it was finished

The small files know their own hash. Reading needs no code of the user's: names, seeds and numbers are plain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlab import config as configs
from attnlab.config import build
from attnlab.training import table as tables
from attnlab.training.cells import SHARED, Cell, Group
from attnlab.trajectory import DamagedFileError, RunDirError
from attnlab.trajectory.files import read_sealed, seal, to_json, write_atomically
from attnlab.trajectory.rundir import MANIFEST

if TYPE_CHECKING:
    import xarray as xr

FORMAT, FORMAT_VERSION = "attnlab sweep", 1
SWEEP, RUNS, VALUES = "sweep.json", "runs", "values"


@dataclass(frozen=True)
class Sweep:
    """What `sweep` found, or what is in a sweep's folder by now.

    Attributes:
      path: the folder.
      groups: what is trained together.
      values: of every group, quantity -> `[S]`; None = not done yet.
    """

    path: Path
    groups: tuple[Group, ...]
    values: tuple[Mapping[str, np.ndarray] | None, ...]

    @property
    def done(self) -> int:
        """Number of groups that are trained and measured."""
        return sum(found is not None for found in self.values)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train or to measure."""
        return self.done == len(self.groups)

    @cached_property
    def table(self) -> xr.Dataset:
        """All quantities by swept axis and seed; see `table.table_of`."""
        return tables.table_of(self.groups, self.values)

    def best(self, over: str = "learning_rate", metric: str = "accuracy", *, largest: bool | None = None) -> xr.Dataset:
        """The table at the best value of one axis; see `attnlab.training.best`."""
        return tables.best(self.table, over, metric, largest=largest)

    def __repr__(self) -> str:
        cells = sum(len(group.numbers) for group in self.groups)
        return f"Sweep({str(self.path)!r}: {cells} cells, {self.done} of {len(self.groups)} groups done)"


def open_sweep(path: str | Path) -> Sweep:
    """What is in a sweep's folder by now; nothing is trained or measured.

    Raises:
      DamagedFileError: a file is missing, truncated or edited. RunDirError: it is of a newer version.
    """
    folder, doc = Path(path), read_sweep(path)
    groups = groups_in(doc)
    return Sweep(folder, groups, tuple(read_values(folder, group, doc["measure"]) for group in groups))


def is_sweep(path: str | Path) -> bool:
    """Whether this is a sweep's folder."""
    return (Path(path) / SWEEP).exists()


def write_sweep(folder: Path, groups: Sequence[Mapping[str, Any]], *, measure: Any, settings: Any) -> None:
    """Write `sweep.json`, all of it or nothing: groups as `image_of` gives them, the measure encoded."""
    doc = {"format": FORMAT, "format_version": FORMAT_VERSION, "measure": measure, "settings": settings}
    write_atomically(folder / SWEEP, seal(to_json({**doc, "groups": groups}, SWEEP)))


def read_sweep(path: str | Path) -> dict[str, Any]:
    """What `sweep.json` says. Raises as `open_sweep` does."""
    doc = read_sealed(Path(path) / SWEEP, advice="Every sweep's folder has one: check the path, or restore the file.")
    if doc.get("format") != FORMAT or doc.get("format_version") != FORMAT_VERSION:
        raise RunDirError(
            f"{Path(path) / SWEEP}: format {doc.get('format')!r}, version {doc.get('format_version')!r}; this version "
            f"reads {FORMAT!r}, {FORMAT_VERSION}. Use a newer attnlab."
        )
    return doc


def image_of(groups: Sequence[Group], cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The cells, group by group: once what they share, then what each has of its own."""
    return [
        {
            "name": group.name,
            "shared": {name: configs.encode(getattr(cells[group.numbers[0]], name)) for name in SHARED},
            "cells": [
                {
                    "number": number,
                    "at": dict(cells[number].at),
                    "seeds": list(cells[number].seeds),
                    "optimizer": configs.encode(cells[number].optimizer),
                }
                for number in group.numbers
            ],
        }
        for group in groups
    ]


def groups_in(doc: Mapping[str, Any]) -> tuple[Group, ...]:
    """The groups that `sweep.json` lists."""
    return tuple(
        Group(
            group["name"],
            tuple(cell["number"] for cell in group["cells"]),
            tuple(cell["at"] for cell in group["cells"]),
            tuple(tuple(cell["seeds"]) for cell in group["cells"]),
        )
        for group in doc["groups"]
    )


def cells_in(doc: Mapping[str, Any]) -> list[Cell]:
    """The cells that `sweep.json` lists, rebuilt. Raises `ConfigError` if the file cannot hold one of them."""
    found: dict[int, Cell] = {}
    for group in doc["groups"]:
        shared = {name: configs.decode(image) for name, image in group["shared"].items()}
        for cell in group["cells"]:
            own = {"optimizer": configs.decode(cell["optimizer"]), "seeds": tuple(cell["seeds"]), "at": cell["at"]}
            found[cell["number"]] = build(Cell, shared | own)
    return [found[number] for number in sorted(found)]


def runs_of(path: str | Path) -> list[Path]:
    """The run directories that a sweep has by now."""
    paths = [Path(path) / RUNS / group["name"] for group in read_sweep(path)["groups"]]
    return [found for found in paths if (found / MANIFEST).exists()]


def read_values(folder: Path, group: Group, measure: Any) -> dict[str, np.ndarray] | None:
    """What this measure (encoded) found on a group, quantity -> `[S]`; None if it has not measured it."""
    file = folder / VALUES / f"{group.name}.json"
    if not file.exists():
        return None
    doc = read_sealed(file, advice="Remove it: `attnlab resume` measures its run again.")
    if doc["measure"] != to_json(measure, "measure"):
        return None
    return {name: np.asarray([_number(x) for x in column]) for name, column in doc["values"].items()}


def write_values(folder: Path, group: Group, measure: Any, values: Mapping[str, np.ndarray]) -> None:
    """Write what a measure (encoded) found on a group."""
    image = {"measure": measure, "values": {name: column.tolist() for name, column in values.items()}}
    (folder / VALUES).mkdir(exist_ok=True)
    write_atomically(folder / VALUES / f"{group.name}.json", seal(to_json(image, "values")))


def damaged(path: str | Path) -> list[str]:
    """What is wrong with the sweep's own small files; its runs are for `trajectory.verify`."""
    found = []
    try:
        groups = groups_in(read_sweep(path))
    except DamagedFileError as error:
        return [str(error)]
    for group in groups:
        try:
            read_values(Path(path), group, None)
        except DamagedFileError as error:
            found.append(str(error))
    return found


def _number(value: Any) -> float | bool:
    """JSON has no `nan` and no infinities: they are words."""
    return value if isinstance(value, bool) else float(value)
