"""What softmax does to Gaussian keys, by simulation; and the predicted curves as values with source and assumptions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import icl


def test_tilting_by_simulation() -> None:
    cov = np.array([[1.0, 0.4], [0.4, 0.5]])
    data, a = icl.Setting(2, covariance=cov, mean=[0.3, -0.2]), np.array([0.5, -0.7])
    law = icl.tilt(a, data)
    x = np.random.default_rng(0).normal(size=(200, 4000, 2)) @ np.linalg.cholesky(cov).T + data.shift
    weight = np.exp(x @ a)
    weight /= weight.sum(axis=1, keepdims=True)
    means = np.einsum("bl,bld->bd", weight, x)
    # The bias of a ratio of means is of order 1 / 4000, below the error of 200 draws.
    assert (np.abs(means.mean(axis=0) - law.mean) < 4 * means.std(axis=0) / np.sqrt(200)).all()
    centred = x - law.mean
    spread = np.einsum("bl,bld,ble->bde", weight, centred, centred)
    assert (np.abs(spread.mean(axis=0) - law.covariance) < 4 * spread.std(axis=0) / np.sqrt(200) + 1e-3).all()


@pytest.mark.parametrize(("omega", "other"), [(0.3, 0.3), (0.3, -0.3), (0.1, 0.4)])
def test_overlap_of_two_heads(omega: float, other: float) -> None:
    """At a query of norm^2 d, and on average over queries."""
    rng, d, length = np.random.default_rng(1), 6, 4000
    data = icl.Setting(d, length)
    x, queries = rng.normal(size=(length, d)), rng.normal(size=(400, d))
    typical = queries * np.sqrt(d / (queries**2).sum(axis=1, keepdims=True))

    def overlaps(q: np.ndarray) -> np.ndarray:
        p = np.exp(np.array([omega, other])[:, None, None] * (q @ x.T))
        p /= p.sum(axis=-1, keepdims=True)
        return (p[0] * p[1]).sum(axis=-1)

    expected = float(icl.attention_overlap(omega, other, data))
    # One draw of 4000 keys for all queries: fluctuations of about 1 / sqrt(4000) of e^(2 w x.q) sums, a few percent.
    assert overlaps(typical).mean() == pytest.approx(expected, rel=0.05)
    assert overlaps(queries).mean() == pytest.approx(icl.mean_attention_overlap(omega, other, data), rel=0.1)


def test_mean_overlap_exceeds_the_typical_one_to_second_order() -> None:
    data = icl.Setting(20, 100)
    ratio = icl.mean_attention_overlap(0.1, 0.1, data) / float(icl.attention_overlap(0.1, 0.1, data))
    assert ratio - 1 == pytest.approx(20 * 0.1**4, rel=0.05)
    with pytest.raises(ValueError, match="omega"):
        icl.mean_attention_overlap(0.8, 0.8, data)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), omega=st.floats(0.05, 3))
def test_one_head_is_a_kernel_smoother(seed: int, omega: float) -> None:
    rng = np.random.default_rng(seed)
    x, query = rng.normal(size=(12, 3)), rng.normal(size=3)
    softmax = icl.softmax_weights(x, query, omega)
    np.testing.assert_allclose(icl.smoother_weights(x, query, icl.bandwidth(omega)), softmax, rtol=1e-9)
    sphere = x / np.linalg.norm(x, axis=1, keepdims=True)
    smoother = icl.smoother_weights(sphere, query, icl.bandwidth(omega), key_norms=False)
    np.testing.assert_allclose(smoother, icl.softmax_weights(sphere, query, omega), rtol=1e-9)
    assert softmax.sum() == pytest.approx(1) and (softmax > 0).all()


def test_predicted_flow_and_valley() -> None:
    data, times = icl.Setting(), np.geomspace(1e3, 1e4, 5)
    omega, mu, loss = icl.predict_flow(*icl.small_start(2, seed=1), times, data)
    assert omega.values.shape == mu.values.shape == (5, 2) and loss.values.shape == (5,)
    size, height = icl.predict_valley(times, data)
    for law, flow in ((size, np.abs(omega.values).mean(axis=1)), (height, loss.values)):
        assert law.band is not None
        assert (law.band[0] <= flow).all() and (flow <= law.band[1]).all()
        assert (law.band[0] <= law.values).all() and (law.values <= law.band[1]).all()


@pytest.mark.parametrize("predictor", ["gd", "dgd", "one_head", "reduced_one_head", "reduced_heads", "bayes"])
def test_predicted_risk_falls_with_context(predictor) -> None:
    curve = icl.predict_context_risk(icl.Setting(), [10, 40, 160], predictor, 1000)
    assert (np.diff(curve.values) < 0).all() and (curve.values > 0.1).all()
    assert (curve.band is not None) == (predictor in ("one_head", "bayes"))


def test_predictions_carry_source_and_assumptions() -> None:
    data = icl.Setting()
    made = [
        *icl.predict_flow([0.1], [0.1], [1.0, 2.0], data),
        *icl.predict_valley([100.0, 200.0], data),
        icl.predict_context_risk(data, [10, 20]),
        icl.predict_length_risk(data, [10, 20], "linear_sum"),
        icl.predict_limit_risk([0.1, 0.2], 0.5, "bayes"),
    ]
    for prediction in made:
        assert prediction.reference.arxiv in ("2503.12734", "2307.03576") and prediction.assumptions
        assert prediction.values.shape[0] == 2
    dgd, bayes = icl.predict_limit_risk([0.2], 3.0), icl.predict_limit_risk([0.2], 3.0, "bayes")
    assert dgd.values[0] > bayes.values[0] > 3
    with pytest.raises(ValueError, match="predictor"):
        icl.predict_context_risk(data, [10], "ridge")
