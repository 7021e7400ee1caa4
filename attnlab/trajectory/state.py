"""Resumable state: the pytree that training needs to go on, bit for bit, kept by orbax.

A folder per step, the newest two kept, written under a temporary name and renamed: after a kill the newest finished one
is whole. The hashes of its files go to `<directory>.json` beside it. Of several processes each saves and restores what
is on its own devices, and the first one keeps these notes. All use of orbax is in this module, with what it needs to be
safe:

- saves are synchronous (`save_async` drops a save silently while another one runs);
- leaves are checked and numpy scalars made arrays before orbax sees them (it refuses the scalars, and after a save that
  raised, closing it can wait for minutes; therefore it is also not closed then, but the threads it started are waited
  for: one that still makes folders when the interpreter ends hangs it);
- restoring always has a target with shapes, dtypes and placement (without one, tuples of optax come back as lists, and
  arrays want the devices they were saved from).
"""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attnlab import hosts
from attnlab.trajectory.errors import DamagedFileError, RunDirError
from attnlab.trajectory.files import copy_files, is_remote, located, remove_folder, write_durably
from attnlab.trajectory.statenotes import differences, hash_files, leaf_types, read_notes, write_notes
from attnlab.trajectory.statetree import storable, target, with_empty

KEEP = 2
SENT = "sent"  # mark of a whole state in an object store, written last


def save(directory: str | os.PathLike[str], step: int, state: Any) -> float:
    """Save `state` as that of `step`, and drop all but the newest `KEEP` states.

    Args:
        directory: folder of the states (made if missing).
        step: steps done; must be above those saved already.
        state: pytree of jax or numpy arrays, typed PRNG keys, numpy scalars, bool, int, float, str.

    Returns:
        Seconds taken.

    Raises:
        RunDirError: a leaf of another type, other leaves than in the states before, or a step that is not the newest.
            Nothing is changed. HostsError: another process failed or is gone.
    """
    began = time.perf_counter()
    directory = _absolute(directory)
    state, leaves = storable(state), leaf_types(state)
    hosts.lead(lambda: _make_ready(directory, step, leaves))
    with _quiet() as ocp, hosts.contact(), _local(directory) as folder:
        keeper = _keeper(ocp, folder)
        with _leaving_no_thread():
            saved = keeper.save(step, state, force=True)  # force: by default orbax decides by itself whether to save
        keeper.close()  # not in a `with`: see above
        if folder != directory and saved:
            _send(folder, directory, step)
    if not saved:
        raise RunDirError(f"orbax did not save the state of step {step} to {directory}, and did not say why.")
    hosts.lead(lambda: write_notes(directory, steps(directory), leaves))
    return time.perf_counter() - began


def _make_ready(directory: Path, step: int, leaves: dict[str, str]) -> None:
    """Refuse a state that does not follow those saved; note its leaves if there is none."""
    if (known := read_notes(directory)).get("leaves", leaves) != leaves:
        raise RunDirError(
            f"state of step {step} differs from those in {directory}: {differences(known['leaves'], leaves)}."
        )
    if (last := latest(directory)) is not None and step <= last:
        raise RunDirError(
            f"{directory} holds the state of step {last}; step {step} must be above it. Drop newer states first "
            "(drop_after)."
        )
    if not known:  # before the first save: whatever a kill leaves can be checked against it
        directory.mkdir(parents=True, exist_ok=True)
        write_notes(directory, steps(directory), leaves)


def steps(directory: str | os.PathLike[str]) -> list[int]:
    """Steps whose states are complete, rising; [] if there is none. Imports no jax.

    Older ones than the newest `KEEP` do not count: orbax removes them file by file, and a kill may come in between.
    """
    directory = located(directory)
    if not directory.is_dir():
        return []
    whole = [entry for entry in directory.iterdir() if entry.name.isdecimal() and entry.is_dir()]
    if is_remote(directory):
        whole = [entry for entry in whole if (entry / SENT).exists()]
    found = sorted(int(entry.name) for entry in whole)
    return found[-KEEP:]


def latest(directory: str | os.PathLike[str]) -> int | None:
    """The newest step whose state is complete; None if there is none."""
    return max(steps(directory), default=None)


def drop_after(directory: str | os.PathLike[str], step: int) -> None:
    """Remove the states of all steps above `step`."""
    hosts.lead(lambda: _drop_after(located(directory), step))


def _drop_after(directory: Path, step: int) -> None:
    for newer in steps(directory):
        if newer > step:
            _drop(directory, newer)
    if notes := read_notes(directory):
        write_notes(directory, steps(directory), notes["leaves"])


