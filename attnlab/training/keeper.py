"""What a run keeps on disk while it goes on: its records after every chunk, its state every few seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attnlab import hosts, trajectory
from attnlab.training.program import State
from attnlab.training.session import Session
from attnlab.training.settings import RunConfig, row_shapes
from attnlab.training.shards import Parts, part_seeds
from attnlab.trajectory import Trajectory, TrajectoryWriter, state
from attnlab.trajectory.leaves import flatten, path_name, schema_of
from attnlab.trajectory.rundir import STATE

SAVE_SHARE = 0.05  # of the time goes into saving state; between two saves a kill costs the steps in between, no record
FIRST_SAVES = 2.0  # seconds between the first saves, before it is known how long one takes


class Records(NamedTuple):
    """Per record, what one seed yields at one snapshot, and the names of its axes."""

    shapes: dict[str, Any]
    dims: dict[str, Mapping[str, Sequence[str]]]


class Keeper:
    """Writes to the run directory at `path`; `restore` first, then `append`, chunk by chunk, then `finish`."""

    def __init__(self, path: Path, session: Session, records: Records):
        self.path, self._session, self._states = path, session, path / STATE
        plan = session.plan
        rows = {name: tuple(len(steps) for steps in plan.steps[name]) for name in plan.names}
        layout = trajectory.Plan(tuple(plan.ends.tolist()), rows)
        seeds = session.config.seeds
        size = part_seeds(session.placement)
        self._writer = TrajectoryWriter(path, records.shapes, layout, seeds=seeds, dims=records.dims, part_seeds=size)
        self._saved_at, self._save_seconds = time.perf_counter(), [float("inf")]

    @staticmethod
    def check(config: RunConfig) -> Records:
        """The records of a run. Raises `RunDirError` if one cannot be stored, before anything is on disk."""
        shapes = row_shapes(config)
        dims = {}
        for name, schedule in config.schedules().items():
            if callable(named := getattr(schedule.of, "dims", None)):
                dims[name] = named([path_name(keys, name) for keys in flatten(shapes[name])])
        schema_of(shapes, dims, forbidden=[name for name in dir(Trajectory) if not name.startswith("_")])
        return Records(shapes, dims)

    def restore(self) -> tuple[int, State]:
        """Chunks done and the state after them: the newest state whose chunks are all in the journal."""
        session, writer = self._session, self._writer
        step = hosts.lead(self._newest)
        chunks = writer.chunks_until(step) if step > 0 else 0
        writer.truncate_to(chunks)
        state.drop_after(self._states, step)
        if not chunks:
            return 0, session.start()
        return chunks, session.taken_up(state.restore(self._states, step, session.saved_like()))

    def _newest(self) -> int:
        """Step of the newest state whose chunks are all in the journal; -1 if there is none."""
        for step in sorted(state.steps(self._states), reverse=True):
            chunks = self._writer.chunks_until(step)
            if 0 < chunks <= self._writer.chunks_done and self._session.plan.ends[chunks - 1] == step:
                return step
        return -1

    @property
    def parts(self) -> Parts:
        """First seed and end of the parts of the seed axis that have files of their own."""
        return self._writer.parts

    def append(
        self, chunk: int, rows: Mapping[str, Any], mine: range, at: State, seconds: float, must_save: bool
    ) -> None:
        """Write the records of a chunk, of the parts `mine`; then save the state, if it must be or if that is cheap."""
        plan = self._session.plan
        steps = {name: plan.steps[name][chunk] for name in plan.names}
        self._writer.append(chunk, rows, steps, seconds=seconds, parts=mine)
        if must_save or hosts.lead(lambda: time.perf_counter() - self._saved_at >= self._wait()):
            self._save_seconds.append(state.save(self._states, int(plan.ends[chunk]), self._session.unpad(at)))
            self._saved_at = time.perf_counter()

    def _wait(self) -> float:
        """Seconds between two saves. The first one is no measure: it also imports orbax."""
        return FIRST_SAVES if len(self._save_seconds) < 3 else min(self._save_seconds) / SAVE_SHARE

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary, unless the run was finished before."""
        if not hosts.lead(lambda: self._writer.finished):
            self._writer.finish(summary)
