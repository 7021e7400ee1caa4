"""The table that compares two commits: medians, ratios, and what only one of them has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.bench import against


def test_medians_and_ratios() -> None:
    theirs = {"step [ms]": [10.0, 12.0, 50.0], "old [s]": [1.0]}
    ours = {"step [ms]": [5.0, 9.0, 40.0], "new [s]": [1.0]}
    head, step, *rest = against.table(theirs, ours).splitlines()
    assert head.split() == ["measure", "theirs", "ours", "ratio", "spread"]
    assert step.split() == ["step", "[ms]", "12", "9", "0.750", "1.600"]  # ratios .5, .75, .8
    assert rest == ["only theirs: old [s]", "only ours: new [s]"]


def test_rounds_are_interleaved(monkeypatch, tmp_path) -> None:
    met = []

    def measured(tree, extra):
        met.append("ours" if tree == against.HERE else "theirs")
        row = {"name": "a", "unit": "s", "value": float(len(met)), "device": {"kind": "cpu"}, "cores": 2}
        return [row | {"versions": {"jax": "1"}}]

    monkeypatch.setattr(against, "measured", measured)
    theirs, ours, machine = against.in_turn(tmp_path, (), 3)
    assert met == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert (theirs, ours) == ({"a [s]": [1.0, 4.0, 5.0]}, {"a [s]": [2.0, 3.0, 6.0]})
    assert machine == "cpu, 2 cores, jax 1"


def test_a_commit_that_does_not_exist_is_named() -> None:
    with pytest.raises(RuntimeError, match="no-such-commit"), against.checked_out("no-such-commit"):
        pass
