"""A sweep is what its cells are alone, in fewer programs; its table is labelled; stopped anyhow, it ends the same."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import sweep_cases
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sweep_cases import BATCH, RATES, STEPS, TASK, WILD, cells, make, model
from training_cases import FixedPoints, TwoLayerLinear, largest_difference, same_bits, squared_error

import attnlab as al
from attnlab import tape, training, trajectory
from attnlab.attention import relu, softmax
from attnlab.config import ConfigError
from attnlab.training import Cell, open_sweep
from attnlab.training.cells import Group, groups_of
from attnlab.training.session import Session
from attnlab.training.sweep_folder import damaged, is_sweep, runs_of
from attnlab.training.table import best, table_of, write_csv, write_netcdf
from attnlab.trajectory import DamagedFileError, RunExistsError

SCRIPT = Path(__file__).with_name("killed_sweep.py")
TIMES = ["seconds", "seed_steps_per_second"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> training.Sweep:
    return sweep_cases.train(tmp_path_factory.mktemp("sweep") / "out")


def final(sweep: training.Sweep) -> list:
    """The final parameters of every group, `[S, ...]`."""
    return [trajectory.open(path).params_at(STEPS) for path in runs_of(sweep.path)]


def assert_same(one: training.Sweep, two: training.Sweep) -> None:
    """The same parameters bit for bit, the same table but for times, and sound files."""
    assert same_bits(final(one), final(two))
    xr.testing.assert_identical(one.table.drop_vars(TIMES), two.table.drop_vars(TIMES))
    assert not damaged(one.path) and all(trajectory.verify(path).ok for path in runs_of(one.path))


# ---- what is one program


def test_two_mechanisms_are_two_programs(swept):
    assert [group.name for group in swept.groups] == ["000-softmax", "001-relu"]
    assert [group.numbers for group in swept.groups] == [(0, 1, 2), (3, 4, 5)]
    for group, path in zip(swept.groups, runs_of(swept.path), strict=True):
        config = training.load_config(path)
        assert config.seeds == tuple(range(6)) == group.labels and config.roots == (0, 1) * 3 == group.roots
        np.testing.assert_array_equal(config.optimizer.learning_rate, np.repeat(RATES, 2))
        assert config.optimizer.momentum == 0.0


ONE, TWO = (lambda out, batch: out**2), (lambda out, batch: out**2)  # no place in a module: two different functions


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        (
            [
                {},
                {"optimizer": al.adamw(1.0, weight_decay=0.1)},
                {"optimizer": al.adamw(0.1, b1=0.5)},
                {"seeds": (9, 4)},
            ],
            1,
        ),
        ([{}, {"optimizer": al.adam()}, {"optimizer": al.sgd()}], 3),
        ([{"optimizer": optax.sgd(0.1)}] * 2, 1),
        ([{"optimizer": optax.sgd(0.1)}, {"optimizer": optax.sgd(0.1)}], 2),
        ([{}, {"task": FixedPoints(2)}, {"model": model(relu)}, {"steps": 4}, {"batch_size": 2}, {}], 5),
        ([{"loss": ONE}, {"loss": TWO}, {"loss": ONE}], 2),
        ([{"record": {"a": al.at(3)}}, {"record": {"a": al.at([3])}}, {"record": {"a": al.at(2)}}], 2),
        ([{"record": {"a": al.at(3, ONE)}}, {"record": {"a": al.at(3, TWO)}}], 2),
        ([{}, {"edits": [tape.zero("x")]}, {"edits": [tape.zero("x")]}, {"edits": [tape.zero("y")]}], 3),
    ],
)
def test_what_shares_a_program(changes, groups):
    plain = {"task": FixedPoints(), "model": TwoLayerLinear(), "optimizer": al.adamw(), "steps": 3, "batch_size": 6}
    listed = [Cell(**plain | {"loss": squared_error} | change, at={"n": n}) for n, change in enumerate(changes)]
    found = groups_of(listed)
    assert len(found) == groups
    assert sorted(itertools.chain(*(group.numbers for group in found))) == list(range(len(listed)))
    assert len({group.name for group in found}) == groups


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), min_size=1, max_size=4))
def test_entries_are_every_seed_of_every_cell(seeds):
    group = Group("x", tuple(range(len(seeds))), ({},) * len(seeds), tuple(map(tuple, seeds)))
    assert group.roots == tuple(seed for cell in seeds for seed in cell)
    assert len(set(group.labels)) == len(group.labels) == len(group.roots)
    assert [part.tolist() for part in group.split(np.asarray(group.roots))] == seeds


# ---- what is trained


def test_a_cell_in_turn_is_what_it_is_alone(swept, tmp_path):
    """`map` runs the same instructions for every entry, however many there are and whatever their rates."""
    cell = cells()[2]
    placed = {"devices": jax.devices()[:1], "seed_axis": "map", "chunk_steps": 4, "progress": False}
    alone = al.run(
        TASK, cell.model, cell.optimizer, steps=STEPS, seeds=2, batch_size=BATCH, path=tmp_path / "run", **placed
    )
    together = trajectory.open(runs_of(swept.path)[0]).params_at(STEPS, like=alone.params)
    assert same_bits(alone.params, jax.tree.map(lambda x: x[4:6], together))
    found = swept.table.training_loss.sel(mechanism="softmax", learning_rate=RATES[2])
    assert found.values.tolist() == alone.trajectory.loss.values[:, -1].tolist()


def test_together_and_on_two_devices_up_to_rounding(tmp_path):
    """Other kernels, another order of sums: float32 parameters near 1 (rounding 6e-8) after 12 plain gradient steps."""
    own = {"task": FixedPoints(), "model": TwoLayerLinear(), "loss": squared_error, "steps": STEPS, "batch_size": 6}
    listed = training.grid(lambda rate: Cell(**own, optimizer=al.sgd(rate), seeds=2), rate=[0.05, 0.1, 0.2])
    options = {"record": {"params": al.at(STEPS)}, "measure": None, "cells": listed}
    turn = sweep_cases.train(tmp_path / "turn", **options)
    both = sweep_cases.train(tmp_path / "both", **options, seed_axis="vmap", devices=jax.devices())
    assert trajectory.read_manifest(runs_of(both.path)[0])["placement"]["devices"] == 2
    assert largest_difference(final(turn)[0], final(both)[0]) < 1e-5
    assert largest_difference(final(turn)[0], jax.tree.map(lambda x: x[::-1], final(turn)[0])) > 1e-2


def test_a_rate_that_is_too_high_harms_no_other(swept):
    lost = swept.table.diverged
    assert lost.dtype == bool and lost.sel(learning_rate=WILD).all() and not lost.drop_sel(learning_rate=WILD).any()
    assert np.isnan(swept.table.norm.sel(learning_rate=WILD)).all()
    assert np.isfinite(swept.table.norm.drop_sel(learning_rate=WILD)).all()


# ---- the table


def test_the_table_has_a_dimension_for_every_axis(swept):
    table = swept.table
    assert dict(table.sizes) == {"mechanism": 2, "learning_rate": 3, "seed": 2}
    assert table.mechanism.values.tolist() == ["softmax", "relu"] and table.learning_rate.values.tolist() == list(RATES)
    assert set(table.data_vars) == {"training_loss", "diverged", *TIMES, "norm", "run", "entry"}
    np.testing.assert_allclose(table.seconds * table.seed_steps_per_second, STEPS, rtol=1e-9)


def test_its_numbers_are_those_of_the_runs(swept):
    """Found again, from each row's `run` and `entry`."""
    for mechanism, rate, seed in itertools.product(("softmax", "relu"), (RATES[0], RATES[2]), (0, 1)):
        row = swept.table.sel(mechanism=mechanism, learning_rate=rate, seed=seed)
        found = trajectory.open(swept.path / "runs" / str(row.run.item()))
        params = found.params_at(STEPS, int(row.entry))
        # A float32 norm of eight numbers against float64.
        np.testing.assert_allclose(row.norm, np.linalg.norm(params["unembed"].astype(float)), rtol=1e-6)
        assert float(found.loss.sel(seed=int(row.entry), step=STEPS)) == float(row.training_loss)


