"""The ladder of in-context regression: every rung against simulated prompts."""

from __future__ import annotations

import numpy as np
import pytest

from theory import catalogue, icl

Prompts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def prompts(data: icl.Setting, count: int, seed: int) -> Prompts:
    """Inputs `[B, L, d]`, labels `[B, L]`, weights `[B, d]`, queries `[B, d]`, query noise `[B]`."""
    rng = np.random.default_rng(seed)
    x, query = rng.normal(size=(count, data.context, data.dim)), rng.normal(size=(count, data.dim))
    beta = rng.normal(size=(count, data.dim)) / np.sqrt(data.dim)
    noise = np.sqrt(data.noise_variance) * rng.normal(size=(count, data.context))
    last = np.sqrt(data.noise_variance) * rng.normal(size=count) * data.noisy_query
    return x, np.einsum("bld,bd->bl", x, beta) + noise, beta, query, last


def assert_risk(answer: np.ndarray, beta, query, last, expected: float) -> None:
    """The squared errors average to what is expected, within four standard errors."""
    squared = ((beta * query).sum(axis=1) + last - answer) ** 2
    # 1e-20: where the answer is exact, rounding is all that is left.
    assert abs(squared.mean() - expected) < 4 * squared.std() / np.sqrt(squared.size) + 1e-20


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_uniform_attention_and_the_mean_label(noise: float) -> None:
    data = icl.Setting(4, 6, noise)
    _, y, beta, query, last = prompts(data, 40_000, 0)
    assert_risk(y.mean(axis=1), beta, query, last, float(catalogue.mean_label_risk(6, data)))


@pytest.mark.parametrize(("noise", "noisy_query"), [(0.0, True), (0.3, True), (0.3, False)])
@pytest.mark.parametrize("output", [1.0, 0.4, 0.0])
def test_inline_adds_the_mean_label_to_the_debiased_step(output: float, noise: float, noisy_query: bool) -> None:
    """By its weights `c (1/L + (q . k_l - mean) / L)`; `c = 0` with ever larger queries is the step alone."""
    data = icl.Setting(4, 7, noise, noisy_query=noisy_query)
    x, y, beta, query, last = prompts(data, 40_000, 5)
    step = icl.dgd_optimum(data)
    logits = step.eta * np.einsum("bld,bd->bl", x, query)  # c e: what the queries and the output matrix make together
    weights = (output + logits - logits.mean(axis=1, keepdims=True)) / data.context
    np.testing.assert_allclose(weights.sum(axis=1), output, atol=1e-12)  # seven terms of size one in float64
    expected = float(catalogue.inline_risk(7, data, output))
    assert_risk((weights * y).sum(axis=1), beta, query, last, expected)
    # Two closed forms of the same number.
    assert catalogue.inline_risk(7, data, 0.0) == pytest.approx(step.risk, rel=1e-12)
    assert expected - step.risk == pytest.approx(output**2 * (catalogue.mean_label_risk(7, data) - data.floor - 1))


def test_no_other_step_is_better_for_inline() -> None:
    """The mean label does not move the best scale of queries: both sides of it cost what the step alone pays."""
    data = icl.Setting(4, 7, 0.3)
    x, y, beta, query, _ = prompts(data, 40_000, 6)
    logits, eta = np.einsum("bld,bd->bl", x, query), icl.dgd_optimum(data).eta
    for other in (0.7 * eta, 1.3 * eta):
        answer = (1 / 7 + other * (logits - logits.mean(axis=1, keepdims=True)) / 7) * y
        gap = catalogue.inline_risk(7, data, 0.0) - icl.dgd_risk(other, data)
        assert gap < -0.01
        squared = ((beta * query).sum(axis=1) - answer.sum(axis=1)) ** 2 + data.noise_variance
        expected = float(catalogue.inline_risk(7, data) - gap)
        assert abs(squared.mean() - expected) < 4 * squared.std() / np.sqrt(squared.size)  # four standard errors


@pytest.mark.parametrize(("noise", "noisy_query"), [(0.0, True), (0.5, True), (0.5, False)])
@pytest.mark.parametrize(("rate", "normalised"), [(1.0, True), (0.4, True), (0.08, False)])
def test_delta_rule(rate: float, normalised: bool, noise: float, noisy_query: bool) -> None:
    data = icl.Setting(6, 7, noise, noisy_query=noisy_query)
    x, y, beta, query, last = prompts(data, 40_000, 1)
    w = np.zeros_like(beta)
    for j in range(data.context):
        k, target = x[:, j], y[:, j]
        if normalised:
            norm = np.linalg.norm(k, axis=1)
            k, target = k / norm[:, None], target / norm
        w = w + rate * k * (target - (k * w).sum(axis=1))[:, None]
    assert_risk(
        (w * query).sum(axis=1), beta, query, last, float(catalogue.delta_risk(7, data, rate, normalised=normalised))
    )


