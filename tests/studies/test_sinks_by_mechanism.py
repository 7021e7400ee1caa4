"""The study of sinks by mechanism: its table, its runs, its measures, and a smoke preset that runs end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from study_checks import smoke_holds

import attnlab as al
from attnlab.models import Transformer
from attnlab.studies import find
from attnlab.studies.sinks_by_mechanism import figures, measures
from attnlab.studies.sinks_by_mechanism.experiments import AT_LAPTOP, THEORY, WITHOUT_BOS, experiments

STUDY = find("sinks-by-mechanism")


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "f1-share-and-mass", "f2-risks", "f3-training")


def test_the_runs_are_what_the_study_says():
    laptop, evening = experiments("laptop"), experiments("evening")
    assert set(laptop) == {*AT_LAPTOP, *(f"no_bos_{name}" for name in WITHOUT_BOS)}
    assert set(laptop) < set(evening) and len(evening) == 2 * 19
    for name, e in evening.items():
        assert (e.model.num_layers, e.model.num_heads, e.model.width, e.task.length) == (1, 1, 64, 64), name
        assert (e.model.norm, e.model.norm_place, e.model.activation) == ("rmsnorm", "pre", "silu")
        assert e.task.bos == (not name.startswith("no_bos_"))
        assert len(e.task.triggers) == 3 and e.model.vocab_size == e.task.vocab_size
    names = [e.model.mechanism.name for name, e in evening.items() if not name.startswith("no_bos_")]
    assert len(set(names)) == 19, "every run has its own mechanism"


def test_every_claim_reads_runs_that_its_preset_has(monkeypatch):
    """Without training: a lab that only notes which runs are asked for."""

    class Asked:
        seeds = 2

        def __init__(self, preset):
            self.experiments, self.names = experiments(preset), set()

        def __getattr__(self, measure):
            def ask(name, *rest, **options):
                self.names.add(name)
                return np.ones(2)

            return ask

        def theory(self, part):
            return THEORY[part](self)

        def loss_curve(self, name):
            self.names.add(name)
            return np.arange(2), np.ones((2, 2))

    for preset in ("smoke", "laptop", "evening"):
        lab = Asked(preset)
        for check in STUDY.shown(preset):
            assert np.isfinite(np.asarray(check.measure(lab), float)).all(), check.claim.id
        assert lab.names <= set(lab.experiments), preset


def test_the_gate_counts_where_it_multiplies_what_is_read_out():
    class Lab:
        def mixing(self, name, metric, **options):
            return metric

    for name, metric in (("softmax", "bos_mass_dormant"), ("g2", "bos_mass_dormant")):
        assert measures.written(name)(Lab()) == metric
    for name in ("g1", "no_bos_g1_head", "two_g1_shared", "g5"):
        assert measures.written(name)(Lab()) == "bos_gated_mass_dormant"


def test_labels_are_unique():
    names = [n for n in experiments("evening") if not n.startswith("no_bos_")]
    assert len({figures.label(n) for n in names}) == len(names)


def test_one_table_row_by_hand():
    """`mixing` of the untrained softmax model, dormant queries from 8 on, against a loop."""
    e = experiments("smoke")["softmax"]
    assert isinstance(e.model, Transformer)
    params = e.model.init(al.keys.root(0))
    batch = al.analysis.evaluation_batch(e.task, 4)
    site = "blocks.0.attn.weights"
    weights = np.asarray(e.model.apply(params, batch.inputs, tape=(site,))[1][site], np.float64)
    trigger = np.asarray(batch.positions["trigger"])
    rows = [weights[b, 0, t, 0] for b in range(4) for t in range(8, e.task.length) if not trigger[b, t]]
    options = measures.MAPS | {"batch_size": 4}
    found = al.analysis.mixing(e.task, **options)(e.model, params)
    np.testing.assert_allclose(found["bos_mass_dormant"][0, 0], np.mean(rows), rtol=1e-5)
