"""A run that was stopped, however it was, ends like one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from training_cases import STEPS, FixedPoints, TwoLayerLinear, same_bits, squared_error, train, uneven

import attnlab as al
from attnlab import trajectory
from attnlab.config import ConfigError
from attnlab.training.keeper import Keeper
from attnlab.training.session import Session
from attnlab.trajectory import RunDirError, RunExistsError, state

SCRIPT = Path(__file__).with_name("killed_run.py")


def killed(path: Path, action: str, *moment: str) -> None:
    """Start or resume the sharded run in a process that is killed at `moment`."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run([sys.executable, SCRIPT, path, action, *moment], env=env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, f"it was to be killed {moment}: {done.returncode} {done.stderr[-2000:]}"


def recorded(path: Path) -> dict[str, bytes]:
    """Every file of the trajectory."""
    store = path / "trajectory.zarr"
    return {str(f.relative_to(store)): f.read_bytes() for f in sorted(store.rglob("*")) if f.is_file()}


def assert_equals(run: al.Run, unbroken: al.Run) -> None:
    """The same final parameters bit for bit, the same files byte for byte, the same journal but for times."""
    assert run.outcome.tolist() == [0, 0, 0]
    assert same_bits(run.params, unbroken.params)
    assert recorded(run.path) == recorded(unbroken.path)
    lines = [
        [{k: v for k, v in doc.items() if k not in ("seconds", "previous", "sha256")} for doc in r.trajectory.journal]
        for r in (run, unbroken)
    ]
    assert lines[0] == lines[1]
    report = trajectory.verify(run.path)
    assert not report.problems, str(report)


@pytest.mark.parametrize(
    "moments",
    [
        # nothing but the manifest and an empty store; then in the midst of the files of a chunk
        ["before advance 1", "after chunk file 30"],
        # records of chunk 1 (line 0 is the header), state of chunk 0; then its state, without hashes
        ["after journal line 3", "before state notes 2"],
        # at any moment, most likely while a state is written; then with all done but the summary
        ["0.02", "before finish 1"],
    ],
    ids=lambda moments: ", then ".join(moments),
)
def test_killed_and_resumed_equals_unbroken(moments, sharded, tmp_path):
    path = tmp_path / "run"
    for number, moment in enumerate(moments):
        what, _, count = moment.rpartition(" ")
        killed(path, "resume" if number else "run", *([what, count] if what else [count]))
        assert not (path / "summary.json").exists()
    assert_equals(al.resume(path, progress=False), sharded)


def test_state_is_not_saved_after_every_chunk_and_that_is_enough(sharded, tmp_path, monkeypatch):
    """Records of three chunks, the state of none: resuming begins anew and ends the same."""
    monkeypatch.setattr(Keeper, "_wait", lambda self: float("inf"))
    monkeypatch.setattr(state, "save", _raise_when_called)
    with pytest.raises(InterruptedError):
        train(tmp_path / "run", devices=jax.devices())
    assert trajectory.open(tmp_path / "run").last_step == STEPS
    monkeypatch.undo()
    assert_equals(al.resume(tmp_path / "run", progress=False), sharded)


def _raise_when_called(*args):
    raise InterruptedError


