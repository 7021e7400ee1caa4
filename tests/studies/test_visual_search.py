"""The study of visual search: smoke preset, paths by loops, searches that are known, the formula's fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy_tasks as tt
from attnlab.report import count_statuses
from attnlab.studies import find
from attnlab.studies.reproduce import FIGURES, REPORT, reproduce
from attnlab.studies.visual_search import distractors, scanning, searching
from attnlab.studies.visual_search.denoiser import Denoiser
from attnlab.studies.visual_search.experiments import STOPS, experiments
from attnlab.studies.visual_search.rates import Falling

STUDY = find("visual-search")


def test_smoke_runs_end_to_end(tmp_path: Path):
    outcome = reproduce(STUDY, "smoke", path=tmp_path / "s", progress=False)
    assert count_statuses(outcome.verdicts)["passed"] == len(STUDY.shown("smoke")) == len(outcome.verdicts)
    assert (tmp_path / "s" / REPORT).stat().st_size > 20_000
    drawn = sorted((tmp_path / "s" / FIGURES).glob("*.png"))
    assert len(drawn) >= 2 and all(path.stat().st_size > 5_000 for path in drawn)


def test_the_runs_are_what_the_study_says():
    for preset in ("laptop", "evening"):
        found = experiments(preset)
        stops = STOPS if preset == "evening" else ("zero", "none")
        assert {name for name in found if name.startswith("pointer")} == {f"pointer {stop}" for stop in stops}
        for stop in stops:
            e = found[f"pointer {stop}"]
            assert e.model.stop == stop and e.task.count_stops == (stop != "none") and e.most_seeds == 3
            assert (e.task.fewest, e.task.most) == (6, 12) and e.optimizer.steps == e.steps
        assert [found[f"diet {d}"].task.share for d in searching.DIETS] == [0.9, 0.5, 0.1]
        longest = 1 + max(distractors.HERRINGS) + found["herrings"].task.num_others + max(distractors.PRIMES) + 1
        assert found["herrings"].model.length == longest


def test_paths_of_the_law_are_those_of_the_task():
    """Drawn decision by decision from its own law, against the task's sampler: shares of two samples of 2,048."""
    task = tt.Scanpaths(3, 5, 8)

    def both(key):
        mine = scanning.rollout(task, task.logits, key, 2048)
        theirs = task.sample(jax.random.fold_in(key, 1), 2048)
        return mine, scanning.behaviour(task, mine), scanning.behaviour(task, theirs)

    batch, mine, theirs = jax.jit(both)(jax.random.key(0))
    for part in ("found", "search", "refixation", "revisit"):
        assert abs(float(mine[part] - theirs[part])) < 4 * np.sqrt(2 * 0.25 / 2048), part
    assert abs(float(mine["length"] - theirs["length"])) < 4 * np.sqrt(2 * 8 / 2048)
    fixated, chosen = np.asarray(batch.inputs.fixated), np.asarray(batch.targets)
    sought = np.asarray(jax.jit(task.sought)(batch.inputs))
    kinds = {"search": 0, "refixation": 0, "revisit": 0}
    ended = 0
    for b in range(2048):
        path = [-1]
        for t in range(task.length):
            assert fixated[b, t] == path[-1]
            if chosen[b, t] == task.most:
                ended += path[-1] == sought[b]
                break
            kind = "refixation" if chosen[b, t] == path[-1] else "revisit" if chosen[b, t] in path else "search"
            kinds[kind] += 1
            path.append(chosen[b, t])
    assert float(mine["found"]) == ended / 2048
    assert float(mine["length"]) == pytest.approx(sum(kinds.values()) / 2048)
    for kind, count in kinds.items():
        assert float(mine[kind]) == pytest.approx(count / sum(kinds.values()), rel=1e-5)


