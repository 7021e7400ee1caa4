"""The study of probes: a smoke preset that runs, its table, its sizes."""

from __future__ import annotations

from pathlib import Path

from attnlab.report import count_statuses
from attnlab.studies.probing import STUDY
from attnlab.studies.probing.experiments import MARKS, experiments, probes
from attnlab.studies.reproduce import FIGURES, REPORT, reproduce


def test_smoke_runs_end_to_end(tmp_path: Path):
    outcome = reproduce(STUDY, "smoke", path=tmp_path / "s", progress=False)
    assert count_statuses(outcome.verdicts)["passed"] == len(STUDY.shown("smoke")) == len(outcome.verdicts)
    assert (tmp_path / "s" / REPORT).stat().st_size > 20_000
    for name in ("f1-marks", "f2-taps", "f3-losses"):
        assert (tmp_path / "s" / FIGURES / f"{name}.png").stat().st_size > 5_000


def test_the_table_is_sound():
    ids = [c.claim.id for c in STUDY.checks]
    assert len(set(ids)) == len(ids)
    names = {p.name for p in STUDY.presets}
    for check in STUDY.checks:
        places = {*check.claim.presets, *check.reported}
        assert places and places <= names, check.claim.id
        assert check.claim.source and len(check.claim.tolerance_reason) > 4


def test_the_runs_are_what_the_study_says():
    found = experiments("laptop")
    task = found["1 mean"].task
    sizes = {name: probe.size for name, probe in probes(task).items()}
    assert sizes == {"mean": 264, "efficient 1": 1320, "efficient 4": 1416, "efficient 8": 1544, "attention": 4392}
    assert set(found) == {f"{m} {name}" for m in MARKS for name in sizes} | {"model"}
    for name, e in found.items():
        if name != "model":  # a norm over the batch sees all of it
            assert e.microbatch == e.batch_size and e.model.batch_norm
            assert e.task.num_marked == int(name.split()[0])
