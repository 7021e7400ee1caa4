"""Draws without replacement: never a repeat, every outcome as likely as it should be."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import draws

SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed


def frequencies(drawn, outcomes: list[tuple[int, ...]]) -> np.ndarray:
    """How often each outcome came; an outcome that is not listed is a KeyError."""
    place = {outcome: i for i, outcome in enumerate(outcomes)}
    counts = np.zeros(len(outcomes))
    for row in np.asarray(drawn):
        counts[place[tuple(int(v) for v in row)]] += 1
    return counts


@pytest.mark.parametrize(("count", "total"), [(3, 5), (4, 4), (1, 3), (2, 16), (1, 8)])
def test_distinct_gives_every_ordered_choice_alike(key, count, total):
    """Both ways: of the last two, 8 count <= total."""
    drawn = draws.distinct(key, 12_000, count, total)
    assert drawn.shape == (12_000, count) and drawn.dtype == jnp.int32
    counts = frequencies(drawn, list(itertools.permutations(range(total), count)))
    assert stats.chisquare(counts).pvalue > SURE


def test_distinct_of_many(key):
    drawn = np.asarray(draws.distinct(key, 64, 64, 4095))
    assert all(len(set(row)) == 64 for row in drawn)
    assert drawn.min() >= 0 and drawn.max() < 4095
    assert stats.kstest((drawn.ravel() + 0.5) / 4095, "uniform").pvalue > SURE
    for column in (0, 63):  # shuffled: no place of a row prefers small or large numbers, as Floyd's order would
        assert stats.kstest((drawn[:, column] + 0.5) / 4095, "uniform").pvalue > SURE


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (8.0, 4.0, 2.0, 1.0, 0.5)])
def test_successive_draws_from_what_is_left(key, weights):
    weights = np.array(weights)
    outcomes = list(itertools.permutations(range(len(weights)), 3))
    law = []
    for outcome in outcomes:
        chance, left = 1.0, weights.sum()
        for place in outcome:
            chance *= weights[place] / left
            left -= weights[place]
        law.append(chance)
    drawn = draws.successive(key, weights, 20_000, 3)
    assert drawn.dtype == jnp.int32
    assert stats.chisquare(frequencies(drawn, outcomes), 20_000 * np.array(law)).pvalue > SURE


def test_avoiding_is_uniform_over_the_rest(key):
    """Taken numbers at either end, together and apart, not in order."""
    taken = np.array([[2, 0, 1], [6, 7, 5], [7, 3, 0], [4, 2, 6]], np.int32)
    drawn = np.asarray(draws.avoiding(key, jnp.asarray(taken), 5_000, 8))
    assert drawn.shape == (4, 5_000) and drawn.dtype == np.int32
    for row, used in zip(drawn, taken, strict=True):
        counts = np.bincount(row, minlength=8)
        assert (counts[used] == 0).all()
        assert stats.chisquare(np.delete(counts, used)).pvalue > SURE


def test_avoiding_all_but_one(key):
    taken = jnp.asarray([[3, 0, 1], [1, 2, 3]], jnp.int32)
    np.testing.assert_array_equal(draws.avoiding(key, taken, 4, 4), [[2] * 4, [0] * 4])
