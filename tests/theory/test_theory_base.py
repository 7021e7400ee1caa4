"""Predictions and references are frozen, checked values; the package is light to import."""

from __future__ import annotations

import dataclasses
import doctest
import subprocess
import sys

import numpy as np
import pytest

import theory
import theory.references
import theory.residual_peak


def test_import_needs_neither_jax_nor_scipy() -> None:
    code = "import sys, theory; sys.exit(any(m in sys.modules for m in ('jax', 'scipy', 'attnlab', 'toy_tasks')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", [theory.references, theory.residual_peak])
def test_examples_in_docstrings_run(module) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


def test_prediction_is_read_only_float64() -> None:
    prediction = theory.Prediction("x", np.arange(3), np.ones((3, 2)), None, theory.ACTIVE_DORMANT, ("always",))
    assert prediction.steps.dtype == prediction.values.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        prediction.values[0] = 2.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.name = "y"  # type: ignore[misc]


def test_prediction_refuses_shapes_that_disagree() -> None:
    with pytest.raises(ValueError, match="steps, values"):
        theory.Prediction("x", np.arange(3), np.ones(2), None, theory.ACTIVE_DORMANT)
    with pytest.raises(ValueError, match="low <= high"):
        theory.Prediction("x", np.arange(2), np.zeros(2), (np.ones(2), np.zeros(2)), theory.ACTIVE_DORMANT)


def test_bibtex_names_every_author_and_the_section() -> None:
    assert len({r.key for r in theory.REFERENCES}) == len(theory.REFERENCES)
    entry = theory.bibtex(theory.SINK_EMERGES.at("Proposition 1"))
    assert entry.count(" and ") == len(theory.SINK_EMERGES.authors) - 1
    assert "eprint = {2410.10781}" in entry and "note = {Proposition 1}" in entry
    assert entry.count("{") == entry.count("}")


def test_predictions_carry_source_and_assumptions(random_model) -> None:
    model = random_model(0)
    times = [1e6, 1e8]
    made = [
        theory.predict_sink_logits(model, times),
        theory.predict_sink_attention(model, times),
        theory.predict_sink_loss(model, times),
        theory.predict_value_drain(times, [5.0, 7.0], model.B),
        theory.predict_residual_peak([10, 100]),
    ]
    for prediction in made:
        assert prediction.reference.arxiv == "2410.13835" and prediction.assumptions
        assert prediction.values.shape[0] == 2
