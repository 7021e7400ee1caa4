"""From schedules to program chunks, on the host, before anything is compiled.

The union of all schedules is a list of *events*: advance by `gap` steps, then evaluate the records whose flag is set.
Events are packed into chunks of equal shape, so one compiled program serves every chunk of any schedule, however
uneven. A chunk ends when it has `EVENTS` events or `chunk_steps` steps; long gaps are cut there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from attnlab.config import require
from attnlab.training.record import Schedule

EVENTS = 64  # at most; fewer where the rows of so many would not fit (`settings.events_that_fit`)


@dataclass(frozen=True)
class Plan:
    """`J` chunks of `E` events for `R` records.

    Attributes:
      names: the records, in order.
      gaps: `Int[J, E]` steps to advance before each event.
      flags: `Bool[J, E, R]` which records are evaluated there.
      ends: `Int[J]` the step at which each chunk ends.
      steps: per record and chunk, the steps of its rows.
    """

    names: tuple[str, ...]
    gaps: np.ndarray
    flags: np.ndarray
    ends: np.ndarray
    steps: dict[str, list[np.ndarray]]

    @property
    def num_chunks(self) -> int:
        return len(self.ends)

    def slots(self, name: str) -> int:
        """The most rows of this record in any chunk."""
        return max(len(rows) for rows in self.steps[name])


def make_plan(schedules: Mapping[str, Schedule], total: int, chunk_steps: int, max_events: int = EVENTS) -> Plan:
    """Cut `0..total` into chunks. Depends on its arguments only, so a resumed run makes the same plan."""
    names = tuple(schedules)
    due = {name: _due(name, schedules[name], total) for name in names}
    stops = sorted(set().union({total}, *due.values()))
    chunks: list[list[tuple[int, tuple[bool, ...], int]]] = [[]]
    now, begun = 0, 0
    for stop in stops:
        while True:
            if len(chunks[-1]) == max_events or now - begun >= chunk_steps:
                chunks.append([])
                begun = now
            reach = min(stop, begun + chunk_steps)
            flags = tuple(reach == stop and stop in due[name] for name in names)
            chunks[-1].append((reach - now, flags, reach))
            now = reach
            if reach == stop:
                break
    width = max(len(chunk) for chunk in chunks)
    gaps = np.zeros((len(chunks), width), np.int32)
    marks = np.zeros((len(chunks), width, len(names)), bool)
    for j, chunk in enumerate(chunks):
        for e, (gap, flags, _) in enumerate(chunk):
            gaps[j, e], marks[j, e] = gap, flags
    steps = {
        name: [np.array([at for _, flags, at in chunk if flags[r]], np.int64) for chunk in chunks]
        for r, name in enumerate(names)
    }
    return Plan(names, gaps, marks, np.array([chunk[-1][2] for chunk in chunks], np.int64), steps)


def _due(name: str, schedule: Schedule, total: int) -> set[int]:
    """The steps of a schedule, which may be a user's own."""
    steps = np.atleast_1d(np.asarray(schedule.at(total)))
    whole = steps.size > 0 and steps.ndim == 1 and np.issubdtype(steps.dtype, np.integer)
    right = whole and steps.min() >= 0 and steps.max() <= total
    require(right, f"record[{name!r}].at({total})", schedule.at(total), f"whole steps in 0..{total}, at least one")
    return {int(step) for step in steps}


def default_chunk_steps(total: int) -> int:
    """A twentieth of the run, between 100 and 1,000 steps: how often state is saved and the progress bar moves."""
    return int(np.clip(-(-total // 20), 100, 1000))
