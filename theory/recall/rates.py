"""How fast local constant and local linear regression learn a curve: exact errors at finite `n` beside their limits.

Three levels, each of which checks the next:

    conditional   exact given the covariates, mean over draws of them          `rates`, with a standard error
    quadrature    exact in the bandwidth, first order in 1/(n h)               `quadrature_risk`
    limit         leading order in the bandwidth too, with constants           `theory.recall.edges`

Quadrature: the smoother of infinitely many covariates has the error `b = e^T M^-1 int K z (f - f(q))` with `z = 1` or
`(1, x - q)`, `M = int K z z^T`, and by the delta method for a ratio of means

    variance = (1/n) int (e^T M^-1 z K)^2 (s2 + (f - fit)^2).

Source: arXiv 2510.01450 for the comparison and its rates; the forms here are derived.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.recall.edges import BestBandwidth, Order, edge_risk, integrated_risk
from theory.recall.smoothers import Risk, kernel_weights, local_linear_weights, smoother_risk

Place = Literal["low", "high", "whole"]
SIZES = (100, 200, 400, 800, 1600, 3200, 6400)


@dataclass(frozen=True)
class Target:
    """A curve on an interval, seen at uniform covariates with label noise.

    Attributes:
      value, slope, bend: `f`, `f'`, `f''`, of arrays.
      low, high: the ends of the interval.
      noise: standard deviation of the labels.
    """

    value: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    bend: Callable[[np.ndarray], np.ndarray]
    low: float = 0.0
    high: float = 1.0
    noise: float = 0.3

    def __post_init__(self) -> None:
        check.number("high", self.high, self.low, strict=True)
        check.number("noise", self.noise, 0.0, strict=True)


def sine_line(low: float = 0.0, high: float = 1.0, noise: float = 0.3) -> Target:
    """`f(x) = sin 3x + x`. On [0, 1] it has slope 4 and no bend at 0: there the bias of the line is of order `h^3`, and
    its error falls like `n^(-6/7)`. At 1 it has both, but its value there, 1.141, is near its mean, 1.163: with few
    covariates the mean label is the best local constant.

    Args: of `Target`.
    """
    return Target(
        lambda x: np.sin(3 * x) + x,
        lambda x: 3 * np.cos(3 * x) + 1,
        lambda x: -9 * np.sin(3 * x),
        low,
        high,
        noise,
    )


class Rates(NamedTuple):
    """Errors at the best bandwidth, over numbers of covariates.

    Attributes:
      sizes: `[N]` numbers of covariates.
      risk: `[N]` exact given the covariates, mean over draws of them.
      error: `[N]` its standard error.
      bandwidth: `[N]` the best of the grid.
      quadrature: `[N]` least of `quadrature_risk`.
      slope: of log risk over log n, least squares.
      slope_error: what the standard errors make of it.
      quadrature_slope: the same of `quadrature`; the finite-n correction is its distance from `exponent`.
      exponent: of the limit.
    """

    sizes: Float[np.ndarray, " N"]
    risk: Float[np.ndarray, " N"]
    error: Float[np.ndarray, " N"]
    bandwidth: Float[np.ndarray, " N"]
    quadrature: Float[np.ndarray, " N"]
    slope: float
    slope_error: float
    quadrature_slope: float
    exponent: float


def quadrature_risk(
    target: Target, points: ArrayLike, bandwidth: float, size: int, order: Order, nodes: int = 400
) -> Risk:
    """The formula of the module, by Gauss-Legendre on the part of the interval within 9 bandwidths of the point.

    Args:
      target: the curve.
      points: `[P]` in the interval.
      bandwidth: `h`.
      size: `n`.
      order: of the local polynomial.
      nodes: of the quadrature.

    Returns:
      Both parts `[P]`.
    """
    check.choice("order", order, get_args(Order))
    q, h = check.vector("points", points), check.number("bandwidth", bandwidth, 0.0, strict=True)
    n, density = check.count("size", size), 1 / (target.high - target.low)
    z, weight = _gauss(check.count("nodes", nodes, 2))
    left, right = np.maximum(target.low, q - 9 * h)[:, None], np.minimum(target.high, q + 9 * h)[:, None]
    x = left + (right - left) * (1 + z) / 2
    measure = density * (right - left) / 2 * weight
    gap, t = target.value(x) - target.value(q)[:, None], (x - q[:, None]) / h
    kernel = np.exp(-(t**2) / 2)
    s0, s1, s2 = (np.sum(measure * kernel * t**j, axis=1, keepdims=True) for j in range(3))
    if order == "constant":
        equivalent, lean = kernel / s0, np.zeros_like(s0)
    else:
        det = s0 * s2 - s1**2
        equivalent = kernel * (s2 - s1 * t) / det
        lean = np.sum(measure * kernel * (s0 * t - s1) * gap, axis=1, keepdims=True) / det
    bias = np.sum(measure * equivalent * gap, axis=1)
    left_over = gap - bias[:, None] - lean * t
    variance = np.sum(measure * equivalent**2 * (target.noise**2 + left_over**2), axis=1) / n
    return Risk(bias**2, variance)


def limit_risk(target: Target, sizes: ArrayLike, order: Order, place: Place) -> BestBandwidth:
    """The leading order of `theory.recall.edges` for this curve.

    Args:
      target: the curve.
      sizes: `n`, any shape.
      order: of the local polynomial.
      place: an end of the interval, or the mean over it (then of length 1).

    Raises:
      ValueError: the derivative that the leading order is made of vanishes, or `whole` with another length.
    """
    check.choice("place", place, get_args(Place))
    s2, length = target.noise**2, target.high - target.low
    derivative = target.slope if order == "constant" else target.bend
    if place != "whole":
        end = np.array([target.low if place == "low" else target.high])
        size = float(derivative(end)[0])
        if abs(size) < 1e-12:
            raise check.fail("derivative at the edge", size, "not 0", "The bias is of higher order there.")
        return edge_risk(sizes, order, size, s2, length)
    if abs(length - 1) > 1e-12:
        raise check.fail("length of the interval", length, "1", "Rescale the curve.")
    if order == "constant":
        rough = float(np.sum(derivative(np.array([target.low, target.high])) ** 2))
    else:
        z, weight = _gauss(100)
        rough = float(weight @ derivative(target.low + (1 + z) / 2) ** 2) / 2
    return integrated_risk(sizes, order, rough, s2)


def rates(
    order: Order,
    place: Place,
    target: Target | None = None,
    sizes: Sequence[int] = SIZES,
    draws: int = 24,
    *,
    seed: int = 0,
) -> Rates:
    """Error at the best bandwidth over numbers of covariates, its slope, and what is predicted.

    At each `n` the bandwidth is the best of 13 around that of the quadrature, by the mean over draws.

    Args:
      order: `constant` (softmax with a Gaussian kernel) or `linear` (local linear attention).
      place: `low`, `high`: at that end. `whole`: the mean over the interval.
      target: the curve; None for `sine_line()`.
      sizes: `[N]` increasing, at least two.
      draws: of the covariates, at least 2.
      seed: of NumPy's generator.
    """
    curve = sine_line() if target is None else target
    check.choice("place", place, get_args(Place))
    check.choice("order", order, get_args(Order))
    n = check.times("sizes", [check.count("sizes", size, 2) for size in sizes], 2.0)
    points, mass = _points(curve, place)
    rng = np.random.default_rng(seed)
    found, ideal = [], []
    for size in n.astype(int):
        start, least = _least_quadrature(curve, points, mass, int(size), order)
        ideal.append(least)
        grid = start * 2.0 ** np.linspace(-1, 1, 13)
        risks = np.zeros((check.count("draws", draws, 2), grid.size))
        for row in risks:
            x = rng.uniform(curve.low, curve.high, int(size))
            for i, h in enumerate(grid):
                weigh = kernel_weights if order == "constant" else local_linear_weights
                risk = smoother_risk(weigh(points, x, float(h)), curve.value(x), curve.value(points), curve.noise**2)
                row[i] = mass @ risk.total
        best = int(np.argmin(risks.mean(axis=0)))
        found.append((risks[:, best].mean(), risks[:, best].std(ddof=1) / np.sqrt(draws), grid[best]))
    risk, error, bandwidth = np.array(found).T
    level = np.log(n) - np.log(n).mean()
    level /= level @ level
    slope, noise = float(level @ np.log(risk)), float(np.sqrt(level**2 @ (error / risk) ** 2))
    exact = np.array(ideal)
    exponent = _EXPONENTS[order, place == "whole"]
    return Rates(n, risk, error, bandwidth, exact, slope, noise, float(level @ np.log(exact)), exponent)


_EXPONENTS = {
    ("constant", False): -2 / 3,
    ("linear", False): -4 / 5,
    ("constant", True): -3 / 4,
    ("linear", True): -4 / 5,
}


@functools.cache
def _gauss(nodes: int) -> tuple[check.Array, check.Array]:
    return np.polynomial.legendre.leggauss(nodes)


def _points(curve: Target, place: Place) -> tuple[check.Array, check.Array]:
    """Where the error is taken, with weights of sum 1; Gauss-Legendre is dense near the ends, where layers are."""
    if place != "whole":
        return np.array([curve.low if place == "low" else curve.high]), np.ones(1)
    z, weight = _gauss(24)
    return curve.low + (curve.high - curve.low) * (1 + z) / 2, weight / 2


def _least_quadrature(
    curve: Target, points: check.Array, mass: check.Array, size: int, order: Order
) -> tuple[float, float]:
    """Bandwidth and value of the least quadrature risk."""
    from scipy.optimize import minimize_scalar

    def risk(log_h: float) -> float:
        return float(mass @ quadrature_risk(curve, points, float(np.exp(log_h)), size, order, nodes=200).total)

    length = curve.high - curve.low
    grid = np.log(length * np.geomspace(4 / size, 1.0, 25))
    start = int(np.argmin([risk(value) for value in grid]))
    low, high = grid[max(start - 1, 0)], grid[min(start + 1, grid.size - 1)]
    found: Any = minimize_scalar(risk, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x)), float(found.fun)
