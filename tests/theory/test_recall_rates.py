"""Local constant and local linear regression: weights, exact risk, equivalent kernels, rates and their corrections."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from theory import recall
from theory.recall.edges import Order
from theory.recall.rates import Place


def fitted(query: np.ndarray, x: np.ndarray, y: np.ndarray, h: float, order: str, ridge: float) -> float:
    """The intercept at the query of the weighted (ridge) least squares line, by normal equations of its objective."""
    weight = np.array([np.exp(-np.sum((query - row) ** 2) / (2 * h**2)) for row in x])
    weight /= weight.sum()
    if order == "constant":
        return float(weight @ y)
    design = np.column_stack([np.ones(len(x)), x - query])
    penalty = np.diag([0.0] + [ridge] * x.shape[1])
    return float(np.linalg.solve(design.T @ (weight[:, None] * design) + penalty, design.T @ (weight * y))[0])


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_weights_are_weighted_least_squares(ridge: float, rng: np.random.Generator) -> None:
    x, q, y = rng.normal(size=(30, 3)), rng.normal(size=(4, 3)), rng.normal(size=30)
    constant, linear = recall.kernel_weights(q, x, 0.9), recall.local_linear_weights(q, x, 0.9, ridge)
    for i in range(4):
        assert constant[i] @ y == pytest.approx(fitted(q[i], x, y, 0.9, "constant", 0), abs=1e-12)
        assert linear[i] @ y == pytest.approx(fitted(q[i], x, y, 0.9, "linear", ridge), abs=1e-10)
    np.testing.assert_allclose(linear.sum(axis=1), 1, atol=1e-12)
    # A very large ridge: no slope. None: lines are read exactly, at any query.
    np.testing.assert_allclose(recall.local_linear_weights(q, x, 0.9, 1e12), constant, atol=1e-11)
    if ridge == 0:
        np.testing.assert_allclose(linear @ (x @ [1.0, -2, 3] + 4), q @ [1.0, -2, 3] + 4, atol=1e-10)


def test_risk_given_the_covariates(rng: np.random.Generator) -> None:
    x, q = rng.uniform(size=40), np.array([0.0, 0.4])
    A = recall.local_linear_weights(q, x, 0.2)
    risk = recall.smoother_risk(A, np.sin(5 * x), np.sin(5 * q), 0.09)
    errors = A @ (np.sin(5 * x)[:, None] + 0.3 * rng.standard_normal((40, 40_000))) - np.sin(5 * q)[:, None]
    squares = errors**2
    error = squares.std(axis=1) / 200
    assert (np.abs(squares.mean(axis=1) - risk.total) < 4 * error).all() and (risk.bias > 0).all()


@pytest.mark.parametrize("distance", [0.0, 0.7, 2.5, np.inf])
def test_constants_of_the_equivalent_kernels(distance: float) -> None:
    """Against numerical integrals of the two kernels."""
    low = -min(distance, 30.0)

    def integral(g) -> float:
        return quad(g, low, 30, points=(0.0,), limit=200)[0]

    def phi(t: float) -> float:
        return np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)

    s = [integral(lambda t, j=j: t**j * phi(t)) for j in range(3)]
    kernels = {
        "constant": lambda t: phi(t) / s[0],
        "linear": lambda t: phi(t) * (s[2] - s[1] * t) / (s[0] * s[2] - s[1] ** 2),
    }
    for order, kernel in kernels.items():
        constants = recall.edge_constants(distance, order)  # pyright: ignore[reportArgumentType]
        # 1e-8: what the adaptive rule promises.
        assert integral(kernel) == pytest.approx(1, abs=1e-8)
        assert constants.slope == pytest.approx(integral(lambda t, k=kernel: t * k(t)), abs=1e-8)
        assert constants.bend == pytest.approx(integral(lambda t, k=kernel: t**2 * k(t)), abs=1e-8)
        assert constants.variance == pytest.approx(integral(lambda t, k=kernel: k(t) ** 2), abs=1e-8)


def test_closed_forms_at_the_edge_and_inside() -> None:
    constant, line = recall.edge_constants(0.0, "constant"), recall.edge_constants(0.0, "linear")
    assert constant.slope == pytest.approx(np.sqrt(2 / np.pi)) and constant.variance == pytest.approx(np.pi**-0.5)
    assert line.bend == pytest.approx((np.pi - 4) / (np.pi - 2)) and line.variance == pytest.approx(1.786, abs=5e-4)
    for order in ("constant", "linear"):
        inside = recall.edge_constants(np.inf, order)
        assert (inside.slope, inside.bend) == (0, pytest.approx(1))
        assert inside.variance == pytest.approx(1 / (2 * np.sqrt(np.pi)))
    layer = quad(lambda c: float(recall.edge_constants(c, "constant").slope) ** 2, 0, 20)[0]
    assert recall.layer_constant() == pytest.approx(layer, rel=1e-8) == pytest.approx(0.3203, abs=5e-5)


def test_best_bandwidth_is_the_best() -> None:
    found = recall.best_bandwidth([100, 10_000], 2.0, 3.0, 0.5, 2)
    h = found.bandwidth[:, None] * np.exp(np.linspace(-0.5, 0.5, 2001))
    values = 2 * h**3 + 0.5 / (np.array([[100], [10_000]]) * h**2)
    np.testing.assert_allclose(values.min(axis=1), found.risk, rtol=1e-12)
    assert np.log(found.risk[1] / found.risk[0]) / np.log(100) == pytest.approx(found.exponent) == pytest.approx(-0.6)
    for d in (1, 2, 5):
        assert recall.integrated_risk(100, "constant", 1.0, 1.0, d).exponent == pytest.approx(-3 / (d + 3))
        assert recall.integrated_risk(100, "linear", 1.0, 1.0, d).exponent == pytest.approx(-4 / (d + 4))
    assert recall.edge_risk(100, "constant", 1.0, 1.0).exponent == pytest.approx(-2 / 3)
    assert recall.edge_risk(100, "linear", 1.0, 1.0).exponent == pytest.approx(-4 / 5)


@pytest.mark.parametrize("order", ["constant", "linear"])
def test_quadrature_is_the_mean_over_covariates(order: Order, rng: np.random.Generator) -> None:
    """At the edge, near it and inside, up to the second order in 1/(n h): about 5 / (n h) = 2 % here."""
    target, q, h, n = recall.sine_line(), np.array([0.0, 0.06, 0.5, 1.0]), 0.12, 2000
    weigh = recall.kernel_weights if order == "constant" else recall.local_linear_weights
    draws = []
    for _ in range(150):
        x = rng.uniform(size=n)
        draws.append(recall.smoother_risk(weigh(q, x, h), target.value(x), target.value(q), 0.09).total)
    mean, error = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(150)
    exact = recall.quadrature_risk(target, q, h, n, order).total
    assert (np.abs(mean - exact) < 4 * error + 0.02 * exact).all()


def test_limits_are_those_of_the_quadrature() -> None:
    """The risk at the best bandwidth of the limit, over the limit: 1 as n grows, and not before."""
    target = recall.sine_line()
    cases: tuple[tuple[Order, Place, tuple[int, int]], ...] = (
        ("constant", "low", (10**4, 10**12)),
        ("linear", "high", (10**4, 10**15)),
    )
    for order, place, sizes in cases:
        gaps = []
        for n in sizes:
            limit = recall.limit_risk(target, n, order, place)
            point = [target.low if place == "low" else target.high]
            risk = recall.quadrature_risk(target, point, float(limit.bandwidth), n, order).total[0]
            gaps.append(abs(float(risk / limit.risk) - 1))
        # The next term is of relative order h: 1e-4 and 1e-3 at these n, times derivatives of up to 27 over 1.3.
        assert gaps[1] < 0.02 < gaps[0] or gaps[1] < 0.1 * gaps[0]
        assert gaps[1] < 0.02
    # Over the whole interval: an even grid that resolves layers of a hundredth.
    points = (np.arange(4000) + 0.5) / 4000
    for order in ("constant", "linear"):
        limit = recall.limit_risk(target, 10**6, order, "whole")
        risk = recall.quadrature_risk(target, points, float(limit.bandwidth), 10**6, order, 80).total.mean()
        # Relative order h again, .006 and .014 here, times ratios of derivatives of up to 9.
        assert float(risk / limit.risk) == pytest.approx(1, abs=0.08)


def test_rates_on_a_curve() -> None:
    """`sin 3x + x` on [0, 1], noise .3, n = 100 .. 6400: measured elsewhere, with sampled noise, -.60 and -.72 at 0.

    Exact given the covariates: -.69 and -.86. The constant is at -2/3 within its finite-n correction of .02. The line
    is steeper than -4/5, for at 0 the curve has no bend: -6/7.
    """
    found = {order: recall.rates(order, "low", draws=24) for order in ("constant", "linear")}
    for order, rate in found.items():
        # The best of 13 bandwidths, and terms of second order at n = 100: .02 together.
        assert abs(rate.slope - rate.quadrature_slope) < 4 * rate.slope_error + 0.02, order
        assert rate.slope_error < 0.02
    assert found["constant"].exponent == pytest.approx(-2 / 3)
    assert found["constant"].quadrature_slope == pytest.approx(-0.688, abs=0.002)
    assert found["linear"].quadrature_slope == pytest.approx(-6 / 7, abs=0.005)
    assert abs(found["constant"].slope - -0.60) < 0.12
    assert (found["linear"].risk < 0.6 * found["constant"].risk).all()
    with pytest.raises(ValueError, match="higher order"):
        recall.limit_risk(recall.sine_line(), 100, "linear", "low")


def test_integrated_rates_have_their_corrections() -> None:
    found = {order: recall.rates(order, "whole", sizes=(200, 800, 3200), draws=10) for order in ("constant", "linear")}
    for order, rate in found.items():
        assert abs(rate.slope - rate.quadrature_slope) < 4 * rate.slope_error + 0.02, order
        # Still on the way to the limit, from below.
        assert rate.exponent - 0.06 < rate.quadrature_slope < rate.exponent
    assert found["constant"].exponent == -3 / 4 and found["linear"].exponent == -4 / 5
    assert (found["linear"].risk < found["constant"].risk).all()
    prediction = recall.predict_rates("constant", "high", sizes=(800, 3200), draws=6)
    assert prediction.band is not None and (prediction.band[0] < prediction.values).all()
    assert prediction.reference.arxiv == "2510.01450"


def test_rate_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="order"):
        recall.edge_constants(0.0, "cubic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="distance"):
        recall.edge_constants(-1.0, "linear")
    with pytest.raises(ValueError, match="length of the interval"):
        recall.limit_risk(recall.sine_line(-1, 1), 100, "linear", "whole")
    with pytest.raises(ValueError, match="place"):
        recall.rates("linear", "middle")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="bandwidth"):
        recall.kernel_weights([0.0], [1.0], 0.0)
    with pytest.raises(ValueError, match="points"):
        recall.kernel_weights(np.zeros((0, 2)), [[1.0, 2.0]], 1.0)
