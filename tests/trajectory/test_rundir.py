"""The directory itself: made whole or not at all, never over something, and clear about what is wrong with it."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attnlab import trajectory
from attnlab.trajectory import DamagedFileError, RunDirError, RunExistsError, files, rundir


def test_manifest_round_trip(tmp_path):
    path = trajectory.create(
        tmp_path / "a" / "run", {"config": {"width": 64, "names": ("x", "y"), "beta": np.float32(0.5)}}
    )
    manifest = trajectory.read_manifest(path)
    assert manifest["config"] == {"width": 64, "names": ["x", "y"], "beta": 0.5}
    assert manifest["format"] == "attnlab run" and manifest["created"].endswith("+00:00")
    assert set(manifest["environment"]["packages"]) >= {"jax", "flax", "optax", "orbax-checkpoint", "zarr", "numpy"}
    assert [entry.name for entry in path.iterdir()] == ["manifest.json"]
    assert [entry.name for entry in path.parent.iterdir()] == ["run"]  # no temporary directory is left


@pytest.mark.parametrize("kind", ["run", "directory", "file", "link"])
def test_nothing_is_overwritten(run, tmp_path, kind):
    path = tmp_path / "taken"
    if kind == "run":
        path = run
    elif kind == "directory":
        path.mkdir()
    elif kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(tmp_path / "nowhere")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(RunExistsError, match=r"exists; a run never overwrites.*resume"):
        trajectory.create(path, {})
    with pytest.raises(FileExistsError):
        trajectory.create(path, {})
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_two_programs_that_want_the_same_path(tmp_path, monkeypatch):
    """Whoever comes second finds it out, also if both saw the path free."""
    trajectory.create(tmp_path / "run", {"config": 1})
    looks, real = [], Path.exists

    def blind_at_first(self):
        looks.append(self)
        return len(looks) > 1 and real(self)

    monkeypatch.setattr(Path, "exists", blind_at_first)
    with pytest.raises(RunExistsError):
        trajectory.create(tmp_path / "run", {"config": 2})
    monkeypatch.undo()
    assert trajectory.read_manifest(tmp_path / "run")["config"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_manifest_that_is_not_whole(run):
    file = run / "manifest.json"
    raw = file.read_bytes()
    for changed, said in (
        (raw[: len(raw) // 2], "truncated or damaged"),
        (b"", "truncated or damaged"),
        (raw[:-1], "edited or damaged"),
        (raw.replace(b'"width": 64', b'"width": 65'), "edited or damaged"),
        (raw.replace(b'"width": 64', b'"width":  64'), "edited or damaged"),
        (b"[]", r"damaged \(it has no hash of its own"),
        (b"\xff\xfe", "truncated or damaged"),
    ):
        file.write_bytes(changed)
        for use in (trajectory.read_manifest, trajectory.open):
            with pytest.raises(DamagedFileError, match=rf"manifest\.json is {said}.*restore the file from a copy"):
                use(run)
        assert [problem.file for problem in trajectory.verify(run).problems] == ["manifest.json"]
    file.write_bytes(raw.replace(b'"width": 64', b'"width": 65'))
    opened = trajectory.open(run, check=False)
    assert opened.config == {"width": 65} and opened.loss.shape == (3, 10)
    file.write_bytes(files.seal({"format": "attnlab run", "format_version": 1, "config": 7}))  # sound, but another one
    with pytest.raises(DamagedFileError, match="not the successor of the manifest"):
        trajectory.open(run)
    assert [problem.file for problem in trajectory.verify(run).problems] == ["journal.jsonl"]
    assert trajectory.open(run, check=False).loss.shape == (3, 10)
    file.unlink()
    with pytest.raises(DamagedFileError, match=r"manifest\.json is missing.*check the path"):
        trajectory.open(run)
    with pytest.raises(DamagedFileError, match="is missing"):
        trajectory.open(run / "nowhere")


def test_a_manifest_of_something_else(tmp_path):
    for doc, said in (
        ({"format": "other"}, "format = 'other', expected"),
        ({"format_version": 2}, "Use a newer attnlab"),
    ):
        path = trajectory.create(tmp_path / next(iter(doc)), doc)
        with pytest.raises(RunDirError, match=said):
            trajectory.read_manifest(path)


def test_values_without_json_form_are_named(tmp_path):
    with pytest.raises(RunDirError, match=r"manifest\.config\.f\[1\] = .* is of type builtin_function_or_method"):
        trajectory.create(tmp_path / "run", {"config": {"f": [1, len]}})
    with pytest.raises(RunDirError, match="'sha256' is reserved"):
        trajectory.create(tmp_path / "run", {"sha256": 1})
    assert not list(tmp_path.iterdir())


def test_nan_is_written_as_strict_json(tmp_path):
    """A diverged run must be able to say so, to readers that know no nan too."""
    path = trajectory.create(tmp_path / "run", {"loss": [float("nan"), np.inf, -math.inf, np.float32("nan")]})

    def refuse(name):
        raise AssertionError(name)

    doc = json.loads((path / "manifest.json").read_text(), parse_constant=refuse)
    assert [str(float(x)) for x in doc["loss"]] == ["nan", "inf", "-inf", "nan"]


def test_environment(monkeypatch):
    found = rundir.environment({"kind": "tpu", "count": 8})
    assert found["devices"] == {"kind": "tpu", "count": 8}
    assert found["packages"]["numpy"] == np.__version__
    monkeypatch.setattr(rundir, "_git", lambda *arguments: None)  # no git on this machine
    assert rundir.environment({})["source"] is None
    assert rundir._source(Path("/")) is None
    code = "import sys; from attnlab.trajectory import environment as e; print(e()['devices'], 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "False"]


def test_git_says_commit_and_changes(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            check=True,
            capture_output=True,
        )

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    found = rundir._source(tmp_path)
    assert found is not None and len(found["commit"]) == 40 and found["dirty"] is False
    (tmp_path / "file").write_text("2")
    assert rundir._source(tmp_path) == {**found, "dirty": True}


def test_atomic_writing_leaves_the_old_or_the_new(tmp_path, monkeypatch):
    file = tmp_path / "doc.json"
    files.write_atomically(file, b"old")

    def fail(path, raw):
        path.write_bytes(raw[:1])
        raise OSError("disk full")

    monkeypatch.setattr(files, "write_durably", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
