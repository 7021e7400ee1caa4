"""One flipped byte anywhere is found, and named."""

import random
import shutil

import jax.numpy as jnp
import pytest
from small_run import ENDS, append, resume

from attnlab import trajectory
from attnlab.trajectory import RunDirError, state

FLIPS = 110  # in about 70 files: every one is hit at least once, the JSON ones several times


@pytest.fixture(scope="module")
def whole(original, tmp_path_factory):
    """A finished run with saved states."""
    path = shutil.copytree(original, tmp_path_factory.mktemp("whole") / "run")
    for step in (20, 30, 40):
        state.save(path / "state", step, {"w": jnp.arange(6.0) + step, "step": jnp.int32(step)})
    return path


def all_files(path):
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def flip(file, place: int, bit: int) -> bytes:
    """Flip a bit; the content before."""
    raw = file.read_bytes()
    changed = bytearray(raw)
    changed[place] ^= 1 << bit
    file.write_bytes(changed)
    return raw


def test_a_sound_run_is_sound(whole, run, tmp_path):
    for path in (whole, run):
        report = trajectory.verify(path)
        assert report.ok and not report.notes, str(report)
    assert trajectory.verify(whole).files == len(all_files(whole))
    trajectory.create(tmp_path / "new", {})
    assert trajectory.verify(tmp_path / "new").ok
    assert "nothing was recorded yet" in str(trajectory.verify(tmp_path / "new"))


def test_a_flipped_bit_anywhere_is_found_and_named(whole):
    rng = random.Random(0)
    names = [name for name in all_files(whole) if (whole / name).stat().st_size]
    places = [(name, rng.randrange((whole / name).stat().st_size)) for name in names]  # every file once
    small = [name for name in names if name.endswith((".json", ".jsonl"))]
    while len(places) < FLIPS:
        name = rng.choice(small if len(places) % 2 else names)
        places.append((name, rng.randrange((whole / name).stat().st_size)))
    places += [(name, -1) for name in small] + [(name, 0) for name in small]  # the final newline, the first brace
    for name, place in places:
        raw = flip(whole / name, place, rng.randrange(8))
        report = trajectory.verify(whole)
        (whole / name).write_bytes(raw)
        assert not report.ok, f"{name} byte {place}: not found"
        problem = next((problem for problem in report.problems if problem.file == name), None)
        assert problem is not None, f"{name} byte {place} is not named in {report}"
        parts = name.split("/")
        if parts[0] == "trajectory.zarr" and parts[-1].startswith("c.") and parts[2] != "seed":
            chunk = int(parts[-1].split(".")[1 if parts[2] == "step" else 2])
            span = (ENDS[chunk - 1] if chunk else 0, ENDS[chunk])
            assert (problem.chunk, problem.record, problem.steps) == (chunk, parts[1], span)
            assert f"{name} (chunk {chunk}, record '{parts[1]}', steps {span[0]} to {span[1]})" in str(report)
        if name == "journal.jsonl":
            line = raw[: place % len(raw)].count(b"\n")
            assert problem.chunk == (line - 1 if line else None)
        if parts[0] == "state":
            assert problem.steps == (int(parts[1]),) * 2
    assert trajectory.verify(whole).ok


@pytest.mark.parametrize(
    "name", ["sinks/bos/c.0.1.0.0", "params/step/c.2", "zarr.json", "loss/zarr.json", "loss/seed/c.0"]
)
def test_a_missing_file_is_named(run, name):
    (run / "trajectory.zarr" / name).unlink()
    (problem,) = trajectory.verify(run).problems
    assert (problem.file, problem.what) == (f"trajectory.zarr/{name}", "missing")


def test_a_truncated_file_is_named(run):
    file = run / "trajectory.zarr/sinks/bos/c.0.1.0.0"
    file.write_bytes(file.read_bytes()[:-1])
    assert "sinks/bos/c.0.1.0.0 (chunk 1, record 'sinks', steps 10 to 20): not what" in str(trajectory.verify(run))


def test_foreign_files(run):
    (run / "trajectory.zarr/sinks/bos/notes.txt").write_text("mine")
    (run / "report.html").write_text("mine")
    (run / "trajectory.zarr/sinks/bos/c.0.3.0.1").write_text("x")
    report = trajectory.verify(run)
    assert [problem.file for problem in report.problems] == [
        "trajectory.zarr/sinks/bos/c.0.3.0.1",
        "trajectory.zarr/sinks/bos/notes.txt",
    ]
    assert report.notes == ("not part of the run: report.html",)


def test_lines_removed_moved_or_replaced_are_found(run, tmp_path):
    journal = run / "journal.jsonl"
    raw = journal.read_bytes()
    lines = raw.splitlines(keepends=True)
    trajectory.create(tmp_path / "other", {"config": {"width": 65}})
    append(resume(tmp_path / "other"), 0)
    foreign = (tmp_path / "other" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for changed in (
        lines[:-1],  # a finished run knows its last line
        lines[:2] + lines[3:],
        [*lines[:2], lines[3], lines[2], *lines[4:]],
        [lines[0], foreign[1], *lines[2:]],
        foreign,
        [],
    ):
        journal.write_bytes(b"".join(changed))
        report = trajectory.verify(run)
        assert any(problem.file == "journal.jsonl" for problem in report.problems), report
    journal.unlink()
    assert "journal.jsonl: missing" in str(trajectory.verify(run))


def test_a_journal_shorter_than_the_saved_state_is_found(whole, tmp_path):
    """Without a summary, the state is the witness that lines were lost."""
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "summary.json").unlink()
    journal = run / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    assert "ends at step 30, before the saved state of step 40" in str(trajectory.verify(run))


def test_damage_in_the_middle_of_the_journal(run):
    """Chunks after the damaged line are still checked; opening refuses, or reads what comes before."""
    journal = run / "journal.jsonl"
    flip(journal, journal.read_bytes().index(b'"chunk":1') + 3, 0)
    flip(run / "trajectory.zarr/sinks/bos/c.0.3.0.0", 5, 0)
    found = {(problem.file, problem.chunk, problem.steps) for problem in trajectory.verify(run).problems}
    assert found == {("journal.jsonl", 1, (10, 20)), ("trajectory.zarr/sinks/bos/c.0.3.0.0", 3, (30, 40))}
    with pytest.raises(
        trajectory.DamagedFileError, match=r"journal\.jsonl, line 3, is .* reads the 1 chunks before it"
    ):
        trajectory.open(run)
    assert trajectory.open(run, check=False).last_step == 10


def test_a_missing_state_is_named(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "state" / "40")
    assert "state/40 (steps 40 to 40): missing" in str(trajectory.verify(run))


def test_no_directory(tmp_path):
    with pytest.raises(RunDirError, match="is not a directory"):
        trajectory.verify(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "manifest.json: missing" in str(trajectory.verify(tmp_path / "empty")).replace(" is missing", ": missing")
