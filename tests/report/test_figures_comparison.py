"""Models side by side: drawn with gaps, levels and predictions; bad shapes are named."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from attnlab.report import write_figures
from attnlab.report.figures_comparison import curves_by_model, seeds_by_model

MODELS = [f"model_{i}" for i in range(9)]
STEPS = np.array([0, 10, 100, 1000])


def values(seed: int = 0) -> dict[str, np.ndarray]:
    found = dict(zip(MODELS, np.random.default_rng(seed).uniform(0.1, 1, (9, 3)), strict=True))
    found["model_3"] = np.array([np.nan, 0.5, 0.7])
    found["model_4"] = np.full(3, np.nan)
    return found


def test_every_model_has_its_row_and_every_seed_its_dot(tmp_path) -> None:
    panels = {f"quantity {i}": values(i) for i in range(5)}
    levels = {"quantity 0": {"chance": 0.3, "oracle": 0.9}}
    figure = seeds_by_model(panels, title="a finding", log=("quantity 1",), levels=levels)
    assert isinstance(figure, Figure)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == MODELS
    assert sum(a.axison for a in figure.axes) == 5
    dots = [line for line in figure.axes[2].lines if line.get_marker() == "."]
    assert sum(len(line.get_xdata()) for line in dots) == 9 * 3 - 1 - 3
    (file,) = write_figures(tmp_path, {"rows": figure}).values()
    assert file.stat().st_size > 5_000


def test_curves_end_where_they_end(tmp_path) -> None:
    curves = {name: np.linspace(1, 0.1, 4) * np.ones((3, 1)) for name in MODELS[:7]}
    curves["model_1"] = np.array([[1, 0.5, np.nan, np.nan]])
    figure = curves_by_model(
        STEPS, curves, title="a finding", xlabel="step", ylabel="loss", log_y=True, levels={"log V": 1.0},
        predicted={"model_0": np.linspace(1, 0.2, 4)},
    )  # fmt: skip
    drawn = {text.get_text() for text in figure.axes[0].texts}
    assert set(MODELS[:7]) <= drawn
    assert any(text.startswith("log V") for text in drawn)
    write_figures(tmp_path, {"curves": figure})


def test_marked_points_have_their_ticks() -> None:
    curves = {"a": np.array([[1, 2, 3, np.nan]])}
    figure = curves_by_model(
        [1e-3, 3e-3, 1e-2, 1], curves, title="t", xlabel="rate", ylabel="y", log_x=True, marks=True
    )
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.001", "0.003", "0.01", "1"]
    assert axes.lines[0].get_marker() == "o"


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"panels\['b'\] is \['y'\]; allowed: the models \['x'\]"):
        seeds_by_model({"a": {"x": [1.0]}, "b": {"y": [1.0]}}, title="t")
    with pytest.raises(ValueError, match=r"curves\['x'\] is shape \(1, 3\); allowed: \[S, 4\]"):
        curves_by_model(STEPS, {"x": np.zeros(3)}, title="t", xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match="panels is empty"):
        seeds_by_model({}, title="t")