def test_cells_that_are_no_grid_are_rows():
    groups = (Group("0", (0, 2), ({"a": 1}, {"a": 3}), ((0, 1), (0,))), Group("1", (1,), ({"a": 2},), ((7,),)))
    table = table_of(groups, ({"x": np.array([1.0, 2.0, 3.0])}, None))
    assert dict(table.sizes) == {"row": 4}
    assert table.a.values.tolist() == [1, 1, 2, 3] and table.seed.values.tolist() == [0, 1, 7, 0]
    np.testing.assert_array_equal(table.x, [1, 2, np.nan, 3])
    assert table.run.values.tolist() == ["0", "0", "1", "0"] and table.entry.values.tolist() == [0, 1, 7, 2]
    with pytest.raises(ConfigError, match="no full grid"):
        best(table, "a", "x", largest=True)


numbers = st.one_of(st.just(math.nan), st.integers(-3, 3).map(float))


@given(st.lists(numbers, min_size=18, max_size=18), st.booleans())
def test_best_is_the_best_median(values, largest):
    """Against loops: NaN is worse than any number, of equals the first one."""
    array = np.reshape(values, (2, 3, 3))
    table = xr.Dataset({"x": (("mechanism", "rate", "seed"), array)}, {"rate": [1.0, 2.0, 3.0]})
    found = best(table, "rate", "x", largest=largest)
    worst = -math.inf if largest else math.inf
    for place in range(2):
        scores = [sorted(worst if math.isnan(v) else v for v in row)[1] for row in array[place]]
        right = scores.index(max(scores) if largest else min(scores))
        assert found.rate.values[place] == right + 1
        np.testing.assert_array_equal(found.x.values[place], array[place, right])


