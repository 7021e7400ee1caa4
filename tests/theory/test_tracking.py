"""State tracking: representations, Householder factors, hand-built trackers on long words, and the proofs of `no`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import catalogue, tracking
from toy_tasks.groups import Group

NAMES = ("Z2", "Z2 x Z2", "Z2 x Z2 x Z2", "Z6", "Z60", "S3", "D4", "S4", "A4 x Z5", "A5", "S5")

CASES: tuple[tuple[tracking.Family, int], ...] = (
    ("sign", 1),
    ("rotation", 1),
    ("delta", 1),
    ("delta", 2),
    ("delta", 4),
    ("dense", 1),
)


def quaternions() -> Group:
    """`Q8` by its matrices over the complex numbers: the smallest group with a quaternionic representation."""
    one, i, j = np.eye(2), np.diag([1j, -1j]), np.array([[0, 1], [-1, 0]])
    elements = [s * m for m in (one, i, j, i @ j) for s in (1, -1)]
    table = [[next(n for n, c in enumerate(elements) if np.allclose(a @ b, c)) for b in elements] for a in elements]
    return Group.from_table(np.array(table), "Q8")


def product_of(factors: tracking.Factors, size: int) -> np.ndarray:
    out = np.eye(size)
    for key, rate in zip(*factors, strict=True):
        out = catalogue.householder(key, float(rate)) @ out
    return out


@pytest.mark.parametrize("name", ["Z2 x Z2", "Z12", "D5", "A4", "S4", "A5", "Q8"])
def test_irreducible_representations(name: str) -> None:
    group = quaternions() if name == "Q8" else Group(name)
    table = np.asarray(group.table)
    parts = tracking.irreducible_representations(group)
    characters, filled = [], 0.0
    for rho in parts:
        # 1e-12: rounding of the eigenvectors of a matrix of order n.
        np.testing.assert_allclose(rho[:, None] @ rho[None], rho[table], atol=1e-12)
        np.testing.assert_allclose(rho @ rho.mT, np.broadcast_to(np.eye(rho.shape[1]), rho.shape), atol=1e-12)
        characters.append(np.trace(rho, axis1=1, axis2=2))
        norm = float(characters[-1] @ characters[-1]) / group.order
        # Real, complex or quaternionic, all irreducible: a sum of two would have a norm that is not of these or a
        # character of its parts; orthogonality below excludes the rest.
        assert norm == pytest.approx(round(norm), abs=1e-9) and round(norm) in (1, 2, 4)
        filled += rho.shape[1] ** 2 / norm
    assert filled == pytest.approx(group.order)  # together they fill the group algebra: none is missing, none reducible
    for a, b in itertools.combinations(characters, 2):
        assert abs(a @ b) < 1e-9 * group.order


def test_faithful_representations_are_the_known_ones() -> None:
    """Dimension, and reflections of the worst element: icosahedron, cube, standard representations, planes."""
    known = {"Z7": (2, 2), "Z60": (2, 2), "S3": (2, 2), "S4": (3, 2), "A5": (3, 2), "S5": (4, 4), "A4 x Z5": (5, 4)}
    for name, (width, worst) in known.items():
        rho = tracking.faithful_representation(Group(name))
        assert rho.shape[1] == width and tracking.is_faithful(rho)
        assert tracking.reflections_needed(rho).max() == worst
    # A5: the trace of a turn by 2 pi/5 is the golden ratio.
    traces = np.unique(np.trace(tracking.faithful_representation(Group("A5")), axis1=1, axis2=2).round(9))
    np.testing.assert_allclose(traces, [-1, (1 - 5**0.5) / 2, 0, (1 + 5**0.5) / 2, 3], atol=1e-9)
    # Letters that are transpositions: the standard representation, where they are single reflections.
    swaps = Group("S4").swaps
    rho = tracking.faithful_representation(Group("S4"), swaps)
    assert (tracking.reflections_needed(rho[list(swaps)]) == 1).all()


@given(size=st.integers(1, 7), moved=st.integers(0, 7), seed=st.integers(0, 99))
def test_factors_multiply_to_the_matrix(size: int, moved: int, seed: int) -> None:
    """A random orthogonal matrix that fixes a random subspace: as many reflections as dimensions it moves."""
    rng = np.random.default_rng(seed)
    moved = min(moved, size)
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    inner = np.eye(size)
    inner[:moved, :moved] = np.linalg.qr(rng.standard_normal((moved, moved)))[0]
    matrix = basis @ inner @ basis.T
    needed = int(tracking.reflections_needed(matrix[None])[0])
    factors = tracking.householder_factors(matrix)
    assert needed <= moved and len(factors.rates) == needed
    np.testing.assert_allclose(np.linalg.norm(factors.keys, axis=1), 1, atol=1e-12)
    # Rounding, over the smallest angle that these draws hold (above 1e-4).
    np.testing.assert_allclose(product_of(factors, size), matrix, atol=1e-9)
    padded = tracking.householder_factors(matrix, size + 2)
    np.testing.assert_allclose(product_of(padded, size), matrix, atol=1e-9)


def test_factors_of_permutations_are_transpositions() -> None:
    for permutation in itertools.permutations(range(5)):
        matrix = np.eye(5)[:, permutation]
        factors = tracking.householder_factors(matrix)
        seen: set[int] = set()
        cycles = 0
        for x in range(5):
            cycles += x not in seen
            while x not in seen:
                seen.add(x)
                x = permutation[x]
        assert len(factors.rates) == 5 - cycles  # the least number of transpositions
        swaps = np.sort(np.abs(factors.keys), axis=1)
        np.testing.assert_allclose(swaps, np.broadcast_to([0, 0, 0, 0.5**0.5, 0.5**0.5], swaps.shape), atol=1e-12)
        np.testing.assert_allclose(product_of(factors, 5), matrix, atol=1e-12)


def test_two_reflections_turn_the_plane() -> None:
    for angle in (0.3, 2 * np.pi / 7, np.pi, -2.0):
        first, second = catalogue.reflections(angle)
        turn = catalogue.householder(second, 2.0) @ catalogue.householder(first, 2.0)
        factors = tracking.householder_factors(turn)
        assert len(factors.rates) == 2
        np.testing.assert_allclose(product_of(factors, 2), turn, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_yes_tracks_a_thousand_letters(name: str, rng: np.random.Generator) -> None:
    """Exactly, against the group's own product; and the weights are of the family that they are said to be of."""
    group = Group(name)
    word = rng.integers(0, group.order, 1000)
    wanted = tracking.prefix_products(group, word)
    assert [group.multiply(word[:n]) for n in (1, 2, 500)] == [wanted[n - 1] for n in (1, 2, 500)]
    built = 0
    for family, factors in CASES:
        if tracking.expressivity(group, family, factors=factors).answer != "yes":
            with pytest.raises(ValueError, match="family"):
                tracking.build_tracker(group, family, factors=factors)
            continue
        built += 1
        tracker = tracking.build_tracker(group, family, factors=factors)
        assert (tracker.run(word) == wanted).all()
        transition = tracker.transition
        if isinstance(transition, tracking.Diagonal):
            assert np.abs(np.abs(transition.values) - 1).max() < 1e-12
            assert family == "rotation" or np.isrealobj(transition.values)
        if isinstance(transition, tracking.Householder):
            assert transition.keys.shape[1] <= factors and np.isin(transition.rates, (0.0, 2.0)).all()
            np.testing.assert_allclose(np.linalg.norm(transition.keys, axis=2), 1, atol=1e-12)
        state = rng.standard_normal(tracker.start.shape)
        np.testing.assert_allclose(transition.matrix(1) @ state, transition.step(1, state), atol=1e-12)
    assert built >= 2


