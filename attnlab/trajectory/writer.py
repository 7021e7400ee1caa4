"""Writing a trajectory: each chunk file once, then one journal line that makes it count.

The files are an ordinary zarr v3 store, which any zarr library reads. Its metadata is made by zarr at the start, when all final shapes
are known; the chunk files are written here, since their bytes are needed for the hashes anyway, and since for the many small
leaves of a toy model this takes a tenth of the time of zarr's general path.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd

from attnlab.trajectory.errors import RunDirError
from attnlab.trajectory.files import seal, sync_directory, to_json, write_atomically, write_durably
from attnlab.trajectory.journal import read_journal, spell_line
from attnlab.trajectory.layout import (
    FILL_STEP,
    STEP_DTYPE,
    ZSTD_LEVEL,
    Header,
    Plan,
    check_sizes,
    chunk_file,
    chunk_shape,
    create_store,
    step_file,
)
from attnlab.trajectory.leaves import Leaf, flatten, numpy_dtype, path_name, schema_of
from attnlab.trajectory.reader import Trajectory
from attnlab.trajectory.rundir import JOURNAL, SUMMARY, TRAJECTORY, read_manifest

_ZSTD = Zstd(level=ZSTD_LEVEL)


class TrajectoryWriter:
    """Appends chunks to a run directory; goes on where an earlier writer stopped.

    Args:
        path: a run directory (see `rundir.create`).
        records: per record the pytree of what one seed yields at one snapshot: leaves with `.shape` and `.dtype`, as from `jax.eval_shape`.
        plan: the chunks of the run, and the rows of each record in them.
        seeds: their number S, or their labels.
        dims: names of axes per record and leaf path, e.g. `{"sinks": {"bos_attention": ("layer", "head")}}`.

    Raises:
        RunDirError: no run directory, a record that cannot be stored, or not the records, plan and seeds that the run began with.
        DamagedFileError: the manifest or journal is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        records: Mapping[str, Any],
        plan: Plan,
        *,
        seeds: int | Sequence[int],
        dims: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    ):
        self.path = Path(path)
        self._store = self.path / TRAJECTORY
        genesis = read_manifest(self.path)["sha256"]
        labels = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
        reserved = tuple(name for name in dir(Trajectory) if not name.startswith("_"))
        self._header = Header(schema_of(records, dims, forbidden=reserved), plan, labels, {})
        check_sizes(self._header)
        journal = read_journal(self.path / JOURNAL, genesis)
        journal.require_sound(self.path / JOURNAL)
        self._heads, self._ends = journal.heads, journal.ends
        self._steps = [doc["steps"] for doc in journal.chunks]
        if journal.header is None:
            self._begin()
        elif different := journal.header.differences(self._header):
            raise RunDirError(
                f"{self.path} was begun with other settings, it cannot go on with these (there and here): {'; '.join(different)}. "
                "Give the settings it was begun with, or a new path."
            )
        else:
            self._cut(self.chunks_done)

    @property
    def chunks_done(self) -> int:
        """Number of chunks in the journal; the next one to append has this index."""
        return len(self._ends) - 1

    @property
    def finished(self) -> bool:
        """Whether the run has its summary: nothing more can be appended."""
        return (self.path / SUMMARY).exists()

    def chunks_until(self, step: int) -> int:
        """Number of chunks of the plan that end at or before `step`."""
        return sum(end <= step for end in self._header.plan.ends)

    def append(
        self,
        chunk: int,
        data: Mapping[str, Any],
        steps: Mapping[str, Sequence[int] | np.ndarray],
        *,
        seconds: float | None = None,
    ) -> None:
        """Write a chunk, wait until the disk has it, then write its journal line. Killed before the end of it, the chunk does not exist.

        Args:
            chunk: its index; must be `chunks_done`.
            data: per record the tree of numpy arrays [S, n, ...] (or a flat dict by leaf path); n as in the plan. Records without rows
                may be left out.
            steps: per record the step numbers of the rows, rising. [n]
            seconds: wall time spent on the chunk, for the journal.

        Raises:
            RunDirError: wrong chunk, record, leaf, shape, dtype or steps; or another process wrote to the journal. Nothing is changed.
        """
        self._check_turn(chunk)
        plan = self._header.plan
        unknown = sorted({*data, *steps} - set(self._header.schema))
        if unknown:
            raise RunDirError(
                f"chunk {chunk} has data of {unknown}, which are not records; records: {sorted(self._header.schema)}."
            )
        rows = {
            record: self._checked(record, chunk, data.get(record), steps.get(record)) for record in self._header.schema
        }
        files: dict[str, str] = {}
        for record, (arrays, numbers) in rows.items():
            if plan.rows[record][chunk]:
                self._write_record(record, chunk, arrays, numbers, files)
        first, last = plan.span(chunk)
        done = {record: numbers.tolist() for record, (_, numbers) in rows.items()}
        self._write_line(
            {
                "chunk": chunk,
                "first_step": first,
                "last_step": last,
                "seconds": None if seconds is None else round(float(seconds), 6),
                "rows": {record: plan.rows[record][chunk] for record in rows},
                "steps": done,
                "files": files,
            }
        )
        self._steps.append(done)

    def truncate_to(self, chunks: int) -> None:
        """Forget all chunks from index `chunks` on, and that the run was finished, if it was: it goes on from there.

        Raises:
            RunDirError: the journal has fewer chunks than that.
        """
        if not 0 <= chunks <= self.chunks_done:
            raise RunDirError(
                f"{self.path / JOURNAL} has {self.chunks_done} chunks, the run cannot go on after {chunks}; resume from an older state."
            )
        if chunks < self.chunks_done:
            (self.path / SUMMARY).unlink(missing_ok=True)
        self._cut(chunks)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`: `summary` (result codes, seconds, ...) with the number of chunks and the hash of the journal's last line.

        Raises:
            RunDirError: finished already, or a value has no JSON form.
        """
        if self.finished:
            raise RunDirError(f"{self.path / SUMMARY} exists; the run is finished.")
        doc = {"chunks": self.chunks_done, "planned": len(self._header.plan.ends), "journal": self._heads[-1]}
        write_atomically(self.path / SUMMARY, seal({**to_json(summary, "summary"), **doc}))

    def _begin(self) -> None:
        """Make the store and line 0 of the journal; what a kill left of an earlier attempt is removed."""
        if any(file.is_file() and file.parent.name != "seed" for file in self._store.rglob("c.*")):
            raise RunDirError(
                f"{self._store} holds data, but {self.path / JOURNAL} is missing or empty. Nothing was changed; restore it from a copy."
            )
        if self._store.exists():
            shutil.rmtree(self._store)
        (self.path / JOURNAL).write_bytes(b"")
        self._header = Header(
            self._header.schema, self._header.plan, self._header.seeds, create_store(self._store, self._header)
        )
        sync_directory(self.path)
        self._write_line(to_json(self._header.to_json(), "header"))

    def _cut(self, chunks: int) -> None:
        """Cut the journal after `chunks` chunks, then remove the files of later ones (a kill in between leaves files that do not count)."""
        self._heads, self._ends = self._heads[: chunks + 2], self._ends[: chunks + 1]
        del self._steps[chunks:]
        with (self.path / JOURNAL).open("rb+") as file:
            file.truncate(self._ends[-1])
            os.fsync(file.fileno())
        for record, named in self._header.schema.items():
            for name in (*named, "step"):
                axis = 0 if name == "step" else 1  # place of the chunk index in the name of the file
                for file in (self._store / record / name).glob("c.*"):
                    place = re.fullmatch(r"c((?:\.\d+)+)", file.name)
                    if place and int(place[1].split(".")[1 + axis]) >= chunks:
                        file.unlink()

    def _write_record(
        self, record: str, chunk: int, arrays: dict[str, np.ndarray], steps: np.ndarray, files: dict[str, str]
    ) -> None:
        for name, leaf in self._header.schema[record].items():
            if 0 in leaf.shape:
                continue
            shape, values = chunk_shape(self._header, record, leaf), arrays[name].view(leaf.stored)
            if values.shape != shape:  # slots that stay empty
                padded = np.full(shape, np.nan if leaf.stored.kind in "fc" else 0, leaf.stored)
                padded[:, : len(steps)] = values
                values = padded
            self._write_chunk(chunk_file(record, name, len(leaf.shape), chunk), values, files)
        slots = np.full(self._header.plan.slots(record), FILL_STEP, STEP_DTYPE)
        slots[: len(steps)] = steps
        self._write_chunk(step_file(record, chunk), slots, files)

    def _write_chunk(self, name: str, values: np.ndarray, files: dict[str, str]) -> None:
        raw = _ZSTD.encode(np.ascontiguousarray(values))
        files[name] = hashlib.sha256(raw).hexdigest()
        write_durably(self._store / name, raw)

    def _write_line(self, body: Mapping[str, Any]) -> None:
        line = spell_line(body, self._heads[-1])
        with (self.path / JOURNAL).open("ab", buffering=0) as file:
            file.write(line)
            os.fsync(file.fileno())
        self._heads.append(seal_of(line))
        self._ends.append((self._ends[-1] if self._ends else 0) + len(line))

    def _check_turn(self, chunk: int) -> None:
        journal = self.path / JOURNAL
        if self.finished:
            raise RunDirError(
                f"{self.path / SUMMARY} exists: the run is finished, nothing can be appended; call truncate_to first."
            )
        if chunk != self.chunks_done or chunk >= len(self._header.plan.ends):
            raise RunDirError(
                f"chunk {chunk} is not the next one: {self.chunks_done} of {len(self._header.plan.ends)} are in {journal}."
            )
        if (size := journal.stat().st_size) != self._ends[-1]:
            raise RunDirError(
                f"{journal} has {size} bytes, expected {self._ends[-1]}: another process writes to this run. Stop one of them."
            )

    def _checked(self, record: str, chunk: int, tree: Any, steps: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
        count, schema = self._header.plan.rows[record][chunk], self._header.schema[record]
        numbers = np.asarray([] if steps is None else steps, STEP_DTYPE)
        before = next((known[record][-1] for known in reversed(self._steps) if known[record]), -1)
        if numbers.shape != (count,) or np.any(np.diff(numbers, prepend=before) <= 0):
            raise RunDirError(
                f"chunk {chunk}, steps of {record!r} = {numbers.tolist()}: needed are {count} step numbers that rise, all above {before}."
            )
        if not count and tree is None:
            return {}, numbers
        arrays = {path_name(keys, record): np.asarray(leaf) for keys, leaf in flatten(tree).items()}
        if set(arrays) != set(schema):
            raise RunDirError(
                f"chunk {chunk}, record {record!r}: missing leaves {sorted(set(schema) - set(arrays))}, unknown leaves "
                f"{sorted(set(arrays) - set(schema))}; give the tree that the schema was made from."
            )
        return {
            name: self._checked_leaf(f"chunk {chunk}, {record}/{name}", arrays[name], leaf, count)
            for name, leaf in schema.items()
        }, numbers

    def _checked_leaf(self, where: str, array: np.ndarray, leaf: Leaf, count: int) -> np.ndarray:
        shape = (len(self._header.seeds), count, *leaf.shape)
        if array.shape != shape or array.dtype.name != leaf.dtype:
            raise RunDirError(
                f"{where} is {array.dtype}{list(array.shape)}, expected {leaf.dtype}{list(shape)} (seeds, rows, ...)."
            )
        return np.ascontiguousarray(array, numpy_dtype(leaf.dtype))  # the same numbers; the machine's byte order


def seal_of(line: bytes) -> str:
    """The hash that a journal line carries: its last 64 characters before `"}` and the newline."""
    return line[-67:-3].decode()
