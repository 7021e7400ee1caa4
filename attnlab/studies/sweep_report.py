"""A sweep as text, as files and as one page: its table over seeds, and one picture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnlab.config import ConfigError
from attnlab.report.tables import format_number, format_spread
from attnlab.training import Sweep
from attnlab.training.cells import Label
from attnlab.training.sweep_folder import RUNS, read_sweep
from attnlab.training.table import best, write_csv, write_netcdf

TABLE, ARRAYS, FIGURE, REPORT = "table.csv", "table.nc", "sweep", "report.html"

COLUMNS = {
    "accuracy": "share of right tokens",
    "loss": "loss on fresh sequences",
    "oracle_gap": "loss above the exact oracle's",
    "left_plateau": "steps to leave the plateau",
    "training_loss": "training loss, last record",
    "diverged": "seeds that diverged",
    "seconds": "seconds of training, of one seed",
    "seed_steps_per_second": "seed-steps per second",
}
"""What is always said of a configuration, in this order; quantities of another measure and risks follow."""

BEST = "★"
_LONGEST = 16  # arrays with more numbers are named, not printed, in the configuration of the page


def write(found: Sweep) -> None:
    """Write `table.csv`, `table.nc`, `sweep.png` and `report.html` into the sweep's folder.

    Raises:
      ConfigError: no group is done yet, so there is nothing to say.
    """
    from attnlab.report import write_figures, write_report
    from attnlab.trajectory import environment

    if not found.done:
        raise ConfigError(f"{found.path}: nothing is measured yet; go on with `attnlab resume {found.path}`.")
    write_csv(found.path / TABLE, found.table)
    write_netcdf(found.path / ARRAYS, found.table)
    doc = read_sweep(found.path)
    tasks = dict.fromkeys(_name(group["shared"]["task"]) for group in doc["groups"])
    caption, figure = picture(found, " and ".join(tasks))
    files = write_figures(found.path, {FIGURE: figure})
    where = environment()
    versions = {k: v for k, v in where["packages"].items() if v} | {
        "python": where["python"],
        "source": where["source"],
    }
    write_report(
        found.path / REPORT,
        title=f"Sweep on {' and '.join(tasks)}",
        summary=summary(found),
        tables={"Median and range over seeds": rows(found, every=True)},
        figures={caption: files[FIGURE]},
        config={"settings": doc["settings"], "measure": doc["measure"], "groups": _shortened(doc["groups"])},
        versions=versions,
        notes=_notes(found),
        commands=[f"attnlab report {found.path}"],
    )


def summary(found: Sweep) -> str:
    """One or two sentences: how many trainings in how many programs, how many diverged, what is not done."""
    cells = sum(len(group.numbers) for group in found.groups)
    entries = sum(len(group.roots) for group in found.groups)
    measured = [values for values in found.values if values is not None]
    lost = sum(int(values["diverged"].sum()) for values in measured)
    seconds = sum(float(values["seconds"].sum()) for values in measured)
    told = (
        f"{_count(cells, 'configuration')}, {_count(entries, 'training')} in {_count(len(found.groups), 'program')}; "
    )
    told += f"{lost} diverged; {format_number(seconds, 3)} s of training (compiling not counted)."
    if not found.finished:
        told += f" Not finished, {found.done} of {_count(len(found.groups), 'program')} done: "
        told += f"`attnlab resume {found.path}`."
    return told


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def headline(found: Sweep) -> str:
    """The quantity that decides: accuracy if it is known, else the loss, else the training loss."""
    known = [name for name in ("accuracy", "loss") if name in found.table and bool(found.table[name].notnull().any())]
    return known[0] if known else "training_loss"


def by_cell(found: Sweep) -> list[tuple[Mapping[str, Label], dict[str, np.ndarray]]]:
    """Place and quantities of every cell, in their order; `[seeds]` each, nothing if it is not done."""
    cells = {}
    for group, values in zip(found.groups, found.values, strict=True):
        split = {name: group.split(column) for name, column in (values or {}).items()}
        for place, number in enumerate(group.numbers):
            cells[number] = (group.at[place], {name: parts[place] for name, parts in split.items()})
    return [cells[number] for number in sorted(cells)]


def varied(found: Sweep) -> list[str]:
    """The names in `at` that differ between cells, or all if none does."""
    places = [at for at, _ in by_cell(found)]
    names = list(places[0])
    return [name for name in names if len({at[name] for at in places}) > 1] or names


def rows(found: Sweep, *, every: bool = False) -> list[list[str]]:
    """Header, then a row per configuration; the best learning rate of each is marked.

    Args:
      every: with the risks of the task (but those that another column says already) and the speed; else what is needed
        to choose.
    """
    cells, names = by_cell(found), varied(found)
    known = list(dict.fromkeys(name for _, values in cells for name in values))
    shown = [name for name in COLUMNS if name in known] + [name for name in known if name not in COLUMNS]
    shown = [n for n in shown if any(np.isfinite(values[n]).any() for _, values in cells if n in values)]
    shown = [
        n for n in shown if not (n.startswith("risk_") and any(_equal(cells, n, m) for m in shown if m in COLUMNS))
    ]
    if not every:
        shown = [n for n in shown if not n.startswith("risk_") and n not in ("training_loss", "seed_steps_per_second")]
    starred = _best_places(found)
    found_rows = []
    for place, (at, values) in enumerate(cells):
        labels = [_text(at[name]) for name in names]
        if place in starred:
            labels[names.index("learning_rate")] += f" {BEST}"
        found_rows.append([*labels, *(_said(name, values.get(name)) for name in shown)])
    return [[*names, *shown], *found_rows]


def _equal(cells: Sequence[tuple[Any, Mapping[str, np.ndarray]]], one: str, two: str) -> bool:
    """Whether two quantities are the same number everywhere, up to the rounding of two sums."""
    pairs = [(values.get(one), values.get(two)) for _, values in cells if values]
    return all(a is not None and b is not None and np.allclose(a, b, rtol=1e-5, equal_nan=True) for a, b in pairs)


def _said(name: str, values: np.ndarray | None) -> str:
    if values is None:
        return "–"
    if name == "diverged":
        return f"{int(values.sum())}/{len(values)}"
    if name in ("seconds", "seed_steps_per_second"):
        return format_number(float(values[0]), 3)  # one number for all seeds of a group
    return format_spread(values.tolist(), "never" if name == "left_plateau" else "–")


def _best_places(found: Sweep) -> set[int]:
    """Which cells have the best of several learning rates (`training.best`); none if the cells are no full grid."""
    table, metric = found.table, headline(found)
    if table.sizes.get("learning_rate", 1) < 2:
        return set()
    chosen = best(table, "learning_rate", metric)
    places = set()
    for place, (at, values) in enumerate(by_cell(found)):
        others = {n: str(v) if table[n].dtype.kind == "U" else v for n, v in at.items() if n != "learning_rate"}
        right = chosen.learning_rate.sel(others).item() == at["learning_rate"]
        if right and metric in values and np.isfinite(values[metric]).any():
            places.add(place)
    return places


def picture(found: Sweep, task: str) -> tuple[str, Any]:
    """Caption and figure: the headline over the learning rate (or the last number swept), a line per configuration;
    where no number was swept, a row per configuration."""
    from attnlab.report.figures_comparison import curves_by_model, seeds_by_model

    metric, table = headline(found), found.table
    told = COLUMNS[metric]
    numeric = [str(dim) for dim in table.dims if dim not in ("seed", "row") and table[dim].dtype.kind in "if"]
    several = [dim for dim in numeric if table.sizes[dim] > 1]
    over = "learning_rate" if "learning_rate" in several else several[-1] if several else None
    if over is None:
        values = {_config(at, varied(found)): cell[metric] for at, cell in by_cell(found) if metric in cell}
        return f"{told}; every dot is a seed", seeds_by_model({told: values}, title=f"{told.capitalize()}, {task}")
    names = [str(dim) for dim in table.dims if dim not in ("seed", over)]
    along = table[metric].sortby(over)
    curves = {}
    for labels in itertools.product(*(table[name].values.tolist() for name in names)):
        at = dict(zip(names, labels, strict=True))
        curve = along.sel(at).transpose("seed", over).values
        if np.isfinite(curve).any():
            curves[_config(at, [name for name in varied(found) if name in at]) or metric] = curve
    caption = f"{told}; medians over seeds, bands from the smallest to the largest; what diverged is left out"
    figure = curves_by_model(
        along[over].values,
        curves,
        title=f"{told.capitalize()}, {task}",
        xlabel=over.replace("_", " "),
        ylabel=told,
        log_x=bool((along[over] > 0).all()),
        marks=True,
        log_y=metric != "accuracy" and all(np.nanmin(curve) > 0 for curve in curves.values()),
    )
    return caption, figure


def _config(at: Mapping[str, Label], names: Sequence[str]) -> str:
    return ", ".join(at[n] if isinstance(at[n], str) else f"{n}={_text(at[n])}" for n in names)  # type: ignore[misc]


def _text(label: Label) -> str:
    return f"{label:g}" if isinstance(label, float) else str(label)


def _name(image: Any) -> str:
    """`MQAR`, of the image of a task."""
    return str(image.get("$type", "a task").rpartition(":")[2]) if isinstance(image, Mapping) else "a task"


def _shortened(image: Any) -> Any:
    """An image in which long arrays are only named."""
    if isinstance(image, Mapping):
        if "$array" in image and np.size(image["$array"]) > _LONGEST:
            return f"array {image.get('shape')} {image.get('dtype')}"
        return {name: _shortened(value) for name, value in image.items()}
    return [_shortened(value) for value in image] if isinstance(image, list) else image


def _notes(found: Sweep) -> str:
    return f"""
- `{TABLE}` has a line per configuration and seed, `{ARRAYS}` the same with labelled dimensions
  (`xarray.open_dataset`). Its columns `run` and `entry` say where a seed was trained: entry `entry` of the seed axis of
  `{RUNS}/<run>`, which `attnlab.open` reads.
- {BEST} marks the learning rate whose median {headline(found)} over seeds is best; a diverged seed counts as worst.
- What is measured on a diverged seed is left out of medians and ranges (`2/3`: two of three seeds are in).
- `seconds` is the time of training divided by all that trained together.
"""


def rewrite(path: str | Path) -> Sweep:
    """Write table, picture and page of a sweep's folder again, from what is there by now."""
    from attnlab.training import open_sweep

    found = open_sweep(path)
    write(found)
    return found
