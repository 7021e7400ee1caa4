"""What a linear-regression task must satisfy. A complaint names the field, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

if TYPE_CHECKING:
    from toy_tasks.linear_regression import LinearRegression


def require(condition: Any, field: str, got: Any, allowed: str) -> None:
    """Raises ValueError unless the condition holds."""
    if not condition:
        raise ValueError(f"{field}: got {got}; allowed is {allowed}.")


def finite(field: str, value: np.ndarray) -> None:
    """Raises ValueError unless all entries are."""
    wrong = value[~np.isfinite(value)]
    require(len(wrong) == 0, field, f"the entry {next(iter(wrong), None)}", "finite numbers")


def covariance(field: str, value: np.ndarray) -> None:
    """Raises ValueError unless the square matrix is a covariance, up to rounding."""
    finite(field, value)
    i, j = np.unravel_index(np.argmax(np.abs(value - value.T)), value.shape)
    pair = f"{value[i, j]:g} at ({i}, {j}) and {value[j, i]:g} at ({j}, {i})"
    require(np.allclose(value, value.T), field, pair, "a symmetric matrix")
    values = np.linalg.eigvalsh(value)
    fits = values[0] >= -1e-6 * max(float(values[-1]), 0.0)  # a matrix computed in float32 has zeros up to that
    require(fits, field, f"an eigenvalue {values[0]:.3g}", "a positive semidefinite matrix")


def root(matrix: np.ndarray) -> np.ndarray:
    """`R [d, r]` with `R R^T` the positive semidefinite matrix of rank `r`; at least one column."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-12 * values[-1]  # zeros of a matrix computed in float64
    return vectors[:, kept] * np.sqrt(values[kept]) if kept.any() else np.zeros((len(matrix), 1))


def array(task: LinearRegression, name: str) -> np.ndarray:
    """A field of the task as a read-only float64 array `[d]` (the mean) or `[d, d]`; a number is spread out."""
    field = f"LinearRegression.{name}"
    try:
        value = np.array(getattr(task, name), np.float64)
    except (TypeError, ValueError):
        require(False, field, repr(getattr(task, name)), "a number or an array of numbers")
        raise
    if value.ndim == 0:
        value = np.full(task.dim, value) if name == "mean" else np.eye(task.dim) * value
    wanted = (task.dim,) if name == "mean" else (task.dim, task.dim)
    require(value.shape == wanted, field, f"an array of shape {value.shape}", f"a number or an array of shape {wanted}")
    if name == "mean":
        finite(field, value)
    else:
        covariance(field, value)
    value.setflags(write=False)
    return value


def symmetric_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T


def check(task: LinearRegression) -> None:
    """Raises ValueError for a task that makes no sense."""
    from toy_tasks.linear_regression import InputLaw, Layout, NoisePer

    for name in ("dim", "context"):
        value = getattr(task, name)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        require(whole, f"LinearRegression.{name}", repr(value), "an integer >= 1")
    for name, kind in (("noise_per", NoisePer), ("input_law", InputLaw), ("layout", Layout)):
        allowed = get_args(kind)
        value = getattr(task, name)
        require(value in allowed, f"LinearRegression.{name}", repr(value), " | ".join(allowed))
    noise = task.noise_variance
    number = isinstance(noise, (int, float, np.floating)) and np.isfinite(noise) and noise >= 0
    require(number, "LinearRegression.noise_variance", repr(noise), "a finite number >= 0")
    allowed = f"a tuple of tuples of distinct coordinates from 0 to {task.dim - 1}, none of them empty"
    for support in task.supports if isinstance(task.supports, Sequence) else (task.supports,):
        listed = isinstance(support, Sequence) and all(isinstance(c, (int, np.integer)) for c in support)
        inside = listed and len(set(support)) == len(support) > 0 and all(0 <= c < task.dim for c in support)
        require(inside, "LinearRegression.supports", task.supports, allowed)
