"""The cosine of two random directions, and how coherent a set of random keys is.

For unit vectors drawn evenly from the sphere of `R^d`, `c = k . k'` has

    (1 + c) / 2 ~ Beta((d - 1)/2, (d - 1)/2),    E c = 0,    E c^2 = 1/d,    density ~ (1 - c^2)^((d - 3)/2),

near `N(0, 1/d)` in the middle and with shorter tails. The cosines of `n` keys are independent in pairs, though not all
together; that is what bounds their largest from both sides.

Source: elementary; the bounds of `coherence_law` are derived here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check

CosineLaw = Literal["sphere", "normal"]


class CoherenceLaw(NamedTuple):
    """`P(max_{i<j} |k_i . k_j| > t)` at each `t`, all of one shape.

    Attributes:
      low: a lower bound.
      value: what it would be if all pairs were independent.
      high: an upper bound.
    """

    low: Float[np.ndarray, " ..."]
    value: Float[np.ndarray, " ..."]
    high: Float[np.ndarray, " ..."]


def cosine_cdf(cosine: ArrayLike, width: int) -> Float[np.ndarray, " ..."]:
    """`P(k . k' <= c)`, the regularised incomplete beta function `I_((1 + c)/2)((d - 1)/2, (d - 1)/2)`.

    Args:
      cosine: `c`, any shape; below -1 it gives 0, above 1 it gives 1.
      width: `d`, at least 2.
    """
    from scipy.special import betainc  # here, so that importing the package stays fast

    half = (check.count("width", width, 2) - 1) / 2
    return np.asarray(betainc(half, half, (1 + np.clip(np.asarray(cosine, dtype=np.float64), -1, 1)) / 2))


def cosine_tail(threshold: ArrayLike, width: int) -> Float[np.ndarray, " ..."]:
    """`P(|k . k'| > t) = 1 - I_(t^2)(1/2, (d - 1)/2)`, without loss of digits where it is small.

    Args:
      threshold: `t`, any shape, at least 0.
      width: `d`, at least 2.
    """
    from scipy.special import betainc

    t = check.finite("threshold", np.asarray(threshold, dtype=np.float64))
    if (t < 0).any():
        raise check.fail("smallest threshold", float(t.min()), "at least 0", "Pass the size of a cosine.")
    half = (check.count("width", width, 2) - 1) / 2
    return np.asarray(betainc(half, 0.5, np.maximum(1 - t**2, 0.0)))


def cosine_nodes(width: int, law: CosineLaw = "sphere", nodes: int = 400) -> tuple[check.Array, check.Array]:
    """Points and weights of the average of a smooth function of the cosine of two random directions.

    Args:
      width: `d`, at least 4.
      law: `sphere`: exact, by Gauss-Legendre over [-1, 1]. `normal`: `N(0, 1/d)`, over 12 standard deviations.
      nodes: how many.

    Returns:
      `[nodes]` points and `[nodes]` weights that sum to 1.
    """
    check.choice("law", law, get_args(CosineLaw))
    d = check.count("width", width, 4)
    z, weight = np.polynomial.legendre.leggauss(check.count("nodes", nodes, 2))
    reach = 1.0 if law == "sphere" else 12 / np.sqrt(d)
    points = reach * z
    log_density = (d - 3) / 2 * np.log1p(-(points**2)) if law == "sphere" else -d / 2 * points**2
    weight = weight * np.exp(log_density)
    return points, weight / weight.sum()


def coherence_law(threshold: ArrayLike, pairs: int, width: int) -> CoherenceLaw:
    """The law of the coherence `mu = max_{i<j} |k_i . k_j|` of random keys: with `M = n (n - 1)/2`, `p = P(|c| > t)`

        M p / (1 + (M - 1) p)  <=  P(mu > t)  <=  min(1, M p),      if independent: 1 - (1 - p)^M.

    Derivation: the upper bound is the union of events; the lower one is Cauchy-Schwarz for their number `N`,
    `P(N > 0) >= (E N)^2 / E N^2`, where independence in pairs gives `E N^2 = M p + M (M - 1) p^2`.

    Args:
      threshold: `t`, any shape.
      pairs: `n`, the number of keys, at least 2.
      width: `d`, at least 2.
    """
    n, p = check.count("pairs", pairs, 2), cosine_tail(threshold, width)
    couples = n * (n - 1) / 2
    with np.errstate(divide="ignore"):
        value = -np.expm1(couples * np.log1p(-p))
    low = couples * p / (1 + (couples - 1) * p)
    return CoherenceLaw(np.asarray(low), np.asarray(value), np.asarray(np.minimum(1.0, couples * p)))


def expected_coherence(pairs: int, width: int) -> float:
    """`E mu = int_0^1 P(mu > t) dt` of `n` random keys, with all pairs taken as independent (1 % at `n, d >= 16`).

    For large `n` and `d` it is `sqrt(4 log(n) / d)`, twice as many logarithms as for one key among the others,
    `sqrt(2 log(n) / d)`: there are `n^2 / 2` pairs.

    Args:
      pairs: `n`, at least 2.
      width: `d`, at least 2.
    """
    n, d = check.count("pairs", pairs, 2), check.count("width", width, 2)
    z, weight = np.polynomial.legendre.leggauss(400)
    # Beyond `reach` all tails together are below e^-40, for P(|c| > t) <= 2 exp(-(d - 1) t^2 / 2).
    reach = min(1.0, float(np.sqrt(2 * (40 + 2 * np.log(n)) / (d - 1))))
    law = coherence_law(reach * (1 + z) / 2, n, d)
    return reach * float(weight @ law.value) / 2
