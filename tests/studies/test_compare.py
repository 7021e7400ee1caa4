"""`compare`: what its table says is what the runs say; names come from objects; mistakes are one clear error."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import attnlab as al
import toy_tasks as tt
from attnlab import attention, cli
from attnlab.attention import from_weights
from attnlab.config import ConfigError
from attnlab.studies import examples
from attnlab.studies.compare import COLUMNS, compare, model_for

TASK = tt.PairedRecall(num_keys=8, num_values=8, num_pairs=4)


def first_key(params, q, k, *, mask):
    """A user's own map that looks at the first position only."""
    return jax.nn.one_hot(np.zeros(q.shape[-2], int), k.shape[-2]) * np.ones((*q.shape[:-1], 1))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    own = from_weights(None, first_key)
    options = {"width": 16, "positions": "none", "norm": "none", "no_mlp": (0,)}
    path = tmp_path_factory.mktemp("compare") / "out"
    return compare(TASK, [attention.softmax, own], seeds=2, steps=150, learning_rate=2e-2, path=path, **options)


def test_the_table_says_what_was_trained(found) -> None:
    header, *rows = found.rows()
    assert header[0] == "mechanism" and set(header[1:]) <= set(COLUMNS)
    assert [row[0] for row in rows] == ["softmax", "first_key"]
    assert str(found).splitlines()[0].split() == header
    softmax, own = found.values["softmax"], found.values["first_key"]
    assert np.median(softmax["accuracy"]) > 0.9 > np.median(own["accuracy"]), "one key does not tell the others' values"
    assert own["bos_mass"] == pytest.approx((1, 1)) and own["bos_share"] == pytest.approx((1, 1))
    assert np.allclose(softmax["loss"], softmax["oracle_gap"]), "the oracle's loss is 0 here"
    assert np.isfinite(softmax["left_plateau"]).all()
    assert all(x > 0 for row in found.values.values() for x in row["us_per_token"])


def test_runs_table_and_pictures_are_on_disk(found) -> None:
    image = json.loads((found.path / "comparison.json").read_text())
    assert set(image["values"]) == {"softmax", "first_key"}
    for name in ("comparison.png", "losses.png"):
        assert (found.path / name).stat().st_size > 5_000
    run = al.open(found.path / "runs" / "softmax")
    assert run.finished and len(run.seeds) == 2


def test_settings_are_checked_before_anything_is_made(tmp_path) -> None:
    path = tmp_path / "new"
    with pytest.raises(ConfigError, match=r"unknown key 'layers'. Did you mean 'num_layers'"):
        compare(TASK, [attention.softmax], path=path, layers=2)
    with pytest.raises(ConfigError, match=r"mechanisms: got .*; allowed is mechanisms of different names"):
        compare(TASK, [attention.softmax, attention.softmax], path=path)
    with pytest.raises(ConfigError, match=r"mechanisms: got .*; allowed is one mechanism or more"):
        compare(TASK, [], path=path)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(ConfigError, match=r"path: got .*; allowed is a folder that does not exist"):
        compare(TASK, [attention.softmax], path=path)


@pytest.mark.parametrize("make", examples.TASKS, ids=examples.name_of)
def test_every_example_task_has_a_model_that_reads_it(make) -> None:
    name = examples.name_of(make)
    task = examples.task_called(name, ["ask=prefix"] if name == "parity" else [])
    model = model_for(task, attention.softmax, width=8)
    batch = jax.eval_shape(lambda key: task.sample(key, 2), jax.random.key(0))
    out = jax.eval_shape(lambda key, x: model.apply(model.init(key), x)[0], jax.random.key(0), batch.inputs)
    tokens = hasattr(task, "vocab_size")
    assert out.shape == ((*batch.targets.shape, task.vocab_size) if tokens else batch.targets.shape)


def test_names_and_settings_of_the_command_line() -> None:
    task = examples.task_called("mqar", ["num_pairs=4", "length=32", "vocab_size=64"])
    assert (task.num_pairs, task.length, task.vocab_size) == (4, 32, 64)
    assert examples.task_called("bigram-backcopy", ["length=16", "bos=false"]).bos_id is None
    assert examples.task_called("word-problem", ["group=A4xZ5"]).group == tt.Group("A4 x Z5")
    assert [m.name for m in examples.mechanisms_called(["relu", "softmax"])] == ["relu", "softmax"]
    assert examples.pairs("--model", ["no_mlp=[0]", "positions=none"]) == {"no_mlp": (0,), "positions": "none"}
    for call, message in (
        (lambda: examples.task_called("mqarr"), "--task: got 'mqarr'; allowed is .*Did you mean 'mqar'"),
        (lambda: examples.task_called("mqar", ["pairs=4"]), "MQAR: unknown key 'pairs'. Did you mean 'num_pairs'"),
        (lambda: examples.task_called("parity"), "Parity: missing key 'ask'"),
        (lambda: examples.task_called("bigram-backcopy", ["len=4"]), "--set of bigram-backcopy: got 'len'"),
        (lambda: examples.mechanisms_called(["sofmax"]), "--mechanisms: got 'sofmax'.*Did you mean 'softmax'"),
        (lambda: examples.pairs("--set", ["length"]), "--set: got 'length'; allowed is field=value"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_the_help_names_every_task(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ", ".join(map(examples.name_of, examples.TASKS)) in told


def test_command(tmp_path, capsys) -> None:
    path = tmp_path / "out"
    command = ["compare", "--task", "paired-recall", "--mechanisms", "softmax", "--steps", "4", "--seeds", "1"]
    settings = ["--set", "num_keys=8", "num_values=8", "num_pairs=4", "--model", "width=16", "--path", str(path)]
    assert cli.main([*command, *settings]) == 0
    told = capsys.readouterr().out
    assert "Paired recall" in told and "oracle_gap" in told and str(path) in told
    assert cli.main([*command, *settings]) == 2, "the folder exists"
    assert "allowed is a folder that does not exist" in capsys.readouterr().err
