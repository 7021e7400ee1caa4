"""Scanpaths: every decision follows the formula, by loops; paths end at the target; frequencies are the law's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from attnlab.training import losses
from toy_tasks import Scanpaths

TASK = Scanpaths(3, 5, 8)
SIZE = 512
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        batch = TASK.sample(key, SIZE)
        logits = TASK.logits(batch.inputs)
        return batch, TASK.oracle(batch), TASK.entropy(batch), TASK.risks(logits, batch), TASK.sought(batch.inputs)

    return jax.jit(everything)(jax.random.key(0))


def law_by_loops(task, display, b: int, t: int) -> np.ndarray:
    """One decision from the description."""
    features, places = np.asarray(display.features[b], np.float64), np.asarray(display.places[b], np.float64)
    path, present = np.asarray(display.fixated[b, : t + 1]), np.asarray(display.present[b])
    likeness = features @ np.asarray(display.target[b], np.float64)
    law = np.zeros(task.most + 1)
    if path[-1] >= 0 and likeness[path[-1]] > 1 - 1e-6:
        law[-1] = 1
        return law
    here = places[path[-1]] if path[-1] >= 0 else np.array([0.5, 0.5])
    for i in np.flatnonzero(present):
        away = np.linalg.norm(places[i] - here)
        law[i] = np.exp(task.similarity * likeness[i] - task.distance * away - task.visited * (i in path))
    return law / law.sum()


def test_every_decision_is_the_formula_s(drawn):
    batch, law, entropy, risks, sought = drawn
    display = batch.inputs
    paid, fixations = 0.0, 0
    for b in range(40):
        assert np.asarray(display.features[b, sought[b]] == display.target[b]).all() and display.present[b, sought[b]]
        for t in range(TASK.length):
            wanted = law_by_loops(TASK, display, b, t)
            np.testing.assert_allclose(law[b, t], wanted, atol=2e-6)  # float32
            seen = wanted[wanted > 0]
            assert float(entropy[b, t]) == pytest.approx(-(seen * np.log(seen)).sum(), abs=1e-5)
            assert wanted[int(batch.targets[b, t])] > 0
    for b in range(SIZE):
        for t in range(TASK.length):
            if batch.positions["fixation"][b, t]:
                paid, fixations = paid - np.log(law[b, t, batch.targets[b, t]]), fixations + 1
    assert float(risks["fixation"]) == pytest.approx(paid / fixations, rel=1e-5)
    told = {"stop": 0, "stopped": 1, "stopped_early": 0, "excess": 0}
    assert {name: float(risks[name]) for name in told} == pytest.approx(told, abs=1e-6)
    # The mean loss of the law itself is its mean entropy: 512 paths of a few decisions.
    counted = np.asarray(batch.positions["fixation"])
    spread = np.std(-np.log(np.take_along_axis(law, np.asarray(batch.targets)[..., None], 2)[..., 0][counted]))
    assert abs(paid / fixations - np.asarray(entropy)[counted].mean()) < 4 * spread / np.sqrt(fixations)


def test_paths_end_at_the_target_and_are_what_was_looked_at(drawn):
    batch, *_, sought = drawn
    display, targets = batch.inputs, np.asarray(batch.targets)
    fixated = np.asarray(display.fixated)
    kinds = {name: np.asarray(where) for name, where in batch.positions.items()}
    np.testing.assert_array_equal(sum(where.astype(int) for where in kinds.values()), 1)
    assert (fixated[:, 0] == -1).all()
    np.testing.assert_array_equal(batch.loss_mask, ~kinds["after"])
    for b in range(SIZE):
        stop = np.flatnonzero(kinds["stop"][b])
        assert len(stop) <= 1
        end = stop[0] if len(stop) else TASK.length
        np.testing.assert_array_equal(fixated[b, 1 : end + 1], targets[b, : len(fixated[b, 1 : end + 1])])
        assert (targets[b, end:] == TASK.most).all() and (targets[b, :end] < TASK.most).all()
        assert (fixated[b, :end] != int(sought[b])).all()
        assert end == TASK.length or fixated[b, end] == int(sought[b])
    counts = np.asarray(display.present).sum(axis=1)
    assert stats.chisquare(np.bincount(counts, minlength=6)[3:]).pvalue > SURE
    np.testing.assert_allclose(np.linalg.norm(display.features, axis=-1), 1, rtol=1e-6)
    assert (np.asarray(display.places) >= 0).all() and (np.asarray(display.places) <= 1).all()
    for count in range(3, 6):  # the target is any of the items
        assert stats.chisquare(np.bincount(np.asarray(sought)[counts == count], minlength=count)).pvalue > SURE


def test_decisions_have_the_frequencies_of_the_law(drawn):
    """The chosen item's probability integral: summed laws against counts, over all decisions of paths."""
    batch, law, *_ = drawn
    counted = np.asarray(batch.positions["fixation"])
    chosen = np.asarray(batch.targets)[counted]
    law = np.asarray(law, np.float64)[counted]
    order = np.argsort(-law, axis=1)  # rank of the chosen one in its own law
    rank = np.argmax(order == chosen[:, None], axis=1)
    expected = -np.sort(-law, axis=1).sum(axis=0)
    expected = np.abs(expected)[: TASK.most]
    observed = np.bincount(rank, minlength=TASK.most)[: TASK.most]
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > SURE


def test_stops_may_be_left_out_and_the_loss_is_that_of_tokens(drawn):
    def made(key):
        batch = dataclasses.replace(TASK, count_stops=False).sample(key, SIZE)
        return batch, losses.next_token(TASK.logits(batch.inputs), batch)

    batch, found = jax.jit(made)(jax.random.key(0))
    np.testing.assert_array_equal(batch.loss_mask, batch.positions["fixation"])
    np.testing.assert_array_equal(batch.targets, drawn[0].targets)
    assert losses.natural(TASK) is losses.next_token
    assert bool(jnp.isfinite(found).all())


def test_uniform_costs_the_logarithm_of_the_items(drawn):
    batch = drawn[0]
    uniform = jnp.where(batch.inputs.present, 0.0, -1e9)[:, None] + jnp.zeros((1, TASK.length, 1))
    logits = jnp.concatenate([uniform, jnp.full((SIZE, TASK.length, 1), -1e9)], axis=-1)
    counts = np.broadcast_to(np.asarray(batch.inputs.present).sum(1)[:, None], (SIZE, TASK.length))
    wanted = np.log(counts[np.asarray(batch.positions["fixation"])]).mean()
    assert float(jax.jit(TASK.risks)(logits, batch)["fixation"]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"most": 5}, r"Scanpaths\.most: got 5; allowed is an integer >= 6"),
        ({"length": 0}, r"Scanpaths\.length"),
        ({"dim": 1}, r"Scanpaths\.dim"),
        ({"visited": -1.0}, r"Scanpaths\.visited: got -1\.0; allowed is a finite number >= 0"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        Scanpaths(**changes)
