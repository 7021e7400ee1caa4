"""`attnlab sweep`: its table says what the runs say; mistakes are one clear line; other commands know its folder."""

from __future__ import annotations

import csv
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

import attnlab as al
import toy_tasks as tt
from attnlab import cli, keys, training
from attnlab.config import ConfigError
from attnlab.studies import examples, sweep_report
from attnlab.studies.measures import AT_ONCE, SEQUENCES, Measures
from attnlab.studies.sweep import cells_called
from attnlab.training.cells import groups_of
from attnlab.training.session import Session

STEPS = 12
TINY = [
    *(
        "sweep",
        "--task",
        "parity",
        "--mechanisms",
        "softmax",
        "relu",
        "--learning-rates",
        "1e-3",
        "1e-1",
        "--seeds",
        "2",
    ),
    *("--set", "ask=prefix", "length=6", "--model", "width=4", "norm=none", "no_mlp=[0]"),
    *("--steps", str(STEPS), "--batch-size", "4"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "out"
    assert cli.main([*TINY, "--path", str(path)]) == 0
    return path


def test_table_picture_and_page(folder):
    with (folder / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8 and [line["mechanism"] for line in lines] == ["softmax"] * 4 + ["relu"] * 4
    with xr.open_dataset(folder / "table.nc") as table:
        assert dict(table.sizes) == {"mechanism": 2, "learning_rate": 2, "seed": 2}
        wanted = {"accuracy", "loss", "oracle_gap", "left_plateau", "risk_last_accuracy", "diverged", "seconds"}
        assert wanted | {"training_loss", "seed_steps_per_second", "run", "entry"} <= set(table.data_vars)
        for line in lines:
            at = {
                "mechanism": line["mechanism"],
                "learning_rate": float(line["learning_rate"]),
                "seed": int(line["seed"]),
            }
            for name in wanted:
                np.testing.assert_equal(float(line[name]), float(table.sel(at)[name]))
    assert (folder / "sweep.png").stat().st_size > 5_000
    page = (folder / "report.html").read_text()
    assert page.count("<tr>") == 5 and page.count(f" {sweep_report.BEST}</td>") == 2, "a best rate for each mechanism"
    assert "risk_last_accuracy" in page and ">risk_loss<" not in page, "what the column `loss` says is not said again"
    assert "data:image/png" in page and "://" not in page and "Sweep on Parity" in page


def test_numbers_are_those_of_the_models(folder):
    """Loss, accuracy and gap of one seed, from its logits in float64; the oracle of parity pays nothing."""
    run = training.resume(folder / "runs" / "001-relu", progress=False)
    task, model = run.config.task, run.config.model
    params = jax.tree.map(lambda x: x[3], run.params)  # the second rate, the second seed
    apply, losses, right = jax.jit(lambda p, x: model.apply(p, x)[0]), [], []
    for number in range(SEQUENCES // AT_ONCE):
        batch = task.sample(keys.stream(keys.root(0), "fresh", number), AT_ONCE)
        logits, targets = np.asarray(apply(params, batch.inputs), np.float64), np.asarray(batch.targets)
        log_law = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses.append(-np.take_along_axis(log_law, targets[..., None], -1).mean())
        right.append((logits.argmax(-1) == targets).mean())
    row = training.open_sweep(folder).table.sel(mechanism="relu", learning_rate=0.1, seed=1)
    assert row.run.item() == "001-relu" and row.entry.item() == 3
    # Float32 logits of size 1 in two programs, and means over 6,144 places.
    np.testing.assert_allclose([row.loss, row.oracle_gap], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(row.accuracy, np.mean(right), atol=1e-6)
    assert float(row.risk_accuracy) == pytest.approx(float(row.accuracy), abs=1e-6)


def test_the_other_commands_know_a_sweep(folder, tmp_path, capsys):
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    assert cli.main(["resume", str(folder)]) == 0
    told = capsys.readouterr().out
    header, *rows = told.splitlines()[:5]
    assert header.split() == ["mechanism", "learning_rate", "accuracy", "loss", "oracle_gap", "diverged", "seconds"]
    assert [row.split()[0] for row in rows] == ["softmax", "softmax", "relu", "relu"]
    assert sum(sweep_report.BEST in row for row in rows) == 2 and "8 trainings in 2 programs; 0 diverged" in told
    assert cli.main(["report", str(folder)]) == 0 and "report.html" in capsys.readouterr().out
    assert cli.main(["open", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "2 of 2 groups done" in told and "001-relu" in told and "open_sweep" in told
    assert cli.main(["verify", str(folder)]) == 0 and capsys.readouterr().out.count("sound") == 2
    changed = {f.name for f, content in before.items() if f.read_bytes() != content}
    assert not changed, "nothing that was there is written anew with other bytes"
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    values = copy / "values" / "000-softmax.json"
    values.write_bytes(values.read_bytes().replace(b"1", b"2", 1))
    assert cli.main(["verify", str(copy)]) == 1 and "000-softmax.json" in capsys.readouterr().out
    assert cli.main(["resume", str(copy)]) == 2 and "000-softmax.json" in capsys.readouterr().err


def test_ctrl_c_then_a_report_then_resume(folder, tmp_path, capsys, monkeypatch):
    path = tmp_path / "out"
    original = Session.advance

    def pressed(self, chunk, at):
        signal.raise_signal(signal.SIGINT)
        return original(self, chunk, at)

    monkeypatch.setattr(Session, "advance", pressed)
    assert cli.main([*TINY, "--path", str(path)]) == 130
    monkeypatch.undo()
    assert "`attnlab resume PATH` goes on" in capsys.readouterr().err
    assert cli.main(["report", str(path)]) == 0, "the first group is done"
    assert "Not finished, 1 of 2 programs done" in (path / "report.html").read_text()
    assert cli.main(["resume", str(path)]) == 0
    one, two = (
        training.open_sweep(found).table.drop_vars(["seconds", "seed_steps_per_second"]) for found in (folder, path)
    )
    xr.testing.assert_identical(one, two)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["--task", "partiy"], "--task: got 'partiy'; allowed is .*Did you mean 'parity'"),
        (["--mechanisms", "sofmax"], "--mechanisms: got 'sofmax'; allowed is .*Did you mean 'softmax'"),
        (["--mechanisms"], "--mechanisms: got .*; allowed is one name or more"),
        (["--mechanisms", "relu", "relu"], "--mechanisms: got 'relu relu'; allowed is names that differ"),
        (["--learning-rates"], "--learning-rates: got ''; allowed is one number > 0 or more"),
        (["--learning-rates", "1e-3", "-1"], "--learning-rates: got '0.001 -1.0'; allowed is one number > 0"),
        (["--learning-rates", "1", "1"], "--learning-rates: got '1.0 1.0'; allowed is numbers that differ"),
        (["--seeds", "0"], "--seeds: got 0"),
        (["--steps", "0"], "steps: got 0"),
        (["--batch-size", "0"], "batch_size: got 0"),
        (["--set", "ask=prefix", "lenth=6"], "Parity: unknown key 'lenth'. Did you mean 'length'"),
        (["--set", "ask=prefix", "length=6,"], "--set: got 'length=6,'; allowed is field=value or field=value,value"),
        (["--set", "ask=prefix", "length=6,0"], "Parity.length: got 0"),
        (
            ["--set", "ask=prefix", "length=6,8", "--model", "length=8,9"],
            "--model: got 'length'; allowed is a field that",
        ),
        (["--model", "width=4,x"], "Transformer.width: got 'x'"),
        (["--model", "mechanism=a,b"], "--model: got 'mechanism'; allowed is a field that is not swept by another"),
    ],
)
def test_mistakes_are_one_clear_line(changes, told, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*TINY, *changes, "--path", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    with pytest.raises(ConfigError, match=told):
        raise ConfigError(message.removeprefix("attnlab: "))
    assert message.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_settings_with_several_values():
    read = examples.axes
    assert read("--set", ["a=4,8", "b=x", "c=[0,1]", "d=[0],[1,2]", 'e="p,q",r', "f=1e-3,true"]) == {
        "a": [4, 8], "b": ["x"], "c": [(0, 1)], "d": [(0,), (1, 2)], "e": ["p,q", "r"], "f": [1e-3, True],
    }  # fmt: skip
    for text, told in (
        ("a", "--set: got 'a'; allowed is field=value"),
        ("a=", "--set: got 'a='; allowed is field=value or"),
        ("a=1,,2", "nothing left out"),
        ("a=1,1", "--set: got 'a=1,1'; allowed is values that differ"),
    ):
        with pytest.raises(ConfigError, match=told):
            read("--set", [text])
    for parse in (examples.axes, examples.pairs):
        with pytest.raises(ConfigError, match="every field once; 'a' has a value already"):
            parse("--set", ["a=1", "a=2"])


def test_options_make_a_grid():
    """What has one value is a constant; what has several is an axis; learning rates and seeds share programs."""
    cells = cells_called(
        "mqar",
        ["softmax", "relu"],
        [1e-3, 1e-2, 1e-1],
        ["num_pairs=2,4", "length=16", "vocab_size=16"],
        ["width=4,8", "length=20"],
        steps=5,
        seeds=3,
        batch_size=2,
    )
    assert len(cells) == 24 and list(cells[0].at) == ["mechanism", "num_pairs", "width", "learning_rate"]
    assert len(groups_of(cells)) == 8 and {len(group.roots) for group in groups_of(cells)} == {9}
    for cell in cells:
        assert cell.task == tt.MQAR(num_pairs=cell.at["num_pairs"], length=16, vocab_size=16)
        assert (cell.model.width, cell.model.length) == (cell.at["width"], 20)
        assert cell.model.mechanism.name == cell.at["mechanism"]
        assert cell.optimizer.learning_rate == cell.at["learning_rate"] and cell.seeds == (0, 1, 2)


def test_a_task_of_vectors_and_a_model_of_ones_own(tmp_path):
    """No tokens: neither accuracy nor plateau. Another number of the optimizer than its rate: still one program."""
    task, own = tt.LinearRegression(dim=2, context=4), al.RegressionAttention(dim=2, num_heads=1)

    def make(weight_decay):
        return al.Cell(task, own, al.adamw(1e-2, weight_decay=weight_decay), steps=4, batch_size=4)

    found = al.sweep(
        al.grid(make, weight_decay=[0.0, 0.5]), path=tmp_path / "out", measure=Measures(sequences=8), progress=False
    )
    assert dict(found.table.sizes) == {"weight_decay": 2, "seed": 1} and len(found.groups) == 1
    assert "accuracy" not in found.table and "left_plateau" not in found.table
    # A mean of float32 squares, in two orders.
    np.testing.assert_allclose(found.table.loss, found.table.risk_mse, rtol=1e-5)
    assert found.table.loss.values[0] != found.table.loss.values[1]
    assert sweep_report.headline(found) == "loss"
    assert sweep_report.picture(found, "")[1].axes[0].get_xlabel() == "weight decay"
    assert (found.path / "report.html").exists()
