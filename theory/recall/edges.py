"""Why a local average is bad at the edge of the data and a local line is not: equivalent kernels and best bandwidths.

Covariates uniform on `[0, 1]^d`, `y = f(x) + noise` of variance `s2`, Gaussian kernel of width `h`. At a distance `c h`
from a face, the kernel is cut; with its moments (`phi`, `Phi` of the standard normal)

    s_0 = Phi(c)   s_1 = phi(c)   s_2 = Phi(c) - c phi(c)   s_3 = (c^2 + 2) phi(c)

the bias is                                                               inside       at the edge, c = 0
    local constant   h f' s_1/s_0 + h^2 (f''/2) s_2/s_0                   h^2 f''/2    h f' sqrt(2/pi)
    local linear     h^2 (f''/2) (s_2^2 - s_1 s_3)/(s_0 s_2 - s_1^2)      h^2 f''/2    h^2 (f''/2) (pi - 4)/(pi - 2)

and the variance `s2 R / (n h)` with `R = 1/(2 sqrt(pi)) = .282` inside; at the edge `1/sqrt(pi) = .564` for the
constant and 1.786 for the line. Balancing gives the rates

    at the edge      n^(-2/3)       and   n^(-4/5)         (d = 1)
    integrated       n^(-3/(d+3))   and   n^(-4/(d+4))     the constant pays h^2 in a layer of width h

Source: the exponents are in arXiv 2510.01450; equivalent kernels are those of local polynomial regression (Fan and
Gijbels, 1996); the constants are derived here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check

Order = Literal["constant", "linear"]


class EdgeConstants(NamedTuple):
    """Leading constants at the distance `c h` from the edge, of the shape of `c`.

    Attributes:
      slope: bias is `h f'` times this, `f'` into the data; 0 for the line.
      bend: bias is `h^2 f''/2` times this, besides.
      variance: `R`, variance is `s2 R / (n h)`.
    """

    slope: Float[np.ndarray, " ..."]
    bend: Float[np.ndarray, " ..."]
    variance: Float[np.ndarray, " ..."]


class BestBandwidth(NamedTuple):
    """The least of `a h^p + b / (n h^m)`.

    Attributes:
      bandwidth: `h = (m b / (p a n))^(1/(p + m))`.
      risk: `a h^p (1 + p/m)`.
      exponent: `-p/(p + m)`, the power of `n` in the risk.
    """

    bandwidth: Float[np.ndarray, " ..."]
    risk: Float[np.ndarray, " ..."]
    exponent: float


def edge_constants(distance: ArrayLike, order: Order) -> EdgeConstants:
    """The constants of the equivalent kernel on `t > -c`, `phi(t)/s_0` or `(s_2 - s_1 t) phi(t) / (s_0 s_2 - s_1^2)`.

    Args:
      distance: `c`, at least 0, any shape, in units of the bandwidth; `inf` for the interior.
      order: of the local polynomial.
    """
    check.choice("order", order, get_args(Order))
    c = np.asarray(distance, dtype=np.float64)
    if np.isnan(c).any() or (c < 0).any():
        raise check.fail("distance", c.tolist(), "at least 0", "Pass distances from the edge over the bandwidth.")
    c = np.minimum(c, 40.0)  # phi(40) is 0 in float64
    phi, below = np.exp(-(c**2) / 2) / np.sqrt(2 * np.pi), _normal_cdf(c)
    s0, s1, s2, s3 = below, phi, below - c * phi, (c**2 + 2) * phi
    # Moments of phi^2, a normal density of variance 1/2 times 1/(2 sqrt(pi)).
    q0 = _normal_cdf(np.sqrt(2) * c) / (2 * np.sqrt(np.pi))
    q1, q2 = phi**2 / 2, q0 / 2 - c * phi**2 / 2
    if order == "constant":
        return EdgeConstants(s1 / s0, s2 / s0, q0 / s0**2)
    gap = s0 * s2 - s1**2
    variance = (s2**2 * q0 - 2 * s1 * s2 * q1 + s1**2 * q2) / gap**2
    return EdgeConstants(np.zeros_like(c), (s2**2 - s1 * s3) / gap, variance)


def best_bandwidth(
    sizes: ArrayLike, bias: float, power: float, variance: float, dimension: float = 1.0
) -> BestBandwidth:
    """The bandwidth that balances `a h^p` against `b / (n h^m)`.

    Args:
      sizes: `n`, any shape.
      bias: `a`, above 0.
      power: `p`.
      variance: `b`, above 0.
      dimension: `m`.
    """
    n = check.whole("sizes", sizes)
    a, b = (check.number(name, v, 0.0, strict=True) for name, v in (("bias", bias), ("variance", variance)))
    p, m = check.number("power", power, 0.0, strict=True), check.number("dimension", dimension, 0.0, strict=True)
    h = (m * b / (p * a * n)) ** (1 / (p + m))
    return BestBandwidth(np.asarray(h), np.asarray(a * h**p * (1 + p / m)), -p / (p + m))


def edge_risk(
    sizes: ArrayLike, order: Order, derivative: float, noise_variance: float, length: float = 1.0
) -> BestBandwidth:
    """At the edge, `d = 1`, best bandwidth, leading order: `n^(-2/3)` or `n^(-4/5)`.

    Args:
      sizes: `n`, any shape.
      order: of the local polynomial.
      derivative: at the edge: `f'` for the constant, `f''` for the line; not 0 (at 0 the bias is of higher order).
      noise_variance: `s2`.
      length: of the interval that the covariates fill.
    """
    constants = edge_constants(0.0, order)
    share = float(constants.slope) if order == "constant" else float(constants.bend) / 2
    s2 = check.number("noise_variance", noise_variance, 0.0, strict=True)
    power = 2.0 if order == "constant" else 4.0
    return best_bandwidth(sizes, (share * derivative) ** 2, power, s2 * length * float(constants.variance))


def layer_constant() -> float:
    """`int_0^inf (phi(c)/Phi(c))^2 dc = .3203`: the edge layer of the constant adds `h^3 f'^2` times this at a face.

    By Gauss-Legendre over [0, 12], beyond which it is below 1e-60.
    """
    z, weight = np.polynomial.legendre.leggauss(80)
    return 6 * float(weight @ edge_constants(6 * (1 + z), "constant").slope ** 2)


def integrated_risk(
    sizes: ArrayLike, order: Order, roughness: float, noise_variance: float, dimension: int = 1
) -> BestBandwidth:
    """Over `[0, 1]^d`, best bandwidth, leading order: `n^(-3/(d+3))` or `n^(-4/(d+4))`.

    Args:
      sizes: `n`, any shape.
      order: of the local polynomial.
      roughness: for the constant, the sum over all `2 d` faces of the integral of the squared normal derivative; for
        the line, the integral of the squared Laplacian.
      noise_variance: `s2`.
      dimension: `d`.
    """
    check.choice("order", order, get_args(Order))
    d, s2 = check.count("dimension", dimension), check.number("noise_variance", noise_variance, 0.0, strict=True)
    share, power = (layer_constant(), 3.0) if order == "constant" else (0.25, 4.0)
    return best_bandwidth(sizes, share * roughness, power, s2 * (4 * np.pi) ** (-d / 2), d)


def _normal_cdf(x: check.Array) -> check.Array:
    from scipy.special import ndtr  # here, so that importing the package stays fast

    return np.asarray(ndtr(x))
