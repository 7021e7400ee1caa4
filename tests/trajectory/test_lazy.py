"""Opening reads no numbers; an index reads the chunks it touches, once."""

import subprocess
import sys
import time

import numpy as np
import pytest
from small_run import ENDS, append, begin, expected, spec, store_bytes

from attnlab import trajectory
from attnlab.trajectory import DamagedFileError, rows


def keep_only(run, *wanted: str) -> None:
    """Remove every file of the store but those."""
    for name in store_bytes(run):
        if name not in wanted:
            (run / "trajectory.zarr" / name).unlink()


def test_opening_reads_no_numbers(run):
    """Everything but manifest and journal may be gone, and labels and steps are still there."""
    keep_only(run)
    opened = trajectory.open(run)
    assert opened.sinks.bos.shape == (3, 16, 2, 3)
    assert opened.params.embed.sel(step=12, method="nearest").shape == (3, 5, 4)
    assert "<xarray.Dataset>" in repr(opened.sinks)


def test_one_step_reads_one_chunk_of_one_leaf(run):
    """All files but one are gone: what needs only that one can be read, in value, by label and by place."""
    keep_only(run, "sinks/bos/c.0.2.0.0")
    opened = trajectory.open(run)
    wanted = expected("sinks", "bos")
    rows_of_chunk = slice(8, 12)
    assert np.array_equal(opened.sinks.bos.isel(step=9).values, wanted[:, 9], equal_nan=True)
    assert np.array_equal(opened.sinks.bos.isel(step=rows_of_chunk).values, wanted[:, rows_of_chunk], equal_nan=True)
    assert np.array_equal(opened.sinks.sel(step=22, seed=5).bos.values, wanted[1, 9], equal_nan=True)
    assert np.array_equal(opened.params_at(22, 5, record="sinks")["bos"], wanted[1, 9], equal_nan=True)
    with pytest.raises(DamagedFileError, match=r"c\.0\.1\.0\.0 \(chunk 1, record 'sinks', steps 10 to 20\) is missing"):
        _ = opened.sinks.bos.isel(step=7).values


def test_chunks_are_read_once_while_they_fit(run, monkeypatch):
    reads = []
    real = rows.Chunks._read_checked
    monkeypatch.setattr(
        rows.Chunks, "_read_checked", lambda self, file, *rest: reads.append(file) or real(self, file, *rest)
    )
    opened = trajectory.open(run)
    for _ in range(3):
        for row in range(16):
            _ = opened.sinks.bos.isel(step=row).values
    assert sorted(reads) == [f"sinks/bos/c.0.{chunk}.0.0" for chunk in range(4)]
    reads.clear()
    monkeypatch.setattr(rows, "CACHE_BYTES", 1)  # nothing fits: the last one is kept all the same
    opened = trajectory.open(run)
    for row in range(16):
        _ = opened.sinks.bos.isel(step=row).values
    assert len(reads) == 4


def test_a_damaged_chunk_is_never_given_out(run):
    file = run / "trajectory.zarr" / "sinks/bos/c.0.1.0.0"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    opened = trajectory.open(run)
    with pytest.raises(DamagedFileError, match=r"chunk 1, record 'sinks', steps 10 to 20.*not what was written"):
        opened.sinks.load()
    assert np.array_equal(opened.sinks.bos.isel(step=0).values, expected("sinks", "bos")[:, 0], equal_nan=True)


def test_a_run_can_be_read_while_it_is_written(tmp_path):
    writer = begin(tmp_path / "run")
    before = trajectory.open(tmp_path / "run")
    assert before.records == ("params", "sinks", "loss", "never") and before.sinks.bos.shape[1] == 0
    assert before.sinks.bos.values.shape == (3, 0, 2, 3)
    for chunk in range(len(ENDS)):
        append(writer, chunk)
        assert trajectory.open(tmp_path / "run").last_step == ENDS[chunk]
    assert before.sinks.bos.shape[1] == 0  # what was opened stays as it was


def test_import_is_light():
    """The command line answers before jax, xarray and zarr are there."""
    heavy = "{'jax', 'xarray', 'zarr', 'orbax', 'matplotlib'} & set(sys.modules)"
    code = f"import sys; from attnlab.trajectory import open, verify, TrajectoryWriter; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()", done


@pytest.mark.bench
def test_cost_of_200_snapshots(tmp_path, capsys):
    """200 snapshots of 62,000 float32 numbers x 4 seeds in 20 leaves (198 MB): under 2 s, on the disk."""
    leaves = {f"blocks.{i}.w": (62, 50) for i in range(20)}
    plan = trajectory.Plan((50, 100, 150, 200), {"params": (50,) * 4})
    path = trajectory.create(tmp_path / "run", {})
    writer = trajectory.TrajectoryWriter(path, {"params": {k: spec(s) for k, s in leaves.items()}}, plan, seeds=4)
    rng = np.random.default_rng(0)
    data = {k: rng.standard_normal((4, 50, *s)).astype(np.float32) for k, s in leaves.items()}
    began = time.perf_counter()
    for chunk in range(4):
        writer.append(chunk, {"params": data}, {"params": 50 * chunk + 1 + np.arange(50)})
    seconds = time.perf_counter() - began
    opened = trajectory.open(path)
    tick = time.perf_counter()
    opened.params_at(20, 0)
    first = time.perf_counter() - tick
    tick = time.perf_counter()
    opened.params_at(21, 0)
    second = time.perf_counter() - tick
    with capsys.disabled():
        print(f'{{"write_198MB_s": {seconds:.2f}, "params_at_first_s": {first:.3f}, "params_at_next_s": {second:.4f}}}')
    assert seconds < 2
