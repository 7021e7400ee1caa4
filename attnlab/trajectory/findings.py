"""What `verify` gives back."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Problem:
    """One damaged, missing or foreign file.

    Attributes:
        file: its path in the run directory.
        what: what is wrong with it.
        chunk: the chunk it belongs to, if any.
        record: the record it belongs to, if any.
        steps: first and last step of that chunk, or the step of a saved state twice.
    """

    file: str
    what: str
    chunk: int | None = None
    record: str | None = None
    steps: tuple[int, int] | None = None

    def __str__(self) -> str:
        place = [] if self.chunk is None else [f"chunk {self.chunk}"]
        place += [] if self.record is None else [f"record {self.record!r}"]
        place += [] if self.steps is None else [f"steps {self.steps[0]} to {self.steps[1]}"]
        return f"{self.file}{f' ({", ".join(place)})' if place else ''}: {self.what}"


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `verify`.

    Attributes:
        path: the run directory.
        problems: what is wrong; () if every byte is as written.
        notes: what is no damage, but worth knowing: traces of a kill, files that are not part of the run.
        files: number of files whose hash was compared.
        bytes: their size in total.
    """

    path: Path
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    files: int
    bytes: int

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def __str__(self) -> str:
        found = f"{len(self.problems)} problems" if self.problems else "sound"
        lines = [f"{self.path}: {found} ({self.files} files, {self.bytes / 1e6:.1f} MB checked)"]
        lines += [f"  PROBLEM {problem}" for problem in self.problems]
        return "\n".join([*lines, *(f"  note    {note}" for note in self.notes)])
