"""What a linear-regression task must satisfy. A complaint names the field, its value, what is allowed, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

if TYPE_CHECKING:
    from toy_tasks.linear_regression import LinearRegression


def array(task: LinearRegression, name: str) -> np.ndarray:
    """A field of the task as a read-only float64 array `[d]` (the mean) or `[d, d]`; a number is spread out."""
    value = np.array(getattr(task, name), np.float64)
    if value.ndim == 0:
        value = np.full(task.dim, value) if name == "mean" else np.eye(task.dim) * value
    wanted = (task.dim,) if name == "mean" else (task.dim, task.dim)
    _require(value.shape == wanted, name, f"an array of shape {value.shape}", f"a number or an array of shape {wanted}")
    _require(np.isfinite(value).all(), name, value, "finite numbers")
    if name != "mean":
        _require(np.allclose(value, value.T), name, value, "a symmetric matrix")
        smallest = float(np.linalg.eigvalsh(value)[0])
        _require(smallest >= -1e-9, name, f"smallest eigenvalue {smallest:.3g}", "a positive semidefinite matrix")
    value.setflags(write=False)
    return value


def root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T


def check(task: LinearRegression) -> None:
    """Raises ValueError for a task that makes no sense."""
    from toy_tasks.linear_regression import InputLaw, Layout, NoisePer

    for name in ("dim", "context"):
        value = getattr(task, name)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        _require(whole, name, value, "an integer >= 1")
    for name, kind in (("noise_per", NoisePer), ("input_law", InputLaw), ("layout", Layout)):
        _require(getattr(task, name) in get_args(kind), name, getattr(task, name), " | ".join(get_args(kind)))
    _require(
        np.isfinite(task.noise_variance) and task.noise_variance >= 0, "noise_variance", task.noise_variance, ">= 0"
    )
    for support in task.supports:
        inside = len(support) > 0 and len(set(support)) == len(support) and all(0 <= c < task.dim for c in support)
        _require(inside, "supports", support, f"distinct coordinates from 0 to {task.dim - 1}, at least one")


def _require(condition: Any, field: str, value: Any, allowed: str) -> None:
    if not condition:
        raise ValueError(f"LinearRegression.{field}: got {value!r}; allowed is {allowed}.")
