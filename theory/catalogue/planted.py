"""One key of a row of `n` matches the query with cosine `c`, the others are random directions: whose is the weight?

    softmax   A_j ~ exp(s cos_j)      s = sqrt(d): queries and keys of norm sqrt(d), scores divided by sqrt(d)
    LSSA      A_j ~ softplus(log(d) log(n) cos_j)
    LSSAR     A_j ~ relu(n A_j - 1)^p, of the A of LSSA

All functions return the mean of the planted key's weight over the random keys, by quadrature.

Source: arXiv 2501.13428 for LSSA and LSSAR; the means and the bound are derived here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.catalogue._shares import mean_share
from theory.catalogue.cosines import CosineLaw, cosine_nodes


def softmax_match(
    cosine: float, keys: ArrayLike, width: int, scale: float | None = None, law: CosineLaw = "sphere"
) -> Float[np.ndarray, " ..."]:
    """Softmax: `E[e^(s c) / (e^(s c) + sum_j e^(s cos_j))]`, exact.

    Args:
      cosine: `c`, of the planted key.
      keys: `n`, the planted key included; any shape.
      width: `d`, at least 4.
      scale: `s`; None for `sqrt(d)`.
      law: of the other cosines, see `cosine_nodes`.

    Returns:
      Of the shape of `keys`.
    """
    c, d = check.number("cosine", cosine, -1.0, 1.0), check.count("width", width, 4)
    s = np.sqrt(d) if scale is None else check.number("scale", scale)
    points, weight = cosine_nodes(d, law)
    return _each(keys, lambda n: mean_share(1.0, np.exp(s * (points - c)), weight, int(n) - 1))


def lssa_match(cosine: float, keys: ArrayLike, width: int, law: CosineLaw = "sphere") -> Float[np.ndarray, " ..."]:
    """LSSA, exact.

    Args and returns: as for `softmax_match`.
    """
    c, d = check.number("cosine", cosine, -1.0, 1.0), check.count("width", width, 4)
    points, weight = cosine_nodes(d, law)

    def match(n: float) -> float:
        others, own = _softplus(n, d, points), float(_softplus(n, d, np.array(c)))
        return mean_share(own, others, weight, int(n) - 1)

    return _each(keys, match)


def lssar_match(
    cosine: float, keys: ArrayLike, width: int, power: float = 15.0, law: CosineLaw = "sphere"
) -> Float[np.ndarray, " ..."]:
    """LSSAR, up to `O(1/n)`: `E[(a - m)^p / ((a - m)^p + sum_j relu(a_j - m)^p)]`, `a` the planted softplus.

    Derivation: `n A_j - 1 = a_j / abar - 1`, and the normaliser takes `abar` out: only `relu(a_j - abar)^p` counts. The
    mean `abar` of a row is near its expectation `m = (a + (n - 1) E a_j) / n`, put in its place. A planted key at or
    below the mean gets nothing.

    Args:
      cosine: `c`.
      keys: `n`, any shape.
      width: `d`, at least 4.
      power: `p`, above 0.
      law: as for `softmax_match`.

    Returns:
      Of the shape of `keys`.
    """
    c, d = check.number("cosine", cosine, -1.0, 1.0), check.count("width", width, 4)
    p = check.number("power", power, 0.0, strict=True)
    points, weight = cosine_nodes(d, law)

    def match(n: float) -> float:
        others, own = _softplus(n, d, points), float(_softplus(n, d, np.array(c)))
        if n == 1:
            return 1.0
        mean = (own + (n - 1) * float(weight @ others)) / n
        if own <= mean:
            return 0.0
        return mean_share(1.0, (np.maximum(others - mean, 0.0) / (own - mean)) ** p, weight, int(n) - 1)

    return _each(keys, match)


def lssa_ratio_bound(keys: ArrayLike, width: int) -> Float[np.ndarray, " ..."]:
    """`(l + log 2) (n^(log d) + 1)`, `l = log(d) log(n)`: no LSSA weight exceeds another by more. Polynomial in `n`.

    Derivation: scores lie in `[-l, l]`; `softplus(l) <= l + log 2`, `softplus(-l) >= 1 / (1 + e^l)`, `e^l = n^(log d)`.

    Args:
      keys: `n`, any shape.
      width: `d`.
    """
    n = check.whole("keys", keys)
    reach = np.log(check.count("width", width)) * np.log(n)
    return np.asarray((reach + np.log(2)) * (np.exp(reach) + 1))


def _softplus(n: float, d: int, cosine: check.Array) -> check.Array:
    return np.logaddexp(0.0, np.log(d) * np.log(n) * cosine)


def _each(keys: ArrayLike, function) -> check.Array:
    array = check.whole("keys", keys)
    return np.reshape([function(float(n)) for n in array.ravel()], array.shape)
