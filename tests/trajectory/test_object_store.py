"""Run directories in an object store: a run writes, is killed, goes on and is read there as on a disk."""

from __future__ import annotations

import sys
from pathlib import Path

import fsspec
import jax
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import attnlab as al
from attnlab import cli, trajectory
from attnlab.trajectory import DamagedFileError, RunExistsError, state
from attnlab.trajectory.files import located

sys.path.append(str(Path(__file__).parents[1] / "training"))
from training_cases import same_bits, train

RUN = "s3://bucket/runs/one"


class Bucket(MemoryFileSystem):
    """Objects in memory, where s3 addresses would be: no appending, no renaming of folders."""

    protocol = ("s3",)
    store: dict = {}  # noqa: RUF012
    pseudo_dirs: list = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        inner = path.removeprefix("s3://").strip("/")
        return f"/{inner}" if inner else ""

    def _open(self, path, mode="rb", **options):
        assert mode in ("rb", "wb"), f"an object store cannot {mode}"
        return super()._open(path, mode, **options)

    def mv(self, *paths, **options):
        raise AssertionError("an object store cannot rename")


@pytest.fixture
def bucket():
    fsspec.register_implementation("s3", Bucket, clobber=True)
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]
    return Bucket.store


def test_a_run_in_a_store_is_the_run_on_a_disk(bucket, tmp_path, monkeypatch):
    from attnlab.training.keeper import Keeper

    monkeypatch.setattr(Keeper, "_wait", lambda self: 0.0)  # a state after every chunk
    here, there = train(tmp_path / "one"), train(RUN)
    assert not list(Path().glob("s3:*")), "no folder of that name"
    assert same_bits(here.params, there.params)
    report = trajectory.verify(RUN)
    assert not report.problems and not report.notes, str(report)
    files = {f.relative_to(here.path / "trajectory.zarr").as_posix(): f.read_bytes() for f in _files(here.path)}
    stored = {
        name.split("trajectory.zarr/")[1]: f.getvalue() for name, f in bucket.items() if "trajectory.zarr" in name
    }
    assert files == stored
    opened = al.open(RUN)
    np.testing.assert_array_equal(opened.loss.values, here.trajectory.loss.values)
    assert state.steps(f"{RUN}/state") == [16, 24], "the newest two"


def test_a_run_goes_on_there(bucket, tmp_path):
    calls = []
    first = train(RUN, stop=lambda: calls.append(1) or len(calls) > 1)
    assert first.interrupted and al.open(RUN).last_step == 8
    again = al.resume(RUN, devices=jax.devices()[:1], progress=False)
    assert again.stats["resumed_at"] == 8
    assert same_bits(again.params, train(tmp_path / "whole").params)
    assert not trajectory.verify(RUN).problems


def test_the_command_line_and_pathlib_know_addresses(bucket, tmp_path, monkeypatch, capsys):
    train(RUN)
    assert str(located(Path(RUN))) == RUN and located("runs/gs") == Path("runs/gs")
    monkeypatch.chdir(tmp_path)
    for command in ("verify", "open", "report"):
        assert cli.main([command, RUN]) == 0
    assert RUN in capsys.readouterr().out and (tmp_path / "one.html").exists()


def test_a_state_without_its_mark_does_not_count(bucket):
    train(RUN)
    known = state.steps(f"{RUN}/state")
    (located(RUN) / "state" / str(known[-1]) / "sent").unlink()
    assert state.steps(f"{RUN}/state") == known[:-1]


def test_a_flipped_byte_is_found_and_nothing_is_overwritten(bucket):
    train(RUN)
    with pytest.raises(RunExistsError, match="s3://bucket/runs/one exists"):
        train(RUN)
    name = next(name for name in bucket if "trajectory.zarr/loss" in name and name.endswith("c.0.0"))
    raw = bytearray(bucket[name].getvalue())
    raw[-1] ^= 1
    located(f"s3:/{name}").write_bytes(bytes(raw))
    assert [p.file for p in trajectory.verify(RUN).problems] == [name.split("one/")[1]]
    with pytest.raises(DamagedFileError, match="not what was written"):
        al.open(RUN).loss.values.sum()


def _files(path: Path) -> list[Path]:
    return [file for file in (path / "trajectory.zarr").rglob("*") if file.is_file()]
