"""A small run, made anew per test: three records with uneven rows, all kinds of leaves."""

import dataclasses
from pathlib import Path

import ml_dtypes
import numpy as np

from attnlab import trajectory


@dataclasses.dataclass(frozen=True)
class Spec:
    """What `jax.eval_shape` gives, as far as the writer looks."""

    shape: tuple[int, ...]
    dtype: np.dtype


def spec(shape=(), dtype=np.float32) -> Spec:
    return Spec(tuple(shape), np.dtype(dtype))


RECORDS = {
    "params": {
        "embed": spec((5, 4)),
        "half": spec((3,), ml_dtypes.bfloat16),
        "mask": spec((2, 2), bool),
        "count": spec((), np.int32),
    },
    "sinks": {"bos": spec((2, 3))},
    "loss": spec(),
    "never": {"x": spec((2,))},
}
DIMS = {"sinks": {"bos": ("layer", "head")}}
SEEDS = (3, 5, 8)
ROWS = {"params": (2, 0, 3, 1), "sinks": (4, 4, 4, 4), "loss": (1, 3, 4, 2), "never": (0, 0, 0, 0)}
ENDS = (10, 20, 30, 40)
PLAN = trajectory.Plan(ENDS, ROWS)


def rows_of(chunk: int, record: str, rows: dict | None = None) -> np.ndarray:
    """Steps of a record in a chunk: the first of those that the chunk contains."""
    first = 0 if chunk == 0 else ENDS[chunk - 1] + 1
    return first + np.arange((rows or ROWS)[record][chunk])


def values(leaf: Spec, chunk: int, count: int, name: str, seeds: int = len(SEEDS)) -> np.ndarray:
    """Numbers that depend on chunk and leaf alone, bits of all kinds included. [S, n, ...]"""
    rng = np.random.default_rng([chunk, *name.encode()])
    shape = (seeds, count, *leaf.shape)
    if leaf.dtype == bool:
        return rng.random(shape) < 0.5
    if leaf.dtype.kind in "iu":
        return rng.integers(0, 100, shape).astype(leaf.dtype)
    found = rng.standard_normal(shape)
    found.flat[::7] = [np.nan, np.inf, -0.0, 1e-42][chunk % 4]
    return found.astype(leaf.dtype)


def data_of(chunk: int) -> dict:
    """Everything that a chunk yields."""
    found = {}
    for record, tree in RECORDS.items():
        count = ROWS[record][chunk]
        if isinstance(tree, Spec):
            found[record] = values(tree, chunk, count, record)
        else:
            found[record] = {name: values(leaf, chunk, count, record + name) for name, leaf in tree.items()}
    return found


def append(writer: trajectory.TrajectoryWriter, chunk: int) -> None:
    writer.append(chunk, data_of(chunk), {record: rows_of(chunk, record) for record in RECORDS}, seconds=0.25)


def begin(path: Path) -> trajectory.TrajectoryWriter:
    """A run directory with nothing appended."""
    trajectory.create(path, {"config": {"width": 64}})
    return resume(path)


def resume(path: Path) -> trajectory.TrajectoryWriter:
    return trajectory.TrajectoryWriter(path, RECORDS, PLAN, seeds=SEEDS, dims=DIMS)


def expected(record: str, name: str, chunks: int = len(ENDS)) -> np.ndarray:
    """All rows of a leaf. [S, N, ...]"""
    parts = [data_of(chunk)[record] for chunk in range(chunks)]
    return np.concatenate([part if isinstance(part, np.ndarray) else part[name] for part in parts], axis=1)


def store_bytes(path: Path) -> dict[str, bytes]:
    """Content of all files of the zarr store, by path."""
    root = path / "trajectory.zarr"
    return {f.relative_to(root).as_posix(): f.read_bytes() for f in root.rglob("*") if f.is_file()}
