"""The laws behind the plateaus, against sums over all outcomes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toy_tasks.bag_law import bag_accuracy, bag_entropy, distinct_law
from toy_tasks.slot_law import slot_law


@given(
    st.lists(st.sampled_from([1e-3, 0.1, 0.5, 1.0, 3.0]), min_size=5, max_size=5),
    st.integers(1, 5),
)
def test_slot_law_sums_over_all_orders(weights, draws):
    law = np.zeros((draws, 5))
    for order in itertools.permutations(range(5), draws):
        chance, left = 1.0, sum(weights)
        for place in order:
            chance *= weights[place] / left
            left -= weights[place]
        for i, place in enumerate(order):
            law[i, place] += chance
    # `left` loses digits to cancellation: 1e-3 left of 12 keeps 12 digits
    np.testing.assert_allclose(slot_law(np.array(weights), draws), law, atol=1e-11)


def test_slot_law_of_equal_weights_is_uniform():
    np.testing.assert_allclose(slot_law(np.ones(24), 8), 1 / 24, atol=1e-13)  # float64 sums over 500 nodes


def test_slot_law_of_a_published_cell():
    """16 draws of 112 slots: rows are laws, the first is the weights, a slot is taken at most once."""
    weights = np.arange(1, 113) ** (0.01 - 1.0)
    law = slot_law(weights, 16)
    np.testing.assert_allclose(law.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(law[0], weights / weights.sum(), atol=1e-13)
    assert (law >= 0).all() and law.sum(axis=0).max() < 1.0


@pytest.mark.parametrize(("balls", "boxes"), [(1, 4), (2, 2), (3, 4), (5, 3), (4, 1), (6, 4)])
def test_bags_sum_over_all_fillings(balls, boxes):
    entropies, largest = [], []
    for filling in itertools.product(range(boxes), repeat=balls):
        share = np.bincount(filling, minlength=boxes) / balls
        entropies.append(-sum(p * np.log(p) for p in share if p > 0))
        largest.append(share.max())
    assert bag_entropy(balls, boxes) == pytest.approx(np.mean(entropies), abs=1e-12)
    assert bag_accuracy(balls, boxes) == pytest.approx(np.mean(largest), abs=1e-12)
    filled = [len(set(filling)) for filling in itertools.product(range(boxes), repeat=balls)]
    law = distinct_law(balls, boxes)
    np.testing.assert_allclose(law, np.bincount(filled, minlength=len(law)) / boxes**balls, atol=1e-15)


@pytest.mark.parametrize(("balls", "boxes"), [(16, 64), (48, 64), (200, 64)])
def test_bags_by_simulation(rng, balls, boxes):
    share = np.array([np.bincount(rng.integers(boxes, size=balls), minlength=boxes) for _ in range(4000)]) / balls
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1.0)), axis=1)
    for exact, seen in ((bag_entropy(balls, boxes), entropy), (bag_accuracy(balls, boxes), share.max(axis=1))):
        assert abs(exact - seen.mean()) < 4.5 * seen.std() / np.sqrt(4000)  # probability 7e-6
