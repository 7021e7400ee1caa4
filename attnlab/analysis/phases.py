"""When things happen in training: crossing times, plateaus, slopes in log time, with intervals over seeds. NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from attnlab.config import require

Direction = Literal["up", "down"]


def crossing_time(
    steps: Any, values: Any, level: float, direction: Direction = "up", *, sustained: int = 1, log: bool = True
) -> Float[np.ndarray, "*S"]:
    """First step at which a curve crosses `level`; NaN if it never does.

    Between two recorded steps the curve is a straight line in `ln(1 + t)` (or in `t` with `log=False`), so step 0 is
    allowed. A curve that begins beyond the level crosses at its first step. NaN values never count as beyond.

    Args:
      steps: `[N]`, increasing.
      values: `[*S, N]`.
      level: to cross.
      direction: `up`: first reaches `>= level`; `down`: `<= level`.
      sustained: how many recorded points in a row must be beyond the level, the first of which marks the crossing.
    """
    t, y = _curves(steps, values)
    require(direction in ("up", "down"), "direction", direction, "'up' or 'down'")
    require(1 <= sustained <= len(t), "sustained", sustained, f"1 to the number of steps, {len(t)}")
    beyond = y >= level if direction == "up" else y <= level
    runs = np.lib.stride_tricks.sliding_window_view(beyond, sustained, axis=-1).all(axis=-1)
    first = np.argmax(runs, axis=-1)
    x = np.log1p(t) if log else t
    here, before = first, np.maximum(first - 1, 0)
    y1, y0 = _at(y, here), _at(y, before)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(first > 0, (level - y0) / (y1 - y0), 1.0)
    share = np.where(np.isfinite(share), np.clip(share, 0, 1), 1.0)  # a gap before the crossing: its own step
    found = x[before] + share * (x[here] - x[before])
    return np.where(runs.any(axis=-1), np.expm1(found) if log else found, np.nan)


@dataclass(frozen=True)
class Interval:
    """A statistic over seeds with its bootstrap interval.

    Attributes:
      value, low, high: the statistic and its interval; infinite where the seeds that never got there reach into it.
      count: number of seeds; censored: how many of them never got there (or are NaN).
    """

    value: float
    low: float
    high: float
    count: int
    censored: int = 0

    def __str__(self) -> str:
        text = f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"
        return f"{text} ({self.censored} of {self.count} seeds never)" if self.censored else text


def bootstrap_interval(
    values: Any,
    statistic: Callable[..., Any] = np.median,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    censored: Literal["late", "error"] = "error",
) -> Interval:
    """Percentile bootstrap of `statistic` over seeds (Efron and Tibshirani 1993, chapter 13).

    With few seeds it is too narrow: four seeds can give at most the range that they span.

    Args:
      values: `[S]`, one per seed.
      statistic: `(x, axis) -> x` reduced over that axis.
      censored: what NaN means. `late`: a time beyond the end of the run, taken as infinite and counted; a statistic of
        ranks (the median) stays exact for it. `error`: refuse.
    """
    x = np.array(values, float)
    require(x.ndim == 1 and x.size >= 1, "values", x.shape, "one number per seed, shape [S]")
    require(0 < level < 1, "level", level, "between 0 and 1")
    require(censored in ("late", "error"), "censored", censored, "'late' or 'error'")
    lost = np.isnan(x)
    if lost.any():
        hint = "Take censored='late' if NaN means that a time was not reached."
        require(censored == "late", "values", f"{lost.sum()} NaN of {x.size}", "numbers", hint)
        x = np.where(lost, np.inf, x)
    draws = np.random.default_rng(seed).integers(0, x.size, (resamples, x.size))
    tail = 50 * (1 - level)
    with np.errstate(invalid="ignore"):
        samples = _infinite(np.asarray(statistic(x[draws], axis=-1), float))
        low = np.percentile(samples, tail, method="lower")
        high = np.percentile(samples, 100 - tail, method="higher")
        value = float(_infinite(np.asarray(statistic(x, axis=-1), float)))
    return Interval(value, float(low), float(high), x.size, int(lost.sum()))


def phase_times(
    data: Any,
    levels: Mapping[str, float | tuple[float, Direction]],
    *,
    sustained: int = 1,
    layer: int = 0,
    head: int = 0,
) -> Any:
    """Crossing times of recorded curves, for every seed: `xarray.Dataset` with dims (seed,).

    Args:
      data: a Dataset with dims (seed, step, ...), such as `trajectory.sinks`.
      levels: name of a curve -> level, or (level, "up" | "down"); without a direction, from where the curve begins to
        the level.
      sustained: see `crossing_time`.
      layer, head: which, for curves that have more of them.

    Example:
      phase_times(run.trajectory.sinks, {"backcopy": (0.1, "down"), "bos_attention": 0.5})
    """
    import xarray as xr

    found = {}
    for name, wanted in levels.items():
        require(name in data, "levels", name, f"a curve of the record: {', '.join(map(str, data.data_vars))}")
        curve = curve_of(data[name], layer, head)
        level, direction = wanted if isinstance(wanted, tuple) else (wanted, None)
        y = np.asarray(curve, float)
        if direction is None:
            direction = "up" if np.nanmedian(y[..., 0]) < level else "down"
        times = crossing_time(np.asarray(curve.step), y, level, direction, sustained=sustained)
        found[name] = xr.Variable(("seed",), times, {"level": level, "direction": direction, "units": "steps"})
    return xr.Dataset(found, {"seed": np.asarray(data.seed)})


def curve_of(array: Any, layer: int = 0, head: int = 0) -> Any:
    """One curve (seed, step) of a recorded quantity: its first axes after the step are layer and head."""
    rest = [dim for dim in array.dims if dim not in ("seed", "step")]
    require(len(rest) <= 2, "curve", tuple(array.dims), "dims (seed, step), and at most layer and head")
    chosen = array.isel(dict(zip(rest, (layer, head), strict=False)))
    return chosen.transpose("seed", "step")


@dataclass(frozen=True)
class Line:
    """Least squares `y = slope x + intercept`, per curve, with the correlation `r`."""

    slope: np.ndarray
    intercept: np.ndarray
    r: np.ndarray


def log_slope(steps: Any, values: Any, window: tuple[float, float] = (1, np.inf), *, log_values: bool = False) -> Line:
    """Slope of a curve against `ln t` on `window`, per curve `[*S]`: growth per e-fold of time.

    Args:
      steps: `[N]`; those outside `window`, and 0, are left out.
      values: `[*S, N]`.
      log_values: fit `ln y` instead: the exponent of a power law.
    """
    t, y = _curves(steps, values)
    inside = (t >= window[0]) & (t <= window[1]) & (t > 0)
    require(
        int(inside.sum()) >= 2, "window", window, f"one that holds 2 recorded steps or more of {t[0]:g} to {t[-1]:g}"
    )
    x, y = np.log(t[inside]), np.log(y[..., inside]) if log_values else y[..., inside]
    x0, y0 = x - x.mean(), y - y.mean(axis=-1, keepdims=True)
    slope = y0 @ x0 / (x0 @ x0)
    intercept = y.mean(axis=-1) - slope * x.mean()
    with np.errstate(invalid="ignore"):  # a constant curve has no correlation: NaN
        r = y0 @ x0 / (np.linalg.norm(x0) * np.linalg.norm(y0, axis=-1))
    return Line(slope, intercept, r)


def _curves(steps: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    t, y = np.asarray(steps, float), np.asarray(values, float)
    require(t.ndim == 1 and t.size >= 1, "steps", t.shape, "shape [N]")
    require(bool(np.all(np.diff(t) > 0)), "steps", steps, "increasing numbers")
    require(y.ndim >= 1 and y.shape[-1] == t.size, "values", y.shape, f"shape [*S, {t.size}], as many as steps")
    return t, y


def _at(y: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(y, np.asarray(index)[..., None], axis=-1)[..., 0]


def _infinite(x: np.ndarray) -> np.ndarray:
    """NaN of `inf - inf` interpolations is infinite: everything in it was."""
    return np.where(np.isnan(x), np.inf, x)
