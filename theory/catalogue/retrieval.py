"""When an associative memory gives back exactly what was stored: three criteria, three capacities.

    every read right for certain   (n - 1) mu < margin        n ~ sqrt(d / log n)      `worst_case_pairs`
    a read right with chance       nearest stored value       n ~ d d_v / log n        `nearest_accuracy`
    a read close on average        mean cosine                n ~ d                    `theory.catalogue.fidelity`

`mu` is the coherence of the keys. The first is the `O(sqrt(d))` of arXiv 2508.08289, the third its average case; the
margin, the finite laws and the second criterion are derived here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.catalogue.cosines import coherence_law, cosine_cdf, cosine_nodes


def retrieval_margin(value_coherence: float = 0.0) -> float:
    """`sqrt((1 - mu_v)/2)`: noise below this, half the least distance of two values, cannot change the nearest one.

    Derivation: with `r = v_i + e`, `r . (v_i - v_j) = |v_i - v_j|^2 / 2 + e . (v_i - v_j) > 0` if
    `|e| < |v_i - v_j| / 2`, and `|v_i - v_j|^2 = 2 (1 - v_i . v_j)`.

    Args:
      value_coherence: `mu_v`, the largest `v_i . v_j` of two unit values; 0 for orthonormal ones.
    """
    return float(np.sqrt((1 - check.number("value_coherence", value_coherence, -1.0, 1.0)) / 2))


def error_free(keys: ArrayLike, margin: float) -> bool:
    """Whether `(n - 1) max_{i<j} |k_i . k_j| < margin`, which makes every Hebb read of these keys right.

    Sufficient, not necessary: `|r_i - v_i| <= sum_j |k_i . k_j| <= (n - 1) mu`.

    Args:
      keys: `[n, d]` of unit norm.
      margin: of `retrieval_margin`.
    """
    rows = np.asarray(keys, dtype=np.float64)
    if rows.ndim != 2 or np.abs(np.sum(rows**2, axis=1) - 1).max() > 1e-6:
        raise check.fail("keys", rows.shape, "[n, d] rows of norm 1", "Divide each key by its norm.")
    overlap = np.abs(rows @ rows.T)
    np.fill_diagonal(overlap, 0.0)
    return bool((rows.shape[0] - 1) * overlap.max() < check.number("margin", margin, 0.0, strict=True))


def error_free_probability(pairs: int, width: int, margin: float) -> tuple[float, float]:
    """A lower and an upper bound of the chance that `n` random keys pass `error_free`: `P(mu <= margin / (n - 1))`.

    Args:
      pairs: `n`, at least 2.
      width: `d`.
      margin: of `retrieval_margin`.
    """
    n = check.count("pairs", pairs, 2)
    law = coherence_law(check.number("margin", margin, 0.0, strict=True) / (n - 1), n, width)
    return 1 - float(law.high), 1 - float(law.low)


def worst_case_pairs(width: int, margin: float, chance: float = 0.5) -> int:
    """The largest `n` for which random keys pass `error_free` with at least this chance, by the certain lower bound.

    For large `d` it is about `margin sqrt(d / (4 log n))`: the square root of the width.

    Args:
      width: `d`.
      margin: of `retrieval_margin`.
      chance: in (0, 1).
    """
    wanted = check.number("chance", chance, 0.0, 1.0, strict=True)
    n = 1
    while error_free_probability(n + 1, width, margin)[0] >= wanted:
        n += 1
    return n


def nearest_accuracy(pairs: ArrayLike, width: int, value_width: int) -> Float[np.ndarray, " ..."]:
    """The chance that the stored value nearest to a Hebb read is the right one, for large widths.

        E_u [ P(c + r u' < 1 + w)^(n - 1) ],   w = sqrt((n - 1)/d) u,   r^2 = 1 + 2 w + (n - 2)/d,

    with `c` the cosine of two random directions of `R^d`, `u` and `u'` of `R^(d_v)`.

    Derivation: `r . v_i = 1 + w`; another value scores its own coefficient `c` plus its overlap with the rest of the
    read, of squared length `r^2` (a read that is high is also long). The scores of the others are taken as
    independent: the error is of order `1/d`, below .04 at `d = d_v = 64` and below .005 at 256, mostly too low.

    Args:
      pairs: `n`, any shape.
      width: `d`, at least 4.
      value_width: `d_v`, at least 4.

    Returns:
      Of the shape of `pairs`.
    """
    loads = check.whole("pairs", pairs)
    c, c_weight = cosine_nodes(width, nodes=160)
    u, u_weight = cosine_nodes(value_width, nodes=160)

    def accuracy(n: float) -> float:
        w = np.sqrt((n - 1) / width) * u
        length = np.sqrt(np.maximum(1 + 2 * w + (n - 2) / width, 1e-12))
        below = cosine_cdf((1 + w[:, None] - c) / length[:, None], value_width) @ c_weight
        return float(u_weight @ below ** (n - 1))

    return np.reshape([accuracy(float(n)) for n in loads.ravel()], loads.shape)


def nearest_capacity(width: int, value_width: int, accuracy: float = 0.5) -> int:
    """The largest `n` at which `nearest_accuracy` is at least this; grows like `d d_v / log n`.

    Args:
      width: `d`.
      value_width: `d_v`.
      accuracy: in (0, 1).
    """
    wanted = check.number("accuracy", accuracy, 0.0, 1.0, strict=True)
    low, high = 1, 2
    while nearest_accuracy(high, width, value_width) >= wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if nearest_accuracy(middle, width, value_width) >= wanted else (low, middle)
    return low