def test_which_way_is_better():
    table = xr.Dataset(
        {n: (("r", "seed"), [[1.0], [2.0]]) for n in ("accuracy", "loss", "risk_a", "risk_accuracy", "x")}
    )
    table = table.assign_coords(r=[10, 20])
    right = {"accuracy": 20, "loss": 10, "risk_a": 10, "risk_accuracy": 20}
    assert {name: int(best(table, "r", name).r) for name in right} == right
    with pytest.raises(ConfigError, match="largest: got None; allowed is True or False, for 'x'"):
        best(table, "r", "x")
    with pytest.raises(ConfigError, match="over: got 'seed'; allowed is a dimension of the table: r"):
        best(table, "seed", "x")
    with pytest.raises(ConfigError, match="metric: got 'y'; allowed is a quantity of the table: accuracy, loss"):
        best(table, "r", "y")


def test_csv_and_netcdf_hold_the_table(swept, tmp_path):
    big = swept.table.assign_coords(seed=[0, 2**32 - 1])  # netCDF 3 has no integer for it
    write_csv(tmp_path / "table.csv", big)
    write_netcdf(tmp_path / "table.nc", big)
    with (tmp_path / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    with xr.open_dataset(tmp_path / "table.nc") as back:
        assert back.sizes == big.sizes and set(back.data_vars) == set(big.data_vars)
        for line in lines:
            at = {
                "mechanism": line["mechanism"],
                "learning_rate": float(line["learning_rate"]),
                "seed": int(line["seed"]),
            }
            for row in (big.sel(at), back.sel(at)):
                assert row.run.item() == line["run"] and int(row.entry) == int(line["entry"])
                assert bool(row.diverged) == bool(int(line["diverged"]))
                for name in ("training_loss", "norm", *TIMES):
                    np.testing.assert_equal(float(line[name]), float(row[name]))


# ---- stopped and gone on with


def test_killed_in_the_second_group_it_ends_the_same(swept, tmp_path):
    """SIGKILL before the second chunk of the second group: the first is not touched again, the second goes on."""
    path = tmp_path / "out"
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, SCRIPT, path, "before advance", "5"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    first, second = runs_of(path)
    assert trajectory.open(first).finished and trajectory.open(second).last_step == 4
    half = open_sweep(path)
    assert half.done == 1 and np.isnan(half.table.norm.sel(mechanism="relu")).all()
    np.testing.assert_array_equal(half.table.norm.sel(mechanism="softmax"), swept.table.norm.sel(mechanism="softmax"))
    before = {f: f.stat().st_mtime_ns for f in (*first.rglob("*"), path / "sweep.json", *(path / "values").iterdir())}
    told: list[str] = []
    assert_same(sweep_cases.resume(path, say=told.append), swept)
    assert {f: f.stat().st_mtime_ns for f in before} == before
    assert len(told) == 1 and "001-relu" in told[0]
    assert trajectory.open(second).summary["stats"]["resumed_at"] == 4


@pytest.mark.parametrize(("advance", "reached"), [(1, [4]), (3, [12]), (4, [12, 4])])
def test_ctrl_c_ends_it_after_the_chunk(advance, reached, swept, tmp_path, monkeypatch):
    """In the middle of a group; in its last chunk, which ends the group and begins no other; in the second group."""
    original, calls = Session.advance, []

    def pressed(self, chunk, at):
        result = original(self, chunk, at)
        calls.append(chunk)
        if len(calls) == advance:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(Session, "advance", pressed)
    with pytest.raises(KeyboardInterrupt):
        sweep_cases.train(tmp_path / "out")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [trajectory.open(path).last_step for path in runs_of(tmp_path / "out")] == reached
    assert open_sweep(tmp_path / "out").done == sum(step == STEPS for step in reached)
    monkeypatch.undo()
    if advance == 4:  # one of them is enough: a killed sweep goes on the same way
        assert_same(sweep_cases.resume(tmp_path / "out"), swept)


def test_a_finished_sweep_changes_nothing(swept):
    before = {f: f.read_bytes() for f in swept.path.rglob("*") if f.is_file()}
    again = sweep_cases.resume(swept.path)
    xr.testing.assert_identical(again.table, swept.table)
    xr.testing.assert_identical(open_sweep(swept.path).table, swept.table)
    assert {f: f.read_bytes() for f in swept.path.rglob("*") if f.is_file()} == before


def twice(run: al.Run) -> dict[str, np.ndarray]:
    return {"double": 2 * sweep_cases.measures(run)["norm"]}


def test_another_measure_is_taken_of_what_is_trained(swept, tmp_path):
    path = tmp_path / "out"
    shutil.copytree(swept.path, path)
    found = sweep_cases.resume(path, measure=twice)
    assert "norm" not in found.table and np.array_equal(found.table.double, 2 * swept.table.norm, equal_nan=True)
    xr.testing.assert_identical(open_sweep(path).table, found.table)
    xr.testing.assert_identical(sweep_cases.resume(path).table, found.table)
    for measure, message in (
        (lambda run: {"norm": 1.0}, r"measure: norm: got \(\); allowed is one number per seed, shape \(6,\)"),
        (
            lambda run: {"diverged": np.ones(6)},
            "measure: diverged: got 'diverged'; allowed is a name that is not taken",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            sweep_cases.resume(path, measure=measure)


def test_what_no_file_can_hold_is_given_again(tmp_path, monkeypatch):
    """Lambdas as loss and measure, an optax transformation: reading needs none of them, training all."""
    rule = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))
    own = {"task": FixedPoints(), "model": TwoLayerLinear(), "loss": lambda out, batch: squared_error(out, batch)}

    def listed(**changes):
        plain = Cell(**own | changes, optimizer=rule, steps=4, batch_size=6, seeds=2)
        return [plain, Cell(**own | changes, optimizer=al.sgd(0.1), steps=4, batch_size=6, seeds=2)]

    options = {"devices": jax.devices()[:1], "progress": False, "measure": lambda run: {"end": run.params["a"][:, 0]}}
    whole = training.sweep(listed(), path=tmp_path / "whole", chunk_steps=2, **options)
    assert whole.table["cell"].values.tolist() == [0, 1] and len(whole.groups) == 2
    original = Session.advance

    def stopped(self, chunk, at):
        if chunk == 1:
            raise InterruptedError
        return original(self, chunk, at)

    monkeypatch.setattr(Session, "advance", stopped)
    with pytest.raises(InterruptedError):
        training.sweep(listed(), path=tmp_path / "broken", chunk_steps=2, **options)
    monkeypatch.undo()
    assert open_sweep(tmp_path / "broken").done == 0
    with pytest.raises(ConfigError, match=r"Pass it again .* In the program that made it: `attnlab.resume_sweep"):
        training.resume_sweep(tmp_path / "broken")
    xr.testing.assert_identical(training.resume_sweep(tmp_path / "whole").table, whole.table)  # nothing is left to do
    with pytest.raises(ConfigError, match="cells: got '2 cells'; allowed is those that the sweep was begun with"):
        training.resume_sweep(tmp_path / "broken", cells=listed(task=FixedPoints(2)), **options)
    again = training.resume_sweep(tmp_path / "broken", cells=listed(), **options)
    xr.testing.assert_identical(again.table.drop_vars(TIMES), whole.table.drop_vars(TIMES))


# ---- mistakes

MISTAKES = {
    "no cells": ([], {}, "cells: got []; allowed is one `Cell` or more"),
    "not a cell": ([TASK], {}, "allowed is one `Cell` or more"),
    "same place": (
        [make(softmax, 0.1, at={"a": 1})] * 2,
        {},
        "cells[1].at: got {'a': 1}; allowed is another place than",
    ),
    "other names": (
        [make(softmax, 0.1, at={"a": 1}), make(relu, 0.1)],
        {},
        "cells[1].at: got {}; allowed is the names",
    ),
    "name taken": (
        [make(softmax, 0.1, at={"seed": 1})],
        {},
        "name in `at`: got 'seed'; allowed is a Python name other",
    ),
    "no steps": ([make(softmax, 0.1, steps=0)], {}, "steps: got 0; allowed is an integer >= 1"),
    "small model": (
        [Cell(TASK, model(softmax, length=4), steps=1)],
        {},
        "model.length: got 4; allowed is >= the task's",
    ),
    "late record": ([make(softmax, 0.1), make(relu, 1.0, record={"p": al.at(99)})], {}, "at: got (99,)"),
    "record name": ([make(softmax, 0.1)], {"record": {"steps": al.every(2)}}, "record name 'steps'"),
    "no such site": ([make(softmax, 0.1), make(relu, 1.0, edits=tape.zero("blocks.7.attn.out"))], {}, "matches no"),
    "no devices": ([make(softmax, 0.1)], {"devices": []}, "devices: got []"),
    "seed axis": ([make(softmax, 0.1)], {"seed_axis": "pmap"}, "seed_axis: got 'pmap'"),
    "microbatch": ([make(softmax, 0.1)], {"microbatch": 3}, "microbatch: got 3; allowed is a divisor of batch_size=4"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_clear_error_and_nothing_written(mistake, tmp_path):
    listed, options, message = MISTAKES[mistake]
    with pytest.raises((ConfigError, trajectory.RunDirError, tape.SiteError)) as caught:
        training.sweep(listed, path=tmp_path / "out", **options)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_a_cell_or_a_grid():
    with pytest.raises(ConfigError, match=r"optimizer.learning_rate: got array.*; allowed is one number. Make a cell"):
        make(softmax, [0.1, 0.2])
    with pytest.raises(ConfigError, match="seeds: got 0"):
        make(softmax, 0.1, seeds=0)
    with pytest.raises(ConfigError, match=r"axis learning_rate: got \[\]; allowed is one value or more"):
        training.grid(make, mechanism=[softmax], learning_rate=[])
    with pytest.raises(
        ConfigError, match=r"axis mechanism: got \['softmax', 'softmax'\]; allowed is values that differ"
    ):
        training.grid(make, mechanism=[softmax, softmax], learning_rate=[0.1])


def test_a_folder_is_never_overwritten_and_damage_is_named(swept, tmp_path):
    with pytest.raises(RunExistsError, match="nothing in it was touched"):
        sweep_cases.train(swept.path)
    path = tmp_path / "out"
    shutil.copytree(swept.path, path)
    values = path / "values" / "001-relu.json"
    values.write_bytes(values.read_bytes().replace(b"0", b"1", 1))
    assert len(damaged(path)) == 1 and "001-relu.json" in damaged(path)[0]
    with pytest.raises(DamagedFileError, match=r"001-relu.json is edited or damaged .*measures its run again"):
        sweep_cases.resume(path)
    (path / "sweep.json").write_bytes((path / "sweep.json").read_bytes()[:99])
    assert is_sweep(path) and "sweep.json" in damaged(path)[0]
    with pytest.raises(DamagedFileError, match=r"sweep.json is truncated"):
        open_sweep(path)


# ---- entries that draw from another seed than their label


def test_roots_are_checked_and_old_manifests_have_none(swept, tmp_path):
    for roots in ((1,), (0, -1), (0, 2**32), (0.5, 1), "01", 3):
        with pytest.raises(ConfigError, match=r"roots: got .*; allowed is None, or 2 integers from 0"):
            training.RunConfig(TASK, model(softmax), seeds=2, roots=roots)
    manifest = trajectory.read_manifest(runs_of(swept.path)[0])
    old = {name: value for name, value in json.loads(json.dumps(manifest["config"])).items() if name != "roots"}
    config = training.load_config(trajectory.create(tmp_path / "run", {"kind": "run", "config": old}))
    assert config.roots is None and config.drawn_from == config.seeds == tuple(range(6))