@pytest.mark.parametrize("rule", searching.RULES)
def test_searches_whose_length_is_known(rule, monkeypatch):
    task = tt.OrientationDiet(0.5)
    monkeypatch.setattr(searching, "CONTRAST", 100.0)

    def taken(see, far):
        monkeypatch.setattr(searching, "NEAR", far)
        monkeypatch.setattr(searching, "FAR", far)
        return np.asarray(
            jax.jit(lambda key: searching.fixations(task, see, rule, key, 1000, 7, True))(jax.random.key(0))
        )

    assert (taken(lambda x: x, 0.0) == 1).all()  # without noise it pops out
    # Noise that drowns the item: every order is as likely, 1 to 7 fixations.
    found = taken(lambda x: x, 1e4)
    assert found.min() == 1 and found.max() == 7
    assert abs(found.mean() - 4) < 4 * 2 / np.sqrt(1000)


def test_exchanging_the_kinds_exchanges_the_diets():
    """O among V on 80 % V is V among O on 20 % V, for exact posterior means, drawn."""

    @jax.jit
    def both(key):
        def mean(share, odd):
            task = tt.OrientationDiet(share)
            return jnp.mean(1.0 * searching.fixations(task, task.denoise, "drawn", key, 2000, 8, odd))

        return jnp.array([[mean(share, odd) for odd in (False, True)] for share in (0.2, 0.8)])

    means = np.asarray(both(jax.random.key(1)))
    np.testing.assert_allclose(means[1], means[0][::-1], atol=4 * 2.3 * np.sqrt(2 / 2000))


def test_slopes_and_their_asymmetry():
    sizes = np.array(searching.SIZES)
    means = np.stack([1 + 0.1 * sizes, 2 + 0.3 * sizes])  # O among V, V among O
    np.testing.assert_allclose(searching.slopes(means), [0.1, 0.3])
    assert searching.asymmetry(means) == pytest.approx(0.5)
    assert searching.asymmetry(np.stack([means, means[::-1]])) == pytest.approx([0.5, -0.5])
    assert searching.asymmetry(np.stack([5 - 0.1 * sizes, means[1]])) == pytest.approx(1.0)  # a fall counts as none
    assert searching.asymmetry(np.ones((2, 4))) == 0


def test_one_sharpness_is_found_where_there_is_one():
    task = experiments("laptop")["herrings"].task

    def risks(name, task):
        return {"correct": np.array([task.correct(2.5), task.correct(0.7)]), "accuracy": np.ones(2)}

    lab = SimpleNamespace(experiments={"herrings": SimpleNamespace(task=task)}, risks=risks)
    assert distractors.formula_gap(lab).max() < 1e-3
    for over in ("herrings", "primes"):
        assert (distractors.largest_rise(lab, over, "correct") < 0).all()
        assert (distractors.fall(lab, over, "correct") > 0).all() and (distractors.fall(lab, over) == 0).all()


def test_the_rate_falls_along_half_a_cosine():
    """Against AdamW at the rate of that step, gradients that are always 1."""
    gradient, params = jnp.ones(3), jnp.zeros(3)
    rule = Falling(0.1, 4).transform()
    state = rule.init(params)
    for t in range(6):
        update, state = rule.update(gradient, state, params)
        wanted = -0.1 * (1 + np.cos(np.pi * min(t, 4) / 4)) / 2  # Adam's first moments over root of second: 1
        np.testing.assert_allclose(jnp.asarray(update), np.full(3, wanted), atol=1e-6)


def test_the_denoiser_is_two_layers_each_way(key):
    model = Denoiser(5, hidden=3, width=2)
    params = model.init(key)
    x = np.random.default_rng(0).normal(size=(4, 1, 5)).astype(np.float32)
    out, tape = model.apply(params, jnp.asarray(x), tape=("code",))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def layers(part, x):
        return np.maximum(x @ part["0"]["w"] + part["0"]["b"], 0) @ part["1"]["w"] + part["1"]["b"]

    np.testing.assert_allclose(tape["code"], layers(p["encode"], x), atol=1e-6)
    np.testing.assert_allclose(model.code(params, jnp.asarray(x)), tape["code"], atol=1e-6)
    np.testing.assert_allclose(out, layers(p["decode"], layers(p["encode"], x)), atol=1e-6)
