"""The study of circuits: its smallest preset, and its statistics against arrays made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from study_checks import settings_fit, smoke_holds

from attnlab.studies.circuits import STUDY, parts
from attnlab.studies.circuits.experiments import experiments
from toy_tasks import CircuitMixture


def test_the_smallest_preset_runs_and_every_claim_of_it_holds(tmp_path):
    smoke_holds(STUDY, tmp_path, "f1-effects", "f2-overlap", "f3-shared", "f4-heads", "f5-losses")


def test_the_runs_are_what_the_study_says():
    settings_fit(experiments, "laptop", "evening")
    assert experiments("laptop")["noisy"].task.coloured.label_noise == 0.3


EFFECTS = {  # two seeds of two layers of four heads
    "indirect": [[[9, 8, 0, 0], [0, 0, 0, 0]], [[9, 0, 0, 0], [8, 0, 0, 0]]],
    "coloured": [[[9, 8, 0, 0], [0, 0, 0, 0]], [[9, 0, 0, 0], [0, 8, 0, 0]]],
    "control": [[[0, 0, 0, 0], [9, 8, 0, 0]], [[9, 0, 0, 0], [8, 0, 0, 0]]],
}


class Lab:
    """Effects made by hand."""

    preset = "smoke"

    def __init__(self):
        model = SimpleNamespace(num_layers=2, num_heads=4)
        self.experiments = {"mixture": SimpleNamespace(model=model, task=CircuitMixture())}

    def probe(self, name, probe, *, label):
        return {"patched": np.array(EFFECTS[label[1]], float)}


def test_overlaps_and_sets():
    lab = Lab()
    assert parts.size_of(lab) == 2
    np.testing.assert_allclose(parts.jaccard(lab, "indirect", "coloured"), [1, 1 / 3])
    np.testing.assert_allclose(parts.above_control(lab), [1, 1 / 3 - (1 + 1 / 3) / 2])
    shared, others = parts.chosen(lab, "shared"), parts.chosen(lab, "random")
    assert shared[0].sum() == 2 and shared[1].sum() == 1
    assert (others.sum(axis=2) == shared.sum(axis=2)).all(), "as many in the same layers"
    assert not (others & shared).any()


def test_chance_stands_beside_every_overlap():
    found = parts.overlaps(Lab(), "indirect", "coloured")[0]
    # Two of eight: shared members 0, 1, 2 with probabilities 15/28, 12/28, 1/28; Jaccard 0, 1/3, 1.
    assert found.chance_jaccard == pytest.approx((12 / 3 + 1) / 28, abs=0.01)
    assert found.p == pytest.approx(1 / 28, abs=0.01)
