"""Resumable state: the pytree that training needs to go on, bit for bit, kept by orbax.

A folder per step, the newest two kept, written under a temporary name and renamed: after a kill the newest finished one is whole. The
hashes of its files go to `<directory>.json` beside it. All use of orbax is in this module, with what it needs to be safe:

- saves are synchronous (`save_async` drops a save silently while another one runs);
- leaves are checked and numpy scalars made arrays before orbax sees them (it refuses the scalars, and after a save that raised,
  closing it can wait for minutes; therefore it is also not closed then);
- restoring always has a target with shapes, dtypes and placement (without one, tuples of optax come back as lists, and arrays
  want the devices they were saved from).
"""

import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from attnlab.trajectory.errors import DamagedFileError, RunDirError
from attnlab.trajectory.files import file_sha256, read_sealed, seal, write_atomically

KEEP = 2
_PLAIN = (bool, int, float, str)
_EMPTY = 0  # stands for arrays without entries, which orbax refuses


def save(directory: str | os.PathLike[str], step: int, state: Any) -> float:
    """Save `state` as that of `step`, and drop all but the newest `KEEP` states.

    Args:
        directory: folder of the states (made if missing).
        step: steps done; must be above those saved already.
        state: pytree of jax or numpy arrays, typed PRNG keys, numpy scalars, bool, int, float, str.

    Returns:
        Seconds taken.

    Raises:
        RunDirError: a leaf of another type, other leaves than in the states before, or a step that is not the newest. Nothing is changed.
    """
    began = time.perf_counter()
    directory = Path(directory).absolute()
    state, leaves = _checked(state), _leaves(state)
    if (known := _read(directory)).get("leaves", leaves) != leaves:
        raise RunDirError(
            f"state of step {step} differs from those in {directory}: {_differences(known['leaves'], leaves)}."
        )
    if (last := latest(directory)) is not None and step <= last:
        raise RunDirError(
            f"{directory} holds the state of step {last}; step {step} must be above it. Drop newer states first (drop_after)."
        )
    if not known:
        directory.mkdir(parents=True, exist_ok=True)
        _write_notes(directory, leaves)  # before the first save: whatever a kill leaves can be checked against it
    with _quiet() as ocp:
        keeper = _keeper(ocp, directory)
        saved = keeper.save(step, state, force=True)  # force: by default orbax decides by itself whether to save
        keeper.close()  # not in a `with`: see above
    if not saved:
        raise RunDirError(f"orbax did not save the state of step {step} to {directory}, and did not say why.")
    _write_notes(directory, leaves)
    return time.perf_counter() - began


