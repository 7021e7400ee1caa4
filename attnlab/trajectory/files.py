"""Small files: JSON that knows its own hash, atomic writes, SHA-256; on a disk, or in an object store.

An address such as `gs://bucket/run` or `s3://bucket/run` is a path of `etils.epath`, which orbax uses too. A store has
no folders, no appending and no renaming, but an object is there as a whole or not at all.

A *sealed* document is JSON whose last key, `sha256`, is the hash of the rest. It has exactly one spelling: reading
spells it again and compares bytes, so that any flipped byte is found, also one in white space that no parser would
mind.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from attnlab.trajectory.errors import DamagedFileError, RunDirError

SEAL = "sha256"
_ADDRESS = re.compile(r"(gs|s3|az)://?")


def to_json(value: Any, where: str) -> Any:
    """`value` in JSON's own types.

    Tuples and arrays become lists, dataclasses objects, `nan` and `inf` strings: strict JSON has no `nan`, a diverged
        run
    must still be able to write its summary, and `float("nan")` reads the string back.

    Raises:
        RunDirError: a value (named by its path, which starts with `where`) has no JSON form.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist(), where)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
    raise RunDirError(
        f"{where} = {value!r} is of type {type(value).__name__}, which has no JSON form; allowed: None, bool, int, "
        "float, str, path, array, dataclass, and lists or mappings of these. Convert it first."
    )


def _spell(doc: Mapping[str, Any], indent: int | None) -> bytes:
    return json.dumps(doc, indent=indent, separators=None if indent else (",", ":"), allow_nan=False).encode()


def seal(doc: Mapping[str, Any], *, indent: int | None = 2) -> bytes:
    """The one spelling of `doc` (JSON types only) with its hash added as the last key, and a newline."""
    digest = hashlib.sha256(_spell(doc, indent)).hexdigest()
    return _spell({**doc, SEAL: digest}, indent) + b"\n"


def unseal(raw: bytes, *, indent: int | None = 2) -> dict[str, Any]:
    """The document in `raw`, its hash included.

    Raises:
        ValueError: `raw` is not what `seal` wrote; says whether it is no JSON at all, or JSON that was changed.
    """
    try:
        doc = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError("truncated or damaged (it is not valid JSON)") from error
    if not isinstance(doc, dict) or SEAL not in doc:
        raise ValueError("damaged (it has no hash of its own)")
    try:
        same = seal({key: value for key, value in doc.items() if key != SEAL}, indent=indent) == raw
    except ValueError:  # a number that became too large for a float
        same = False
    if not same:
        raise ValueError("edited or damaged (it does not have the hash that it names)")
    return doc


def read_sealed(path: Path, *, advice: str, check: bool = True) -> dict[str, Any]:
    """The sealed document at `path`. With `check=False` any JSON object is accepted.

    Raises:
        DamagedFileError: missing, truncated or changed; the message names the file and ends with `advice`.
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedFileError(f"{path} is missing. {advice}") from error
    try:
        if check:
            return unseal(raw)
        doc = json.loads(raw)
        if not isinstance(doc, dict):
            raise ValueError("damaged (not a JSON object)")
        return doc
    except json.JSONDecodeError as error:
        raise DamagedFileError(f"{path} is truncated or damaged (it is not valid JSON). {advice}") from error
    except ValueError as error:
        raise DamagedFileError(f"{path} is {error}. {advice}") from error


def write_synced(file: IO[bytes], raw: bytes) -> None:
    """Write all of `raw` to an unbuffered file and wait until the disk has it."""
    view = memoryview(raw)
    while view:  # one call may write less: on Linux at most 2 GiB
        view = view[file.write(view) :]
    os.fsync(file.fileno())


def write_durably(path: Path, raw: bytes) -> None:
    """Write a file and wait until the disk has it. Not atomic: for files that count only once a journal names them."""
    if is_remote(path):
        path.write_bytes(raw)
        return
    with path.open("wb", buffering=0) as file:
        write_synced(file, raw)


def write_atomically(path: Path, raw: bytes) -> None:
    """Write a file such that a kill at any moment leaves either the old content or the new."""
    if is_remote(path):
        path.write_bytes(raw)
        return
    temporary = path.with_name(f".{path.name}.tmp")
    write_durably(temporary, raw)
    temporary.replace(path)
    sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Wait until the disk has the content of `path`."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the disk has the names in directory `path`. Windows cannot open directories, and need not."""
    if os.name == "nt" or is_remote(path):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    if is_remote(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def located(path: str | os.PathLike[str]) -> Path:
    """`path`, or what an address names, with the same methods. (`pathlib` makes one slash of two: that is mended.)

    Raises:
        RunDirError: the library for that kind of store is not installed.
    """
    text = os.fspath(path)
    if (found := _ADDRESS.match(text)) is None:
        return Path(path)
    import fsspec
    from etils import epath

    try:
        fsspec.get_filesystem_class(found[1])
    except ImportError as error:
        raise RunDirError(f"{text}: {error}, or both stores by the extra: pip install 'attnlab[stores]'.") from error
    return cast(Path, epath.Path(f"{found[1]}://{text[found.end() :]}"))


def is_remote(path: Path) -> bool:
    """Whether it is in an object store."""
    return not isinstance(path, Path)


def size_of(path: Path) -> int:
    """Bytes of a file."""
    return path.stat().length if is_remote(path) else path.stat().st_size  # pyright: ignore[reportAttributeAccessIssue]


def files_in(folder: Path) -> list[Path]:
    """Every file in a folder and in those within, in order; [] if there is no such folder."""
    if not is_remote(folder):
        return sorted(file for file in folder.rglob("*") if file.is_file())
    found: list[Path] = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        found += files_in(entry) if entry.is_dir() else [entry]
    return sorted(found)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it."""
    if is_remote(folder):
        folder.rmtree()  # pyright: ignore[reportAttributeAccessIssue]
    else:
        shutil.rmtree(folder)


def copy_files(source: Path, target: Path) -> None:
    """Copy all files of a folder to another place, where they must not lie yet."""
    for file in files_in(source):
        to = target / file.relative_to(source).as_posix()
        if not is_remote(to):
            to.parent.mkdir(parents=True, exist_ok=True)
        write_durably(to, file.read_bytes())