def restore(directory: str | os.PathLike[str], step: int, like: Any) -> Any:
    """The state of `step`, every leaf equal in its bits to what was saved.

    jax's weak types are not kept: a leaf comes back as if it had been made with its dtype. A program that shall go on
    exactly as an unbroken one must have none in its state.

    Args:
        directory: folder of the states.
        step: one of `steps(directory)`.
        like: the state's tree: arrays, or `jax.eval_shape` of the function that makes them. Shapes and dtypes must be
            those saved. Leaves with a sharding are placed by it, others on the default device. numpy arrays come back
            as numpy arrays.

    Raises:
        RunDirError: no such step, or `like` does not fit.
        DamagedFileError: the files are not those that were written.
    """
    directory = _absolute(directory)
    if step not in (known := steps(directory)):
        raise RunDirError(f"{directory} holds no state of step {step}; steps: {known}.")
    if problems := hosts.lead(lambda: check(directory, step)):
        others = [other for other in known if other != step]
        told = "; ".join(f"{file} is {what}" for file, what in problems.items())
        raise DamagedFileError(
            f"{directory / str(step)}: {told}. Restore it from a copy, or resume from one of the steps {others}."
        )
    leaves = leaf_types(like)
    if (saved := read_notes(directory).get("leaves", leaves)) != leaves:  # orbax would cast, cut and pad
        raise RunDirError(f"the state of step {step} in {directory} does not fit `like`: {differences(saved, leaves)}.")
    with _quiet() as ocp, hosts.contact(), _local(directory) as folder:
        if folder != directory:
            copy_files(directory / str(step), folder / str(step))
        keeper = _keeper(ocp, folder)
        found = keeper.load(step, target(like))
        keeper.close()
    return with_empty(like, found)


def check(directory: str | os.PathLike[str], step: int) -> dict[str, str]:
    """What is wrong with the files of a state, by file; {} also if a kill came before their hashes were written."""
    directory = located(directory)
    hashes = hashes_of(directory).get(str(step))
    if hashes is None:
        return {}
    found = hash_files(directory / str(step))
    wrong = {
        name: "not what was written" if name in found else "missing"
        for name, digest in hashes.items()
        if found.get(name) != digest
    }
    return {**wrong, **{name: "not part of the state" for name in found if name not in hashes}}


def hashes_of(directory: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """SHA-256 by step and file, as noted after each save.

    Raises:
        DamagedFileError: the notes were changed.
    """
    return read_notes(located(directory)).get("states", {})


def _absolute(directory: str | os.PathLike[str]) -> Path:
    found = located(directory)
    return found if is_remote(found) else found.absolute()


@contextmanager
def _local(directory: Path) -> Iterator[Path]:
    """Where orbax works: in the folder itself, or in one on this disk, for what lies in an object store.

    Raises:
        HostsError: several processes, and an object store: what is on this disk the others do not see.
    """
    if not is_remote(directory):
        yield directory
        return
    if hosts.count() > 1:
        raise hosts.HostsError(
            f"{directory}: runs of several processes need a folder that all see, not an object store."
        )
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).absolute()


def _send(folder: Path, directory: Path, step: int) -> None:
    """Copy a saved state to an object store, its mark last; remove all but the newest `KEEP`."""
    copy_files(folder / str(step), directory / str(step))
    write_durably(directory / str(step) / SENT, b"")
    for old in sorted(int(e.name) for e in directory.iterdir() if e.name.isdecimal() and int(e.name) <= step)[:-KEEP]:
        _drop(directory, old)


def _drop(directory: Path, step: int) -> None:
    """Remove a state; one that is half removed must not look like a whole one."""
    folder = directory / str(step)
    if is_remote(directory):
        (folder / SENT).unlink(missing_ok=True)
    else:
        folder = folder.rename(directory / f".dropped-{step}")
    remove_folder(folder)


@contextmanager
def _leaving_no_thread(seconds: float = 10.0) -> Iterator[None]:
    """If the body raises, wait (at most `seconds`) for the threads it started. Workers of pools idle: not counted."""
    before = set(threading.enumerate())
    try:
        yield
    except BaseException:
        until = time.monotonic() + seconds
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith("Thread-"):  # the default name; pools name their workers
                threading.Thread.join(thread, max(0.0, until - time.monotonic()))  # orbax's own `join` raises
        raise


def _keeper(ocp: Any, directory: Path) -> Any:
    return ocp.training.Checkpointer(
        directory,
        preservation_policy=ocp.training.preservation_policies.LatestN(KEEP),
        cleanup_tmp_directories=True,  # what a kill left
    )


@contextmanager
def _quiet() -> Iterator[Any]:
    """orbax, imported late, and without its log (progress at level INFO, by way of absl)."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from orbax.checkpoint import v1 as ocp

        yield ocp
    finally:
        logger.setLevel(level)
