"""Discrete optimizers against the flow, and what the flow may never do."""

from __future__ import annotations

import numpy as np
import pytest

import theory


@pytest.fixture
def start(random_model):
    rng = np.random.default_rng(7)
    model = random_model(4, size=5, keys=6)
    return model, rng.normal(size=5), rng.normal(size=5)


def test_gradient_descent_tends_to_the_flow_at_first_order(start) -> None:
    model, alpha0, beta0 = start
    exact = theory.integrate(model, alpha0, beta0, [8.0])
    rates = np.array([0.4, 0.2, 0.1, 0.05])
    errors = []
    for rate in rates:
        run = theory.integrate(model, alpha0, beta0, [round(8 / rate)], optimizer="sgd", learning_rate=rate)
        errors.append(np.linalg.norm(run.alpha - exact.alpha) + np.linalg.norm(run.beta - exact.beta))
    slope = np.polyfit(np.log(rates), np.log(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.1)  # Euler's method is of first order; 0.1 for the second-order terms


def test_flow_conserves_the_mean_and_never_climbs(start) -> None:
    model, alpha0, beta0 = start
    run = theory.integrate(model, alpha0, beta0, np.geomspace(0.1, 1e4, 40))
    np.testing.assert_allclose(run.beta.mean(axis=1), beta0.mean(), atol=1e-10)  # the solver's relative tolerance
    assert (np.diff(run.loss) <= 1e-12 * run.loss[0]).all()


@pytest.mark.parametrize("freeze", ["alpha", "beta"])
@pytest.mark.parametrize("optimizer", ["gradient_flow", "sgd", "adam"])
def test_frozen_means_frozen(start, freeze, optimizer) -> None:
    model, alpha0, beta0 = start
    run = theory.integrate(model, alpha0, beta0, [0, 1, 10], freeze=freeze, optimizer=optimizer)
    np.testing.assert_array_equal(run.alpha[0], alpha0)
    still, moving = (run.alpha, run.beta) if freeze == "alpha" else (run.beta, run.alpha)
    np.testing.assert_array_equal(still, np.broadcast_to(still[0], still.shape))
    assert (np.abs(moving[-1] - moving[0]) > 0).all()


def test_solvers_agree(start) -> None:
    model, alpha0, beta0 = start
    one = theory.integrate(model, alpha0, beta0, [1.0, 50.0])
    for method in ("Radau", "BDF"):
        other = theory.integrate(model, alpha0, beta0, [1.0, 50.0], method=method)
        # Global error of a solver run at a local 1e-10 over some hundred steps.
        np.testing.assert_allclose(other.alpha, one.alpha, atol=1e-7)


def test_adam_ignores_the_scale_of_the_loss(start) -> None:
    """Its first step is the learning rate in every coordinate; weights `pi` times 1000 change nothing."""
    model, alpha0, beta0 = start
    louder = theory.ReducedModel(model.P, model.triggers, 1000 * model.pi, model.W, model.B)
    settings = {"optimizer": "adam", "learning_rate": 0.01, "eps": 0.0}
    run = theory.integrate(model, alpha0, beta0, [1, 50], **settings)
    np.testing.assert_allclose(np.abs(run.alpha[0] - alpha0), 0.01, rtol=1e-9)  # rounding of m / sqrt(v)
    np.testing.assert_allclose(np.abs(run.beta[0] - beta0), 0.01, rtol=1e-9)
    # Fifty steps, each reproduced to rounding.
    np.testing.assert_allclose(
        theory.integrate(louder, alpha0, beta0, [50], **settings).alpha[0], run.alpha[1], rtol=1e-9
    )


def test_adam_outruns_gradient_descent_on_the_sink(random_model) -> None:
    """The half logarithm is a law of gradient flow: Adam at the same learning rate builds a larger sink."""
    model = random_model(0)
    heights = {
        name: theory.integrate(model, 0.0, 0.0, [2000], freeze="beta", optimizer=name, learning_rate=0.01).alpha[0]
        for name in ("sgd", "adam")
    }
    assert (heights["adam"] > heights["sgd"] + 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": [2.0, 1.0]}, "increasing"),
        ({"times": [-1.0]}, "at least 0"),
        ({"freeze": "gamma"}, "freeze = 'gamma'"),
        ({"optimizer": "lion"}, "gradient_flow"),
        ({"attention": "linear"}, "'softmax', 'relu'"),
        ({"optimizer": "sgd", "times": [0.5]}, "whole numbers"),
        ({"optimizer": "sgd", "learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_bad_input_is_named(start, change: dict, message: str) -> None:
    model, alpha0, beta0 = start
    with pytest.raises(ValueError, match=message):
        theory.integrate(model, alpha0, beta0, **{"times": [1.0], **change})
