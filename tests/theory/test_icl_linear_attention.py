"""Linear attention on regression prompts: limits of training, risks by causes, and weights that are descent steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import icl

SEEDS = st.integers(0, 2**31 - 1)


def covariance(seed: int, d: int = 4) -> np.ndarray:
    a = np.random.default_rng(seed).normal(size=(d, d + 2))
    return a @ a.T / d


def prompts(
    rng: np.random.Generator, cov: np.ndarray, context: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens in columns `[B, d + 1, L + 1]` with the query's label set to 0, that label `[B]`, the tasks `[B, d]`."""
    d = cov.shape[0]
    x = rng.normal(size=(count, context + 1, d)) @ np.linalg.cholesky(cov).T
    beta = rng.normal(size=(count, d))
    y = np.einsum("bld,bd->bl", x, beta)
    tokens = np.concatenate([x, y[..., None]], axis=-1).mT
    tokens[:, -1, -1] = 0.0
    return tokens, y[:, -1], beta


@settings(max_examples=25)
@given(seed=SEEDS, context=st.integers(1, 50), noise=st.floats(0, 3))
def test_one_matrix_under_three_names(seed: int, context: int, noise: float) -> None:
    """Gamma of Zhang et al. = minus the inverse of Ahn's Q = the best plain preconditioner."""
    cov = covariance(seed)
    gamma = icl.gamma_matrix(cov, context, noise)
    data = icl.Setting(4, context, noise, covariance=cov, prior_covariance=1.0, noisy_query=False)
    np.testing.assert_allclose(icl.best_preconditioner(data, "plain") @ gamma, np.eye(4), atol=1e-8)
    best = np.trace(cov) - np.trace(cov @ cov @ np.linalg.inv(gamma))
    assert icl.best_preconditioned_risk(data, "plain") == pytest.approx(best, rel=1e-9)
    ahn = icl.ahn_minimum(cov, context)
    np.testing.assert_allclose(-ahn.Q[:-1, :-1] @ icl.gamma_matrix(cov, context), np.eye(4), atol=1e-10)


@settings(max_examples=15)
@given(seed=SEEDS)
def test_the_trained_layers_predict_alike(seed: int) -> None:
    rng, cov = np.random.default_rng(seed), covariance(seed)
    tokens, _, _ = prompts(rng, cov, 7, 3)
    limit = icl.linear_attention_limit(cov, 20)
    g = np.einsum("bdl,bl->bd", tokens[:, :-1, :-1], tokens[:, -1, :-1]) / 7
    expected = np.einsum("bi,ij,bj->b", tokens[:, :-1, -1], np.linalg.inv(limit.Gamma), g)
    found = icl.linear_attention_output(tokens, limit.W_KQ, limit.W_PV)[:, -1, -1]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(
        -icl.ahn_output(tokens, *icl.ahn_minimum(cov, 20))[:, -1, -1], expected, rtol=1e-9, atol=1e-10
    )
    assert np.linalg.norm(limit.W_KQ) == pytest.approx(np.linalg.norm(limit.W_PV), rel=1e-12)


def test_gradient_flow_ends_at_the_limit() -> None:
    """The population loss on `W_KQ = [[A, 0], [0, 0]]`, `W_PV = [[0, 0], [0, u]]`, descended from a covered start."""
    cov, context = np.diag([0.5, 1.0, 2.0]), 20
    data = icl.Setting(3, context, 0.0, covariance=cov, prior_covariance=1.0, noisy_query=False)
    scale, theta = 0.3, np.eye(3) / 3**0.25
    assert icl.start_converges(scale, theta, cov, context)
    assert not icl.start_converges(3.0, theta, cov, context) and not icl.start_converges(scale, 2 * theta, cov, context)
    a, u = scale * theta @ theta.T, scale
    for _ in range(4000):
        slope = icl.risk_gradient(u * a.T, data, "plain") / 2  # yhat = u x_q^T A^T g
        a, u = a - 0.02 * u * slope.T, u - 0.02 * float((slope.T * a).sum())
    limit = icl.linear_attention_limit(cov, context)
    # The step of .02 breaks the conserved balance of the flow a little.
    np.testing.assert_allclose(u * a, np.linalg.inv(limit.Gamma), atol=1e-6)
    assert u == pytest.approx(limit.W_PV[-1, -1], rel=0.01)
    np.testing.assert_allclose(a, limit.W_KQ[:-1, :-1], atol=0.01)