@pytest.mark.parametrize("things", [3, 4, 5])
def test_swaps_need_one_reflection(things: int, rng: np.random.Generator) -> None:
    """Permutations composed one swap at a time, without the table: the delta rule with one factor follows them."""
    group = Group.symmetric(things)
    tracker = tracking.build_tracker(group, "delta", group.swaps, factors=1)
    permutations = list(itertools.permutations(range(things)))
    word = rng.choice(group.swaps, 300)
    held, wanted = tuple(range(things)), []
    for letter in word:
        held = tuple(held[x] for x in permutations[letter])
        wanted.append(permutations.index(held))
    assert (tracker.run(word) == wanted).all()
    assert tracker.state_size == (things - 1) ** 2
    with pytest.raises(ValueError, match="letter"):
        tracker.run([group.identity])


def test_table_of_the_word_problems() -> None:
    """S3: one factor fails, two do; S4 and A5 two, S5 four; and what depth is conjectured to cost."""
    groups = {name: Group(name) for name in ("Z2", "Z60", "S3", "S4", "A4 x Z5", "A5", "S5")}
    table = {name: {k: e.answer for k, e in row.items()} for name, row in tracking.expressivity_table(groups).items()}
    first_yes = {name: [row[f"delta x {m}"] for m in (1, 2, 3, 4)].index("yes") + 1 for name, row in table.items()}
    assert first_yes == {"Z2": 1, "Z60": 2, "S3": 2, "S4": 2, "A4 x Z5": 4, "A5": 2, "S5": 4}
    for name, row in table.items():
        assert row["decay"] == row["delta_unit"] == "no" and row["dense"] == "yes"
        assert (row["sign"] == "yes") == (name == "Z2") == (row["delta x 1"] == "yes")
        assert (row["rotation"] == "yes") == groups[name].is_abelian
        assert (row["constant_depth"] == "conjecturally no") == (name in ("A5", "S5"))
    assert table["S5"]["delta x 3"] == "open"
    assert tracking.expressivity(Group("Z1"), "decay").answer == "yes"


