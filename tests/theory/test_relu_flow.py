"""ReLU attention: conserved quantities, no sink at the end, and the value that stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_gradients_and_conservation_at_a_point(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = theory.ReducedModel(rng.dirichlet(np.ones(5), size=5), (2,), rng.dirichlet(np.ones(5)), 1.0, np.zeros(5))
    alpha, beta = rng.normal(size=5), rng.normal(size=5)
    alpha += 0.05 * np.sign(alpha)  # clear of the kink at 0, where differences mean nothing
    forces = theory.relu_gradients(model, alpha, beta)
    step = 1e-3
    for i, unit in enumerate(np.eye(10) * step):

        def value(k: float, unit: np.ndarray = unit) -> float:
            return theory.relu_loss(model, alpha + k * unit[:5], beta + k * unit[5:])

        numeric = (8 * (value(1) - value(-1)) - (value(2) - value(-2))) / (12 * step)
        # Truncation step^4 = 1e-12 times fifth derivatives up to 1e3, rounding 1e-13.
        assert np.concatenate(forces)[i] == pytest.approx(numeric, abs=1e-8)
    on = np.maximum(alpha, 0.0) * model.modelled
    assert on @ forces[0] == pytest.approx(beta @ forces[1], abs=1e-13)  # the invariant, rounding only
    assert abs(forces[1].sum()) < 1e-14


def test_no_sink_is_optimal(random_model) -> None:
    model = random_model(0)
    beta = np.random.default_rng(0).normal(size=12)
    assert theory.relu_loss(model, np.full(12, -1.0), beta) == 0.0
    assert all((force == 0).all() for force in theory.relu_gradients(model, np.full(12, -1.0), beta))
    # Rounding of the sum of a row: one unit in the last place.
    np.testing.assert_allclose(theory.relu_transition_law(model, np.zeros(12), beta), model.P, rtol=1e-15)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sink_dies_and_value_stays(random_model, seed: int) -> None:
    """A weaker sink than value: attention decays to nothing, the value keeps the rest of its norm."""
    model = random_model(seed)
    rng = np.random.default_rng(seed)
    alpha0, beta0 = 0.3 + np.abs(rng.normal(size=12)), 0.5 + 3 * rng.normal(size=12)
    assert (alpha0**2).sum() < ((beta0 - beta0.mean()) ** 2).sum()
    run = theory.integrate(model, alpha0, beta0, [0.0, 1e2, 1e3, 1e4, 1e6], attention="relu")
    invariant = [theory.relu_invariant(a, b) for a, b in zip(run.alpha, run.beta, strict=True)]
    np.testing.assert_allclose(invariant, invariant[0], atol=1e-5)
    np.testing.assert_allclose(run.beta.mean(axis=1), beta0.mean(), atol=1e-10)
    limit = theory.relu_value_limit(alpha0, beta0)
    assert limit == pytest.approx(np.sqrt((beta0**2).sum() - (alpha0**2).sum()), rel=1e-12)
    assert np.linalg.norm(run.beta[-1]) == pytest.approx(limit, abs=1e-3)
    assert theory.relu_sink_limit(alpha0, beta0) == 0.0
    norms = np.linalg.norm(run.alpha, axis=1)
    assert norms[-1] < 1e-6 and (np.diff(norms) < 1e-9).all() and run.loss[-1] < 1e-12


def test_a_stronger_sink_than_value_survives(random_model) -> None:
    """What decides is the norm of the value without its mean, which no prediction sees.

    Here `sum a^2` lies between the two norms; the total norm would announce a dead sink.
    """
    model = random_model(1)
    rng = np.random.default_rng(3)
    alpha0, shape = 0.5 + np.abs(rng.normal(size=12)), 0.3 * rng.normal(size=12)
    beta0 = shape - shape.mean() + 3.0
    assert ((beta0 - beta0.mean()) ** 2).sum() < (alpha0**2).sum() < (beta0**2).sum()
    run = theory.integrate(model, alpha0, beta0, [1e6], attention="relu")
    assert np.linalg.norm(run.beta[-1] - beta0.mean()) < 1e-6
    assert np.linalg.norm(run.alpha[-1]) == pytest.approx(theory.relu_sink_limit(alpha0, beta0), abs=1e-6)
    assert np.linalg.norm(run.beta[-1]) == pytest.approx(theory.relu_value_limit(alpha0, beta0), abs=1e-6)


def test_softmax_drains_where_relu_does_not(random_model) -> None:
    """Same constants: softmax cannot reach zero loss without a value that cancels `B`, ReLU leaves the value alone."""
    model = random_model(2)
    start = {"alpha0": 0.2, "beta0": np.random.default_rng(1).normal(size=12), "times": [1e6]}
    relu = theory.integrate(model, **start, attention="relu")
    softmax = theory.integrate(model, **start)
    assert relu.alpha[-1].max() < 1e-6 < softmax.alpha[-1].min()
    assert theory.manifold_residual(softmax.alpha[-1], softmax.beta[-1], model.B) < 1e-3
