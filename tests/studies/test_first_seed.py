"""The seeds of a study: which runs they give, that the folder remembers them, that bad ones are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import attnlab as al
import toy_tasks as tt
from attnlab import cli, training
from attnlab.studies import find
from attnlab.studies.lab import Runs
from attnlab.studies.measured import Experiment
from attnlab.studies.reproduce import REPORT, proceed, read_settings, reproduce


def tiny(most_seeds: int | None = None) -> Experiment:
    task = tt.Parity(length=4, ask="prefix")
    return Experiment(task, al.Transformer(task.vocab_size, 4, width=4), al.sgd(0.1), 1, 2, most_seeds=most_seeds)


def test_a_lab_trains_the_seeds_it_is_given(tmp_path: Path):
    """First 7, three seeds, at most two for one run: (7, 8, 9) and (7, 8), the same as if trained by hand."""
    lab = Runs(tmp_path, "smoke", {"all": tiny(), "two": tiny(2)}, 3, False, lambda text: None, 7)
    assert lab.run("all").config.seeds == (7, 8, 9) and lab.run("two").config.seeds == (7, 8)
    e = tiny()
    by_hand = training.run(e.task, e.model, e.optimizer, steps=1, seeds=[7, 8], batch_size=2, path=tmp_path / "hand")
    jax.tree.map(np.testing.assert_array_equal, by_hand.params, lab.run("two").params)


def test_the_folder_remembers_its_first_seed(tmp_path: Path):
    asked: list[Any] = []

    def open_lab(folder: Path, preset: str, seeds: int, progress: Any, say: Any, first_seed: int, *_: Any) -> Any:
        asked.append((seeds, first_seed))
        return SimpleNamespace(training_seconds=0.0, describe=dict)

    study = dataclasses.replace(find("gated"), checks=(), open_lab=open_lab, figures=lambda lab: {})
    study = dataclasses.replace(study, scrubbers=lambda lab: {})
    reproduce(study, "smoke", path=tmp_path / "s", first_seed=100)
    proceed(study, tmp_path / "s")
    assert asked == [(2, 100)] * 2 and read_settings(tmp_path / "s")["first_seed"] == 100
    assert "--seeds 2 --first-seed 100" in (tmp_path / "s" / REPORT).read_text()


def test_a_negative_first_seed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["reproduce", "gated", "--first-seed", "-1", "--path", str(tmp_path / "s")]) == 2
    assert "--first-seed: got -1; allowed is an integer >= 0" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
