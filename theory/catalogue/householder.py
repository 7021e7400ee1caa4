"""Counting with products of generalised Householder factors `I - b k k^T`: the state transition of the delta rule.

Eigenvalues are 1, `d - 1` times, and `1 - b |k|^2`: in [0, 1] for unit keys and `b` in [0, 1], in [-1, 1] for `b` up to
2. A state that only shrinks cannot hold a parity; one that flips can, and two reflections turn by any angle.

Source: arXiv 2411.12537 (which transitions can track which languages); the constructions are derived here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from theory import _checks as check


def householder(key: ArrayLike, rate: float) -> Float[np.ndarray, "K K"]:
    """`I - b k k^T`.

    Args:
      key: `[K]`.
      rate: `b`.
    """
    k = check.vector("key", key)
    return np.eye(k.size) - check.number("rate", rate) * np.outer(k, k)


def householder_eigenvalues(key: ArrayLike, rate: float) -> Float[np.ndarray, " K"]:
    """The eigenvalues in increasing order: 1, and `1 - b |k|^2` once (along `k`).

    Args: as for `householder`.
    """
    k = check.vector("key", key)
    values = np.ones(k.size)
    values[0] = 1 - check.number("rate", rate) * float(k @ k)
    return np.sort(values)


def parity_states(bits: ArrayLike, rate: float = 2.0) -> Float[np.ndarray, " N"]:
    """`s_i = (1 - b x_i) s_(i-1)`, `s_0 = 1`: the delta rule of width 1 with key 1, value 0 and write strength `b x_i`.

    At `b = 2` it is 1 after an even number of ones and -1 after an odd one. For `1 < b < 2` the sign is still right and
    the size fades like `|1 - b|^ones`. For `b <= 1` it never changes sign, and no threshold on it separates the
    parities: `(1 - b)^m` decreases in the number `m` of ones.

    Args:
      bits: `[N]` of 0 and 1.
      rate: `b` in [0, 2].

    Returns:
      `[N]`, the state after each bit.
    """
    x = _symbols("bits", bits, 2)
    return np.cumprod(1 - check.number("rate", rate, 0.0, 2.0) * x)


def parity_memory(bits: ArrayLike, rate: float, precision: float = 2.0**-24) -> int:
    """How many ones `parity_states` counts before its state falls below a precision: `log(precision) / log |1 - b|`.

    Args:
      bits: `[N]`, at most as many ones as these hold.
      rate: `b` in (1, 2]; at 2 it counts them all.
      precision: smallest state that can be told from 0; of float32 relative to 1 by default.
    """
    ones = int(_symbols("bits", bits, 2).sum())
    fade = check.number("rate", rate, 1.0, 2.0, what="At a rate of 1 and below no parity is held.") - 1
    if fade in (0.0, 1.0):
        return ones if fade else 0
    return min(ones, int(np.log(check.number("precision", precision, 0.0, 1.0, strict=True)) / np.log(fade)))


def reflections(angle: float) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Unit keys `k, k'` of the plane with `(I - 2 k' k'^T)(I - 2 k k^T)` the rotation by `angle`.

    Derivation: two reflections turn by twice the angle between their axes.

    Args:
      angle: in radians.
    """
    half = check.number("angle", angle) / 2
    return np.array([1.0, 0.0]), np.array([np.cos(half), np.sin(half)])


def count_modulo(symbols: ArrayLike, modulus: int) -> Int[np.ndarray, " N"]:
    """Running sums modulo `m`, read off a state of the plane that two factors per token turn by `2 pi x / m`.

    Args:
      symbols: `[N]`, whole numbers from 0 to `m - 1`.
      modulus: `m`, at least 2.

    Returns:
      `[N]`.
    """
    m = check.count("modulus", modulus, 2)
    state, found = np.array([1.0, 0.0]), []
    for x in _symbols("symbols", symbols, m):
        first, second = reflections(2 * np.pi * float(x) / m)
        state = householder(second, 2.0) @ (householder(first, 2.0) @ state)
        found.append(round(float(np.arctan2(state[1], state[0])) / (2 * np.pi) * m) % m)
    return np.array(found, dtype=np.int64)


def _symbols(field: str, value: ArrayLike, size: int) -> check.Array:
    array = check.vector(field, value)
    if not np.isin(array, np.arange(size)).all():
        raise check.fail(field, array.tolist(), f"whole numbers from 0 to {size - 1}", "Pass symbols.")
    return array
