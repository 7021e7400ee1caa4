"""The reduced model of softmax heads: two forms of one loss, its gradients, optima, flow, phases and slow valley."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import icl

DATA = icl.Setting()


def heads(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 0.4 * rng.normal(size=count), 2 * rng.normal(size=count)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 8), d=st.integers(1, 12), s2=st.floats(0, 3))
def test_moment_form_equals_matrix_form(seed: int, count: int, d: int, s2: float) -> None:
    omega, mu = heads(seed, count)
    data = icl.Setting(d, 4 * d, s2)
    # Terms of size c exp(d w^2) mu^2 cancel in both forms: relative to these, not to their sum.
    scale = 1 + data.crowding * np.abs(mu).sum() ** 2 * np.exp(d * (omega**2).max())
    assert abs(icl.reduced_loss(omega, mu, data) - icl.reduced_loss_moments(omega, mu, data)) < 1e-12 * scale


@pytest.mark.parametrize("count", [1, 2, 5])
def test_gradients_by_finite_differences(count: int) -> None:
    omega, mu = heads(count, count)
    by_omega, by_mu = icl.reduced_gradients(omega, mu, DATA)
    step = 1e-6
    for h in range(count):
        nudge = step * (np.arange(count) == h)
        slope = icl.reduced_loss(omega + nudge, mu, DATA) - icl.reduced_loss(omega - nudge, mu, DATA)
        assert by_omega[h] == pytest.approx(slope / (4 * step), rel=1e-6, abs=1e-7)
        slope = icl.reduced_loss(omega, mu + nudge, DATA) - icl.reduced_loss(omega, mu - nudge, DATA)
        assert by_mu[h] == pytest.approx(slope / (4 * step), rel=1e-6, abs=1e-7)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 5))
def test_best_output_weights(seed: int, count: int) -> None:
    """`mu*` has no gradient, and the loss there has the closed form `s2 + 1 / (1 + t)`."""
    omega = np.random.default_rng(seed).permutation(np.linspace(-0.8, 0.9, count)) + 0.05
    mu = icl.mu_star(omega, DATA)
    _, slope = icl.reduced_gradients(omega, mu, DATA)
    assert np.abs(slope).max() < 1e-10 * (1 + np.abs(mu).max())
    t = omega @ np.linalg.solve(np.exp(5 * np.outer(omega, omega)), omega) / DATA.crowding
    assert icl.minimised_loss(omega, DATA) == pytest.approx(0.1 + 1 / (1 + t), rel=1e-9)
    assert icl.minimised_loss(omega, DATA) == pytest.approx(icl.reduced_loss(omega, mu, DATA), rel=1e-9)


def test_repeated_heads_are_one_head() -> None:
    one = icl.minimised_loss([0.4], DATA)
    assert icl.minimised_loss([0.4, 0.4, 0.4], DATA) == pytest.approx(one, rel=1e-12)
    np.testing.assert_allclose(icl.mu_star([0.4, 0.4], DATA), icl.mu_star([0.4], DATA)[0] / 2, rtol=1e-10)


def test_one_head_optimum() -> None:
    best = icl.one_head_optimum(DATA)
    assert best == pytest.approx((0.4472, 1.6277, 0.3721), abs=5e-5)
    assert icl.reduced_loss([best.omega], [best.mu], DATA) == pytest.approx(best.risk, rel=1e-13)
    assert np.abs(icl.reduced_gradients([best.omega], [best.mu], DATA)).max() < 1e-14
    assert all(icl.minimised_loss([best.omega * s], DATA) > best.risk for s in (0.9, 1.1, -0.9))


def test_two_heads() -> None:
    omega = np.array([0.05, 0.13, 0.3, 0.7])
    gain = icl.two_head_gain(omega, DATA)
    for w, t in zip(omega, gain, strict=True):
        assert icl.minimised_loss([w, -w], DATA) == pytest.approx(0.1 + 1 / (1 + t), rel=1e-10)
        mu = icl.mu_star([w, -w], DATA)
        assert mu.sum() == pytest.approx(0, abs=1e-9) and 2 * w * mu[0] == pytest.approx(t / (1 + t), rel=1e-10)
    assert icl.loss_infimum(DATA) == pytest.approx(0.2209, abs=5e-5)
    at_zero = float(icl.two_head_gain(0.0, DATA))
    assert icl.loss_infimum(DATA) == pytest.approx(0.1 + 1 / (1 + at_zero), rel=1e-14)
    assert icl.step_size_limit(DATA) == pytest.approx(icl.dgd_optimum(DATA).eta, rel=1e-14)
    # A finite omega costs the fraction (d w^2)^2 / 6 of the gain: .1 % at w = .13.
    assert 1 - gain[1] / at_zero == pytest.approx((5 * 0.13**2) ** 2 / 6, rel=0.01)


def test_more_heads_do_not_help() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3, 5):
        for scale in (0.1, 0.5, 1.0):
            assert icl.minimised_loss(scale * rng.normal(size=count), DATA) > icl.loss_infimum(DATA)


TIMES = np.unique(np.concatenate([[0.0], np.geomspace(0.1, 2e4, 300), [400, 2000, 1e4]]))
LATE = (TIMES >= 400) & (TIMES <= 1e4)


@pytest.fixture(scope="module")
def flows() -> dict[int, icl.HeadsFlow]:
    """One trajectory for each number of heads, from `N(0, .02^2)`."""
    return {h: icl.integrate_heads(*icl.small_start(h, seed=1), TIMES, DATA) for h in (1, 2, 4, 8)}


def test_flow_of_one_head_ends_at_its_optimum(flows) -> None:
    best, end = icl.one_head_optimum(DATA), flows[1]
    assert abs(end.omega[-1, 0]) == pytest.approx(best.omega, abs=1e-6)
    assert end.mu[-1, 0] * np.sign(end.omega[-1, 0]) == pytest.approx(best.mu, abs=1e-6)
    assert end.loss[-1] == pytest.approx(best.risk, abs=1e-9)
    phases = icl.find_phases(end, DATA)
    assert phases.plateau < phases.rise < 30 and phases.zero_sum == phases.valley == np.inf


@pytest.mark.parametrize("count", [2, 4, 8])
def test_flow_of_several_heads(flows, count: int) -> None:
    """Acceptance A7: signs, zero sum and loss at t = 2000; the loss never rises."""
    flow, at = flows[count], np.searchsorted(TIMES, 2000)
    omega, mu, m = flow.omega[at], flow.mu[at], flow.moments()[at]
    active = np.abs(mu) > 0.1
    assert (np.sign(omega[active]) == np.sign(mu[active])).all() and len(set(np.sign(omega[active]))) == 2
    assert abs(m[0]) < 5e-3 and m[1] == pytest.approx(icl.step_size_limit(DATA), abs=2e-3)
    assert flow.loss[at] == pytest.approx(0.2214, abs=4e-4)
    # The solver's tolerance is 1e-9 on the weights; the loss may rise by rounding only.
    assert (np.diff(flow.loss) < 1e-8).all()
    phases = icl.find_phases(flow, DATA)
    assert 1 < phases.plateau < phases.rise < 15 < phases.zero_sum < 100 and phases.valley < 100


def test_aligned_mode_grows_like_exp_t() -> None:
    start = np.array([1e-6, -2e-6])
    flow = icl.integrate_heads(start, np.zeros(2), [3.0, 5.0], DATA)
    for values in (flow.omega, flow.mu):
        # omega - mu decays like e^-t, and the term c m_0 of mu slows the growth by about 1 %.
        np.testing.assert_allclose(values[1] / values[0], np.exp(2), rtol=0.05)


def test_valley_of_two_heads(flows) -> None:
    flow = flows[2]
    size = np.abs(flow.omega)
    spread = (size.max(axis=1) - size.min(axis=1)) / size.mean(axis=1)
    assert (spread[TIMES >= 400] < 0.02).all()
    slope = np.polyfit(np.log(TIMES[LATE]), np.log(size[LATE].mean(axis=1)), 1)[0]
    assert slope == pytest.approx(-1 / 6, abs=0.01)
    # From one measured point on, the two-term law errs by the third term, about (K w^4)^2 = 1e-4 at w = .18.
    here = np.searchsorted(TIMES, 2000)
    law = icl.valley_omega(TIMES[here:], DATA, start=(2000.0, size[here].mean()))
    np.testing.assert_allclose(law, size[here:].mean(axis=1), rtol=1e-4)
    # Without one, t0 = 0 is wrong by the time that the other phases took, some 20: a part 20 / (6 t) of omega.
    error = icl.valley_omega(TIMES[LATE], DATA) / size[LATE].mean(axis=1) - 1
    assert (np.abs(error) < 30 / (6 * TIMES[LATE])).all()
    np.testing.assert_allclose(flow.moments()[here:, 1], icl.valley_step(law, DATA), rtol=5e-3)
    np.testing.assert_allclose(flow.loss[here:], icl.valley_loss(law, DATA), rtol=1e-5)


def test_valley_with_heads_of_unequal_shares(flows) -> None:
    """From a random start of four heads: the law needs only how many have either sign."""
    flow, here = flows[4], np.searchsorted(TIMES, 1e4)
    positive = int((flow.omega[-1] > 0).sum())
    law = icl.valley_omega(TIMES[here:], DATA, positive, 4 - positive)
    np.testing.assert_allclose(law, np.abs(flow.omega[here:]).mean(axis=1), rtol=1e-3)


@pytest.mark.parametrize(("positive", "negative"), [(1, 1), (2, 2), (1, 3)])
def test_valley_velocity_is_that_of_the_flow(positive: int, negative: int) -> None:
    """Start in the valley with equal heads of one sign; after relaxation, `dw/dt` is that of the slow manifold."""
    w = 0.14
    omega = np.repeat([w, -w], [positive, negative])
    share = np.repeat([1 / positive, -1 / negative], [positive, negative])
    mu = share * float(icl.valley_step(w, DATA)) / (2 * w)
    flow = icl.integrate_heads(omega, mu, [1000.0, 1000.5, 1001.0], DATA, rtol=1e-12, atol=1e-14)
    size = np.abs(flow.omega).mean(axis=1)
    velocity = float(icl.valley_velocity(size[1], DATA, positive, negative))
    assert size[2] - size[0] == pytest.approx(velocity, rel=2e-3)
    rate, bend = icl.valley_constants(DATA, positive, negative)
    # The law's own slope: rate dt = d(w^-6 + 3 K w^-2), up to the next power of w^4.
    assert -(6 * size[1] ** -7 + 6 * bend * size[1] ** -3) * velocity == pytest.approx(rate, rel=0.02)


def test_two_heads_of_one_sign_can_stay() -> None:
    """A start in which both heads have one sign and nearly one size ends at the one-head solution for good."""
    flow = icl.integrate_heads([0.02, 0.018], [0.02, 0.018], [1e3, 1e6], DATA)
    assert (flow.omega > 0.44).all()
    assert flow.loss == pytest.approx(icl.one_head_optimum(DATA).risk, abs=1e-9)
    escapes = icl.integrate_heads([0.02, 0.002], [0.02, 0.002], [1e3], DATA)
    assert escapes.omega[-1, 0] > 0 > escapes.omega[-1, 1]


def test_exact_risk_agrees_with_direct_simulation() -> None:
    rng = np.random.default_rng(5)
    data, omega, mu = icl.Setting(3, 8, 0.5, mean=0.5), np.array([0.6, -0.4]), np.array([0.8, -1.1])
    x = rng.normal(size=(40_000, 9, 3)) + 0.5
    beta = rng.normal(size=(40_000, 3)) / np.sqrt(3)
    y = np.einsum("bld,bd->bl", x, beta) + np.sqrt(0.5) * rng.normal(size=x.shape[:2])
    logit = omega * np.einsum("bld,bd->bl", x[:, :-1], x[:, -1])[..., None]
    p = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    errors = (y[:, -1] - np.einsum("blh,bl,h->b", p, y[:, :-1], mu)) ** 2
    estimate = icl.exact_head_risk(omega, mu, data, 20_000, seed=1)
    assert estimate.error < 0.02
    assert abs(errors.mean() - estimate.value) < 4 * np.hypot(errors.std() / 200, estimate.error)


def test_exact_optimum_of_one_head_is_not_that_of_the_reduced_model() -> None:
    best = icl.exact_one_head(DATA, 20_000)
    assert best.omega[0] == pytest.approx(0.52, abs=0.01) and best.mu[0] == pytest.approx(1.495, abs=0.02)
    assert abs(best.risk.value - 0.4053) < 4 * best.risk.error < 0.008
    approximate = icl.one_head_optimum(DATA)
    assert best.omega[0] > 1.1 * approximate.omega and best.risk.value > 1.05 * approximate.risk


def test_exact_two_heads_track_debiased_descent() -> None:
    for omega in (0.02, 0.12):
        best = icl.exact_best_mu([omega, -omega], DATA, 10_000)
        assert abs(best.mu.sum()) < 0.02 * np.abs(best.mu).sum()
        assert abs(best.risk.value - icl.dgd_optimum(DATA).risk) < 4 * best.risk.error < 0.005
        assert 2 * omega * best.mu[0] == pytest.approx(icl.step_size_limit(DATA), rel=0.02)
    # The authors' two-head column (w = .13, mu = 3.45) at L = 20, 40, 100; errors of theirs are about .002.
    for context, printed in ((20, 0.367), (40, 0.243), (100, 0.1638)):
        risk = icl.exact_head_risk([0.13, -0.13], [3.45, -3.45], DATA.at(context), 5000)
        assert abs(risk.value - printed) < 4 * np.hypot(risk.error, 0.002)


def test_exact_heads_with_a_mean_reach_the_small_weight_optimum() -> None:
    """Two heads `+-w I` for inputs of mean 1: their sum is not zero, and their risk is that of the best `gamma I`."""
    data, w = icl.Setting(mean=1.0), 0.02
    best = icl.exact_best_mu([w, -w], data, 10_000, seed=2)
    risk = icl.small_weight_risk(best.mu.sum(), w * (best.mu[0] - best.mu[1]) * np.eye(5), data)
    assert best.mu.sum() > 0.1 and abs(risk - best.risk.value) < 4 * best.risk.error


def test_reduced_model_refuses_other_data() -> None:
    for data in (icl.Setting(mean=1.0), icl.Setting(covariance=2.0), icl.Setting(noisy_query=False)):
        with pytest.raises(ValueError, match="isotropic"):
            icl.reduced_loss([0.1], [1.0], data)
    with pytest.raises(ValueError, match="shape of mu"):
        icl.reduced_loss([0.1, 0.2], [1.0], DATA)
