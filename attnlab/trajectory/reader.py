"""Reading a trajectory: lazily, labelled, from finished, running and killed runs alike."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlab.trajectory import describe
from attnlab.trajectory.errors import RunDirError
from attnlab.trajectory.files import located, read_sealed
from attnlab.trajectory.journal import read_journal
from attnlab.trajectory.leaves import WIDENED, numpy_dtype, path_name, unflatten
from attnlab.trajectory.rows import Chunks, LeafRows
from attnlab.trajectory.rundir import JOURNAL, SUMMARY, TRAJECTORY, read_manifest

if TYPE_CHECKING:
    import xarray as xr


class Trajectory:
    """What a run recorded. `trajectory.sinks` and `trajectory["sinks"]` are the record of that name, in the shape it
    was recorded:

    - a tree of arrays is an `xarray.Dataset`, one variable per leaf (`trajectory.sinks.bos_attention`; dotted paths of
      nested trees by item: `trajectory.params["blocks.0.attn.query"]`);
    - a bare array is an `xarray.DataArray` (`trajectory.loss`).

    Dims are (seed, step, ...), with the true seed labels and step numbers as coordinates. Opening reads the manifest
    and the journal; numbers are read when asked for, chunk by chunk, each checked against its hash. bfloat16 and float8
    appear as float32 here, since xarray cannot reduce them; `params_at` gives them as they were.

    Use `trajectory.open(path)` to make one.
    """

    def __init__(self, path: Path, *, check: bool = True):
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path, check=check)
        found = read_journal(path / JOURNAL, self.manifest["sha256"] if check else None)
        if check:
            found.require_sound(path / JOURNAL)
        self.journal: list[dict[str, Any]] = found.chunks
        self._header = found.header
        self._datasets: dict[str, Any] = {}

    @property
    def config(self) -> Any:
        """The run's configuration, from the manifest; {} if it has none."""
        return self.manifest.get("config", {})

    @property
    def records(self) -> tuple[str, ...]:
        """Names of the records; () if the run was killed before it began to record."""
        return tuple(self._header.schema) if self._header else ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Labels of the seeds. [S]"""
        return self._header.seeds if self._header else ()

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """What the run said at its end; None if it has not ended.

        Raises:
            DamagedFileError: `summary.json` is truncated or edited.
        """
        file = self.path / SUMMARY
        return (
            read_sealed(file, advice="Restore it from a copy; the records do not depend on it.")
            if file.exists()
            else None
        )

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / SUMMARY).exists()

    @property
    def last_step(self) -> int:
        """Steps done at the end of the last finished chunk; 0 if there is none."""
        return self.journal[-1]["last_step"] if self.journal else 0

    def steps(self, record: str) -> np.ndarray:
        """Step numbers of the snapshots of a record. [N]"""
        self._require(record)
        return np.asarray([step for doc in self.journal for step in doc["steps"][record]], np.int64)

    def params_at(
        self, step: int, seed: int | None = None, *, record: str = "params", method: str | None = None, like: Any = None
    ) -> Any:
        """The tree of one snapshot, as numpy arrays with their recorded dtypes.

        Args:
            step: step number of the snapshot.
            seed: label of the seed; None for all, with a leading axis [S, ...].
            record: which record.
            method: None (the step must have been recorded) or "nearest".
            like: a tree with the structure to return (e.g. of `model.init`, or its `eval_shape`); by default dicts and
                lists, where dataclasses were recorded too.

        Raises:
            RunDirError: no such record, step or seed, or `like` has other leaves.
            DamagedFileError: a chunk file is missing or was changed.
        """
        row = self._row(record, step, method)
        if seed is not None and seed not in self.seeds:
            raise RunDirError(f"seed {seed} is not in this run; seeds: {list(self.seeds)}.")
        place = slice(None) if seed is None else self.seeds.index(seed)
        leaves = {}
        for name, leaf in self._header.schema[record].items():  # pyright: ignore[reportOptionalMemberAccess]  (_row has checked)
            rows = self._rows(record, name, numpy_dtype(leaf.dtype))
            leaves[leaf.keys] = rows.outer((place, row, *[slice(None)] * len(leaf.shape)))
        return (
            unflatten(leaves)
            if like is None
            else _fill(like, {path_name(k, record): x for k, x in leaves.items()}, record)
        )

    def __getitem__(self, record: str) -> "xr.Dataset | xr.DataArray":
        self._require(record)
        if record not in self._datasets:
            from attnlab.trajectory.labelled import label

            self._datasets[record] = label(self, record)
        return self._datasets[record]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # without a look at self, which pickle asks before it is filled
        if name not in self.records:
            raise AttributeError(
                f"trajectory of {self.path} has no record or attribute {name!r}; records: {', '.join(self.records)}"
            )
        return self[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.records]

    def __repr__(self) -> str:
        return describe.as_text(self, self._header)

    def _repr_html_(self) -> str:
        return describe.as_html(self, self._header)

    @cached_property
    def _chunks(self) -> Chunks:
        assert self._header is not None
        return Chunks(self.path / TRAJECTORY, self._header, [doc["files"] for doc in self.journal])

    def _rows(self, record: str, name: str, dtype: np.dtype | None = None) -> LeafRows:
        leaf = self._chunks.header.schema[record][name]
        shown = dtype or (np.dtype(np.float32) if leaf.dtype in WIDENED else np.dtype(leaf.dtype))
        return LeafRows(
            self._chunks, record, name, np.asarray([len(doc["steps"][record]) for doc in self.journal], np.int64), shown
        )

    def _row(self, record: str, step: int, method: str | None) -> int:
        steps = self.steps(record)
        if method not in (None, "nearest"):
            raise RunDirError(f"method = {method!r}; allowed: None, 'nearest'.")
        if not len(steps):
            raise RunDirError(f"record {record!r} of {self.path} has no snapshot yet.")
        row = int(np.argmin(np.abs(steps - step)))
        if method is None and steps[row] != step:
            raise RunDirError(
                f"step {step} was not recorded in {record!r}; nearest: {steps[row]}. Give that one, or "
                "method='nearest'."
            )
        return row

    def _require(self, record: str) -> None:
        if record not in self.records:
            raise RunDirError(
                f"{self.path} has no record {record!r}; records: {', '.join(self.records) or 'none yet'}."
            )


def open(path: str | os.PathLike[str], *, check: bool = True) -> Trajectory:
    """Open the run directory at `path`, finished or not. Reads its manifest and journal, no numbers.

    Args:
        path: a run directory, also in an object store (`gs://...`, `s3://...`).
        check: refuse a manifest or journal that was changed; without, what precedes the first damaged journal line can
            be read.

    Raises:
        DamagedFileError: the manifest is missing or truncated, or it or the journal was changed.
    """
    return Trajectory(located(path), check=check)


def _fill(like: Any, leaves: dict[str, np.ndarray], record: str) -> Any:
    import jax

    from attnlab.trajectory.leaves import key_of

    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    names: Sequence[str] = [path_name([key_of(entry) for entry in path], record) for path, _ in paths]
    if set(names) != set(leaves):
        raise RunDirError(
            f"`like` has other leaves than record {record!r}: only in like {sorted(set(names) - set(leaves))}, only in "
            "the record "
            f"{sorted(set(leaves) - set(names))}."
        )
    return jax.tree_util.tree_unflatten(treedef, [leaves[name] for name in names])
