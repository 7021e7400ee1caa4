"""Truncated softmax and InLine, attention as a recurrence, and counting by reflections."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import factorial

from theory import catalogue


def mix(scores: np.ndarray, values: np.ndarray, causal: bool) -> np.ndarray:
    """Softmax attention, one row at a time."""
    out = np.zeros((scores.shape[0], values.shape[1]))
    for i, row in enumerate(scores):
        seen = i + 1 if causal else row.size
        weight = np.exp(row[:seen])
        out[i] = weight @ values[:seen] / weight.sum()
    return out


@given(score=st.floats(-8, 8), order=st.integers(0, 14))
def test_truncated_exponential(score: float, order: int) -> None:
    m = np.arange(order + 1)
    terms = score**m / factorial(m)
    # Rounding of the largest term.
    rounding = 1e-14 * np.abs(terms).sum()
    assert catalogue.truncated_exp(score, order) == pytest.approx(terms.sum(), abs=rounding)
    gap = abs(np.exp(score) - terms.sum())
    assert gap <= catalogue.exp_remainder_bound(score, order) * (1 + 1e-9) + rounding


def test_features_are_the_kernel(rng: np.random.Generator) -> None:
    q, k = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    for order in (0, 1, 2, 4):
        product = catalogue.exp_features(q, order) @ catalogue.exp_features(k, order).T
        np.testing.assert_allclose(product, catalogue.truncated_exp(q @ k.T, order), atol=2e-13)
        assert catalogue.exp_features(q, order).shape[1] == catalogue.feature_count(3, order, repeats=True)
    # Monomials of degree up to p in d variables, counted one by one.
    for d, p in ((3, 4), (16, 2)):
        count = sum(1 for m in range(p + 1) for _ in itertools.combinations_with_replacement(range(d), m))
        assert catalogue.feature_count(d, p) == count
    assert catalogue.feature_count(16, 2) == 153 and catalogue.feature_count(16, 2, repeats=True) == 273


@pytest.mark.parametrize("causal", [False, True])
def test_truncated_attention_approaches_softmax(causal: bool, rng: np.random.Generator) -> None:
    """Errors fall with the order, below the bound that the remainder of the exponential gives on every weight."""
    q, k, v = rng.normal(size=(24, 16)), rng.normal(size=(24, 16)), rng.normal(size=(24, 4))
    scores = q @ k.T / 4
    exact = catalogue.truncated_weights(scores, None, causal=causal)
    np.testing.assert_allclose(exact @ v, mix(scores, v, causal), atol=1e-13)
    errors = []
    for order in (2, 4, 8, 12, 20):
        weights = catalogue.truncated_weights(scores, order, causal=causal)
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-13)
        assert (weights >= 0).all()
        seen = np.tri(24) if causal else np.ones((24, 24))
        missed = (seen * catalogue.exp_remainder_bound(scores, order)).sum(axis=1)
        held = (seen * np.exp(scores)).sum(axis=1)
        # |p - p'|_1 <= 2 sum |e^s - e_p(s)| / sum e^s.
        assert (np.abs(weights - exact).sum(axis=1) <= 2 * missed / held * (1 + 1e-9) + 1e-13).all()
        errors.append(catalogue.truncation_error(scores, v, order, causal=causal))
        assert errors[-1] == pytest.approx(np.abs(weights @ v - mix(scores, v, causal)).max(), abs=1e-13)
    assert errors == sorted(errors, reverse=True) and errors[0] > 0.1 and errors[3] < 0.02 and errors[-1] < 1e-6


@pytest.mark.parametrize("order", [2, 4, 6, 12])
def test_even_orders_are_positive_and_rise_from_one_point_on(order: int) -> None:
    start = catalogue.monotone_from(order)
    grid = np.linspace(-2 * order, 2 * order, 20_001)
    values = catalogue.truncated_exp(grid, order)
    slope = catalogue.truncated_exp(grid, order - 1)
    assert ((slope > 0) == (grid > start)).all()
    assert values.min() == pytest.approx(start**order / factorial(order), rel=1e-4) and values.min() > 0
    if order == 2:
        assert start == pytest.approx(-1, abs=1e-12) and catalogue.truncated_exp(start, 2) == pytest.approx(0.5)


@pytest.mark.parametrize("causal", [False, True])
def test_inline_is_softmax_to_first_order(causal: bool, rng: np.random.Generator) -> None:
    scores, v = rng.normal(size=(9, 9)), rng.normal(size=(9, 3))
    gaps = []
    for e in (1e-2, 1e-3, 1e-4):
        weights = catalogue.inline_weights(e * scores, causal=causal)
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-14)
        gaps.append(np.abs(weights @ v - mix(e * scores, v, causal)).max())
    # O(e^2): a hundredth at a tenth, up to the terms of third order, 1 % at e = .01.
    np.testing.assert_allclose(np.array(gaps[1:]) / gaps[:-1], 0.01, rtol=0.03)


def test_inline_reads_a_covariance(rng: np.random.Generator) -> None:
    q, k, v = rng.normal(size=(7, 4)), rng.normal(size=(7, 4)), rng.normal(size=(7, 3))
    whole = catalogue.inline_weights(0.5 * q @ k.T) @ v
    prefix = catalogue.inline_weights(0.5 * q @ k.T, causal=True) @ v
    for i in range(7):
        np.testing.assert_allclose(whole[i], catalogue.inline_readout(q[i], k, v, 0.5), atol=1e-13)
        np.testing.assert_allclose(prefix[i], catalogue.inline_readout(q[i], k[: i + 1], v[: i + 1], 0.5), atol=1e-13)
    # Injective where a normalised kernel is not: doubling the query moves the weights.
    row = catalogue.inline_weights(np.stack([k @ q[0], 2 * k @ q[0]]))
    assert np.abs(row[0] - row[1]).max() > 0.01


@given(x=st.floats(-40, 40), rate=st.floats(0, 16))
def test_decay_is_a_reversed_sigmoid(x: float, rate: float) -> None:
    value = catalogue.reversed_sigmoid(x, rate)
    # exp of a number of size up to 640 in the exponent: its rounding is 640 eps.
    assert catalogue.softplus_decay(x, rate) == pytest.approx(float(value), rel=1e-12, abs=1e-300)
    assert 0 <= value <= 1


def test_state_space_duality(rng: np.random.Generator) -> None:
    """Recurrence = decay matrix = separable attention with eta = exp(-G) and values times eta."""
    q, k, g = rng.normal(size=(12, 5)), rng.normal(size=(12, 5)), -rng.exponential(size=12)
    by_recurrence = catalogue.recurrence_matrix(np.exp(g), k, q)
    by_decay = catalogue.decay_matrix(q, k, g)
    eta = catalogue.decay_as_normaliser(g)
    by_attention = catalogue.separable_matrix(q, k, eta) * eta
    np.testing.assert_allclose(by_decay, by_recurrence, atol=1e-13)
    np.testing.assert_allclose(by_attention, by_recurrence, atol=1e-12)
    # By softplus steps the decay is the reversed sigmoid.
    x, a = rng.normal(size=12), 0.7
    steps = catalogue.recurrence_matrix(catalogue.reversed_sigmoid(x, a), k, q)
    np.testing.assert_allclose(catalogue.decay_matrix(q, k, -a * np.logaddexp(0, x)), steps, atol=1e-13)
    # A decay that no exponential of its sum could hold: the matrix still can.
    steep = catalogue.decay_matrix(q, k, np.full(12, -300.0))
    np.testing.assert_allclose(steep, np.diag(np.einsum("if,if->i", q, k)), atol=1e-100)


def test_separable_attention_is_a_recurrence(rng: np.random.Generator) -> None:
    q, k = rng.uniform(0.1, 1, size=(8, 3)), rng.uniform(0.1, 1, size=(8, 3))
    eta = rng.uniform(0.5, 2, size=8)
    ratio = np.concatenate([[1.0], eta[:-1] / eta[1:]])
    found = catalogue.recurrence_matrix(ratio, k / eta[:, None], q)
    np.testing.assert_allclose(catalogue.separable_matrix(q, k, eta), found, atol=1e-14)
    linear = catalogue.separable_matrix(q, k, catalogue.linear_normaliser(q, k))
    np.testing.assert_allclose(linear.sum(axis=1), 1, atol=1e-14)
    n = rng.normal(size=8)
    normalised = catalogue.normalised_matrix(q, k, n)
    np.testing.assert_allclose(normalised, catalogue.separable_matrix(q, k, np.exp(n)), atol=1e-14)
    v = rng.normal(size=(8, 4))
    outputs = [a @ v for a in (normalised, linear, catalogue.separable_matrix(q, k, np.ones(8)))]
    unit = [out / np.linalg.norm(out, axis=1, keepdims=True) for out in outputs]
    np.testing.assert_allclose(unit[0], unit[2], atol=1e-13)  # a norm after the read-out cancels any row normaliser
    np.testing.assert_allclose(unit[1], unit[2], atol=1e-13)


def test_recurrences_of_vector_and_matrix_transitions(rng: np.random.Generator) -> None:
    """Diagonals and matrices against the product written out; the delta rule's own loop against its transitions."""
    k, q = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    diagonal, beta, v = rng.uniform(0, 1, size=(6, 3)), rng.uniform(0, 2, 6), rng.normal(size=(6, 2))
    full = np.array([np.diag(row) for row in diagonal])
    first, second = (catalogue.recurrence_matrix(step, k, q) for step in (diagonal, full))
    np.testing.assert_allclose(first, second, atol=1e-14)
    assert first[4, 1] == pytest.approx(q[4] @ (diagonal[2] * diagonal[3] * diagonal[4] * k[1]), abs=1e-14)
    steps = np.array([catalogue.householder(key, b) for key, b in zip(k, beta, strict=True)])
    mixed = catalogue.recurrence_matrix(steps, beta[:, None] * k, q) @ v
    state = np.zeros((3, 2))
    for i in range(6):
        state = state + beta[i] * np.outer(k[i], v[i] - state.T @ k[i])
        np.testing.assert_allclose(mixed[i], state.T @ q[i], atol=1e-13)


