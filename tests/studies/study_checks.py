"""What the test of every study asks: that its smallest preset holds, and that its settings can be written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from attnlab.accelerators.programs import config_of
from attnlab.report.tables import count_statuses
from attnlab.studies.base import Study
from attnlab.studies.reproduce import FIGURES, REPORT, reproduce
from attnlab.training.devices import place
from attnlab.training.session import Session


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
            assert config_of(e).plan() is not None, (preset, name)


def lowered(experiment: Any) -> str:
    """A run's program, one seed, lowered for TPU and CUDA from here."""
    session = Session(config_of(experiment), place(1, experiment.model, "vmap", jax.devices()[:1]))
    return session.trace().lower(lowering_platforms=("tpu", "cuda")).as_text()