def test_best_schedule_of_the_delta_rule() -> None:
    data = icl.Setting(6, 12, 0.5)
    x, y, beta, query, last = prompts(data, 40_000, 2)
    w, error = np.zeros_like(beta), 1.0
    for j in range(data.context):
        rate = error / (error * 8 + 3)
        error = error * (1 - 2 * rate + rate**2 * 8) + rate**2 * 3  # the recursion of `delta_risk`, d + 2 = 8, d s2 = 3
        w = w + rate * x[:, j] * (y[:, j] - (x[:, j] * w).sum(axis=1))[:, None]
    best = float(catalogue.best_delta_risk(12, data))
    assert best == pytest.approx(0.5 + error, rel=1e-12)
    assert_risk((w * query).sum(axis=1), beta, query, last, best)
    for rate in (0.05, 0.1, 0.125):
        assert catalogue.delta_risk(12, data, rate, normalised=False) > best
    clean = icl.Setting(6, 12, 0.0)
    lengths = np.arange(20)
    np.testing.assert_allclose(catalogue.best_delta_risk(lengths, clean), (1 - 1 / 8) ** lengths, rtol=1e-12)
    fixed = catalogue.delta_risk(lengths, clean, 1 / 8, normalised=False)
    np.testing.assert_allclose(catalogue.best_delta_risk(lengths, clean), fixed, rtol=1e-12)
    # In the end s2 d / L: one rate for all directions cannot do better, and does it to 2 % at 500 d pairs.
    assert catalogue.best_delta_risk(3000, data) - 0.5 == pytest.approx(0.5 * 6 / 3000, rel=0.02)


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("length", [3, 5, 12, 20])
def test_least_squares_of_least_norm(length: int, noise: float) -> None:
    data = icl.Setting(8, length, noise)
    x, y, beta, query, last = prompts(data, 20_000, 3)
    w = np.einsum("bdl,bl->bd", np.linalg.pinv(x), y)
    assert_risk((w * query).sum(axis=1), beta, query, last, float(catalogue.least_norm_risk(length, data)))


def test_least_squares_agrees_with_what_is_known() -> None:
    clean, noisy = icl.Setting(8, 8, 0.0), icl.Setting(8, 8, 0.2)
    lengths = np.array([1, 4, 8, 20])
    known = icl.isotropic_curves(8, lengths, 8)
    np.testing.assert_allclose(catalogue.least_norm_risk(lengths, clean), known["least_squares"], atol=1e-15)
    assert catalogue.least_norm_risk(20, noisy) == pytest.approx(0.2 + icl.least_squares_risk(8, 20, 0.2), rel=1e-12)
    assert np.isinf(catalogue.least_norm_risk([7, 8, 9], noisy)).all()
    assert catalogue.least_norm_risk(0, noisy) == 1.2


def test_ladder() -> None:
    lengths = (2, 8, 32)
    clean = catalogue.predict_ladder(icl.Setting(8, 8, 0.0), lengths, 300)
    # (d + 1)/(L + d + 1): at d = 8, measured .531 at 8 and .219 at 32 on simulated prompts.
    np.testing.assert_allclose(clean["gd"].values, 9 / (np.array(lengths) + 9), rtol=1e-12)
    np.testing.assert_allclose(clean["gd"].values[1:], (0.531, 0.219), atol=0.003)
    np.testing.assert_allclose(clean["ridge"].values, (0.75, 0, 0), atol=1e-15)
    noisy = catalogue.predict_ladder(icl.Setting(8, 8, 0.1), lengths, 300)
    for rungs in (clean, noisy):
        mean, gd, inline, debiased, delta, softmax, ridge = (
            rungs[k].values for k in ("mean", "gd", "inline", "debiased", "delta", "softmax", "ridge")
        )
        # Ridge is Bayes (to four errors of 300 prompts, 2 %); one step beats the mean; one pass beats one step.
        assert (ridge < 1.02 * np.stack([mean, gd, inline, debiased, delta, softmax])).all()
        assert (gd < mean).all() and (inline < mean).all() and (delta < gd).all()
        # Means cost what they estimate: with centred inputs a debiased step is behind a plain one, and InLine, which
        # answers the mean label besides, behind that by (1 + s2)/L. One softmax head is behind too.
        assert (debiased > gd).all() and (softmax > gd).all()
        np.testing.assert_allclose((inline - debiased) * lengths, 1.1 if rungs is noisy else 1.0, rtol=1e-12)
        assert all(p.assumptions and p.steps.tolist() == list(lengths) for p in rungs.values())


def test_half_of_the_risk() -> None:
    """Pairs for half the risk without noise, at d = 40: d + 1, .69 d, d/2."""
    data = icl.Setting(40, 40, 0.0)
    lengths = np.arange(1, 60)
    gd = 41 / (lengths + 41)
    halves = [
        int(lengths[np.argmax(r <= 0.5)])
        for r in (gd, catalogue.best_delta_risk(lengths, data), catalogue.least_norm_risk(lengths, data))
    ]
    assert halves == [41, 29, 20]


def test_ladder_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="isotropic"):
        catalogue.mean_label_risk(4, icl.Setting(2, 4, mean=1.0))
    with pytest.raises(ValueError, match="lengths"):
        catalogue.inline_risk(1, icl.Setting(2, 4))
    with pytest.raises(ValueError, match="output"):
        catalogue.inline_risk(4, icl.Setting(2, 4), np.inf)
    with pytest.raises(ValueError, match=r"setting\.dim"):
        catalogue.delta_risk(4, icl.Setting(2, 4, 0.1))
    with pytest.raises(ValueError, match="lengths"):
        catalogue.best_delta_risk(-1, icl.Setting(2, 4, 0.1))
