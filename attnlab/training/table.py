"""The table of a sweep: labelled, with a dimension for every axis that was swept."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlab.config import require
from attnlab.training.cells import Group
from attnlab.trajectory.files import write_atomically

if TYPE_CHECKING:
    import xarray as xr

LARGER_IS_BETTER = ("accuracy", "seed_steps_per_second")
SMALLER_IS_BETTER = ("loss", "training_loss", "oracle_gap", "left_plateau", "seconds", "diverged")
PLACES = ("run", "entry")  # where a row was trained: the run directory, and the label on its seed axis
_INT32 = 2**31  # netCDF 3 has no longer integers


def table_of(groups: Sequence[Group], values: Sequence[Mapping[str, np.ndarray] | None]) -> xr.Dataset:
    """What was measured, one variable per quantity; and `run` and `entry`, which say where to look further.

    Where the cells are a full grid with the same seeds, dims are the names in their `at`, and `seed`. Else there is one
    dim `row`, with these as coordinates. What is not known (yet) is NaN.

    Args:
      groups: of the sweep.
      values: of each, quantity -> `[S]`; None = not done yet.
    """
    import xarray as xr

    rows = _rows(groups, values)
    axes = {name: list(dict.fromkeys(row[name] for row in rows)) for name in (*groups[0].at[0], "seed")}
    quantities = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in axes]
    columns = {name: _column([row.get(name, math.nan) for row in rows]) for name in quantities}
    shape = tuple(len(labels) for labels in axes.values())
    if math.prod(shape) != len(rows):  # no row occurs twice, so equal numbers mean a full grid
        coords = {name: ("row", _column([row[name] for row in rows])) for name in axes}
        return xr.Dataset({name: ("row", column) for name, column in columns.items()}, coords)
    numbers = {name: {label: n for n, label in enumerate(labels)} for name, labels in axes.items()}
    places = tuple(np.array([numbers[name][row[name]] for row in rows]) for name in axes)
    found = {}
    for name, column in columns.items():
        found[name] = (tuple(axes), np.empty(shape, column.dtype))
        found[name][1][places] = column
    return xr.Dataset(found, {name: _column(labels) for name, labels in axes.items()})


def _rows(groups: Sequence[Group], values: Sequence[Mapping[str, np.ndarray] | None]) -> list[dict[str, Any]]:
    """One row per cell and seed, in the order of the cells."""
    cells: dict[int, list[dict[str, Any]]] = {}
    for group, measured in zip(groups, values, strict=True):
        split = {name: group.split(column) for name, column in (measured or {}).items()}
        split["entry"] = group.split(np.asarray(group.labels))
        for place, number in enumerate(group.numbers):
            cells[number] = [
                {**group.at[place], "seed": seed}
                | {name: parts[place][s].item() for name, parts in split.items()}
                | {"run": group.name}
                for s, seed in enumerate(group.seeds[place])
            ]
    return [row for number in sorted(cells) for row in cells[number]]


def _column(values: Sequence[Any]) -> np.ndarray:
    """An array of numbers or, if one of them is a text, of texts."""
    return np.asarray([str(v) for v in values] if any(isinstance(v, str) for v in values) else values)


def best(
    table: xr.Dataset, over: str = "learning_rate", metric: str = "accuracy", *, largest: bool | None = None
) -> xr.Dataset:
    """The table where the median of `metric` over seeds is best along `over`, which stays as a coordinate.

    A seed whose metric is NaN (it diverged, or never left the plateau) counts as worse than any other. Of equals the
    first one is taken.

    Args:
      table: of a sweep over a full grid.
      over: the dimension to choose along.
      metric: what decides.
      largest: whether more is better. Default: for `accuracy` it is; for losses, gaps, risks and times it is not.

    Example:
      best(found.table, over="learning_rate", metric="accuracy").learning_rate
    """
    dims = [str(dim) for dim in table.dims if dim not in ("seed", "row")]
    hint = "These cells are no full grid with the same seeds." if "row" in table.dims else ""
    require(over in dims, "over", over, f"a dimension of the table: {', '.join(dims) or 'it has none'}", hint)
    known = [str(name) for name in table.data_vars if name not in PLACES]
    require(metric in known, "metric", metric, f"a quantity of the table: {', '.join(known)}")
    if largest is None:
        largest = metric in LARGER_IS_BETTER or metric.endswith("_accuracy")
        known_sign = largest or metric in SMALLER_IS_BETTER or metric.startswith("risk_")
        require(known_sign, "largest", None, f"True or False, for {metric!r}", "Say whether more of it is better.")
    scores = table[metric].astype(float).fillna(-math.inf if largest else math.inf).median("seed")
    return table.isel({over: scores.argmax(over) if largest else scores.argmin(over)})


def write_csv(path: Path, table: xr.Dataset) -> None:
    """One line per cell and seed. Unknown numbers are `nan`, flags 0 and 1."""
    flat = table if "row" in table.dims else table.stack(row=list(table.dims), create_index=False)
    names = [str(name) for name in (*flat.coords, *flat.data_vars)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for line in zip(*(flat[name].values.tolist() for name in names), strict=True):
        writer.writerow([int(value) if isinstance(value, bool) else value for value in line])
    write_atomically(path, text.getvalue().encode())


def write_netcdf(path: Path, table: xr.Dataset) -> None:
    """As netCDF 3, which scipy writes: `xarray.open_dataset(path)` reads it back."""
    long = {
        str(name): column.astype(float)
        for name, column in table.variables.items()
        if column.dtype.kind == "i" and bool((abs(column) >= _INT32).any())
    }
    write_atomically(path, bytes(table.assign(long).to_netcdf(engine="scipy")))
