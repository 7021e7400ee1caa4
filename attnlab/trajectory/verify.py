"""Is every byte of a run directory what was written? If not: which file, which chunk, which steps."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attnlab.trajectory import state
from attnlab.trajectory.errors import DamagedFileError, RunDirError
from attnlab.trajectory.files import file_sha256, files_in, located, read_sealed, size_of
from attnlab.trajectory.findings import Problem, Report
from attnlab.trajectory.journal import Journal, read_journal
from attnlab.trajectory.layout import chunk_of
from attnlab.trajectory.rundir import JOURNAL, MANIFEST, STATE, STATE_NOTES, SUMMARY, TRAJECTORY, read_manifest


def verify(path: str | os.PathLike[str]) -> Report:
    """Compare every file of the run directory at `path` with the hashes taken when it was written.

    Covered are the manifest, the journal, all zarr data and metadata, the summary and the saved states. A run that was
    killed, or still goes on, is sound if everything that its journal names is. Nothing is changed.

    Raises:
        RunDirError: `path` is no directory.
    """
    path = located(path)
    if not path.is_dir():
        raise RunDirError(f"{path} is not a directory; give the path of a run.")
    check = _Verification(path)
    journal = read_journal(path / JOURNAL, check.manifest())
    check.journal(journal)
    check.foreign(journal, check.data(journal))
    check.summary(journal)
    check.states(journal)
    return Report(path, tuple(check.problems), tuple(check.notes), check.files, check.bytes)


class _Verification:
    def __init__(self, path: Path):
        self.path = path
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.files = self.bytes = 0

    def manifest(self) -> str | None:
        """Check the manifest; its hash if it is sound."""
        try:
            found = read_manifest(self.path)["sha256"]
        except RunDirError as error:
            self._sentence(MANIFEST, error)
            return None
        self._count(self.path / MANIFEST)
        return found

    def journal(self, journal: Journal) -> None:
        """Check the journal's own lines."""
        file = self.path / JOURNAL
        if not file.exists():
            if (self.path / TRAJECTORY).exists() or (self.path / SUMMARY).exists():
                self._problem(JOURNAL, "missing")
            else:
                self.notes.append("nothing was recorded yet")
            return
        self._count(file)
        for number, what in journal.damage.items():
            chunk = number - 1 if number else None
            span = journal.header.plan.span(chunk) if journal.header and chunk is not None else None
            self._problem(JOURNAL, f"line {number + 1} is {what}", chunk=chunk, steps=span)
        if journal.torn and not journal.damage:
            self.notes.append(f"{JOURNAL} ends in a torn line ({journal.torn} bytes): a kill. Resuming cuts it off.")

    def data(self, journal: Journal) -> set[str]:
        """Check every file of the store that a sound line names; their paths in the store."""
        known: set[str] = set()
        for name, digest in (journal.header.files if journal.header else {}).items():
            known.add(name)
            self._hash(name, digest, record=name.split("/")[0] if "/" in name else None)
        for line in (*journal.chunks, *(line for line in journal.beyond if line["chunk"] is not None)):
            span = (line["first_step"], line["last_step"])
            for name, digest in line["files"].items():
                known.add(name)
                self._hash(name, digest, chunk=line["chunk"], record=name.split("/")[0], steps=span)
        return known

    def foreign(self, journal: Journal, known: set[str]) -> None:
        """Find files that no line names."""
        unsure = {
            number - 1 for number in journal.damage
        }  # chunks whose line is damaged: their files cannot be checked
        listed = len(journal.chunks) + len(journal.beyond) + len(unsure)
        pending: set[int] = set()
        for name in _files(self.path / TRAJECTORY):
            chunk = chunk_of(name.split("/")[-2], name.split("/")[-1]) if "/" in name else None
            if name in known or chunk in unsure or (journal.header is None and chunk is None):
                continue
            if chunk is not None and chunk >= listed:
                pending.add(chunk)
            else:
                self._problem(
                    f"{TRAJECTORY}/{name}", "not part of the run: no line of the journal names it", chunk=chunk
                )
        if pending:
            self.notes.append(f"files of the unfinished chunks {sorted(pending)}: a kill. Resuming removes them.")
        ours = {MANIFEST, JOURNAL, SUMMARY, STATE_NOTES, TRAJECTORY, STATE}
        if others := sorted(entry.name for entry in self.path.iterdir() if entry.name not in ours):
            self.notes.append(f"not part of the run: {', '.join(others)}")

    def summary(self, journal: Journal) -> None:
        """Check the summary, and that the journal ends where the run did."""
        file = self.path / SUMMARY
        if not file.exists():
            return
        try:
            doc = read_sealed(file, advice="")
        except DamagedFileError as error:
            self._sentence(SUMMARY, error)
            return
        self._count(file)
        if doc["journal"] != journal.heads[-1] and not journal.damage:
            what = (
                f"has {len(journal.chunks)} chunks, the run ended with {doc['chunks']}, or they are not the same ones"
            )
            self._problem(JOURNAL, what, chunk=len(journal.chunks), steps=(_last(journal), _last(journal)))

    def states(self, journal: Journal) -> None:
        """Check the saved states."""
        folder = self.path / STATE
        try:
            hashes = state.hashes_of(folder)
        except DamagedFileError as error:
            self._sentence(STATE_NOTES, error)
            return
        if (self.path / STATE_NOTES).exists():
            self._count(self.path / STATE_NOTES)
        known = state.steps(folder)
        for step in known:
            if str(step) not in hashes:
                self.notes.append(
                    f"{STATE}/{step} has no hashes: a kill just after it was saved. It cannot be checked."
                )
                continue
            for name in _files(folder / str(step)):
                self._count(folder / str(step) / name)
            for name, what in state.check(folder, step).items():
                self._problem(f"{STATE}/{step}/{name}", what, steps=(step, step))
        newest = max(map(int, hashes), default=-1)
        if newest > max(known, default=-1):
            self._problem(f"{STATE}/{newest}", "missing", steps=(newest, newest))
        if known and known[-1] > _last(journal) and not journal.damage:
            what = (
                f"ends at step {_last(journal)}, before the saved state of step {known[-1]}: its last lines were lost"
            )
            self._problem(JOURNAL, what, chunk=len(journal.chunks), steps=(_last(journal), known[-1]))
        strays = {entry.name for entry in folder.iterdir()} - {str(step) for step in known} if folder.is_dir() else ()
        if strays:
            self.notes.append(f"in {STATE}: {', '.join(sorted(strays))}: a kill while saving.")

    def _hash(self, name: str, digest: str, **place: Any) -> None:
        file = self.path / TRAJECTORY / name
        if not file.is_file():
            self._problem(f"{TRAJECTORY}/{name}", "missing", **place)
            return
        self._count(file)
        if file_sha256(file) != digest:
            self._problem(f"{TRAJECTORY}/{name}", "not what was written", **place)

    def _problem(self, file: str, what: str, **place: Any) -> None:
        self.problems.append(Problem(file, what, **place))

    def _sentence(self, name: str, error: RunDirError) -> None:
        what = str(error).removeprefix(str(self.path / name)).removeprefix(": ").removeprefix(" is ")
        self._problem(name, what.split(". ")[0].strip())

    def _count(self, file: Path) -> None:
        self.files += 1
        self.bytes += size_of(file)


def _files(folder: Path) -> Iterable[str]:
    return [file.relative_to(folder).as_posix() for file in files_in(folder)]


def _last(journal: Journal) -> int:
    return journal.chunks[-1]["last_step"] if journal.chunks else 0
