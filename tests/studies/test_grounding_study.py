"""The study of grounding: table, smoke preset; the frontier as a method, doses that do nothing, search, chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy_tasks as tt
from attnlab import edits as ed
from attnlab.report import count_statuses
from attnlab.studies.grounding import STUDY, heads, methods, planted
from attnlab.studies.grounding.experiments import experiments, reference
from attnlab.studies.grounding.lines import LINES
from attnlab.studies.grounding.nulls import best_of
from attnlab.studies.grounding.subject import Curve, Subject, asked, canonical, drawn, in_conflict, judge, summary
from attnlab.studies.reproduce import FIGURES, REPORT, reproduce

TASK = asked(tt.GridQA())
CHANCE = 4.5  # standard errors


def subject(two_tokens: bool = False, seed: int = 3) -> Subject:
    task = replace(TASK, two_tokens=two_tokens)
    model = reference(task)
    params = jax.tree.map(lambda x: 3 * x if x.ndim > 1 else x, model.init(jax.random.key(seed)))
    return Subject(model, params, task, 32, 32)


def test_smoke_runs_end_to_end(tmp_path: Path):
    outcome = reproduce(STUDY, "smoke", path=tmp_path / "s", progress=False)
    assert count_statuses(outcome.verdicts)["passed"] == len(STUDY.shown("smoke")) == len(outcome.verdicts)
    assert (tmp_path / "s" / REPORT).stat().st_size > 20_000
    assert (tmp_path / "s" / FIGURES / "f1-frontier.png").stat().st_size > 20_000


def test_the_runs_are_what_the_study_says():
    for preset in ("laptop", "evening"):
        found = experiments(preset)
        assert set(found) == {line.run for line in LINES.values()}
        for e in found.values():
            assert (e.model.num_layers, e.model.num_heads, e.model.width, e.batch_size) == (2, 4, 32, 128)
            assert e.task.blank == e.task.general == 0.15


def test_rules_that_weigh_the_prior_lie_on_the_exact_frontier(key):
    """A method that asks the exact rule of weight w in place of the model: what `Curve` measures is the frontier."""
    weights, number = (0.0, 0.5, 1.0, 2.0), 4096
    model = reference(TASK)
    found = jax.jit(lambda p: Curve(TASK, methods.rule, weights, reported=number)(model, p))(model.init(key))
    exact = TASK.bayes_frontier(weights)
    for name, share in (("accuracy", 1.0), ("conflict", 0.4), ("consistent", 0.6), ("hallucination", 0.4)):
        expected = getattr(exact, name)
        error = np.sqrt(expected * (1 - expected) / (share * number))
        np.testing.assert_array_less(np.abs(np.asarray(found[name]) - expected), CHANCE * error)
    assert np.asarray(found["nll"]).argmin() == 2  # a proper score: the law itself, w = 1


def test_answers_are_judged_as_a_loop_would(rng):
    batch = drawn(TASK, jax.random.key(0), 40, False)
    logits = rng.normal(size=(40, TASK.length, TASK.vocab_size)).astype(np.float32)
    found = judge(TASK, jnp.asarray(logits), batch)
    conflict, usual = np.asarray(in_conflict(batch)), np.asarray(canonical(TASK, batch))
    for b in range(40):
        last, truth = logits[b, -1].astype(np.float64), int(batch.targets[b, -1])
        asked_for = np.flatnonzero(np.asarray(batch.inputs[b, -1, TASK.coordinates["asked"]]))[0]
        assert usual[b] == asked_for % TASK.num_colours and conflict[b] == (truth != usual[b])
        assert bool(found["right"][b]) == (last.argmax() == truth)
        assert bool(found["usual"][b]) == (last.argmax() == usual[b])
        np.testing.assert_allclose(found["nll"][b], np.log(np.exp(last).sum()) - last[truth], rtol=1e-5)
    means = summary(found, in_conflict(batch))
    np.testing.assert_allclose(means["hallucination"], np.asarray(found["usual"])[conflict].mean(), rtol=1e-6)
    np.testing.assert_allclose(means["consistent"], np.asarray(found["right"])[~conflict].mean(), rtol=1e-6)


def found_for(one: Subject, name: str):
    """What `Line.find` would give, without the search for a strength, which an untrained model does not need."""
    line = LINES[name]
    if name.startswith(("planted", "gift", "carve")):
        dims = jnp.arange(one.model.width) == planted.MARK
        return {"layer": jnp.asarray(1), "strength": jnp.asarray(6.0), "dims": dims}
    return line.find(one)


@pytest.mark.parametrize("name", sorted(set(LINES) - {"rule"}))
def test_the_neutral_dose_does_nothing(name: str):
    line = LINES[name]
    one = subject(line.run != "plain")
    batch, found = one.choosing(line.roomy), found_for(one, name)
    kept: tuple = ()
    if line.roomy:
        number = 1 if name.startswith("gift") else 2
        plants = planted.planted(one, planted.sinks_of(batch, number), 6.0, not name.startswith("carve"))
        kept = plants
    answer = line.method(one, batch, found)
    plain = one.ask(batch.inputs, kept)
    np.testing.assert_allclose(answer(jnp.asarray(line.neutral)), plain, rtol=1e-4, atol=1e-4)
    far = max(line.doses, key=lambda dose: abs(dose - line.neutral))
    moved = np.abs(np.asarray(answer(jnp.asarray(far)) - plain))[:, -1].max()
    assert moved > 1e-4 or name == "act"  # ACT flags keys by itself, of an untrained map perhaps none


def test_roomy_pictures_have_room():
    batch = drawn(TASK, jax.random.key(1), 300, True)
    background = np.asarray(batch.positions["background"]).sum(axis=1)
    assert background.min() == 2 and np.asarray(planted.sinks_of(batch)).sum(axis=1).tolist() == [2] * 300
    plain = drawn(TASK, jax.random.key(1), 300, False)
    assert np.asarray(plain.positions["background"]).sum(axis=1).min() == 1
    np.testing.assert_array_equal(batch.targets, plain.targets)  # a smaller picture of the same question


def test_a_planted_sink_has_mass_no_value_and_a_massive_coordinate():
    one = subject()
    batch = one.choosing(roomy=True)
    sinks = planted.sinks_of(batch)
    edits = planted.planted(one, sinks, 30.0)
    maps = np.asarray(one.maps(batch.inputs, edits))
    where = np.asarray(sinks)
    mass = (maps[..., -1, :] * where[:, None]).sum(axis=-1)
    assert mass.min() > 0.99
    tape = one.tape(batch.inputs, ("blocks.*.attn.head_out",), edits)
    for n in one.layers:
        # A row that looks at sinks alone writes next to nothing.
        assert np.abs(np.asarray(tape[f"blocks.{n}.attn.head_out"])[:, :, -1]).max() < 0.1
    stream = planted.stream_into(one, batch.inputs, edits)
    seen = planted.found_sinks(stream, jnp.arange(one.model.width) == planted.MARK)
    np.testing.assert_array_equal(seen[0], where)
    top = jnp.asarray(maps[1, :, :, -1].mean(axis=1))
    dims = np.flatnonzero(np.asarray(ed.sink_dimensions(stream[0], top)))
    assert planted.MARK in dims


def test_the_strength_is_the_smallest_that_captures():
    one = subject()
    layer = jnp.asarray(1)
    strength = float(planted.strong_enough(one, layer))
    batch = one.choosing(roomy=True)
    sinks = np.asarray(planted.sinks_of(batch))

    def captured(value: float) -> float:
        rows = planted.look(one, batch.inputs, layer, planted.planted(one, jnp.asarray(sinks), value))
        top = np.where(np.asarray(one.patches), np.asarray(rows), -np.inf).argmax(axis=1)
        return sinks[np.arange(len(sinks)), top].mean()

    assert captured(strength) >= planted.CAPTURED
    assert strength == 0 or captured(strength - 1) < planted.CAPTURED


def test_the_search_is_greedy():
    """Against a loop over heads with their edits written out."""
    one = subject(seed=5)
    batch = one.choosing()
    conflict, plain = np.asarray(in_conflict(batch)), one.ask(batch.inputs)
    found = heads.search(one, 2)

    def objective(chosen: list[tuple[int, int]]) -> float:
        edits = tuple(ed.ablate_heads(layer, head, 4, "identity") for layer, head in chosen)
        logits = 2 * plain - one.ask(batch.inputs, edits)
        return float(np.asarray(judge(TASK, logits, batch)["right"])[conflict].mean())

    every = [(layer, head) for layer in range(2) for head in range(4)]
    alone = np.array([objective([pair]) for pair in every])
    np.testing.assert_allclose(np.asarray(found["objective"]).reshape(-1), alone, atol=1e-6)
    first = every[int(alone.argmax())]
    rest = [pair for pair in every if pair != first]
    second = rest[int(np.argmax([objective([first, pair]) for pair in rest]))]
    sets = np.asarray(found["sets"])
    assert {tuple(x) for x in np.argwhere(sets[0])} == {first}
    assert {tuple(x) for x in np.argwhere(sets[1])} == {first, second}


def test_groups_hold_what_they_say():
    groups = np.asarray(heads.groups(subject()))
    assert groups.sum(axis=(1, 2)).tolist() == [0, 1, 2, 3, 4, 8]
    layer = int(np.argwhere(groups[1])[0, 0])
    assert groups[4, layer].all() and not groups[4, 1 - layer].any()


def test_the_best_of_many_that_gain_nothing_is_below_chance_in_19_of_20(rng):
    """Differences of -1, 0, 1, as likely up as down: the gain exceeds the 95 % point about once in twenty."""
    values = jnp.asarray(rng.integers(-1, 2, size=(300, 6, 200)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 300)
    found = jax.jit(lambda v, k: jax.lax.map(lambda pair: best_of(*pair, draws=200), (v, k)))(values, keys)
    exceeded = np.mean(np.asarray(found["gain"]) > np.asarray(found["null"]))
    assert exceeded < 0.05 + CHANCE * np.sqrt(0.05 * 0.95 / 300)
    shifted = best_of(values[0].at[2].add(0.5), keys[0])
    assert int(shifted["best"]) == 2 and float(shifted["gain"]) > float(shifted["null"])


def test_coalitions_without_what_is_missing():
    one = subject()
    batch = one.choosing()
    for silent in (False, True):
        v11, v10, v01, v00 = methods.coalitions(one, batch, silent)
        np.testing.assert_array_equal(v11, one.ask(batch.inputs))
        blank = one.task.blank_image(batch).inputs
        np.testing.assert_array_equal(v01, one.ask(blank))
        patches = np.asarray(one.patches)
        # Nothing that is left of the question in `v00` and of the picture in it depends on the sequence.
        assert np.ptp(np.asarray(v00)[:, -1], axis=0).max() < 1e-5
        assert np.ptp(np.asarray(v10)[:, -1], axis=0).max() > 1e-3 and not patches[0]


def test_paint_takes_the_upper_quarter_of_patches():
    one = subject()
    batch = one.choosing()
    weight = np.asarray(methods.painted_keys(one, batch.inputs))[:, 0, 0]
    received = np.asarray(one.maps(batch.inputs))[0].mean(axis=(1, 2))[:, 1:9]
    assert weight[:, 0].max() == weight[:, 9:].max() == 0 and set(np.unique(weight)) <= {0.0, 1.0}
    for row, seen in zip(weight[:, 1:9], received, strict=True):
        assert set(np.flatnonzero(row)) == set(np.argsort(seen)[-2:])
