"""Any orthogonal matrix as a product of generalised Householder factors: the weights of a state that tracks a group.

Source: arXiv 2411.12537 and 2502.10297 for the use; that `rank(I - Q)` reflections suffice is the theorem of Cartan
and Dieudonne; the construction is derived here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


class Factors(NamedTuple):
    """`Q = (I - b_m k_m k_m^T) ... (I - b_1 k_1 k_1^T)`: the first factor acts first.

    Attributes:
      keys: `[m, K]` of norm 1.
      rates: `[m]`, 2 for a reflection and 0 for a factor that does nothing.
    """

    keys: Float[np.ndarray, "m K"]
    rates: Float[np.ndarray, " m"]


def householder_factors(matrix: ArrayLike, count: int | None = None) -> Factors:
    """The keys and rates of `rank(I - Q)` reflections, the least possible, whose product is `Q`.

    Derivation: take a basis vector `x` that `Q` moves and reflect along `u = Qx - x`: it takes `Qx` back to `x`, and
    what `Q` fixes is orthogonal to `u` (`y . Qx = Q^T y . x = y . x`). So each reflection makes the fixed space larger
    by one. Of a permutation matrix `x` is a place and the reflection a transposition.

    Args:
      matrix: `Q`, `[K, K]`, orthogonal.
      count: `m`, how many factors to return; the rest has rate 0. None for no rest.

    Raises:
      ValueError: `Q` is not orthogonal, or needs more factors.
    """
    size = check.square_size("matrix", matrix)
    rest = check.matrix("matrix", matrix, (size, size)).copy()
    if np.abs(rest @ rest.T - np.eye(size)).max() > 1e-8:
        worst = float(np.abs(rest @ rest.T - np.eye(size)).max())
        raise check.fail("|Q Q^T - I|", worst, "below 1e-8", "Pass an orthogonal matrix.")
    keys: list[check.Array] = []
    while np.linalg.norm(moved := rest - np.eye(size), axis=0).max() > 1e-7:
        largest = moved[:, np.argmax(np.linalg.norm(moved, axis=0))]
        key = largest / np.linalg.norm(largest)
        rest -= 2 * np.outer(key, key @ rest)
        keys.append(key)
    keys.reverse()
    wanted = len(keys) if count is None else check.count("count", count, 0)
    if wanted < len(keys):
        raise check.fail("count", wanted, f"at least {len(keys)}, what this matrix needs", "Allow more factors.")
    out, rates = np.zeros((wanted, size)), np.zeros(wanted)
    out[:, 0] = 1.0
    if keys:
        out[: len(keys)], rates[: len(keys)] = np.array(keys), 2.0
    return Factors(out, rates)