@given(seed=st.integers(0, 1000), rate=st.floats(0, 2), size=st.floats(0.1, 1.4))
def test_householder_eigenvalues(seed: int, rate: float, size: float) -> None:
    key = np.random.default_rng(seed).normal(size=4)
    key *= size / np.linalg.norm(key)
    matrix = catalogue.householder(key, rate)
    values = catalogue.householder_eigenvalues(key, rate)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix), atol=1e-13)
    np.testing.assert_allclose(matrix @ key, (1 - rate * size**2) * key, atol=1e-13)


def test_parity_needs_a_negative_eigenvalue() -> None:
    for bits in itertools.product((0, 1), repeat=7):
        parity = np.cumsum(bits) % 2
        np.testing.assert_array_equal(catalogue.parity_states(bits), 1 - 2 * parity)
        np.testing.assert_array_equal(catalogue.parity_states(bits, 1.4) < 0, parity == 1)
    # Up to rate 1 the state falls with the number of ones: no threshold splits 0, 2, ... from 1, 3, ...
    for rate in (0.2, 0.9):
        after = [catalogue.parity_states(np.ones(m), rate)[-1] for m in range(1, 8)]
        assert after == sorted(after, reverse=True) and min(after) > 0
    ones = np.ones(100)
    held = catalogue.parity_memory(ones, 1.5)
    assert abs(catalogue.parity_states(ones, 1.5)[held - 1]) >= 2.0**-24 > abs(catalogue.parity_states(ones, 1.5)[held])
    assert catalogue.parity_memory(ones, 2.0) == 100 and catalogue.parity_memory(ones, 1.0) == 0


