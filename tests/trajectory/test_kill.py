"""A kill at any moment leaves everything up to the last chunk readable, and the run can go on to the same bytes."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import endless_writer
import numpy as np
import pytest
from small_run import ENDS, append, begin, expected, resume, store_bytes

from attnlab import trajectory
from attnlab.trajectory import RunDirError, journal, store

KILLS = 7  # each costs the start of a Python process, 0.5 s


def start(path: Path, back: int = 0) -> subprocess.Popen:
    command = [sys.executable, endless_writer.__file__, str(path), str(back)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check_what_is_there(path: Path) -> int:
    """Everything in the journal is sound and readable; its number of chunks."""
    report = trajectory.verify(path)
    assert report.ok, str(report)
    opened = trajectory.open(path)
    done = len(opened.journal)
    if done:
        wanted = np.concatenate([endless_writer.data(chunk)["loss"] for chunk in range(done)], axis=1)
        assert np.array_equal(opened.loss.values, wanted)
        last = opened.steps("params")[-1:]
        for step in last:
            chunk, row = (int(step) - 1) // 10, (int(step) - 1) % 10
            wanted = endless_writer.data(chunk)["params"]["w2"][1, row]
            assert np.array_equal(opened.params_at(int(step), 1)["w2"], wanted)
    return done


def test_sigkill_at_random_moments(tmp_path):
    """Killed again and again, from before the first chunk on, the run ends with the bytes of an unbroken one."""
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    began = time.perf_counter()
    endless_writer.main(unbroken, 0)
    whole = time.perf_counter() - began
    rng = random.Random(1)
    reached = []
    for kill in range(KILLS):
        process = start(broken, back=kill % 3)
        assert process.stdout is not None
        if kill:  # the first is killed while it starts, the others while they append
            assert process.stdout.readline() == "appending\n"
        time.sleep(0.3 if not kill else rng.uniform(0, whole / KILLS))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if broken.exists():
            reached.append(check_what_is_there(broken))
    process = start(broken)
    assert process.wait(timeout=60) == 0  # it takes about 2 s
    process.stdout.close() if process.stdout else None
    assert len(reached) >= KILLS - 1 and max(reached) > 0
    assert store_bytes(broken) == store_bytes(unbroken)
    for name in ("manifest.json", "journal.jsonl", "summary.json"):
        assert (broken / name).read_bytes() == (unbroken / name).read_bytes()
    assert trajectory.verify(broken).ok and not trajectory.verify(broken).notes


def test_journal_cut_at_every_place(unfinished):
    """Wherever the journal ends: complete lines count, a torn one does not, and none of it is called damage."""
    file = unfinished / "journal.jsonl"
    raw = file.read_bytes()
    ends = [place + 1 for place, byte in enumerate(raw) if byte == 10]
    places = sorted({*range(0, len(raw), 61), *(end + off for end in ends for off in (-2, -1, 0, 1)), len(raw)})
    for place in (place for place in places if place <= len(raw)):
        file.write_bytes(raw[:place])
        lines = sum(end <= place for end in ends)
        opened = trajectory.open(unfinished)
        assert len(opened.journal) == max(lines - 1, 0), place
        if place not in (0, *ends):
            assert "torn line" in str(trajectory.verify(unfinished))
        if lines:
            assert trajectory.verify(unfinished).ok, str(trajectory.verify(unfinished))


@pytest.mark.parametrize("chunks", range(5))
def test_resume_after_a_cut_gives_the_same_bytes(unfinished, original, chunks):
    """Torn line and files of later chunks are removed; what is appended again is what was there."""
    file = unfinished / "journal.jsonl"
    raw = file.read_bytes()
    place = sum(len(line) for line in raw.splitlines(keepends=True)[: chunks + 1])
    file.write_bytes(raw[: place + 40])
    writer = resume(unfinished)
    assert writer.chunks_done == chunks and file.read_bytes() == raw[:place]
    assert trajectory.verify(unfinished).ok and not trajectory.verify(unfinished).notes
    for chunk in range(chunks, len(ENDS)):
        append(writer, chunk)
    writer.finish({"outcome": [0, 0, 1]})
    assert store_bytes(unfinished) == store_bytes(original)
    assert (unfinished / "summary.json").read_bytes() == (original / "summary.json").read_bytes()


def test_truncate_to(run, original):
    writer = resume(run)
    assert writer.finished and writer.chunks_done == 4
    with pytest.raises(RunDirError, match="run is finished"):
        writer.append(4, {}, {})
    assert [writer.chunks_until(step) for step in (0, 10, 19, 20, 99)] == [0, 1, 1, 2, 4]
    with pytest.raises(RunDirError, match="has 4 chunks, the run cannot go on after 5"):
        writer.truncate_to(5)
    writer.truncate_to(4)
    assert writer.finished
    writer.truncate_to(1)
    assert not writer.finished and writer.chunks_done == 1
    assert trajectory.verify(run).ok and not trajectory.verify(run).notes
    assert np.array_equal(trajectory.open(run).loss.values, expected("loss", "loss", 1), equal_nan=True)
    assert not [name for name in store_bytes(run) if name.startswith("sinks/bos/c.") and not name.endswith("c.0.0.0.0")]
    for chunk in range(1, 4):
        append(writer, chunk)
    writer.finish({"outcome": [0, 0, 1]})
    assert store_bytes(run) == store_bytes(original)


@pytest.mark.parametrize("file", range(13))  # chunk 1 has 4 files (sinks, loss, and their steps), chunk 2 has 9
def test_a_failure_while_writing_changes_nothing(tmp_path, begun, original, monkeypatch, file):
    """The disk is full at the n-th file: the chunk does not exist; with space again, the same writer goes on."""
    shutil.copytree(begun, tmp_path / "run")
    writer = resume(tmp_path / "run")
    left, real = [file], store.write_durably

    def limited(path, raw):
        left[0] -= 1
        if left[0] < 0:
            path.write_bytes(raw[: len(raw) // 2])
            raise OSError(28, "No space left on device")
        real(path, raw)

    monkeypatch.setattr(store, "write_durably", limited)
    with pytest.raises(OSError, match="No space left"):
        for chunk in (1, 2):
            append(writer, chunk)
    done = 1 if file < 4 else 2
    assert len(trajectory.open(tmp_path / "run").journal) == writer.chunks_done == done
    assert trajectory.verify(tmp_path / "run").ok
    monkeypatch.undo()
    for chunk in range(done, 4):
        append(writer, chunk)
    assert store_bytes(tmp_path / "run") == store_bytes(original)


def test_a_journal_line_that_fails_is_taken_back(tmp_path, monkeypatch):
    writer = begin(tmp_path / "run")

    def torn(file, raw):
        file.write(raw[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "write_synced", torn)
    with pytest.raises(OSError, match="No space left"):
        append(writer, 0)
    monkeypatch.undo()
    append(writer, 0)
    assert trajectory.verify(tmp_path / "run").ok
    assert trajectory.open(tmp_path / "run").last_step == 10


def test_a_kill_before_the_first_line(tmp_path):
    """A directory with a manifest and half a store: it can be opened, verified, and begun again."""
    path = trajectory.create(tmp_path / "run", {})
    (path / "trajectory.zarr" / "params").mkdir(parents=True)
    (path / "trajectory.zarr" / "zarr.json").write_text("{")
    (path / "journal.jsonl").write_bytes(b'{"chunk":nul')
    assert trajectory.open(path).records == ()
    assert "no records yet" in repr(trajectory.open(path))
    assert trajectory.verify(path).ok
    append(resume(path), 0)
    assert trajectory.verify(path).ok and not trajectory.verify(path).notes


def test_data_without_journal_is_not_thrown_away(unfinished):
    (unfinished / "journal.jsonl").unlink()
    before = store_bytes(unfinished)
    with pytest.raises(RunDirError, match=r"holds data, but .* is missing or empty; restore it from a copy"):
        resume(unfinished)
    assert store_bytes(unfinished) == before


def test_two_writers_at_once(tmp_path):
    first = begin(tmp_path / "run")
    second = resume(tmp_path / "run")
    append(first, 0)
    with pytest.raises(RunDirError, match="another process writes to this run"):
        append(second, 0)
    append(first, 1)
    assert trajectory.verify(tmp_path / "run").ok