def test_risk_on_a_test_distribution_by_causes() -> None:
    """One fixed task with label noise, test prompts of another length than in training."""
    rng, cov, train, test, s2 = np.random.default_rng(0), covariance(1), 20, 9, 0.5
    a = rng.normal(size=4)
    spread = cov @ np.outer(a, a) @ cov + (a @ cov @ a + s2) * cov  # Cov(y x) of a Gaussian x
    parts = icl.transfer_risk(cov, train, test, a, spread, floor=s2)
    x = rng.normal(size=(40_000, test + 1, 4)) @ np.linalg.cholesky(cov).T
    y = x @ a + np.sqrt(s2) * rng.normal(size=x.shape[:2])
    g = np.einsum("bld,bl->bd", x[:, :-1], y[:, :-1]) / test
    inverse = np.linalg.inv(icl.gamma_matrix(cov, train))
    errors = (y[:, -1] - np.einsum("bi,ij,bj->b", x[:, -1], inverse, g)) ** 2
    assert abs(errors.mean() - sum(parts)) < 4 * errors.std() / 200
    longer = icl.transfer_risk(cov, train, 100 * test, a, spread, floor=s2)
    assert longer.variance == pytest.approx(parts.variance / 100) and longer.bias == parts.bias
    better = icl.transfer_risk(cov, 10_000 * train, test, a, spread, floor=s2)
    coarse = icl.transfer_risk(cov, 1000 * train, test, a, spread, floor=s2)
    assert better.bias == pytest.approx(coarse.bias / 100, rel=0.02)  # of order 1 / N^2


def test_causes_average_to_the_population_risk() -> None:
    """Averaged over tasks `N(0, I)`, floor + variance + bias is the exact risk of the preconditioner."""
    cov, train, test = covariance(2), 12, 30
    data = icl.Setting(4, test, 0.0, covariance=cov, prior_covariance=1.0, noisy_query=False)
    # E over a of the quadratic forms, one basis vector at a time: E a a^T = I.
    total = sum(
        sum(icl.transfer_risk(cov, train, test, a, cov @ np.outer(a, a) @ cov + (a @ cov @ a) * cov)) for a in np.eye(4)
    )
    gamma = np.linalg.inv(icl.gamma_matrix(cov, train))
    assert total == pytest.approx(icl.population_risk(gamma, data, "plain"), rel=1e-10)


def test_isotropic_curves() -> None:
    curves = icl.isotropic_curves(5, [5, 10, 20, 40, 80, 160], trained=20)
    np.testing.assert_allclose(curves["trained_mean"], [0.763, 0.408, 0.231, 0.142, 0.098, 0.075], atol=6e-4)
    np.testing.assert_allclose(curves["trained_sum"][:4], [0.697, 0.467, 0.231, 0.645], atol=6e-4)
    np.testing.assert_allclose(curves["trained_sum"][4:], [5.0, 28], rtol=0.01)
    for i, length in enumerate((5, 10, 20, 40, 80, 160)):
        data = icl.Setting(5, length, 0.0, prior_covariance=1.0, noisy_query=False)
        assert 5 * curves["best_step"][i] == pytest.approx(icl.gd_optimum(data).risk, rel=1e-12)
        assert 5 * curves["averaging"][i] == pytest.approx(float(icl.gd_risk(1.0, data)), rel=1e-12)
    assert curves["least_squares"][0] == 0 and (curves["zero"] == 1).all()


def test_least_squares_with_noise() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8000, 14, 4))
    values = 0.5 * np.trace(np.linalg.inv(x.mT @ x), axis1=1, axis2=2)
    assert abs(values.mean() - icl.least_squares_risk(4, 14, 0.5)) < 4 * values.std() / np.sqrt(8000)
    with pytest.raises(ValueError, match="at least 6"):
        icl.least_squares_risk(4, 5, 0.5)


@settings(max_examples=15)
@given(seed=SEEDS, steps=st.integers(1, 4))
def test_layers_are_steps_of_descent(seed: int, steps: int) -> None:
    rng, eta = np.random.default_rng(seed), 0.3
    x, y, query = rng.normal(size=(9, 3)), rng.normal(size=9), rng.normal(size=3)
    tokens = np.column_stack([np.vstack([x, query]), np.append(y, 0.0)])
    layer, w = icl.descent_layer(3, 9, eta), np.zeros(3)
    for _ in range(steps):
        tokens, w = icl.apply_layer(tokens, layer), w + eta / 9 * x.T @ (y - x @ w)
    np.testing.assert_allclose(tokens[:-1, -1], y - x @ w, atol=1e-10)
    assert -tokens[-1, -1] == pytest.approx(query @ w, abs=1e-10)
    np.testing.assert_array_equal(tokens[:, :-1], np.vstack([x, query]))


