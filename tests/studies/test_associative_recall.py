"""The study of recall: smoke preset, what its runs are, bytes of state by hand, memories against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from study_checks import lowered, settings_fit, smoke_holds

import attnlab as al
from attnlab.studies import find
from attnlab.studies.associative_memory.memories import reader
from attnlab.studies.associative_recall.experiments import LATER, MIXERS, experiments
from attnlab.studies.associative_recall.memory import BETA, bytes_of, memories, written

STUDY = find("associative-recall")


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "f1-table", "f2-phase", "f3-memories", "f4-losses")


def test_the_runs_are_what_the_study_says():
    """Every preset's settings can be written into a manifest; claims name runs that exist."""
    settings_fit(experiments, "laptop", "evening", "paper")
    for preset in ("laptop", "evening", "paper"):
        assert all(e.task.fillers == "zero" for e in experiments(preset).values())
    laptop = experiments("laptop")
    assert {"hybrid", "plain", "capacity_softmax", "capacity_linear"} <= set(laptop)
    assert {f"{n}_12" for n in MIXERS if n not in LATER} | {"linear_4"} <= set(laptop)
    assert {f"{n}_{p}" for n in MIXERS for p in (4, 8, 12, 16)} <= set(experiments("evening"))
    assert laptop["plain"].model.short_conv is None and laptop["hybrid"].model.positions == "none"


def test_bytes_of_decode_states():
    """float32: keys and values of 64 tokens, or of the last 16; `K x K`; two layers have two caches."""
    runs = experiments("laptop")
    assert bytes_of(runs["softmax_12"].model) == 4 * 2 * 64 * 16
    assert bytes_of(runs["window_16_12"].model) == 4 * 2 * 16 * 16
    assert bytes_of(runs["linear_12"].model) == 4 * 16 * 16
    assert bytes_of(runs["plain"].model) == 2 * 4 * 2 * 64 * 64


def test_memories_are_those_of_loops():
    """Hebb, one delta pass and softmax with logits `20 cos`, read back after 8 pairs of width 32, in float64."""

    class Table:
        keys = np.random.default_rng(1).normal(size=(9, 32)).astype(np.float32)
        values = np.random.default_rng(2).normal(size=(9, 32)).astype(np.float32)

        def __iter__(self):
            return iter((self.keys, self.values))

    table = Table()
    table.keys /= np.linalg.norm(table.keys, axis=1, keepdims=True)
    k, v = table.keys[None, :8].astype(float), table.values[None, :8].astype(float)
    states = {"hebb": np.einsum("rni,rnj->rij", k, v), "delta": np.zeros((1, 32, 32))}
    for n in range(8):
        states["delta"] += np.einsum("ri,rj->rij", k[:, n], v[:, n] - np.einsum("ri,rij->rj", k[:, n], states["delta"]))
    wanted = {name: k @ s for name, s in states.items()}
    shares = np.exp(BETA * k @ np.swapaxes(k, 1, 2))
    wanted["softmax"] = shares / shares.sum(-1, keepdims=True) @ v
    for name, right in wanted.items():
        read = reader(memories(32)[name], 1, 8, 32)
        found = read(table.keys[None, :8], table.values[None, :8], table.keys[None, :8], 8)
        np.testing.assert_allclose(found, right, atol=2e-5, err_msg=name)  # float32 sums of 32 products of order 1


def test_what_is_written_is_distinct():
    import toy_tasks as tt

    keys, values, ids = written(tt.StackedRecall(dim=32).embeddings, 3)
    assert keys.shape == values.shape == (3, 128, 32) and all(len(set(row)) == 128 for row in ids)


def test_paper_preset_lowers_for_accelerators():
    """At full size, from a CPU: 512 tokens, 64 pairs, 8 192 ids."""
    e = experiments("paper")["attention_T512_D512"]
    assert (e.task.vocab_size, e.task.length, e.task.num_pairs, e.model.width) == (8192, 512, 64, 512)
    assert f"{e.batch_size}x512" in lowered(e)


def test_scores_and_steps_are_read_from_the_record(tmp_path: Path):
    """The measures of a claim against the trajectory itself."""
    from attnlab.studies.associative_recall import head_step, score

    lab = STUDY.open_lab(tmp_path, "smoke", 2, False, lambda text: None, 0)
    heads = lab.run("plain").trajectory["heads"]
    recorded = np.asarray(heads["induction"])[:, -1, 0, 0]  # of 64 sequences; the measure takes 256
    np.testing.assert_allclose(score("plain", "induction", 0)(lab), recorded, atol=0.1)
    assert head_step("induction", 1)(lab).shape == (2,)
    assert isinstance(al.analysis.copying_heads(lab.experiments["plain"].task), al.analysis.CopyingHeads)
