"""What the test of every study asks: that its smallest preset holds, and that its settings can be written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attnlab import training
from attnlab.report.tables import count_statuses
from attnlab.studies.base import Study
from attnlab.studies.reproduce import FIGURES, REPORT, reproduce


def smoke_holds(study: Study, folder: Path, *figures: str) -> None:
    """Every claim of `smoke` passes; there is a report, and every figure named is more than an empty frame."""
    outcome = reproduce(study, "smoke", path=folder / "s", progress=False)
    assert count_statuses(outcome.verdicts)["passed"] == len(study.shown("smoke")) == len(outcome.verdicts)
    assert (folder / "s" / REPORT).stat().st_size > 20_000
    for name in figures:
        assert (folder / "s" / FIGURES / f"{name}.png").stat().st_size > 5_000, name


def settings_fit(experiments: Callable[[str], Mapping[str, Any]], *presets: str) -> None:
    """Every run of these presets makes a manifest and a plan."""
    for preset in presets:
        for name, e in experiments(preset).items():
            config = training.RunConfig(
                task=e.task,
                model=e.model,
                optimizer=e.optimizer,
                steps=e.steps,
                batch_size=e.batch_size,
                record=e.record(),
            )
            assert config.plan() is not None, (preset, name)