def steps(directory: str | os.PathLike[str]) -> list[int]:
    """Steps whose states are complete, rising; [] if there is none. Imports no jax."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    return sorted(int(entry.name) for entry in directory.iterdir() if entry.name.isdecimal() and entry.is_dir())


def latest(directory: str | os.PathLike[str]) -> int | None:
    """The newest step whose state is complete; None if there is none."""
    return max(steps(directory), default=None)


def drop_after(directory: str | os.PathLike[str], step: int) -> None:
    """Remove the states of all steps above `step`."""
    directory = Path(directory)
    for newer in steps(directory):
        if newer > step:
            shutil.rmtree(directory / str(newer))
    if notes := _read(directory):
        _write_notes(directory, notes["leaves"])


def restore(directory: str | os.PathLike[str], step: int, like: Any) -> Any:
    """The state of `step`, every leaf equal in its bits to what was saved.

    Args:
        directory: folder of the states.
        step: one of `steps(directory)`.
        like: the state's tree: arrays, or `jax.eval_shape` of the function that makes them. Shapes and dtypes must be those saved. Leaves
            with a sharding are placed by it, others on the default device. numpy arrays come back as numpy arrays.

    Raises:
        RunDirError: no such step, or `like` does not fit.
        DamagedFileError: the files are not those that were written.
    """
    directory = Path(directory).absolute()
    if step not in (known := steps(directory)):
        raise RunDirError(f"{directory} holds no state of step {step}; steps: {known}.")
    if problems := check(directory, step):
        others = [other for other in known if other != step]
        raise DamagedFileError(
            f"{directory / str(step)}: {'; '.join(problems)}. Restore it from a copy, or resume from one of the steps {others}."
        )
    leaves = _leaves(like)
    if (saved := _read(directory).get("leaves", leaves)) != leaves:  # orbax would cast, cut and pad
        raise RunDirError(
            f"the state of step {step} in {directory} does not fit `like`: {_differences(saved, leaves)}."
        )
    with _quiet() as ocp:
        keeper = _keeper(ocp, directory)
        found = keeper.load(step, _target(like))
        keeper.close()
    return _with_empty(like, found)


def check(directory: str | os.PathLike[str], step: int) -> list[str]:
    """What is wrong with the files of a state: one phrase per file; [] if nothing is, or if a kill came before the hashes were written."""
    directory = Path(directory)
    hashes = hashes_of(directory).get(str(step))
    if hashes is None:
        return []
    found = _hash_files(directory / str(step))
    wrong = [
        f"{name} is missing" if name not in found else f"{name} is not what was written"
        for name in hashes
        if found.get(name) != hashes[name]
    ]
    return [*wrong, *(f"{name} was added" for name in found if name not in hashes)]


def hashes_of(directory: Path) -> dict[str, dict[str, str]]:
    """SHA-256 by step and file, as written after each save.

    Raises:
        DamagedFileError: the list was changed.
    """
    return _read(directory).get("states", {})


def notes_file(directory: Path) -> Path:
    """Where the hashes of the states in `directory`, and the names and types of their leaves, are."""
    return directory.with_name(directory.name + ".json")


def _read(directory: Path) -> dict[str, Any]:
    file = notes_file(directory)
    advice = "It holds only hashes and types: delete it to resume without checking them."
    return read_sealed(file, advice=advice) if file.exists() else {}


def _write_notes(directory: Path, leaves: dict[str, str]) -> None:
    known = hashes_of(directory)  # never hash a state twice: damage must not be blessed
    states = {str(step): known.get(str(step)) or _hash_files(directory / str(step)) for step in steps(directory)}
    write_atomically(notes_file(directory), seal({"states": states, "leaves": leaves}))


def _hash_files(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}


def _keeper(ocp: Any, directory: Path) -> Any:
    return ocp.training.Checkpointer(
        directory,
        preservation_policy=ocp.training.preservation_policies.LatestN(KEEP),
        cleanup_tmp_directories=True,  # what a kill left
    )


def _checked(state: Any) -> Any:
    import jax

    def leaf(path: Any, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = np.asarray(value)
        if isinstance(value, (jax.Array, np.ndarray, *_PLAIN)) and getattr(value, "dtype", None) != object:
            return _EMPTY if getattr(value, "size", 1) == 0 else value
        name = jax.tree_util.keystr(path)
        raise RunDirError(
            f"state{name} is a {type(value).__name__}; allowed are arrays, typed PRNG keys, bool, int, float, str. Convert it."
        )

    return jax.tree_util.tree_map_with_path(leaf, state)


def _leaves(tree: Any) -> dict[str, str]:
    """Type of every leaf by its path: `float32[4, 16]`, or the name of a plain type."""
    import jax

    def spell(leaf: Any) -> str:
        return f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "shape") else type(leaf).__name__

    return {jax.tree_util.keystr(path): spell(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _differences(saved: dict[str, str], wanted: dict[str, str]) -> str:
    names = [name for name in {**saved, **wanted} if saved.get(name) != wanted.get(name)]
    told = [
        f"{name} is {saved.get(name, 'not there')} in the files, {wanted.get(name, 'not there')} here"
        for name in names[:5]
    ]
    return "; ".join(told) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")


def _target(like: Any) -> Any:
    import jax

    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def leaf(value: Any) -> Any:
        if getattr(value, "size", 1) == 0:
            return _EMPTY
        if isinstance(value, np.generic | np.ndarray):
            return np.asarray(value)
        if not hasattr(value, "shape"):
            return value
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=getattr(value, "sharding", None) or here)

    return jax.tree.map(leaf, like)


def _with_empty(like: Any, found: Any) -> Any:
    import jax

    def leaf(wanted: Any, value: Any) -> Any:
        if getattr(wanted, "size", 1):
            return value
        return np.empty_like(wanted) if isinstance(wanted, np.ndarray) else jax.numpy.empty(wanted.shape, wanted.dtype)

    return jax.tree.map(leaf, like, found)


@contextmanager
def _quiet() -> Iterator[Any]:
    """orbax, imported late, and without its log: progress at level INFO, and one warning per restore that names nothing to be done."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from orbax.checkpoint import v1 as ocp

        with warnings.catch_warnings():
            yield ocp
    finally:
        logger.setLevel(level)
