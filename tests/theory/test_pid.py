"""Information decomposition: canonical gates, a direct minimisation, symmetries, bounds not to be crossed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from theory import pid


def gate(y_of, size: int = 2) -> np.ndarray:
    """Even independent bits and their function."""
    p = np.zeros((2, 2, size))
    for x1 in range(2):
        for x2 in range(2):
            p[x1, x2, y_of(x1, x2)] += 0.25
    return p


def same_bit() -> np.ndarray:
    p = np.zeros((2, 2, 2))
    p[0, 0, 0] = p[1, 1, 1] = 0.5
    return p


def draws(count: int, shape: tuple[int, ...] = (2, 2, 2), seed: int = 0) -> np.ndarray:
    p = np.random.default_rng(seed).exponential(size=(count, *shape))
    return p / p.sum(axis=(1, 2, 3), keepdims=True)


def information(joint: np.ndarray) -> float:
    """`I` of a matrix, by the definition."""
    apart = np.outer(joint.sum(1), joint.sum(0))
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / apart[seen])).sum())


GATES = {  # R, U1, U2, S; bounds: agreement, upper
    "XOR": (gate(lambda a, b: a ^ b), (0, 0, 0, 1), (0, 1)),
    "AND": (gate(lambda a, b: a & b), (0.3113, 0, 0, 0.5), (0.5, 0.5)),
    "OR": (gate(lambda a, b: a | b), (0.3113, 0, 0, 0.5), (0.5, 0.5)),
    "RDN": (same_bit(), (1, 0, 0, 0), (0, 0)),
    "UNQ": (gate(lambda a, b: a), (0, 1, 0, 0), (0, 0)),
    "COPY": (gate(lambda a, b: 2 * a + b, 4), (0, 1, 1, 0), (0, 0)),
}


@pytest.mark.parametrize("name", GATES)
def test_the_canonical_table(name):
    p, parts, (agreement, upper) = GATES[name]
    found = pid.pid(p)
    np.testing.assert_allclose(found[:4], parts, atol=1e-4)
    assert found.gap < 1e-6
    bounds = pid.synergy_bounds(p)
    np.testing.assert_allclose(bounds.upper, upper, atol=1e-4)
    # AND and OR: the law of largest entropy is p itself, at whose zeros scaling arrives like 1 / steps, from below.
    assert agreement - 2e-4 < bounds.agreement <= agreement + 1e-9


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (lambda first, second, asked: first, (0, 1, 0, 0)),
        (lambda first, second, asked: asked, (0, 0, 1, 0)),
        (lambda first, second, asked: first ^ asked, (0, 0, 0, 1)),
        (lambda first, second, asked: second if asked else first, (0, 0.5, 0, 0.5)),
    ],
    ids=["image alone", "question alone", "both", "question chooses"],
)
def test_an_image_of_two_bits_and_a_question(answer, parts):
    """A question that chooses a bit is no pure synergy: the image alone says half, for both bits are often the same."""
    p = np.zeros((4, 2, 2))
    for image in range(4):
        for asked in range(2):
            p[image, asked, answer(image & 1, image >> 1, asked)] = 1 / 8
    np.testing.assert_allclose(pid.pid(p)[:4], parts, atol=1e-4)


def test_the_minimum_is_that_of_a_direct_search():
    """2x2x2: all members of Delta are `p + t_y (+1 at x1 = x2, -1 elsewhere)`; a convex function of two numbers."""
    turn = np.array([[1.0, -1.0], [-1.0, 1.0]])
    laws = draws(8, seed=1)
    found = pid.pid(laws, tolerance=1e-8)
    for p, synergy, gap in zip(laws, found.synergy, found.gap, strict=True):

        def at(t, p=p):
            return information(np.maximum(p + turn[..., None] * t, 0).reshape(4, 2))

        room = [(-p[[0, 1], [0, 1], y].min(), p[[0, 1], [1, 0], y].min()) for y in range(2)]
        start = [sum(edges) / 2 for edges in room]
        best = optimize.minimize(at, start, bounds=room, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
        # The search stops within 1e-6 of an optimum that is at an edge.
        assert information(p.reshape(4, 2)) - synergy == pytest.approx(best.fun, abs=2e-6 + gap)


def test_the_largest_entropy_is_that_of_a_direct_search():
    """With all three pairs given there is one number left: `p + t (-1)^(x1 + x2 + y)`."""
    sign = 1.0 - 2 * (np.indices((2, 2, 2)).sum(axis=0) % 2)
    laws = draws(20, seed=2)
    bounds, parts = pid.synergy_bounds(laws), pid.pid(laws)
    for i, p in enumerate(laws):
        room = -p[sign > 0].min(), p[sign < 0].min()

        def shared(t, p=p):
            q = np.maximum(p + sign * t, 0)
            return sum(q[..., y].sum() * information(q[..., y] / q[..., y].sum()) for y in range(2))

        best: Any = optimize.minimize_scalar(shared, bounds=room, method="bounded", options={"xatol": 1e-9})
        wanted = parts.redundant[i] - information(p.sum(axis=2)) + best.fun
        assert bounds.agreement[i] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 3, 2), (4, 2, 3)])
def test_parts_add_up_and_follow_their_sources(shape):
    laws = draws(6, shape, seed=3)
    laws[0, 0], laws[1, ..., 0] = 0, 0  # a value that never occurs
    laws /= laws.sum(axis=(1, 2, 3), keepdims=True)
    found = pid.pid(laws)
    total = [information(p.reshape(-1, shape[2])) for p in laws]
    np.testing.assert_allclose(np.sum(found[:4], axis=0), total, atol=1e-12)
    assert np.min(found[:4]) > -1e-6 and found.gap.max() < 1e-4
    swapped = pid.pid(np.swapaxes(laws, 1, 2))
    np.testing.assert_allclose(swapped.unique1, found.unique2, atol=2e-4)
    np.testing.assert_allclose(swapped.synergy, found.synergy, atol=2e-4)
    one = pid.pid(laws[3])
    np.testing.assert_allclose([part[3] for part in found[:4]], one[:4], atol=1e-12)
    assert pid.pid(laws.reshape(2, 3, *shape)).synergy.shape == (2, 3)


def test_what_pairs_say_does_not_change_with_the_triple():
    """R and U are functions of two pairs, the bounds of three; synergy is not."""
    p = draws(5, seed=4)
    sign = 1.0 - 2 * (np.indices((2, 2, 2)).sum(axis=0) % 2)
    other = p + 0.9 * sign * np.where(sign < 0, p, 1).min(axis=(1, 2, 3))[:, None, None, None]
    first, second = pid.pid(p), pid.pid(other)
    np.testing.assert_allclose(first[:3], second[:3], atol=3e-6)
    assert np.abs(first.synergy - second.synergy).min() > 1e-4
    np.testing.assert_allclose(pid.synergy_bounds(p), pid.synergy_bounds(other), atol=1e-5)


def test_no_bound_is_crossed_in_a_thousand_draws_and_a_wrong_constant_is_noticed():
    laws = draws(1000)
    synergy, bounds = pid.pid(laws).synergy, pid.synergy_bounds(laws)
    rounding = 1e-9  # R, U and S are from the same I_min, which cancels in all of them but the disagreement
    assert (bounds.upper >= synergy - rounding).all() and (bounds.agreement <= synergy + rounding).all()
    assert (bounds.disagreement <= synergy + 2e-5).all() and (bounds.disagreement > 0).sum() > 20
    # Measured before: .075 and .712; .624 above. The agreement here is at the exact minimum over r.
    assert synergy.mean() == pytest.approx(0.075, abs=0.005) and synergy.max() < 1
    assert (bounds.upper - synergy).mean() == pytest.approx(0.624, abs=0.01)
    assert (synergy - bounds.agreement).mean() < 0.065
    safe = pid.synergy_bounds(laws, pid.SAFE).disagreement
    assert (safe <= synergy + 2e-5).all()
    wrong = pid.synergy_bounds(laws, 1.0).disagreement
    assert (wrong > synergy + 1e-3).sum() >= 10


def test_the_meet_has_no_more_entropy_than_any_coupling(rng):
    for _ in range(20):
        p, q = np.sort(rng.dirichlet(np.ones(4)))[::-1], np.sort(rng.dirichlet(np.ones(3)))[::-1]
        floor = pid._meet_entropy(p, q)
        cuts = np.sort(np.concatenate([np.cumsum(p), np.cumsum(q), [0]]))
        pieces = np.diff(cuts)  # the comonotone coupling
        pieces = pieces[pieces > 1e-12]
        least = min(-(pieces * np.log2(pieces)).sum(), pid._entropy(p, 1) + pid._entropy(q, 1))
        assert max(pid._entropy(p, 1), pid._entropy(q, 1)) - 1e-12 <= floor <= least + 1e-12
        assert pid._meet_entropy(p, p) == pytest.approx(pid._entropy(p, 1))


def test_errors_name_the_law():
    with pytest.raises(ValueError, match="shape of p"):
        pid.pid(np.ones((2, 2)) / 4)
    with pytest.raises(ValueError, match="sum of p"):
        pid.pid(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="smallest entry of p"):
        pid.synergy_bounds(np.array([[[1.5, -0.5]]]))
    with pytest.raises(ValueError, match="tolerance"):
        pid.pid(np.ones((2, 2, 2)) / 8, tolerance=0.0)
