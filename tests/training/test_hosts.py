"""Runs of several processes, real ones on this machine: the numbers of one process, also after one was killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from training_cases import same_bits, train

import attnlab as al
from attnlab import cli, hosts, trajectory
from attnlab.training import devices

SCRIPT = Path(__file__).with_name("one_of_several.py")
LONGEST = 300  # seconds; one that hangs is a failure
LOST, ABORTED, KILLED = 3, -signal.SIGABRT, -signal.SIGKILL
ROUNDING = 1e-4  # a hundredth of a step of Adam: sums in another order where seeds are placed otherwise, 24 steps
SEEDS = 5  # on two processes 3 and 2, on four 2, 2, 1 and one that has only padding


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(count: int, path: Path, action: str = "run", *, seeds: int = SEEDS, shards: int = 1, **kills: list[str]):
    """Run all processes to their end; by index their exit status and what they wrote.

    `kills`: `process_1=["before advance", "2"]`.
    """
    port = free_port()
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "JAX_PLATFORMS": "cpu"}
    running, told = [], [path.with_name(f"{path.name}.{action}.{index}.log") for index in range(count)]
    for index in range(count):
        command = [sys.executable, SCRIPT, str(index), str(count), str(port), path, action, str(seeds), str(shards)]
        command += kills.get(f"process_{index}", [])
        with told[index].open("w") as log:
            running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
    try:
        ends = [process.wait(timeout=LONGEST) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return list(zip(ends, (log.read_text() for log in told), strict=True))


def all_well(ends) -> None:
    assert [status for status, _ in ends] == [0] * len(ends), "\n".join(text[-2000:] for _, text in ends)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> al.Run:
    """The same run by one process with two devices."""
    return train(tmp_path_factory.mktemp("alone") / "run", al.adamw(1e-2), seeds=SEEDS, devices=jax.devices())


def numbers(path: Path) -> dict[str, np.ndarray]:
    """Everything that a run recorded."""
    opened = trajectory.open(path)
    found = {"norm": opened.unembed["norm"].values, "loss": opened.loss.values}
    for step in opened.steps("params"):
        leaves = jax.tree_util.tree_leaves_with_path(opened.params_at(int(step)))
        found |= {f"{step}{jax.tree_util.keystr(where)}": leaf for where, leaf in leaves}
    return found


def assert_same(path: Path, alone: al.Run, atol: float = 0.0) -> None:
    """Sound, finished, and every number the same: bit for bit if the seeds lie on as many devices."""
    report = trajectory.verify(path)
    assert not report.problems, str(report)
    assert trajectory.open(path).finished
    mine, theirs = numbers(path), numbers(alone.path)
    assert mine.keys() == theirs.keys()
    if not atol:
        assert same_bits(mine, theirs)
    for name in mine:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_train_what_one_trains(tmp_path, alone, count):
    all_well(start(count, tmp_path / "run"))
    assert_same(tmp_path / "run", alone, atol=0 if count == 2 else ROUNDING)
    parts = {file.name.split(".")[1] for file in (tmp_path / "run/trajectory.zarr/loss").rglob("c.*.0")}
    assert parts == {str(part) for part in range({2: 2, 4: 3}[count])}, "each process with seeds writes its own file"


def test_a_killed_process_stops_the_others_with_a_sentence_and_another_number_goes_on(tmp_path, alone):
    path = tmp_path / "run"
    (first, told), (second, _) = start(2, path, process_1=["before advance", "2"])
    assert (first, second) == (LOST, KILLED), told
    assert "lost contact with another one" in told and "attnlab resume" in told
    report = trajectory.verify(path)
    assert not report.problems, str(report)
    assert trajectory.open(path).last_step == 8, "the first chunk was recorded, and nothing of it is lost"
    all_well(start(4, path, "resume"))
    assert_same(path, alone, ROUNDING)


def test_the_first_process_killed_while_it_writes_loses_nothing_and_one_alone_goes_on(tmp_path, alone):
    path = tmp_path / "run"
    (first, _), (second, told) = start(2, path, process_0=["before journal line", "3"])
    assert first == KILLED and second in (LOST, ABORTED), told
    assert "lost contact with another one" in told or "another task died" in told
    assert not trajectory.verify(path).problems
    assert trajectory.open(path).last_step == 8
    run = al.resume(path, devices=jax.devices()[:1], progress=False)
    assert run.outcome.tolist() == [0] * SEEDS
    assert_same(path, alone, ROUNDING)


@pytest.mark.parametrize("moment", ["after chunk file", "before state notes"])
def test_a_kill_at_any_moment_is_survived(tmp_path, alone, moment):
    path = tmp_path / "run"
    victim = "process_0" if moment == "before state notes" else "process_1"
    ends = start(2, path, **{victim: [moment, "2"]})
    assert all(status != 0 for status, _ in ends)
    assert not trajectory.verify(path).problems
    all_well(start(2, path, "resume"))
    assert_same(path, alone)


def test_processes_that_share_each_batch(tmp_path):
    one = train(tmp_path / "one", al.adamw(1e-2), seeds=2)
    all_well(start(4, tmp_path / "four", seeds=2, shards=2))
    assert not trajectory.verify(tmp_path / "four").problems
    for mine, theirs in zip(*(numbers(p).values() for p in (tmp_path / "four", one.path)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=ROUNDING)


def test_more_processes_than_seeds_is_an_error_of_all(tmp_path):
    ends = start(2, tmp_path / "run", seeds=1)
    for status, told in ends:
        assert status == 1 and "seeds: got 1" in told and "data_shards" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("each", [1, 2, 4])
@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_by_default_every_process_takes_part_whatever_the_seeds(monkeypatch, processes, each, platform):
    monkeypatch.setattr(hosts, "count", lambda: processes)
    there = [SimpleNamespace(process_index=p, platform=platform) for p in range(processes) for _ in range(each)]
    for seeds in range(1, 2 * processes * each + 2):
        shards = devices.shards_for(seeds, 48, there)  # 48: what up to 16 devices share
        found = devices.place(seeds, None, "vmap", there, shards)
        used = [d.process_index for d in found.devices]
        assert {used.count(p) for p in range(processes)} == {len(used) // processes} and used == sorted(used)
        groups = len(used) // shards
        assert seeds <= found.padded and found.padded % groups == 0
        assert found.padded // groups == -(-seeds // groups), "no more seeds in a group than must be"


def test_the_command_line_trains_with_two_processes_and_one_speaks(tmp_path):
    sizes = ["--steps", "6", "--seeds", "2", "--batch-size", "2", "--snapshots", "3", "--task.length", "8"]
    common = [sys.executable, "-m", "attnlab.cli", "run", *sizes, "--model.width", "8", "--path", tmp_path / "run"]
    where = ["--distributed", "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2", "--process-id"]
    running = [subprocess.Popen([*common, *where, p], stdout=subprocess.PIPE, text=True) for p in "01"]
    told = [process.communicate(timeout=LONGEST)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert "2 finished" in told[0] and "attnlab report" in told[0]
    assert "finished" not in told[1]
    assert trajectory.open(tmp_path / "run").manifest["placement"]["processes"] == 2


def test_addresses_of_processes_need_the_word(capsys):
    assert cli.main(["run", "--process-id", "1"]) == 2
    assert "--process-id: got 1; allowed is nothing without --distributed" in capsys.readouterr().err


def test_one_process_needs_no_other():
    assert (hosts.count(), hosts.index(), hosts.leads()) == (1, 0, True)
    assert hosts.exchange({"a": 1}) == [{"a": 1}] and hosts.lead(lambda: 3) == 3
    np.testing.assert_array_equal(hosts.gather([1, 2]), [[1, 2]])
    with pytest.raises(ZeroDivisionError):
        hosts.together(lambda: 1 // 0)


def test_processes_that_cannot_be_found():
    with pytest.raises(hosts.HostsError, match="--coordinator HOST:PORT"):
        hosts.connect()
