"""The exact trade-off between a prior and evidence: closed forms, a race of normal numbers, laws for any setting."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm

from toy_tasks import GridQA
from toy_tasks.grid_law import frontier

ROUNDING = 1e-12  # of float64 sums over 361 nodes
SETTINGS = {
    "prior": st.floats(0.05, 0.95),
    "noise": st.floats(0.1, 4.0),
    "num_colours": st.integers(2, 8),
}


def test_two_colours_have_a_closed_form():
    """The race is then of two numbers: `Φ(difference of means / σ√2)`."""
    weights, prior, noise = np.linspace(-1.0, 3.0, 9), 0.7, 0.9
    lead, spread = weights * noise**2 * np.log(prior / (1 - prior)), noise * np.sqrt(2)
    found = frontier(weights, prior, noise, 2)
    np.testing.assert_allclose(found.consistent, norm.cdf((1 + lead) / spread), atol=ROUNDING)
    np.testing.assert_allclose(found.conflict, norm.cdf((1 - lead) / spread), atol=ROUNDING)
    np.testing.assert_allclose(found.hallucination, 1 - found.conflict, atol=ROUNDING)


def test_against_a_race_that_is_run():
    """The rule itself, on colours and evidence drawn by NumPy; 10^5 of either kind."""
    size, prior, noise, colours = 100_000, 0.6, 0.8, 4
    rng = np.random.default_rng(1)
    log_prior = np.log(np.where(np.arange(colours) == 0, prior, (1 - prior) / (colours - 1)))  # colour 0 is canonical
    weights = np.array([0.0, 0.5, 1.0, 2.5])
    found = frontier(weights, prior, noise, colours)
    for i, weight in enumerate(weights):
        seen = rng.standard_normal((2, size, colours)) * noise
        seen[0, :, 0] += 1.0  # consistent
        true = rng.integers(1, colours, size)  # in conflict
        seen[1, np.arange(size), true] += 1.0
        said = (weight * log_prior + seen / noise**2).argmax(axis=2)
        rates = (said[0] == 0).mean(), (said[1] == true).mean(), (said[1] == 0).mean()
        for rate, exact in zip(rates, (found.consistent[i], found.conflict[i], found.hallucination[i]), strict=True):
            assert abs(rate - exact) < 4.5 * np.sqrt(exact * (1 - exact) / size)


@given(**SETTINGS)
def test_bayes_is_best_and_the_prior_only_trades(prior, noise, num_colours):
    weights = np.array([0.0, 0.4, 0.8, 1.0, 1.2, 2.0])
    found = frontier(weights, prior, noise, num_colours)
    assert (found.accuracy <= found.accuracy[3] + ROUNDING).all()
    sign = np.sign(prior * num_colours - 1) if abs(prior * num_colours - 1) > 1e-9 else 0  # a prior against it repels
    for values in (found.hallucination, found.consistent, -found.conflict):
        assert (sign * np.diff(values) >= -ROUNDING).all()
    for values in found[1:]:
        assert ((values >= 0) & (values <= 1 + ROUNDING)).all()
    assert found.conflict[0] == pytest.approx(found.consistent[0], abs=ROUNDING)  # no prior, no difference
    assert found.hallucination[0] == pytest.approx((1 - found.conflict[0]) / (num_colours - 1), abs=ROUNDING)


@given(**SETTINGS)
def test_limits(prior, noise, num_colours):
    assume(abs(prior * num_colours - 1) > 0.05)  # else the prior says nothing, however much it weighs
    toward = np.sign(prior * num_colours - 1) * 1e6
    sure = frontier(np.array([toward]), prior, noise, num_colours)
    assert np.allclose(np.concatenate(sure[1:]), [1, 0, 1, prior], atol=1e-9)
    clear = frontier(np.array([0.0]), prior, 0.02, num_colours)
    assert np.allclose(np.concatenate(clear[1:]), [0, 1, 1, 1], atol=1e-9)


def test_the_default_setting():
    """What a model can at best achieve, and what it pays if it trusts its eyes alone."""
    found = GridQA().bayes_frontier([0.0, 1.0])
    assert np.round(found.accuracy, 4).tolist() == [0.6295, 0.7157]
    assert np.round(found.conflict, 4).tolist() == [0.6295, 0.4389]
    assert np.round(found.consistent, 4).tolist() == [0.6295, 0.9002]
    assert np.round(found.hallucination, 4).tolist() == [0.1235, 0.4150]


@pytest.mark.parametrize("weights", [[[1.0]], [np.nan], 1.0])
def test_errors(weights):
    with pytest.raises(ValueError, match=r"weights: got .*; allowed is a list of finite numbers; 0 is evidence only"):
        GridQA().bayes_frontier(weights)
