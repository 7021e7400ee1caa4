"""The run directory: its manifest, its creation, and what it remembers of the machine."""

import datetime
import importlib.metadata
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnlab.trajectory.errors import RunDirError, RunExistsError
from attnlab.trajectory.files import SEAL, is_remote, located, read_sealed, seal, sync_directory, to_json, write_durably

FORMAT = "attnlab run"
FORMAT_VERSION = 1

MANIFEST = "manifest.json"
TRAJECTORY = "trajectory.zarr"
JOURNAL = "journal.jsonl"
STATE = "state"
STATE_NOTES = "state.json"
SUMMARY = "summary.json"

PACKAGES = ("attnlab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "zarr", "numpy", "xarray")


def create(path: str | os.PathLike[str], manifest: Mapping[str, Any]) -> Path:
    """Make the directory of a new run, its manifest inside.

    The directory is prepared under a temporary name beside `path` and renamed, so that it exists if and only if its
    manifest does.

    Args:
        path: where the run shall live, a folder or an address (`gs://...`); must not exist. Missing parents are made.
        manifest: what the run is: `config`, schedule, ... in JSON types (see `files.to_json`). `format`,
            `format_version`, `created` (UTC) and `environment` are added unless given.

    Returns:
        The path of the new directory.

    Raises:
        RunExistsError: something exists at `path`.
        RunDirError: a value of the manifest has no JSON form.
    """
    path = located(path)
    if SEAL in manifest:
        raise RunDirError(f"manifest key {SEAL!r} is reserved for the hash of the manifest itself; rename it.")
    doc = {"format": FORMAT, "format_version": FORMAT_VERSION, "created": _utc_now(), **to_json(manifest, "manifest")}
    doc.setdefault("environment", environment())
    if path.exists() or (not is_remote(path) and path.is_symlink()):
        raise RunExistsError(_exists_message(path))
    if is_remote(path):
        write_durably(path / MANIFEST, seal(doc))
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    temporary.mkdir()
    try:
        write_durably(temporary / MANIFEST, seal(doc))
        sync_directory(temporary)
        try:
            temporary.rename(path)  # refuses a directory that has anything in it, also one made since the look above
        except OSError as error:
            if path.exists():
                raise RunExistsError(_exists_message(path)) from error
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(path.parent)
    return path


def read_manifest(path: str | os.PathLike[str], *, check: bool = True) -> dict[str, Any]:
    """The manifest of the run at `path`, its own hash (`sha256`) included.

    Args:
        path: a run directory.
        check: refuse a manifest that differs from what was written.

    Raises:
        DamagedFileError: `manifest.json` is missing, truncated or edited.
        RunDirError: it belongs to something else, or to a newer version of the format.
    """
    file = located(path) / MANIFEST
    doc = read_sealed(
        file,
        check=check,
        advice=f"Every run directory has one: check the path {str(path)!r}, or restore the file from a copy; "
        "the recorded arrays do not depend on it, and trajectory.open(path, check=False) reads them beside an edited "
        "manifest.",
    )
    if doc.get("format") != FORMAT:
        raise RunDirError(
            f"{file}: format = {doc.get('format')!r}, expected {FORMAT!r}. This is no run of this laboratory."
        )
    if doc.get("format_version") != FORMAT_VERSION:
        raise RunDirError(
            f"{file}: format_version = {doc.get('format_version')!r}, this version reads {FORMAT_VERSION}. Use a newer "
            "attnlab."
        )
    return doc


def environment(devices: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Where the program runs: package versions, Python, platform, devices, source commit.

    Args:
        devices: e.g. `{"kind": "cpu", "count": 2}`. By default asked of jax, but only if it is imported already:
            looking never starts a backend by itself in a program that does without.

    Returns:
        JSON types only. What is not known is None: `devices` without jax, `source` outside a git checkout.
    """
    if devices is None and "jax" in sys.modules:
        found = sys.modules["jax"].devices()
        devices = {"backend": found[0].platform, "kind": found[0].device_kind, "count": len(found)}
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "devices": None if devices is None else to_json(devices, "devices"),
        "source": _source(Path(__file__).resolve().parents[2]),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _source(root: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout this package is imported from; None if it is installed, or without git."""
    if not (root / ".git").exists():  # not merely somewhere under a foreign checkout, as an installed package may be
        return None
    commit, changes = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "dirty": None if changes is None else changes != ""}


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), "--no-optional-locks", *arguments]
    try:  # 5 s: a status of this tree takes 0.02 s; a hung file system must not keep a run from starting
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _exists_message(path: Path) -> str:
    return f"{path} exists; a run never overwrites. Give a new path, resume the run that is there, or move it away."