@given(seed=st.integers(0, 999), factors=st.integers(1, 4), limit=st.sampled_from([1.0, 2.0]))
def test_a_repeated_letter_has_the_period_that_the_proof_says(seed: int, factors: int, limit: float) -> None:
    """Rates up to 1: a fixed point, whatever the number of factors. Up to 2 and one factor: period 1 or 2."""
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((factors, 4))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    # Rates away from 0 and from the limit by .05, or at the limit: what fades does so before step 6000.
    rates = rng.choice([0.0, 0.05, 0.5, 0.95, 1.0], factors) * limit
    if limit == 2:
        keys, rates = keys[:1], rates[:1]
    matrix = np.eye(4)
    for key, rate in zip(keys, rates, strict=True):
        matrix = catalogue.householder(key, float(rate)) @ matrix
    state = np.linalg.matrix_power(matrix, 20_000) @ rng.standard_normal(4)
    later = matrix @ state if limit == 1 else matrix @ matrix @ state
    # What has not faded after 20,000 steps shrinks by less than 1e-4 of itself a step.
    np.testing.assert_allclose(later, state, atol=3e-4)


def test_two_factors_have_any_period() -> None:
    tracker = tracking.build_tracker(Group("Z60"), "delta", factors=2)
    states = tracker.states([1] * 120)
    gaps = np.abs(states - states[-1]).max(axis=(1, 2))
    assert np.flatnonzero(gaps < 1e-9).tolist() == [59, 119]


def test_element_orders() -> None:
    assert np.bincount(tracking.element_orders(Group("S4"))).tolist() == [0, 1, 9, 8, 6]
    assert tracking.element_orders(Group("Z6")).tolist() == [1, 6, 3, 2, 3, 6]


def test_tracking_errors_name_what_is_wrong() -> None:
    s3 = Group("S3")
    with pytest.raises(ValueError, match="generators"):
        tracking.expressivity(s3, "delta", alphabet=s3.swaps[:1])
    with pytest.raises(ValueError, match="family"):
        tracking.expressivity(s3, "magic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="distinct"):
        tracking.expressivity(s3, "dense", alphabet=(1, 1))
    with pytest.raises(ValueError, match="from 0 to 5"):
        tracking.prefix_products(s3, [6])
    with pytest.raises(ValueError, match="at least 2"):
        tracking.householder_tracker(s3, factors=1)
    with pytest.raises(ValueError, match="orthogonal"):
        tracking.householder_factors(2 * np.eye(3))
    with pytest.raises(ValueError, match="abelian"):
        tracking.rotation_tracker(s3)
    with pytest.raises(ValueError, match="1 or 2"):
        tracking.sign_tracker(s3)
    with pytest.raises(ValueError, match="faithful"):
        tracking.householder_tracker(s3, representation=np.ones((6, 1, 1)))
    with pytest.raises(ValueError, match="at most 360"):
        tracking.irreducible_representations(Group("S6"))
    with pytest.raises(ValueError, match="norms of codes"):
        tracking.Tracker(
            (0,), tracking.Dense(np.eye(2)[None]), np.ones((2, 1)), np.array([[[1.0], [0]], [[2], [0]]]), np.arange(2)
        )
