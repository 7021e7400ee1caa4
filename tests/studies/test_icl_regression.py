"""The study of in-context regression: every acceptance experiment has a claim, smoke runs, paper lowers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from study_checks import lowered

from attnlab import cli, training
from attnlab.report import count_statuses
from attnlab.studies import find
from attnlab.studies.icl_regression import evaluate
from attnlab.studies.icl_regression.experiments import experiments
from attnlab.studies.reproduce import FIGURES, REPORT, read_verdicts
from attnlab.training.losses import natural, squared_error
from toy_tasks import GradientStep, LinearRegression

STUDY = find("icl-regression")


def test_every_acceptance_experiment_has_its_claims():
    at = {p.name: {c.claim.id.split(".")[0] for c in STUDY.shown(p.name)} for p in STUDY.presets}
    assert at["laptop"] >= {f"A{n}" for n in (1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 24)}
    assert at["evening"] >= {"A2", "A9", "A25"}
    assert at["paper"] >= {"A25", "P"}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "smoke"
    assert cli.main(["reproduce", "icl-regression", "--preset", "smoke", "--path", str(folder)]) == 0
    return folder


def test_smoke_passes_and_writes_everything(smoke: Path):
    verdicts = read_verdicts(smoke)
    counts = count_statuses(verdicts)
    reported = [c.claim.id for c in STUDY.shown("smoke") if "smoke" in c.reported]
    assert {v.claim.id for v in verdicts if v.status == "differs"} <= set(reported)
    assert counts["passed"] + counts["differs"] == len(STUDY.shown("smoke")) == len(verdicts)
    page = (smoke / REPORT).read_text()
    assert "https://" not in page and "http://" not in page
    drawn = sorted(file.stem for file in (smoke / FIGURES).glob("*.png"))
    assert len(drawn) >= 6
    assert all((smoke / FIGURES / f"{name}.png").stat().st_size > 5_000 for name in drawn)


@pytest.mark.parametrize("name", sorted(experiments("paper")))
def test_paper_preset_lowers_for_accelerators(name: str):
    e = experiments("paper")[name]
    assert f"{e.batch_size}x" in lowered(e)


def test_a_risk_has_an_honest_standard_error():
    task = LinearRegression(dim=3, context=12)
    step = GradientStep(0.7)

    def predict(batch):
        return task.predict(step, batch)

    (few, error), (many, small) = (evaluate.mean_square(task, predict, n, seed=n) for n in (2_000, 32_000))
    assert abs(few - many) < 5 * error
    assert 3 < error / small < 5  # sqrt(16), with the scatter of fourth moments


def test_the_loss_of_a_regression_is_the_squared_error():
    task = LinearRegression(dim=3, context=4, supports=((0, 1), (1, 2)))
    assert natural(task) is squared_error
    batch = task.sample(jax.random.key(0), 5)
    found = squared_error(batch.targets + 2.0, batch)
    assert found.shape == batch.loss_mask.shape
    np.testing.assert_allclose(found, 4.0, rtol=1e-5)


def test_seeds_end_where_the_lab_says(tmp_path: Path):
    """Circuits that are constructed, not trained: the lab's reading of them is their construction."""
    lab = STUDY.open_lab(tmp_path, "smoke", 2, False, lambda text: None)
    e = lab.experiments["two_heads"]
    params = [e.model.construct([w, -w], [mu, -mu]) for w, mu in ((0.1, 4.0), (0.2, 2.0))]
    stacked = jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *params)
    run = training.Run(tmp_path, None, stacked, np.zeros(2), np.full(2, -1), {})  # pyright: ignore[reportArgumentType]
    lab.once(("run", "two_heads"), lambda: run)
    np.testing.assert_allclose(lab.patterns("two_heads")["eta"][:, 0], 0.8, rtol=1e-5)
    np.testing.assert_allclose(lab.opposite("two_heads"), 1)
    np.testing.assert_allclose(lab.group_difference("two_heads"), 0, atol=1e-5)
    assert lab.identity_error("two_heads").max() < 1e-5
    np.testing.assert_allclose(lab.risk("two_heads"), 0.243, atol=0.03)


def test_a_record_of_patterns_is_read_by_step():
    e = dataclasses.replace(experiments("smoke")["two_heads"], steps=6, sparse=3, dense=4)
    names = set(e.record())
    assert names == {"params", "patterns"}


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["laptop", "evening"])
def test_reproduction(preset: str, tmp_path: Path):
    assert cli.main(["reproduce", "icl-regression", "--preset", preset, "--path", str(tmp_path / preset)]) == 0