def test_layer_from_given_weights_and_curvature_correction() -> None:
    rng, eta, gamma = np.random.default_rng(0), 0.4, 0.02
    x, y, query, start = rng.normal(size=(9, 3)), rng.normal(size=9), rng.normal(size=3), rng.normal(size=3)
    tokens = np.column_stack([np.vstack([x, query]), np.append(y, 0.0)])
    moved = icl.apply_layer(tokens, icl.descent_layer(3, 9, eta, gamma, start))
    step = eta / 9 * x.T @ (y - x @ start)
    np.testing.assert_allclose(moved[:, -1], tokens[:, -1] - tokens[:, :-1] @ step, atol=1e-12)
    np.testing.assert_allclose(moved[:, :-1], tokens[:, :-1] @ (np.eye(3) - gamma * x.T @ x), atol=1e-12)


def test_curvature_correction_speeds_descent_up() -> None:
    """Two layers: the best GD++ of a grid has less error than the best plain steps of the same grid."""
    rng = np.random.default_rng(1)
    tokens, label, _ = prompts(rng, np.eye(5), 20, 2000)
    rows = tokens.mT

    def error(eta: float, gamma: float) -> float:
        layer = icl.descent_layer(5, 20, eta, gamma)
        return float(((label + icl.apply_layer(icl.apply_layer(rows, layer), layer)[:, -1, -1]) ** 2).mean())

    etas = np.linspace(0.5, 1.5, 6)
    assert min(error(eta, 0.01) for eta in etas) < 0.9 * min(error(eta, 0.0) for eta in etas)


def test_published_uniform_setting() -> None:
    best = icl.uniform_optimum()
    assert best.eta == pytest.approx(6.06, abs=0.01) and best.risk == pytest.approx(0.2062, abs=5e-5)
    estimate = icl.descent_steps_risk(best.eta, 1, 10, 10, inputs="uniform", prompts=10_000)
    assert abs(estimate.value / 2 - best.risk) < 4 * estimate.error / 2
    zero = icl.descent_steps_risk(best.eta, 0, 10, 10, inputs="uniform", prompts=10)
    assert zero.value / 2 == pytest.approx(0.4167, abs=5e-5) and zero.error == pytest.approx(0, abs=1e-12)
    for factor in (0.9, 1.1):
        worse = icl.descent_steps_risk(factor * best.eta, 1, 10, 10, inputs="uniform", prompts=10_000)
        assert worse.value > estimate.value  # the same draws


def test_steps_of_descent_on_gaussian_inputs() -> None:
    """One step: the exact risk. Two steps: the fourth moment of a Wishart matrix. Many steps: least squares."""
    d, n, eta, s2 = 3, 12, 0.6, 0.3
    data = icl.Setting(d, n, s2, prior_covariance=1.0, noisy_query=False)
    one = icl.descent_steps_risk(eta, 1, d, n, s2, prompts=20_000)
    assert abs(one.value - float(icl.gd_risk(eta, data))) < 4 * one.error
    traces = [
        d,
        d,
        d * (n + d + 1) / n,
        d * (n**2 + 3 * n * (d + 1) + d**2 + 3 * d + 4) / n**2,
        d * (n**3 + 6 * n**2 * (d + 1) + n * (6 * d**2 + 17 * d + 21) + d**3 + 6 * d**2 + 21 * d + 20) / n**3,
    ]
    exact = sum(c * (-eta) ** k * traces[k] for k, c in enumerate((1, 4, 6, 4, 1)))
    two = icl.descent_steps_risk(eta, 2, d, n, prompts=20_000)
    assert abs(two.value - exact) < 4 * two.error
    many = icl.descent_steps_risk(0.25, 4000, d, n, s2, prompts=4000)
    assert abs(many.value - icl.least_squares_risk(d, n, s2)) < 4 * many.error
    with pytest.raises(ValueError, match="diverges"):
        icl.descent_steps_risk(eta, 4000, d, n, s2, prompts=4000)