def test_saving_takes_a_small_share(usual, tmp_path, monkeypatch):
    """Chunks of 10 ms and saves of 100 ms: far fewer saves than chunks."""
    path = tmp_path / "run"
    shutil.copytree(usual.path, path)
    keeper, clock = object.__new__(Keeper), [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    keeper._saved_at, keeper._save_seconds, saves = 0.0, [float("inf")], 0
    for _ in range(10_000):
        clock[0] += 0.01
        if clock[0] - keeper._saved_at >= keeper._wait():
            clock[0] += 0.1
            keeper._save_seconds.append(0.1)
            keeper._saved_at, saves = clock[0], saves + 1
    assert 0.03 < saves * 0.1 / clock[0] < 0.06


def test_resuming_a_finished_run_changes_nothing(usual):
    before = {f: f.read_bytes() for f in usual.path.rglob("*") if f.is_file()}
    again = al.resume(usual.path, devices=jax.devices()[:1], progress=False)
    assert same_bits(again.params, usual.params) and again.stats["programs"] == 0
    assert again.outcome.tolist() == usual.outcome.tolist() and again.config.plan().ends.tolist() == [8, 16, 24]
    assert {f: f.read_bytes() for f in usual.path.rglob("*") if f.is_file()} == before


@pytest.mark.parametrize("content", ["a finished run", "an empty directory", "a file"])
def test_what_exists_is_never_overwritten(content, usual, tmp_path):
    path = usual.path if content == "a finished run" else tmp_path / "there"
    if content == "an empty directory":
        path.mkdir()
    elif content == "a file":
        path.write_text("mine")
    before = {f: f.read_bytes() for f in (path, *path.rglob("*")) if f.is_file()}
    with pytest.raises(RunExistsError, match="exists"):
        train(path)
    assert {f: f.read_bytes() for f in (path, *path.rglob("*")) if f.is_file()} == before


def ctrl_c(times: int, monkeypatch, number: int = signal.SIGINT) -> None:
    """Press Ctrl-C `times` times while chunk 1 is under way (or get another signal)."""
    original = Session.advance

    def advance(self, chunk, at):
        result = original(self, chunk, at)
        for _ in range(times if chunk == 1 else 0):
            signal.raise_signal(number)
        return result

    monkeypatch.setattr(Session, "advance", advance)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_a_cluster_s_warning_finishes_the_chunk_and_can_be_resumed(usual, tmp_path, monkeypatch, number):
    ctrl_c(1, monkeypatch, number)
    run = train(tmp_path / "run")
    assert run.interrupted and run.outcome.tolist() == [2, 2, 2] and "interrupted" in repr(run)
    assert run.trajectory.last_step == 16 and state.latest(run.path / "state") == 16 and run.trajectory.summary is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    monkeypatch.undo()
    resumed = al.resume(run.path, devices=jax.devices()[:1], progress=False)
    assert resumed.stats["resumed_at"] == 16 and not resumed.interrupted
    assert_equals(resumed, usual)


def test_a_second_ctrl_c_ends_at_once_and_can_be_resumed(usual, tmp_path, monkeypatch):
    ctrl_c(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    assert trajectory.open(tmp_path / "run").last_step == 8
    assert_equals(al.resume(tmp_path / "run", devices=jax.devices()[:1], progress=False), usual)


def stop_after(chunks: int, monkeypatch) -> None:
    """Ask to stop as soon as chunk `chunks - 1` was kept."""
    original = Keeper.append

    def append(self, chunk, *args, must_save):
        original(self, chunk, *args, must_save=True)
        if chunk == chunks - 1:
            raise InterruptedError

    monkeypatch.setattr(Keeper, "append", append)


def test_fewer_devices_than_before(sharded, usual, tmp_path, monkeypatch):
    """The saved state has no padding: a run over two devices goes on with one. Up to rounding: see test_run."""
    stop_after(1, monkeypatch)
    with pytest.raises(InterruptedError):
        train(tmp_path / "run", devices=jax.devices())
    monkeypatch.undo()
    run = al.resume(tmp_path / "run", devices=jax.devices()[:1], progress=False)
    assert run.stats["resumed_at"] == 8 and run.stats["devices"] == 1
    np.testing.assert_allclose(run.params["unembed"], sharded.params["unembed"], atol=1e-5)


def test_a_state_that_is_ahead_of_the_journal_is_not_used(usual, tmp_path, monkeypatch):
    """The journal lost its last line (a copy made while the run went on): its chunk is done again."""
    stop_after(3, monkeypatch)
    with pytest.raises(InterruptedError):
        train(tmp_path / "run")
    monkeypatch.undo()
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    assert state.steps(tmp_path / "run" / "state") == [16, STEPS]
    resumed = al.resume(tmp_path / "run", devices=jax.devices()[:1], progress=False)
    assert resumed.stats["resumed_at"] == 16
    assert_equals(resumed, usual)


def test_what_no_file_can_hold_is_given_again(tmp_path, monkeypatch):
    own = {"task": FixedPoints(), "model": TwoLayerLinear(), "record": {"params": al.every(8)}}
    own["loss"] = lambda outputs, batch: squared_error(outputs, batch)
    rule = optax.chain(optax.clip_by_global_norm(1.0), optax.add_noise(1e-3, 0.5, key=0), optax.sgd(0.1))
    whole = train(tmp_path / "whole", rule, **own)
    stop_after(2, monkeypatch)
    with pytest.raises(InterruptedError):
        train(tmp_path / "broken", rule, **own)
    monkeypatch.undo()
    one = {"devices": jax.devices()[:1], "progress": False}
    with pytest.raises(ConfigError, match="Pass it again"):
        al.resume(tmp_path / "broken", **one)
    with pytest.raises(ConfigError, match="batch_size: got 4; allowed is what the run was begun with"):
        al.resume(tmp_path / "broken", optimizer=rule, loss=own["loss"], batch_size=4, **one)
    with pytest.raises(ConfigError, match="resume: got 'rate'"):
        al.resume(tmp_path / "broken", rate=1, **one)
    with pytest.raises(RunDirError, match="does not fit"):  # not the rule that it was begun with
        al.resume(tmp_path / "broken", optimizer=optax.adam(0.1), loss=own["loss"], **one)
    resumed = al.resume(tmp_path / "broken", optimizer=rule, loss=own["loss"], batch_size=8, **one)
    assert resumed.stats["resumed_at"] == 16
    assert_equals(resumed, whole)


def test_settings_survive_the_manifest(usual):
    config = al.training.load_config(usual.path)
    assert config.model == usual.config.model and config.seeds == (0, 1, 2)
    np.testing.assert_array_equal(config.optimizer.learning_rate, usual.config.optimizer.learning_rate)
    assert {n: s.at(STEPS).tolist() for n, s in config.record.items()} == {
        n: s.at(STEPS).tolist() for n, s in uneven().items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(warmup=3), "RunConfig: unknown key 'warmup'"),
        (lambda config: config["model"].update(widht=3), "unknown key 'widht'. Did you mean 'width'"),
        (lambda config: config["task"].update({"$type": "no_such_module:Task"}), "cannot be imported here"),
    ],
)
def test_a_manifest_with_unknown_settings(change, message, usual, tmp_path):
    manifest = trajectory.read_manifest(usual.path)
    config = json.loads(json.dumps(manifest["config"]))
    change(config)
    path = trajectory.create(tmp_path / "run", {"kind": "run", "config": config})
    with pytest.raises(ConfigError, match=message):
        al.resume(path)


def test_a_directory_of_something_else(tmp_path):
    with pytest.raises(RunDirError, match="no settings of a training run"):
        al.resume(trajectory.create(tmp_path / "run", {"kind": "other"}))
    with pytest.raises(RunDirError, match=r"manifest\.json is missing"):
        al.resume(tmp_path / "nowhere")
