"""The study: a sound table, a smoke preset that runs end to end, a paper preset that lowers, failures that are told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from study_checks import lowered

from attnlab import cli, training
from attnlab.report import count_statuses
from attnlab.studies import STUDIES, find
from attnlab.studies.active_dormant.experiments import PAPER, experiments
from attnlab.studies.reproduce import FIGURES, REPORT, StudyFolderError, read_verdicts, reproduce

STUDY = find("active-dormant")


def test_the_table_of_claims_is_sound():
    for study in STUDIES:
        ids = [c.claim.id for c in study.checks]
        assert len(set(ids)) == len(ids)
        names = {p.name for p in study.presets}
        for check in study.checks:
            places = (*check.claim.presets, *check.reported)
            assert places and set(places) <= names, check.claim.id
            assert len(check.claim.tolerance_reason) > 4 and set(check.bands) <= names
            for preset in places:
                low, high = check.interval(preset)
                assert low is None or high is None or low <= high


def test_every_acceptance_experiment_has_its_claims():
    prefixes = {c.claim.id.split(".")[0] for c in STUDY.checks}
    wanted = {f"A{n}" for n in (*range(1, 23), "20b")}
    assert wanted <= prefixes, wanted - prefixes
    at = {p.name: {c.claim.id.split(".")[0] for c in STUDY.shown(p.name)} for p in STUDY.presets}
    assert at["laptop"] >= {f"A{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 17, 18, 19)}
    assert at["evening"] >= {"A20", "A20b"}
    assert at["paper"] >= {f"A{n}" for n in (9, 10, 12, 13, 14, 15, 21, 22)}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "smoke"
    status = cli.main(["reproduce", "active-dormant", "--preset", "smoke", "--path", str(folder)])
    assert status == 0
    return folder


def test_smoke_passes_and_writes_everything(smoke: Path):
    verdicts = read_verdicts(smoke)
    assert count_statuses(verdicts)["passed"] == len(STUDY.shown("smoke")) == len(verdicts)
    page = (smoke / REPORT).read_text()
    assert "https://" not in page and "http://" not in page
    for name in ("f1-attention", "f2-values", "f3-interventions", "f4-dynamics", "f5-relu", "f9-residuals"):
        assert (smoke / FIGURES / f"{name}.png").stat().st_size > 5_000
    for name in ("f10-reduced", "f11-residual-peak", "f-entropy", "f-theorems"):
        assert (smoke / FIGURES / f"{name}.png").stat().st_size > 5_000
    assert cli.main(["verify", str(smoke)]) == 0


def test_a_study_is_never_overwritten_and_can_be_gone_on_with(smoke: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(StudyFolderError, match="exists"):
        reproduce(STUDY, "smoke", path=smoke)
    before = read_verdicts(smoke)
    assert cli.main(["resume", str(smoke)]) == 0
    assert "training" not in capsys.readouterr().err, "finished runs are reused"
    again = read_verdicts(smoke)
    assert [(v.claim.id, v.status, v.per_seed) for v in again] == [(v.claim.id, v.status, v.per_seed) for v in before]
    (smoke / REPORT).unlink()
    assert cli.main(["report", str(smoke)]) == 0
    assert (smoke / REPORT).exists()


def test_a_wrong_expectation_fails_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["reproduce", "active-dormant", "--preset", "smoke", "--only", "A8", "--path", str(tmp_path / "s")]
    assert cli.main([*arguments, "--expect", "A8.sgd=11:12"]) == 1
    out = capsys.readouterr().out
    assert "failed: A8.sgd" in out and "A8.adam_1k" in out


@pytest.mark.parametrize("name", sorted(experiments("paper")))
def test_paper_preset_lowers_for_accelerators(name: str):
    """At full size, for TPU and GPU, from a CPU: shapes and operations are right before anyone rents a device."""
    e = experiments("paper")[name]
    assert f"{e.batch_size}x" in lowered(e)


@pytest.mark.parametrize("name", ["softmax", "three_sgd"])
def test_paper_preset_runs_a_few_steps(name: str, tmp_path: Path):
    """The paper's model and sequence length, with a batch of 2."""
    e = dataclasses.replace(experiments("paper")[name], batch_size=2, steps=2, marks=())
    assert (e.model.width, e.model.length) == (PAPER.width, PAPER.length) == (256, 256)
    run = training.run(
        e.task, e.model, e.optimizer, steps=2, batch_size=2, record={"params": training.every(2)}, path=tmp_path / "r"
    )
    assert (run.outcome == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["laptop", "evening"])
def test_reproduction(preset: str, tmp_path: Path):
    assert cli.main(["reproduce", "active-dormant", "--preset", preset, "--path", str(tmp_path / preset)]) == 0
