"""Laws of the reduced model: its gradient, its invariances, its accuracy where attention is almost perfect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory

SEEDS = st.integers(0, 2**31 - 1)
FEW = settings(deadline=None, max_examples=20)
SIZE = 6


def _instance(seed: int, triggers: tuple[int, ...] = (1,)) -> tuple[theory.ReducedModel, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    model = theory.ReducedModel(
        rng.dirichlet(np.ones(SIZE), size=SIZE),
        triggers,
        rng.dirichlet(np.ones(SIZE)),
        rng.uniform(1, 30),
        10 * rng.normal(size=SIZE),
    )
    return model, 2 * rng.normal(size=SIZE), 2 * rng.normal(size=SIZE)


def _numeric_gradient(f, x: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Five-point differences: truncation about step^4 = 1e-12, rounding about 1e-16 / step = 1e-13."""
    out = np.empty_like(x)
    for i, unit in enumerate(np.eye(x.size) * step):
        out[i] = (8 * (f(x + unit) - f(x - unit)) - (f(x + 2 * unit) - f(x - 2 * unit))) / (12 * step)
    return out


@FEW
@given(SEEDS)
def test_gradients_are_the_slopes_of_the_loss(seed: int) -> None:
    model, alpha, beta = _instance(seed)
    d_alpha, d_beta = theory.gradients(model, alpha, beta)
    # 1e-8: the numeric gradient is good to about 1e-11 for losses of order 1 to 10 and fifth derivatives up to 1e3.
    np.testing.assert_allclose(d_alpha, _numeric_gradient(lambda a: theory.loss(model, a, beta), alpha), atol=1e-8)
    np.testing.assert_allclose(d_beta, _numeric_gradient(lambda b: theory.loss(model, alpha, b), beta), atol=1e-8)


@FEW
@given(SEEDS)
def test_law_is_the_softmax_written_out(seed: int) -> None:
    model, alpha, beta = _instance(seed, triggers=())
    e = np.exp(alpha)[:, None]
    raw = model.P * np.exp((e * beta + model.B) / (e + model.W))
    q = raw / raw.sum(axis=1, keepdims=True)
    # Rounding of sums of six numbers whose logits are below about 50.
    np.testing.assert_allclose(theory.transition_law(model, alpha, beta), q, rtol=1e-12, atol=1e-14)
    kl = (model.P * np.log(model.P / q)).sum(axis=1)
    np.testing.assert_allclose(theory.excess_risk(model, alpha, beta), kl, rtol=1e-9, atol=1e-12)
    assert theory.loss(model, alpha, beta) == pytest.approx(float(model.pi @ kl), rel=1e-9, abs=1e-12)


@FEW
@given(SEEDS, st.floats(-50, 50))
def test_a_constant_value_changes_nothing(seed: int, c: float) -> None:
    model, alpha, beta = _instance(seed)
    # Adding 50 to a value near 1 rounds it by 50 ulp: 1e-14 in the logits.
    np.testing.assert_allclose(
        theory.transition_law(model, alpha, beta + c), theory.transition_law(model, alpha, beta), rtol=1e-11, atol=1e-13
    )
    for old, new in zip(theory.gradients(model, alpha, beta), theory.gradients(model, alpha, beta + c), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-9, atol=1e-12)


@FEW
@given(SEEDS, st.floats(-5, 5))
def test_scale_of_the_keys_is_an_offset_of_the_sink(seed: int, c: float) -> None:
    """`alpha + c`, `W e^c`, `B e^c` is the same model: only ratios of attention matter."""
    model, alpha, beta = _instance(seed)
    scaled = theory.ReducedModel(model.P, model.triggers, model.pi, model.W * np.exp(c), model.B * np.exp(c))
    # Rounding only.
    assert theory.loss(scaled, alpha + c, beta) == pytest.approx(theory.loss(model, alpha, beta), rel=1e-10)


@FEW
@given(SEEDS)
def test_names_of_tokens_do_not_matter(seed: int) -> None:
    model, alpha, beta = _instance(seed, triggers=())
    order = np.random.default_rng(seed).permutation(SIZE)
    renamed = theory.ReducedModel(model.P[np.ix_(order, order)], (), model.pi[order], model.W, model.B[order])
    for old, new in zip(
        theory.gradients(model, alpha, beta), theory.gradients(renamed, alpha[order], beta[order]), strict=True
    ):
        np.testing.assert_allclose(new, old[order], rtol=1e-10, atol=1e-14)  # order of summation


