"""The study of probes: a smoke preset that runs, its table, its sizes."""

from __future__ import annotations

from pathlib import Path

from study_checks import smoke_holds

from attnlab.studies.probing import STUDY
from attnlab.studies.probing.experiments import MARKS, experiments, probes


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "f1-marks", "f2-taps", "f3-losses")


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
