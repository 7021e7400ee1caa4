"""The study of state tracking: smoke preset, weights by hand against loops, its runs, published sizes lower."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from study_checks import lowered, settings_fit, smoke_holds

import toy_tasks as tt
from attnlab.studies import find
from attnlab.studies.state_tracking import hand_built as hand
from attnlab.studies.state_tracking.experiments import experiments, lengths
from attnlab.studies.state_tracking.repeated import change, verdict
from theory.tracking import build_tracker

STUDY = find("state-tracking")


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "f1-hand-built", "f3-words", "f4-groups", "f5-losses")


def test_the_table_of_claims_is_sound():
    ids = [c.claim.id for c in STUDY.checks]
    assert len(set(ids)) == len(ids)
    for check in STUDY.checks:
        assert check.claim.source and len(check.claim.tolerance_reason) > 4
        assert check.claim.presets or check.reported


@pytest.mark.parametrize("name", ["S3_swaps", "A5"])
def test_outputs_are_codes_of_the_loop(x64, name: str):
    """What is read after every letter against theory's own loop and a query, float64."""
    case = hand.CASES[name]
    built = hand.build(case)
    tracker = build_tracker(case.made(), "delta", case.letters(), case.factors)
    words = np.random.default_rng(3).integers(0, len(built.alphabet), (2, 12))
    query = hand.spread_query(tracker)
    outputs = built.outputs(words, jnp.float64)
    for row, word in zip(outputs, words, strict=True):
        states = tracker.states([built.alphabet[letter] for letter in word])
        # the norm of keys has 1e-6 under its root and |silu|^2 >= .07: 3e-5 for each of 24 factors
        np.testing.assert_allclose(row, np.swapaxes(states, 1, 2) @ query, atol=24 * 3e-5)


def test_silu_is_inverted(rng: np.random.Generator):
    unit = rng.normal(size=(50, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    z = hand.before_feature(unit)
    y = z / (1 + np.exp(-z))
    np.testing.assert_allclose(y / np.linalg.norm(y, axis=1, keepdims=True), unit, atol=1e-9)  # halved 100 times
    assert np.linalg.norm(y, axis=1).min() > 0.269  # the bound behind what a state keeps
    easier = hand.easier_sign(unit)
    np.testing.assert_array_equal(np.abs(easier), np.abs(unit))
    assert (easier.max(axis=1) == np.abs(unit).max(axis=1)).all()


def test_a_change_is_over_the_largest_output():
    outputs = np.array([[[2.0], [-1.0], [1.0]], [[1.0], [1.0], [1.0]]])
    assert change(outputs, 1) == 1.0 and change(outputs, 2) == 0.5


def test_verdicts_are_those_of_theory():
    told = {n: verdict(n) for n in experiments("evening") if not n.startswith("swap")}
    assert told["parity_beta_2"] == told["S3_product"] == told["A5_product"] == "yes"
    assert told["parity_beta_1"] == told["S3_delta_2"] == told["S3_ssd"] == told["S3_product_unit"] == "no"
    assert told["A5_softmax_3"] == "conjecturally no" and told["Z60_softmax_1"] == "not ruled out"


def test_the_runs_are_what_the_study_says():
    """Every preset's settings can be written into a manifest; claims name runs that exist."""
    settings_fit(experiments, "laptop", "evening", "paper")
    for preset in ("laptop", "evening", "paper"):
        measured: set[str] = set()
        lab = SimpleNamespace(
            accuracy=lambda name, measured=measured, **_: measured.add(name) or np.zeros(1),
            experiments=experiments(preset),
            theory=lambda part: pytest.fail("not trained"),
        )
        for check in STUDY.shown(preset):
            if not check.claim.id.startswith(("built", "cut", "repeat")):
                check.measure(lab)
        assert measured <= set(experiments(preset))
    found = experiments("laptop")
    assert found["S3_product"].model.mechanism.rule.num == 2
    assert {found[f"S3_delta_{b}"].model.mechanism.rule.beta.limit for b in (1, 2)} == {1.0, 2.0}
    assert found["parity_beta_2"].task == tt.Parity("prefix", 40)
    assert lengths(SimpleNamespace(experiments=found, preset="laptop"), "S3_product") == (21, 41, 81)


def test_paper_preset_lowers_for_accelerators():
    """At full size, from a CPU: 128 letters, batches of 2048; width 512, batches of 512."""
    for name, shape in (("S3_product", "2048x129"), ("A5_softmax_1", "512x25")):
        e = experiments("paper")[name]
        assert shape in lowered(e)