@FEW
@given(SEEDS)
def test_the_mean_of_the_value_feels_no_force(seed: int) -> None:
    model, alpha, beta = _instance(seed)
    d_alpha, d_beta = theory.gradients(model, alpha, beta)
    assert abs(d_beta.sum()) < 1e-14  # six terms below 1 that cancel
    assert d_alpha[list(model.triggers)] == 0.0


@pytest.mark.parametrize("height", [20.0, 50.0, 100.0, 300.0])
def test_accuracy_survives_an_almost_perfect_sink(random_model, height: float) -> None:
    """At `alpha = 100` the disturbance is e^-100 and the loss e^-200; both keep their leading digits."""
    model = random_model(3)
    alpha, beta = np.full(model.vocab_size, height), np.full(model.vocab_size, 0.7)
    variance = theory.value_variance(model.P, model.B)
    scale = np.exp(-2 * height)
    # Next order of the expansion is (3 W + third moment) e^-alpha, below 1e-6 from alpha = 20 on.
    tolerance = max(1e-10, 200 * np.exp(-height))
    assert theory.loss(model, alpha, beta) == pytest.approx(float(model.pi @ variance) / 2 * scale, rel=tolerance)
    d_alpha, d_beta = theory.gradients(model, alpha, beta)
    np.testing.assert_allclose(d_alpha, -model.pi * variance * scale, rtol=tolerance)
    assert np.isfinite(d_beta).all() and np.abs(d_beta).max() < 10 * np.exp(-height)


def test_no_overflow_at_either_end(random_model) -> None:
    model = random_model(1)
    for height in (-700.0, 700.0):
        q = theory.transition_law(model, np.full(12, height), np.linspace(-900, 900, 12))
        np.testing.assert_allclose(q.sum(axis=1), 1.0, atol=1e-12)  # rounding of 12 probabilities
        assert np.isfinite(
            np.concatenate(theory.gradients(model, np.full(12, height), np.linspace(-900, 900, 12)))
        ).all()


def test_impossible_and_certain_tokens() -> None:
    P = np.array([[0.0, 1.0, 0.0], [0.3, 0.0, 0.7], [0.0, 0.0, 0.0]])
    model = theory.ReducedModel(P, (2,), np.array([0.5, 0.5, 0.0]), 5.0, np.array([1.0, 2.0, 4.0]))
    alpha, beta = np.array([0.3, -0.2, 9.0]), np.array([1.0, 0.0, 3.0])
    q = theory.transition_law(model, alpha, beta)
    assert (q[:2][P[:2] == 0] == 0).all() and np.isnan(q[2]).all()
    # A certain row loses nothing and pulls on nothing, whatever the attention does.
    assert theory.excess_risk(model, alpha, beta)[0] == 0.0
    assert theory.gradients(model, alpha, beta)[0][0] == 0.0


def test_small_disturbance_formula_is_second_order(random_model) -> None:
    """Its relative error falls in proportion to the disturbance, here also with a value that is not constant."""
    model = random_model(2)
    shape = np.random.default_rng(0).normal(size=12)
    errors = []
    for height in (8.0, 11.0):
        alpha = np.full(12, height)
        beta = 0.4 + np.exp(-height) * shape
        exact = theory.excess_risk(model, alpha, beta)
        errors.append(np.abs(theory.small_disturbance_risk(model, alpha, beta) / exact - 1).max())
    assert errors[0] < 0.01
    # Ratio e^3 = 20.1; 5 % for the next order, which is e^-8 times numbers up to about 100.
    assert errors[0] / errors[1] == pytest.approx(np.exp(3), rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"P": np.ones((3, 3))}, r"sum of P\[0\] = 3.0"),
        ({"P": np.eye(3)[:2]}, "square"),
        ({"triggers": (3,)}, "between 0 and 2"),
        ({"triggers": (1, 1)}, "distinct"),
        ({"pi": -np.ones(3)}, "at least 0"),
        ({"pi": np.ones(2)}, "vector of 3"),
        ({"W": 0.0}, "W = 0.0"),
        ({"B": np.array([0.0, np.nan, 1.0])}, r"B.flat\[1\]"),
    ],
)
def test_bad_constants_are_named(change: dict, message: str) -> None:
    good = {"P": np.eye(3), "triggers": (), "pi": np.ones(3), "W": 1.0, "B": np.arange(3.0)}
    theory.ReducedModel(**good)
    with pytest.raises(ValueError, match=message):
        theory.ReducedModel(**{**good, **change})
