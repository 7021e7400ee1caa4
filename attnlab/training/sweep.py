"""`sweep`: configurations x seeds x rates as one list; what shares a program is one run, the others follow it.

Two cells are in one group if they differ in nothing but their seeds and the numbers of their optimizers: these are the
array axis of one compiled program. Each group is a run directory, so all that holds for runs holds for it: a kill
costs what the run under way had not recorded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from attnlab import config as configs
from attnlab import hosts
from attnlab.config import ConfigError, require
from attnlab.training.cells import SHARED, Cell, Group, checked, groups_of, trace
from attnlab.training.devices import SeedAxis, place, shards_for
from attnlab.training.loop import Run, resume, run
from attnlab.training.record import Schedule
from attnlab.training.stopping import stop_request
from attnlab.training.sweep_folder import (
    RUNS,
    Sweep,
    cells_in,
    groups_in,
    image_of,
    open_sweep,
    read_sweep,
    read_values,
    write_sweep,
    write_values,
)
from attnlab.training.table import LARGER_IS_BETTER, PLACES, SMALLER_IS_BETTER
from attnlab.trajectory import RunExistsError, read_manifest
from attnlab.trajectory.rundir import MANIFEST

OWN = ("training_loss", "diverged", "seconds", "seed_steps_per_second")  # what training itself knows
TAKEN = ("seed", "row", *PLACES, *OWN)
RESERVED = tuple(dict.fromkeys((*TAKEN, *LARGER_IS_BETTER, *SMALLER_IS_BETTER)))

Measure = Callable[[Run], Mapping[str, Any]]
Say = Callable[[str], None]


def sweep(
    cells: Sequence[Cell],
    *,
    path: str | Path,
    record: Mapping[str, Schedule] | None = None,
    measure: Measure | None = None,
    seed_axis: SeedAxis = "auto",
    chunk_steps: int | None = None,
    microbatch: int | None = None,
    devices: Sequence[Any] | None = None,
    data_shards: int | None = None,
    progress: bool | None = None,
    say: Say | None = None,
) -> Sweep:
    """Train every cell for all its seeds, in no more programs than there are differences that need one.

    A cell trains to what `run` gives for it alone: bit for bit where seeds train in turn (`seed_axis="map"`) on one
    device, up to rounding otherwise. A seed that diverges stops no other; what is measured on it is NaN.

    Ctrl-C ends it after the chunk under way, a second one at once. Either way, and after any kill,
    `resume_sweep(path)` goes on.

    Args:
      cells: `Cell`s, as `grid` makes them.
      path: the folder; must not exist.
      record: what is recorded in every cell, beside its own records.
      measure: `run -> {quantity: [S]}`, called with the finished run of each group. A function at the top of a module
        or a frozen dataclass, so that the folder can name it. Default: nothing but what training itself knows.
      seed_axis, chunk_steps, microbatch, devices, data_shards, progress: as for `run`. Seeds and configurations of a
        group are sharded first, batches over what they leave over.
      say: where to tell what goes on.

    Raises:
      ConfigError: a bad setting of a cell or of the sweep. RunExistsError: `path` exists. Nothing is written then.
    """
    if record:
        cells = [dataclasses.replace(cell, record={**record, **cell.record}) for cell in cells]
    cells = checked(cells, RESERVED)
    folder, groups = Path(path), groups_of(cells)
    if hosts.lead(folder.exists):
        raise RunExistsError(f"{folder} exists; nothing in it was touched. Give another path, or resume that sweep.")
    settings = {
        "seed_axis": seed_axis,
        "chunk_steps": chunk_steps,
        "microbatch": microbatch,
        "data_shards": data_shards,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    for group in groups:
        config = dataclasses.replace(group.config(cells), **given)
        shards = shards_for(len(config.seeds), config.batch_size, devices) if data_shards is None else data_shards
        place(len(config.seeds), config.model, seed_axis, devices, shards)
        trace(config)
    image = image_of(groups, cells)

    def begin() -> None:
        folder.mkdir(parents=True)
        write_sweep(folder, image, measure=configs.encode(measure), settings=settings)

    hosts.lead(begin)
    return _go(folder, groups, cells, measure, settings, devices, progress, say)


def resume_sweep(
    path: str | Path,
    *,
    cells: Sequence[Cell] | None = None,
    measure: Measure | None = None,
    devices: Sequence[Any] | None = None,
    progress: bool | None = None,
    say: Say | None = None,
) -> Sweep:
    """Go on with a sweep: finished groups are read, an interrupted one is resumed, the others are trained.

    Args:
      path: its folder.
      cells, measure: those it was begun with, common records included; needed only if no file can hold them (a lambda,
        an optax transformation). Another measure is taken of the finished runs too.
      devices, progress, say: as for `sweep`.

    Raises:
      DamagedFileError: a file of the sweep or of a run is damaged. ConfigError: what must be given again.
    """
    folder, doc = Path(path), read_sweep(path)
    if cells is None and measure is None and (whole := open_sweep(folder)).finished:
        return whole
    if cells is None:
        try:
            cells = cells_in(doc)
        except ConfigError as error:
            again = "In the program that made it: `attnlab.resume_sweep(path, cells=..., measure=...)`."
            raise ConfigError(f"{error} {again}") from error
    else:
        cells = checked(cells, RESERVED)
        same = json.dumps(image_of(groups_of(cells), cells)) == json.dumps(doc["groups"])
        require(same, "cells", f"{len(cells)} cells", "those that the sweep was begun with", "Or begin a new sweep.")
    groups, told = groups_in(doc), configs.encode(measure)
    if measure is None:
        measure = configs.decode(doc["measure"])
    elif told != doc["measure"]:
        hosts.lead(lambda: write_sweep(folder, doc["groups"], measure=told, settings=doc["settings"]))
    return _go(folder, groups, cells, measure, doc["settings"], devices, progress, say)


def _go(
    folder: Path,
    groups: Sequence[Group],
    cells: Sequence[Cell],
    measure: Measure | None,
    settings: Mapping[str, Any],
    devices: Sequence[Any] | None,
    progress: bool | None,
    say: Say | None,
) -> Sweep:
    """Group after group. Ctrl-C is a request: the chunk under way, or the measure, is finished and saved first."""
    told, values = configs.encode(measure), []
    say = say or (lambda text: None)
    with stop_request() as asked:
        for group in groups:
            found = read_values(folder, group, told) if "$opaque" not in json.dumps(told) else None
            if found is None:
                if hosts.gather(asked()).any():
                    raise KeyboardInterrupt
                result = _trained(folder / RUNS / group.name, group, cells, settings, devices, progress, asked, say)
                if result.interrupted:
                    raise KeyboardInterrupt  # what was recorded is safe; the sweep can be gone on with
                found = _measured(result, group, measure)
                hosts.lead(partial(write_values, folder, group, told, found))
                rate = found["seed_steps_per_second"][0]
                say(f"  {group.name}: {found['seconds'].sum():.1f} s of training, {rate:.0f} seed-steps/s")
            values.append(found)
    return Sweep(folder, tuple(groups), tuple(values))


def _trained(
    where: Path,
    group: Group,
    cells: Sequence[Cell],
    settings: Mapping[str, Any],
    devices: Sequence[Any] | None,
    progress: bool | None,
    stop: Callable[[], bool],
    say: Say,
) -> Run:
    """The run of a group: new, gone on with, or read."""
    config = group.config(cells)
    if hosts.lead((where / MANIFEST).exists):
        images = read_manifest(where)["config"]
        unheld = [name for name in (*SHARED, "optimizer") if "$opaque" in json.dumps(images[name])]
        given = {name: getattr(config, name) for name in unheld}
        return resume(where, devices=devices, progress=progress, stop=stop, **given)
    rates = f"{len(group.numbers)} configurations, " if len(group.numbers) > 1 else ""
    entries = f"{rates}{len(group.roots)} seeds in all"
    say(f"training {group.name}: {entries}, {config.steps} steps, batch {config.batch_size}")
    shared = {name: getattr(config, name) for name in (*SHARED, "optimizer", "seeds", "roots")}
    return run(**shared, path=where, **settings, devices=devices, progress=progress, stop=stop)


def _measured(result: Run, group: Group, measure: Measure | None) -> dict[str, np.ndarray]:
    """What training knows of a finished run, and what `measure` says, each `[S]`.

    Time is that of the chunks, as the journal has it (compiling is not in it), shared evenly by the entries.
    """
    num, trajectory = len(result.config.seeds), result.trajectory
    seconds = max(sum(doc["seconds"] for doc in trajectory.journal), 1e-9)
    diverged = result.outcome == 1
    found = {
        "training_loss": np.asarray(trajectory["loss"])[:, -1],
        "diverged": diverged,
        "seconds": np.full(num, seconds / num),
        "seed_steps_per_second": np.full(num, result.config.steps * num / seconds),
    }
    for name, column in ({} if measure is None else measure(result)).items():
        values = np.asarray(column)
        require(values.shape == (num,), f"measure: {name}", values.shape, f"one number per seed, shape ({num},)")
        require(name not in TAKEN and name not in group.at[0], f"measure: {name}", name, "a name that is not taken")
        found[name] = np.where(diverged, np.nan, values.astype(float))
    return found
