"""The study of length: smoke runs end to end, rows agree with the law, parameters do not depend on the length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from attnlab import keys
from attnlab.report import count_statuses
from attnlab.studies import find
from attnlab.studies.length_extrapolation.experiments import experiments
from attnlab.studies.length_extrapolation.rows import COSINE, WIDTH, planted
from attnlab.studies.reproduce import FIGURES, REPORT, read_verdicts, reproduce

STUDY = find("length-extrapolation")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("length") / "smoke"
    reproduce(STUDY, "smoke", path=folder, progress=False)
    return folder


def test_smoke_passes_and_draws(smoke: Path):
    verdicts = read_verdicts(smoke)
    assert count_statuses(verdicts)["passed"] == len(STUDY.shown("smoke")) == len(verdicts)
    assert (smoke / REPORT).exists()
    for name in ("planted", "entropy", "accuracy", "loss"):
        assert (smoke / FIGURES / f"{name}.png").stat().st_size > 5_000


def test_claims_say_where_they_come_from():
    ids = [c.claim.id for c in STUDY.checks]
    assert len(set(ids)) == len(ids)
    assert all(c.claim.source and c.claim.statement for c in STUDY.checks)


@pytest.mark.parametrize("name", ["softmax", "lssa", "lssar"])
def test_a_planted_row_is_the_formula(name: str):
    """The formulas in plain NumPy on draws of their own: two means of 256 and of 2,000 rows."""
    rng, keys_in_row = np.random.default_rng(0), 64
    found = []
    for _ in range(2000):
        query, others = _unit(rng.normal(size=WIDTH)), _unit(rng.normal(size=(keys_in_row - 1, WIDTH)))
        cosines = np.append(COSINE, others @ query)
        if name == "softmax":
            weights = np.exp(8 * cosines)
        else:
            weights = np.logaddexp(0, np.log(WIDTH) * np.log(keys_in_row) * cosines)
        weights = weights / weights.sum()
        if name == "lssar":
            weights = np.maximum(keys_in_row * weights - 1, 0) ** 15
            weights = weights / weights.sum()
        found.append(weights[0])
    mine = planted(name, keys_in_row)
    assert mine.shape == (256,)
    spread = np.hypot(np.std(mine) / 16, np.std(found) / np.sqrt(2000))
    assert abs(mine.mean() - np.mean(found)) < 5 * spread + 1e-5  # five standard errors, and float32


def test_parameters_do_not_depend_on_the_length():
    for name, e in experiments("evening").items():
        sizes = [
            jax.tree.map(np.shape, jax.eval_shape(replace(e.model, length=length).init, keys.root(0)))
            for length in (64, 1024)
        ]
        assert sizes[0] == sizes[1], name


def test_the_laptop_preset_is_what_it_says():
    runs = experiments("laptop")
    assert {e.task.length for e in runs.values()} == {64}
    assert all(e.task.num_fillers == 0 and e.model.num_layers == 1 for e in runs.values())
    assert STUDY.preset("laptop").seeds >= 3


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
