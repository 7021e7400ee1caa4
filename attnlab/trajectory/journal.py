"""The journal: what was recorded, line by line, each line bound to the one before it.

Line 0 says what will be written (seeds, plan, leaves, hashes of the zarr metadata); line 1 + j, that chunk j is
finished (steps of its rows, wall time, hashes of its files). Each holds the hash of the line before (line 0: of the
manifest) and its own, so that no byte can change, and no line but the last ones go missing, without notice. A line
counts once its newline is there.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnlab.trajectory.errors import DamagedFileError, RunDirError
from attnlab.trajectory.files import SEAL, is_remote, seal, size_of, unseal, write_synced
from attnlab.trajectory.layout import Header


@dataclasses.dataclass(frozen=True)
class Journal:
    """What a journal holds.

    Attributes:
        header: None if not even line 0 is complete and sound.
        chunks: the line of each finished chunk, up to the first damaged line.
        heads: the hash of the manifest, then that of each sound line.
        ends: bytes of the file up to and including each sound line.
        torn: bytes after the last complete line: what a kill while writing leaves.
        damage: what is wrong, by line number.
        beyond: lines after the first damaged one that are sound in themselves.
    """

    header: Header | None
    chunks: list[dict[str, Any]]
    heads: list[str]
    ends: list[int]
    torn: int
    damage: dict[int, str]
    beyond: list[dict[str, Any]]

    def require_sound(self, path: Path) -> None:
        """Raise DamagedFileError if any complete line was changed."""
        for number, what in self.damage.items():
            raise DamagedFileError(
                f"{path}, line {number + 1}, is {what}. Run `attnlab verify` to see all damage, and restore the file "
                "from a "
                f"copy; trajectory.open(path, check=False) reads the {len(self.chunks)} chunks before it."
            )


def read_journal(path: Path, genesis: str | None) -> Journal:
    """Read the journal at `path`, as far as it is there; what is in it never raises.

    Args:
        path: the file; a missing one reads as empty.
        genesis: hash of the manifest, which line 0 must name; None if it is not known.
    """
    *lines, tail = (path.read_bytes() if path.exists() else b"").split(b"\n")
    docs: list[dict[str, Any] | None] = []
    damage: dict[int, str] = {}
    ends: list[int] = []
    previous = genesis
    for number, line in enumerate(lines):
        ends.append((ends[-1] if ends else 0) + len(line) + 1)
        doc, what = _check_line(line, number, previous)
        if what:
            damage[number] = what
        docs.append(doc)
        previous = doc[SEAL] if doc else None  # the chain cannot be followed across an unreadable line
    if tail and _check_line(tail[:-1], len(lines), previous)[1] is None:
        damage[len(lines)] = "damaged in its last byte (it is complete but for the newline)"
    first = min(damage, default=len(docs))
    sound = [doc for doc in docs[:first] if doc]
    return Journal(
        header=Header.from_json(sound[0]) if sound else None,
        chunks=sound[1:],
        heads=[genesis or "", *(doc[SEAL] for doc in sound)],
        ends=ends[: len(sound)],
        torn=len(tail),
        damage=damage,
        beyond=[doc for doc in docs[max(first, 1) :] if doc],
    )


def _check_line(line: bytes, number: int, previous: str | None) -> tuple[dict[str, Any] | None, str | None]:
    try:
        doc = unseal(line + b"\n", indent=None)
    except ValueError as error:
        return None, str(error)
    if "chunk" not in doc or doc["chunk"] != (number - 1 if number else None):
        return None, f"out of place (it is that of chunk {doc.get('chunk')}): lines were removed or moved"
    if previous is not None and doc.get("previous") != previous:
        before = "the manifest" if number == 0 else "the line before"
        return doc, f"not the successor of {before}: one of the two was replaced"
    return doc, None


class JournalFile:
    """A journal to append to.

    Args:
        path: the file.
        journal: what is in it, as far as it shall be kept.
        writes: whether it is this process that writes the file; the others of a run say the same and write nothing.
    """

    def __init__(self, path: Path, journal: Journal, writes: bool = True):
        self.path, self._writes = path, writes
        self.heads, self._ends = list(journal.heads), list(journal.ends)

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, body: Mapping[str, Any]) -> None:
        """Add a line and wait until the disk has it. Should that fail, the line is removed again."""
        line = seal({**body, "previous": self.heads[-1]}, indent=None)
        if self._writes and is_remote(self.path):
            self.path.write_bytes(self._kept() + line)
        elif self._writes:
            with self.path.open("ab", buffering=0) as file:
                try:
                    write_synced(file, line)
                except BaseException:
                    file.truncate(self._size)
                    raise
        self.heads.append(unseal(line, indent=None)[SEAL])
        self._ends.append(self._size + len(line))

    def cut(self, lines: int) -> None:
        """Keep the first `lines` lines, drop all that follows. A kill leaves either the old length or the new."""
        self.heads, self._ends = self.heads[: lines + 1], self._ends[:lines]
        if self._writes and is_remote(self.path):
            self.path.write_bytes(self._kept())
        elif self._writes:
            with self.path.open("ab", buffering=0) as file:
                file.truncate(self._size)
                os.fsync(file.fileno())

    def require_alone(self) -> None:
        """Raise RunDirError if the file has another length than this object gave it."""
        if self._writes and (size := size_of(self.path)) != self._size:
            raise RunDirError(
                f"{self.path} has {size} bytes, expected {self._size}: another process writes to this run. Stop one of "
                "the two."
            )

    def _kept(self) -> bytes:
        """What is to stay of the file: an object cannot be appended to, but is replaced as a whole."""
        return self.path.read_bytes()[: self._size] if self._size else b""

    @property
    def _size(self) -> int:
        return self._ends[-1] if self._ends else 0
