"""The journal: what was recorded, line by line, each line bound to the one before it.

Line 0 says what will be written (schema, plan, hashes of the zarr metadata), line 1 + j that chunk j is finished (rows, steps, hashes of
its files). Each line holds the hash of the line before (line 0: of the manifest) and its own, so that no byte can change, and no line
go missing but the last ones, without notice. A line counts once its newline is there.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnlab.trajectory.errors import DamagedFileError
from attnlab.trajectory.files import SEAL, seal, unseal
from attnlab.trajectory.layout import Header

ADVICE = "Run `attnlab verify` on the directory to see what is damaged; restore the file from a copy."


@dataclasses.dataclass(frozen=True)
class Journal:
    """What a journal holds.

    Attributes:
        header: None if not even line 0 is complete.
        chunks: the line of each finished chunk, as far as they are sound.
        heads: hash of each sound line; before them, that of the manifest.
        ends: bytes of the file up to and including each sound line.
        torn: bytes after the last complete line: what a kill while writing leaves.
        damage: one sentence per damaged line, by line number.
        beyond: chunks after the first damaged line whose own lines are sound.
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
        for line, what in self.damage.items():
            raise DamagedFileError(f"{path} line {line + 1} is {what}. {ADVICE}")


def spell_line(body: Mapping[str, Any], previous: str) -> bytes:
    """A journal line: `body`, the hash of the line before, its own hash, newline."""
    return seal({**body, "previous": previous}, indent=None)


def read_journal(path: Path, genesis: str) -> Journal:
    """Read the journal at `path`, as far as it is there; never raises for what is in it.

    Args:
        path: the file; a missing one reads as empty.
        genesis: hash of the manifest, which line 0 must name.
    """
    raw = path.read_bytes() if path.exists() else b""
    *lines, tail = raw.split(b"\n")
    docs: list[dict[str, Any] | None] = []
    damage: dict[int, str] = {}
    ends: list[int] = []
    previous: str | None = genesis
    for number, line in enumerate(lines):
        ends.append((ends[-1] if ends else 0) + len(line) + 1)
        doc, what = _check_line(line, number, previous)
        if what:
            damage[number] = what
        docs.append(doc)
        previous = doc[SEAL] if doc else None  # after an unreadable line the chain cannot be followed across it
    torn = len(tail)
    if torn and _check_line(tail[:-1], len(lines), previous)[1] is None:
        damage[len(lines)] = "damaged in its last byte (it is complete but for the newline)"
    first = min(damage, default=len(docs))
    sound = [doc for doc in docs[:first] if doc]
    return Journal(
        header=Header.from_json(sound[0]) if sound else None,
        chunks=sound[1:],
        heads=[genesis, *(doc[SEAL] for doc in sound)],
        ends=ends[:first],
        torn=torn,
        damage=damage,
        beyond=[doc for doc in docs[max(first, 1) :] if doc],
    )


def _check_line(line: bytes, number: int, previous: str | None) -> tuple[dict[str, Any] | None, str | None]:
    try:
        doc = unseal(line + b"\n", indent=None)
    except ValueError as error:
        return None, str(error)
    if doc.get("chunk") != (number - 1 if number else None):
        return None, f"out of place (it belongs to chunk {doc.get('chunk')}): lines were removed or moved"
    if previous is not None and doc.get("previous") != previous:
        before = "the manifest" if number == 0 else "the line before"
        return doc, f"not the successor of {before}: one of the two was replaced"
    return doc, None
