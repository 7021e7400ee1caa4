"""Validation of arguments: one clear ValueError that names the field, the value, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def fail(field: str, value: object, allowed: str, action: str) -> ValueError:
    """The error to raise; every message of this package has this one form."""
    return ValueError(f"{field} = {value!r} is not allowed: it must be {allowed}. {action}")


def vector(field: str, value: ArrayLike, size: int | None = None) -> Array:
    """A finite float64 vector, of `size` entries if given."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 1 or (size is not None and array.shape != (size,)):
        wanted = "a vector" if size is None else f"a vector of {size} entries"
        raise fail(f"shape of {field}", array.shape, wanted, "Pass one number per token.")
    return finite(field, array)


def finite(field: str, array: Array) -> Array:
    """The array itself, if no entry is infinite or not a number."""
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise fail(f"{field}.flat[{bad}]", float(array.flat[bad]), "finite", "Remove infinite and missing entries.")
    return array


def number(
    field: str, value: float, low: float = -np.inf, high: float = np.inf, *, strict: bool = False, what: str = ""
) -> float:
    """A finite float in [low, high], or in (low, high) with `strict`."""
    out = float(value)
    inside = low < out < high if strict else low <= out <= high
    if not (np.isfinite(out) and inside):
        left, right = ("(", ")") if strict else ("[", "]")
        raise fail(field, out, f"a finite number in {left}{low:g}, {high:g}{right}", what or "Choose another value.")
    return out


def count(field: str, value: int, low: int = 1) -> int:
    """An integer of at least `low`."""
    if isinstance(value, bool) or int(value) != value or int(value) < low:
        raise fail(field, value, f"a whole number of at least {low}", "Choose another value.")
    return int(value)


def whole(field: str, value: ArrayLike, low: int = 1) -> Array:
    """Whole numbers of at least `low`, any shape, as float64."""
    array = finite(field, np.asarray(value, dtype=np.float64))
    bad = np.flatnonzero((array != np.round(array)) | (array < low))
    if bad.size:
        wrong = float(array.flat[bad[0]])
        raise fail(field, wrong, f"a whole number of at least {low}", "Choose another value.")
    return array


def choice(field: str, value: object, allowed: tuple) -> None:
    """Nothing, if `value` is one of `allowed`."""
    if value not in allowed:
        raise fail(field, value, "one of " + ", ".join(repr(a) for a in allowed), "Choose one of these.")


def token_ids(field: str, ids: Iterable[int], vocab_size: int) -> tuple[int, ...]:
    """Distinct token ids in increasing order."""
    out = tuple(sorted(int(i) for i in np.asarray(list(ids)).ravel()))
    if len(set(out)) != len(out) or any(not 0 <= i < vocab_size for i in out):
        raise fail(field, out, f"distinct token ids between 0 and {vocab_size - 1}", "Remove repeats and wrong ids.")
    return out


def square_size(field: str, value: ArrayLike) -> int:
    """The side of a square matrix."""
    shape = np.shape(value)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise fail(f"shape of {field}", shape, "square, [V, V]", "Pass P[current, next].")
    return shape[0]


def matrix(field: str, value: ArrayLike, shape: tuple[int, int]) -> Array:
    """A finite float64 matrix of the given shape."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape:
        raise fail(f"shape of {field}", array.shape, f"{shape}", "Pass a matrix of that shape.")
    return finite(field, array)


def covariance(field: str, value: ArrayLike, size: int) -> Array:
    """A read-only symmetric positive semidefinite matrix; a number stands for its multiple of the identity."""
    array = np.asarray(value, dtype=np.float64)
    array = matrix(field, array * np.eye(size) if array.ndim == 0 else array, (size, size))
    scale = np.abs(array).max()
    if np.abs(array - array.T).max() > 1e-9 * scale:
        raise fail(field, array.tolist(), "symmetric", "Pass (A + A^T) / 2.")
    smallest = float(np.linalg.eigvalsh(array)[0])
    if smallest < -1e-9 * scale:
        raise fail(f"smallest eigenvalue of {field}", smallest, "at least 0", "Pass a covariance matrix.")
    return frozen((array + array.T) / 2)


def root(array: Array) -> Array:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(array)
    return vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T


def kernel(field: str, value: ArrayLike, needed: NDArray[np.bool_] | None = None) -> Array:
    """A stochastic matrix [V, V]; rows outside `needed` may be all zero (a token that never predicts).

    Rows may miss a sum of one by 1e-6 (a kernel that was held in float32) and are normalised in float64.
    """
    square_size(field, value)
    array = finite(field, np.asarray(value, dtype=np.float64))
    if (array < 0).any():
        raise fail(f"smallest entry of {field}", float(array.min()), "at least 0", "Pass probabilities.")
    sums = array.sum(axis=1)
    unused = (sums == 0) & (False if needed is None else ~needed)
    bad = np.flatnonzero(~unused & (np.abs(sums - 1) > 1e-6))
    if bad.size:
        row = int(bad[0])
        raise fail(f"sum of {field}[{row}]", float(sums[row]), "1", "Normalise every row that predicts.")
    return array / np.where(unused, 1.0, sums)[:, None]


def times(field: str, value: ArrayLike, low: float = 0.0, *, strict: bool = False) -> Array:
    """An increasing vector of times not below `low` (above it with `strict`)."""
    array = vector(field, np.atleast_1d(np.asarray(value, dtype=np.float64)))
    if array.size == 0 or (np.diff(array) <= 0).any():
        raise fail(field, array.tolist(), "increasing and not empty", "Sort the times and remove repeats.")
    if array[0] < low or (strict and array[0] == low):
        bound = f"{'above' if strict else 'at least'} {low:g}"
        raise fail(f"{field}[0]", float(array[0]), bound, "Drop the earlier times.")
    return array


def frozen(array: Array) -> Array:
    """A read-only copy, so that a frozen dataclass is frozen all the way down."""
    out = np.array(array, dtype=np.float64)
    out.setflags(write=False)
    return out
