"""Theorem 2 against the solved flow: half-logarithmic sink, drained value, and the manifold where both rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory

SEEDS = st.integers(0, 2**31 - 1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sink_grows_like_half_a_logarithm(random_model, seed: int) -> None:
    model = random_model(seed)
    times = np.array([1e8, 1e9, 1e10])
    run = theory.integrate(model, 0.0, 0.3, times, freeze="beta")
    slopes = (run.alpha[-1] - run.alpha[-2]) / np.log(10)
    limit = theory.sink_log_asymptote(model.P, model.pi, model.B)
    error = np.abs(run.alpha[-1] - np.log(1e10) / 2 - limit).max()
    np.testing.assert_allclose(slopes, 0.5, rtol=0.01)
    # The next term of the expansion says how far the asymptote still is: below 2e-3 for these instances.
    assert np.abs(theory.sink_log_correction(times, model.P, model.pi, model.B, model.W)[-1]).max() < 2e-3
    assert error < 2e-3
    constant = theory.loss_time_constant(model.P, model.pi, model.B)
    assert constant == model.vocab_size / 4
    assert run.loss[-1] * times[-1] == pytest.approx(constant, rel=0.01)
    np.testing.assert_array_equal(run.beta, 0.3)


def test_a_weakly_driven_token_is_late_as_predicted(random_model) -> None:
    """How late is late depends on `pi`, `Var` and `W`: this instance has one token still 2.3e-3 away at 1e10."""
    model = random_model(0)
    run = theory.integrate(model, 0.0, 0.0, [1e10], freeze="beta")
    error = run.alpha[0] - np.log(1e10) / 2 - theory.sink_log_asymptote(model.P, model.pi, model.B)
    assert 2e-3 < np.abs(error).max() < 3e-3
    term = theory.sink_log_correction([1e10], model.P, model.pi, model.B, model.W)[0]
    np.testing.assert_allclose(error, term, rtol=0.02)  # the term after it is smaller by log t / sqrt(t)


def test_next_term_of_the_sink_logit(random_model) -> None:
    """With the next term the error is O(log t / t): a hundredfold time makes it some 80 times smaller."""
    model = random_model(0)
    times = np.array([1e8, 1e10])
    run = theory.integrate(model, -1.0, 0.0, times, freeze="beta", rtol=1e-12)
    leading = theory.predict_sink_logits(model, times)
    term = theory.sink_log_correction(times, model.P, model.pi, model.B, model.W)
    error = np.abs(run.alpha - leading.values - term).max(axis=1)
    assert leading.band is not None
    assert (leading.band[0] < run.alpha).all() and (run.alpha < leading.band[1]).all()
    # log(1e10) / log(1e8) = 1.25, hence 80; terms without the logarithm blur it between 60 and 110.
    assert 60 < error[0] / error[1] < 110


def test_attention_deficit_and_loss_of_the_late_flow(random_model) -> None:
    model = random_model(1)
    times = np.array([1e10, 1e12])
    run = theory.integrate(model, 0.0, 0.0, times, freeze="beta")
    deficit = model.W / (np.exp(run.alpha) + model.W)
    predicted = theory.attention_deficit(times, model.P, model.pi, model.B, model.W)
    # Same next term as above, doubled where weak tokens leave W e^-alpha of a few 1e-3.
    np.testing.assert_allclose(deficit[0], predicted[0], rtol=5e-3)
    np.testing.assert_allclose(deficit[1], predicted[1], rtol=5e-4)
    np.testing.assert_allclose(theory.predict_sink_attention(model, times).values, 1 - predicted)
    np.testing.assert_allclose(theory.predict_sink_loss(model, times).values, run.loss, rtol=5e-3)


def test_certain_tokens_and_triggers_are_never_driven() -> None:
    P = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.3, 0.3, 0.4]])
    pi, B = np.array([0.4, 0.3, 0.3]), np.array([1.0, 2.0, 4.0])
    model = theory.ReducedModel(P, (2,), pi, 10.0, B)
    run = theory.integrate(model, 0.5, 0.0, [1e6], freeze="beta")
    assert run.alpha[0, 1] == 0.5 and run.alpha[0, 2] == 0.5 and run.alpha[0, 0] > 3
    weights = np.array([0.4, 0.3, 0.0])
    limit = theory.sink_log_asymptote(P, weights, B)
    assert np.isfinite(limit).tolist() == [True, False, False]
    assert theory.loss_time_constant(P, weights, B) == 0.25
    assert theory.predict_sink_loss(model, [4.0]).values.item() == 0.0625
    assert theory.sink_log_correction([1e6], P, weights, B, 10.0)[0, 1] == 0.0


def test_rounding_is_not_taken_for_a_drive() -> None:
    """A row on which `B` is constant to rounding has no variance, whatever the last bits say."""
    P = np.full((3, 3), 1 / 3)
    assert theory.value_variance(P, 0.1 + np.array([0.0, 1e-17, 2e-17])).tolist() == [0.0, 0.0, 0.0]
    assert (theory.value_variance(P, np.array([0.0, 1e-9, 0.0])) > 0).all()


@pytest.mark.parametrize("height", [2.0, 4.0])
def test_value_drains_to_its_fixed_point(random_model, height: float) -> None:
    model = random_model(0)
    beta0 = np.random.default_rng(5).normal(size=12)
    run = theory.integrate(model, height, beta0, [1e3, 1e5], freeze="alpha")
    target = theory.value_fixed_point(height, model.B, float(beta0.mean()))
    error = np.abs(run.beta[-1] - target).max()
    assert error < 1e-6  # the slowest mode has died by then; what is left is the solver's 1e-10
    np.testing.assert_allclose(run.beta.mean(axis=1), beta0.mean(), atol=1e-10)
    drained = theory.predict_value_drain([1.0], [height], model.B).values[0]
    assert np.linalg.norm(run.beta[-1] - run.beta[-1].mean()) == pytest.approx(drained, rel=1e-6)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.floats(-2, 6), st.floats(-3, 3))
def test_the_manifold_is_stationary(seed: int, height: float, mean: float) -> None:
    rng = np.random.default_rng(seed)
    B = rng.normal(size=5) * 5
    model = theory.ReducedModel(rng.dirichlet(np.ones(5), size=5), (), rng.dirichlet(np.ones(5)), 7.0, B)
    beta = theory.value_fixed_point(height, B, mean)
    # e^2 * 15 is the largest entry of beta; its rounding is 1e-14.
    for force in theory.gradients(model, np.full(5, height), beta):
        assert np.abs(force).max() < 1e-12
    assert theory.loss(model, np.full(5, height), beta) < 1e-24
    assert theory.manifold_residual(height, beta, B) < 1e-11
    # Any other pair of sink logits leaves something to cancel.
    alpha = np.full(5, height)
    alpha[0] += 1.0
    assert theory.manifold_residual(alpha, beta, B) > 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_joint_flow_ends_on_the_manifold(random_model, seed: int) -> None:
    """Sink logits concentrate: one common logit, and a value that cancels the leftover exactly."""
    model = random_model(seed)
    rng = np.random.default_rng(100 + seed)
    beta0 = rng.normal(size=12)
    # 1e6: the slowest of these instances still has a spread of order 1 at 1e5.
    run = theory.integrate(model, rng.normal(size=12), beta0, [1e6])
    spread = float(np.ptp(run.alpha[-1]))
    residual = theory.manifold_residual(run.alpha[-1], run.beta[-1], model.B)
    assert spread < 1e-3 and residual < 1e-3
    norm = np.exp(-run.alpha[-1, 0]) * np.linalg.norm(model.B - model.B.mean())
    assert np.linalg.norm(run.beta[-1] - run.beta[-1].mean()) == pytest.approx(norm, rel=1e-5)
    assert run.beta[-1].mean() == pytest.approx(beta0.mean(), abs=1e-10)


def test_manifold_residual_of_a_constant_value_is_one(random_model) -> None:
    """Nothing is cancelled; and e^100 times a constant must not drown the answer."""
    B = random_model(0).B
    assert theory.manifold_residual([1.0, 100.0], np.full(12, 0.3), B) == pytest.approx(1.0, rel=1e-12)
    with pytest.raises(ValueError, match="not constant"):
        theory.manifold_residual(1.0, np.zeros(3), np.ones(3))


def test_bad_input_is_named(random_model) -> None:
    model = random_model(0)
    with pytest.raises(ValueError, match="above 0"):
        theory.attention_deficit([0.0], model.P, model.pi, model.B, model.W)
    with pytest.raises(ValueError, match="smallest entry of pi"):
        theory.sink_log_asymptote(model.P, -model.pi, model.B)
