"""A progress bar that moves once per program chunk: it costs nothing inside the compiled program."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    def __call__(self, step: int, note: str = "") -> None: ...


@contextmanager
def bar(total: int, seeds: int, show: bool | None = None, label: str = "training", start: int = 0) -> Iterator[Advance]:
    """Shows steps done, seed-steps per second and time left, on stderr. Time counts from the last `advance(start)`.

    `show=None` shows a bar on a terminal, and on anything else (a log file) nothing.
    """
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        yield lambda step, note="": None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    began = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        job = progress.add_task(escape(label), total=total, completed=start, rate="", note="")

        def advance(step: int, note: str = "") -> None:
            nonlocal began
            if step == start:
                began = time.perf_counter()
                progress.update(job, note=note)
                return
            rate = (step - start) * seeds / max(time.perf_counter() - began, 1e-9)
            progress.update(job, completed=step, rate=f"{rate:.0f} seed-steps/s", note=note)

        yield advance
