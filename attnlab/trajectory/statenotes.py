"""What is noted about saved states beside them: hashes of their files, and names and types of their leaves."""

from pathlib import Path
from typing import Any

from attnlab.trajectory.files import file_sha256, files_in, read_sealed, seal, write_atomically


def notes_file(directory: Path) -> Path:
    """Where the notes on the states in `directory` are: `<directory>.json`."""
    return directory.with_name(directory.name + ".json")


def read_notes(directory: Path) -> dict[str, Any]:
    """`states`: SHA-256 by step and file; `leaves`: types by path. {} if nothing was ever saved.

    Raises:
        DamagedFileError: they were changed.
    """
    file = notes_file(directory)
    advice = "It holds only hashes and types: delete it to resume without checking them."
    return read_sealed(file, advice=advice) if file.exists() else {}


def write_notes(directory: Path, steps: list[int], leaves: dict[str, str]) -> None:
    """Note the hashes of the states of `steps`. None is hashed twice: later damage must not be blessed."""
    known = read_notes(directory).get("states", {})
    states = {str(step): known.get(str(step)) or hash_files(directory / str(step)) for step in steps}
    write_atomically(notes_file(directory), seal({"states": states, "leaves": leaves}))


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by path in it."""
    return {file.relative_to(folder).as_posix(): file_sha256(file) for file in files_in(folder)}


def leaf_types(tree: Any) -> dict[str, str]:
    """Type of every leaf by its path: `float32[4, 16]`, or the name of a plain type."""
    import jax

    def spell(leaf: Any) -> str:
        return f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "shape") else type(leaf).__name__

    return {jax.tree_util.keystr(path): spell(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def differences(saved: dict[str, str], wanted: dict[str, str]) -> str:
    """The first few leaves that are not the same, in words."""
    names = [name for name in {**saved, **wanted} if saved.get(name) != wanted.get(name)]
    told = [f"{n} is {saved.get(n, 'not there')} in the files, {wanted.get(n, 'not there')} here" for n in names[:5]]
    return "; ".join(told) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")
