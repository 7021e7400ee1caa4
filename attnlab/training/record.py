"""What to record and when: a schedule and a function, as in diffrax's `SaveAt`.

A record is a dict from names to schedules, each with the function `of(model, params) -> pytree of arrays` that is
evaluated on the device, inside the compiled program: `{"params": every(50), "sinks": log_spaced(200, of=...)}`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from attnlab.config import require

RecordFn = Callable[[Any, Any], Any]


def params(model: Any, params: Any) -> Any:
    """Record all parameters."""
    return params


class Schedule(Protocol):
    """`of` is evaluated at `at(total)`: sorted, distinct steps in `0..total` (0 = before the first update)."""

    @property
    def of(self) -> RecordFn: ...

    def at(self, total: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Every:
    """Steps 0, `interval`, 2 `interval`, ... and the last one."""

    interval: int
    of: RecordFn = field(default=params)

    def __post_init__(self):
        require(isinstance(self.interval, int) and self.interval >= 1, "every", self.interval, "an integer >= 1")

    def at(self, total: int) -> np.ndarray:
        return np.union1d(np.arange(0, total + 1, self.interval), [total])


@dataclass(frozen=True)
class LogSpaced:
    """Step 0 and at most `count - 1` steps spaced evenly in log from 1 to the last (fewer where they coincide)."""

    count: int
    of: RecordFn = field(default=params)

    def __post_init__(self):
        require(isinstance(self.count, int) and self.count >= 2, "log_spaced", self.count, "an integer >= 2")

    def at(self, total: int) -> np.ndarray:
        spaced = np.rint(np.geomspace(total, 1, self.count - 1)).astype(int)  # from the end: with count 2 only that
        return np.union1d([0], spaced)


@dataclass(frozen=True)
class AtSteps:
    """The steps given; those beyond the end of the run are an error."""

    steps: tuple[int, ...]
    of: RecordFn = field(default=params)

    def at(self, total: int) -> np.ndarray:
        steps = np.unique(np.asarray(self.steps, int))
        require(steps.size > 0 and steps[0] >= 0 and steps[-1] <= total, "at", self.steps, f"steps in 0..{total}")
        return steps


def every(interval: int, of: RecordFn = params) -> Every:
    """Every `interval` steps, and at the end."""
    return Every(interval, of)


def log_spaced(count: int, of: RecordFn = params) -> LogSpaced:
    """About `count` steps, evenly in log time: dense early, sparse late."""
    return LogSpaced(count, of)


def at(steps: Any, of: RecordFn = params) -> AtSteps:
    """At the given steps."""
    return AtSteps(tuple(int(s) for s in np.atleast_1d(steps)), of)
