"""Proportional limit, Bayes risk and prompt lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import icl


@settings(max_examples=25)
@given(xi=st.floats(0.02, 20), s2=st.floats(0.01, 10))
def test_bayes_limit_solves_its_quadratic(xi: float, s2: float) -> None:
    risk = float(icl.bayes_limit_risk(xi, s2))
    b = (1 - xi) / xi
    assert risk**2 - risk * (s2 - b) - s2 * (1 + b) == pytest.approx(0, abs=1e-9 * (1 + risk**2) * (1 + abs(b)))
    assert s2 < risk <= float(icl.gd_limit_risk(xi, s2)) * (1 + 1e-12) < s2 + 1


def test_bayes_limit_without_noise_and_at_small_xi() -> None:
    xi = np.array([0.1, 0.5, 1.0, 2.0, 10.0])
    np.testing.assert_allclose(icl.bayes_limit_risk(xi, 0.0), np.maximum(0, 1 - 1 / xi), atol=1e-15)
    # Ordinary least squares: s2 + s2 xi + O(xi^2); no digits are lost to the cancelling form.
    assert float(icl.bayes_limit_risk(1e-9, 0.5)) - 0.5 == pytest.approx(0.5e-9, rel=1e-6)


@pytest.mark.parametrize("noise_variance", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("xi", [0.05, 0.2, 1.0, 2.0])
def test_limits_hold_at_a_hundred_pairs(xi: float, noise_variance: float) -> None:
    """Less than 2 % between the limit and L = 100, but where one step is good: the limit lacks terms of 1 / L."""
    data = icl.Setting(round(100 * xi), 100, noise_variance)
    finite = icl.bayes_risk(data, 6)
    assert finite.value == pytest.approx(float(icl.bayes_limit_risk(xi, noise_variance)), rel=0.02)
    assert finite.error < 0.01 * finite.value
    limit = float(icl.gd_limit_risk(xi, noise_variance))
    for best in (icl.gd_optimum(data), icl.dgd_optimum(data)):
        assert 0 < best.risk - limit < 1 / 100
        if noise_variance >= 1 or xi >= 0.5:
            assert best.risk == pytest.approx(limit, rel=0.02)


def test_gap_to_bayes() -> None:
    xi = np.geomspace(0.005, 50, 2000)
    peaks = {s2: icl.limit_risk_ratio(xi, s2) for s2 in (0.1, 1.0, 3.0)}
    assert peaks[3.0].max() < 1.015 and peaks[1.0].max() == pytest.approx(1.08, abs=0.005)
    assert peaks[0.1].max() == pytest.approx(2.53, abs=0.01) and 0.3 < xi[peaks[0.1].argmax()] < 0.5
    assert min(curve.min() for curve in peaks.values()) >= 1
    # The authors' printed check at xi = .2, s2 = 3 (finite sample: 3.4419 and 3.4038).
    assert float(icl.gd_limit_risk(0.2, 3.0)) == pytest.approx(3.4444, abs=5e-5)
    assert float(icl.bayes_limit_risk(0.2, 3.0)) == pytest.approx(3.4051, abs=5e-5)


def ridge_errors(data: icl.Setting, prompts: int, seed: int) -> np.ndarray:
    """Squared errors of the posterior mean, `x_q^T (X^T X + s2 Psi^-1)^-1 X^T y`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(prompts, data.context + 1, data.dim)) @ np.linalg.cholesky(data.sigma).T + data.shift
    beta = rng.normal(size=(prompts, data.dim)) @ np.linalg.cholesky(data.psi).T
    y = np.einsum("bld,bd->bl", x, beta) + np.sqrt(data.noise_variance) * rng.normal(size=x.shape[:2])
    past = x[:, :-1]
    gram = past.mT @ past + data.noise_variance * np.linalg.inv(data.psi)
    estimate = np.linalg.solve(gram, np.einsum("bld,bl->bd", past, y[:, :-1])[..., None])[..., 0]
    return (y[:, -1] - np.einsum("bd,bd->b", x[:, -1], estimate)) ** 2


@pytest.mark.parametrize("context", [3, 12])
def test_bayes_risk_is_the_risk_of_the_posterior_mean(context: int) -> None:
    """Three pairs take the small system of the pairs, twelve that of the coordinates."""
    a = np.random.default_rng(0).normal(size=(5, 5))
    data = icl.Setting(5, context, 0.3, covariance=a @ a.T / 5, prior_covariance=0.5, mean=0.4)
    errors = ridge_errors(data, 30_000, seed=1)
    estimate = icl.bayes_risk(data, 4000, seed=2)
    spread = np.hypot(errors.std(ddof=1) / np.sqrt(errors.size), estimate.error)
    assert abs(errors.mean() - estimate.value) < 4 * spread


@pytest.mark.parametrize("context", [2, 4, 9])
def test_bayes_risk_without_noise_is_least_squares(context: int) -> None:
    exact = max(0.0, 1 - context / 5)
    estimate = icl.bayes_risk(icl.Setting(5, context, 0.0), 500)
    assert abs(estimate.value - exact) < 4 * estimate.error + 1e-10


def test_ridge_column_of_the_published_table() -> None:
    """The authors' 50k-prompt values, which have errors of about .002."""
    for context, printed in ((10, 0.194), (20, 0.135), (40, 0.1146), (100, 0.1041)):
        assert icl.bayes_risk(icl.Setting(context=context), 1000).value == pytest.approx(printed, abs=0.004)


def test_lengths() -> None:
    data, lengths = icl.Setting(), [10, 20, 40, 70, 100, 200]
    softmax = icl.length_risk(data, lengths)
    assert softmax[2] == pytest.approx(icl.dgd_optimum(data).risk, rel=1e-12)
    # Networks of two heads, measured: .581, .368, .243, .189, .168; at L' = 10 finite weights gain .015.
    np.testing.assert_allclose(softmax[1:5], [0.368, 0.243, 0.189, 0.168], atol=0.003)
    assert softmax[0] == pytest.approx(0.581, abs=0.016)
    regret = icl.length_regret(data, lengths)
    assert regret[2] == pytest.approx(0, abs=1e-14) and (regret > -1e-14).all()
    assert regret[1] == pytest.approx(0.011, abs=5e-4) and regret[4] == pytest.approx(0.005, abs=5e-4)


def test_unnormalised_linear_attention_blows_up() -> None:
    data, lengths = icl.Setting(), [20, 40, 100, 200]
    eta, r = icl.gd_optimum(data).eta, np.array(lengths) / 40
    expected = 1.1 - 2 * eta * r + (eta * r) ** 2 * (1 + 6.5 / np.array(lengths))
    total = icl.length_risk(data, lengths, "linear_sum")
    np.testing.assert_allclose(total, expected, rtol=1e-12)
    np.testing.assert_allclose(total[2:], [1.72, 11.6], rtol=0.005)
    mean = icl.length_risk(data, lengths, "linear_mean")
    assert (np.diff(mean) < 0).all() and mean[1] == pytest.approx(total[1], rel=1e-12)
