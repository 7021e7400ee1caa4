"""Writing a trajectory: each chunk file once, then one journal line that makes it count.

Of several processes each writes the rows of its own seeds, and the first one the journal, when all have written.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnlab import hosts
from attnlab.trajectory import store
from attnlab.trajectory.errors import RunDirError
from attnlab.trajectory.files import (
    files_in,
    is_remote,
    located,
    remove_folder,
    seal,
    sync_directory,
    to_json,
    write_atomically,
)
from attnlab.trajectory.intake import checked_arrays, checked_steps
from attnlab.trajectory.journal import Journal, JournalFile, read_journal
from attnlab.trajectory.layout import Header, Plan, check_sizes
from attnlab.trajectory.leaves import schema_of
from attnlab.trajectory.reader import Trajectory
from attnlab.trajectory.rundir import JOURNAL, SUMMARY, TRAJECTORY, read_manifest


class TrajectoryWriter:
    """Appends chunks to a run directory; goes on where an earlier writer stopped.

    Args:
        path: a run directory (see `rundir.create`).
        records: per record the pytree of what one seed yields at one snapshot: leaves with `.shape` and `.dtype`, as
            from `jax.eval_shape`. Neither the seed axis nor the snapshot axis is in the shapes.
        plan: the chunks of the run, and the rows of each record in them.
        seeds: their number S, or their labels.
        dims: names of axes per record and leaf path, e.g. `{"sinks": {"bos_attention": ("layer", "head")}}`.
        part_seeds: a chunk has a file of its own for every so many seeds; where a run is gone on with, what it was
            begun with holds. Default: one file for all.

    Raises:
        RunDirError: no run directory, a record that cannot be stored, or not what the run there was begun with.
        DamagedFileError: the manifest or the journal is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        records: Mapping[str, Any],
        plan: Plan,
        *,
        seeds: int | Sequence[int],
        dims: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
        part_seeds: int | None = None,
    ):
        self.path = located(path)
        self._store = self.path / TRAJECTORY
        labels = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
        reserved = [name for name in dir(Trajectory) if not name.startswith("_")]
        self._header = Header(schema_of(records, dims, forbidden=reserved), plan, labels, {}, part_seeds)
        check_sizes(self._header)
        hosts.lead(self._open)
        if not hosts.leads():
            self._look(read_journal(self.path / JOURNAL, read_manifest(self.path)["sha256"]))

    def _open(self) -> None:
        """Begin the journal, or check that it is one of such a run, and remove what does not count."""
        found = read_journal(self.path / JOURNAL, read_manifest(self.path)["sha256"])
        found.require_sound(self.path / JOURNAL)
        self._look(found)
        if found.header is None:
            self._begin()
        elif different := found.header.differences(self._header):
            raise RunDirError(
                f"{self.path} was begun with other settings than these (there and here): {'; '.join(different)}. "
                "Go on with the settings it was begun with, or give a new path."
            )
        else:
            self._cut(self.chunks_done)

    def _look(self, found: Journal) -> None:
        """Take over what the journal has."""
        self._steps = [doc["steps"] for doc in found.chunks]
        self._journal = JournalFile(self.path / JOURNAL, found, writes=hosts.leads())
        if found.header is not None:
            self._header = dataclasses.replace(self._header, part_seeds=found.header.part_seeds)

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """First seed and end of each part of the seed axis that is written by one process."""
        return self._header.parts

    @property
    def chunks_done(self) -> int:
        """Number of chunks in the journal; the next one to append has this index."""
        return len(self._steps)

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
        parts: range | None = None,
    ) -> None:
        """Write a chunk, wait until the disk has it, then write its journal line. Until that is done it does not exist.

        Args:
            chunk: its index; must be `chunks_done`.
            data: per record the tree of numpy arrays [S, n, ...] (or a flat dict by leaf path), n as planned. Records
                without rows may be left out.
            steps: per record the step numbers of the rows, rising. [n]
            seconds: wall time spent on the chunk, for the journal.
            parts: of the seed axis, whose rows are in `data`; each must be given by one process. Default: all.

        Raises:
            RunDirError: wrong chunk, record, leaf, shape, dtype or steps, or another process writes to the same run.
                Nothing is changed. HostsError: so it was in another process of the run.
        """
        mine = range(len(self.parts)) if parts is None else parts
        numbers: dict[str, np.ndarray] = {}

        def write() -> dict[str, str]:
            numbers.update(self._checked_steps(chunk, data, steps))
            arrays = {r: checked_arrays(self._header, chunk, r, data.get(r), mine) for r in self._header.schema}
            return store.write_chunk(self._store, self._header, chunk, arrays, numbers, mine) if mine else {}

        files = {name: digest for found in hosts.together(write) for name, digest in found.items()}
        first, last = self._header.plan.span(chunk)
        body = {
            "chunk": chunk,
            "first_step": first,
            "last_step": last,
            "seconds": hosts.lead(lambda: None if seconds is None else round(float(seconds), 6)),
            "steps": {record: rows.tolist() for record, rows in numbers.items()},
            "files": files,
        }
        hosts.together(lambda: self._journal.append(body))
        self._steps.append(body["steps"])

    def _checked_steps(
        self, chunk: int, data: Mapping[str, Any], steps: Mapping[str, Sequence[int] | np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Step numbers of the rows of every record, if this is the chunk to come."""
        header, total = self._header, len(self._header.plan.ends)
        if self.finished:
            raise RunDirError(f"{self.path / SUMMARY} exists: the run is finished. To go on earlier, call truncate_to.")
        if chunk != self.chunks_done or chunk >= total:
            raise RunDirError(f"chunk {chunk} is not the next one: {self.chunks_done} of {total} are in {self.path}.")
        if unknown := sorted({*data, *steps} - set(header.schema)):
            raise RunDirError(f"chunk {chunk} has data of {unknown}; the records are {sorted(header.schema)}.")
        self._journal.require_alone()
        return {r: checked_steps(header, chunk, r, steps.get(r), self._last_step(r)) for r in header.schema}

    def truncate_to(self, chunks: int) -> None:
        """Forget all chunks from index `chunks` on; if there are any, also that the run was finished.

        Raises:
            RunDirError: the journal has fewer chunks than that.
        """
        if not 0 <= chunks <= self.chunks_done:
            raise RunDirError(
                f"{self.path} has {self.chunks_done} chunks, the run cannot go on after {chunks}; resume from an older "
                "state."
            )
        if chunks < self.chunks_done and hosts.leads():
            (self.path / SUMMARY).unlink(missing_ok=True)
        hosts.together(lambda: self._cut(chunks))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`: `summary` (result codes, seconds, ...), number of chunks, hash of the last journal
        line.

        Raises:
            RunDirError: finished already, or a value has no JSON form.
        """
        if hosts.lead(lambda: self.finished):
            raise RunDirError(f"{self.path / SUMMARY} exists; the run is finished.")
        doc = {"chunks": self.chunks_done, "planned": len(self._header.plan.ends), "journal": self._journal.heads[-1]}
        sealed = seal({**to_json(summary, "summary"), **doc})
        hosts.lead(lambda: write_atomically(self.path / SUMMARY, sealed))

    def _begin(self) -> None:
        """Make the store and line 0 of the journal; what a kill left of an earlier attempt is removed."""
        if any(file.name.startswith("c.") and file.parent.name != "seed" for file in files_in(self._store)):
            raise RunDirError(
                f"{self._store} holds data, but {self.path / JOURNAL} is missing or empty; restore it from a copy. "
                "Nothing was changed."
            )
        if self._store.exists():
            remove_folder(self._store)
        files = store.create(self._store, self._header)
        if not is_remote(self.path):
            (self.path / JOURNAL).touch()
        self._journal.cut(0)
        sync_directory(self.path)
        self._journal.append(to_json(dataclasses.replace(self._header, files=files).to_json(), "header"))

    def _cut(self, chunks: int) -> None:
        """Cut the journal, then remove what follows; a kill in between leaves files that do not count."""
        self._journal.cut(1 + chunks)
        del self._steps[chunks:]
        if hosts.leads():
            store.remove_from(self._store, self._header, chunks)

    def _last_step(self, record: str) -> int:
        return next((done[record][-1] for done in reversed(self._steps) if done[record]), -1)