@given(angle=st.floats(-7, 7))
def test_two_reflections_turn(angle: float) -> None:
    first, second = catalogue.reflections(angle)
    turn = catalogue.householder(second, 2.0) @ catalogue.householder(first, 2.0)
    np.testing.assert_allclose(turn, [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], atol=1e-14)


@given(modulus=st.integers(2, 11), seed=st.integers(0, 100))
def test_counting_modulo(modulus: int, seed: int) -> None:
    symbols = np.random.default_rng(seed).integers(0, modulus, 60)
    np.testing.assert_array_equal(catalogue.count_modulo(symbols, modulus), np.cumsum(symbols) % modulus)


def test_recurrence_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="order = 3"):
        catalogue.truncated_weights(np.zeros((2, 2)), 3)
    with pytest.raises(ValueError, match="even, from 2 to 20"):
        catalogue.monotone_from(5)
    with pytest.raises(ValueError, match="shape of scores"):
        catalogue.inline_weights(np.zeros(3))
    with pytest.raises(ValueError, match="normaliser"):
        catalogue.separable_matrix(np.ones((2, 2)), np.ones((2, 2)), [1.0, 0.0])
    with pytest.raises(ValueError, match="shape of transition"):
        catalogue.recurrence_matrix(np.ones(3), np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="bits"):
        catalogue.parity_states([0, 2])
    with pytest.raises(ValueError, match="no parity is held"):
        catalogue.parity_memory([1, 1], 0.5)
