"""Plateaus of a learning curve: where it stands still in log time, and when it leaves one. NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from attnlab.analysis.phases import crossing_time
from attnlab.config import require


@dataclass(frozen=True)
class Plateau:
    """A stretch on which a curve stays within `tolerance` of a height.

    Attributes:
      start, end: its first and last recorded step.
      height: median of the curve on it.
      length: `ln((1 + end) / (1 + start))`, e-folds of time.
    """

    start: float
    end: float
    height: float
    length: float


def plateaus(steps: Any, values: Any, tolerance: float, *, min_length: float = 0.5) -> list[Plateau]:
    """Maximal stretches of one curve whose values span at most `2 tolerance`, the longest in log time first.

    Greedy: the longest stretch is taken, then the longest of what is left. A curve without one gives [].

    Args:
      steps: `[N]`, increasing.
      values: `[N]`, finite.
      tolerance: half the allowed range, in the units of the curve.
      min_length: shortest plateau, in e-folds of `1 + t`.
    """
    t, y = np.asarray(steps, float), np.asarray(values, float)
    require(t.ndim == 1 and y.shape == t.shape, "values", y.shape, f"one number per step, shape {t.shape}")
    require(bool(np.all(np.diff(t) > 0)), "steps", steps, "increasing numbers")
    require(bool(np.all(np.isfinite(y))), "values", values, "finite numbers")
    require(tolerance > 0, "tolerance", tolerance, "a number > 0")
    x = np.log1p(t)
    found: list[Plateau] = []
    free = [(0, len(t))]
    while free:
        low, high = free.pop()
        start, end = _longest(x[low:high], y[low:high], 2 * tolerance)
        if high - low < 2 or x[low + end] - x[low + start] < min_length:
            continue
        first, last = low + start, low + end
        height = float(np.median(y[first : last + 1]))
        found.append(Plateau(float(t[first]), float(t[last]), height, float(x[last] - x[first])))
        free += [(low, first), (last + 1, high)]
    return sorted(found, key=lambda p: -p.length)


def steps_to_leave(
    steps: Any, losses: Any, plateau: float, *, share: float = 0.1, sustained: int = 1, log: bool = True
) -> Float[np.ndarray, "*S"]:
    """When a loss has left a plateau whose height is known, such as `ln V`: the first step at which it is
    `<= (1 - share) plateau`; NaN if it never is.

    Where softmax waits at `ln V` and other maps do not, this tells a slow start from a mechanism that cannot.

    Args:
      steps: `[N]`, increasing.
      losses: `[*S, N]`; a loss above the plateau has not left it, one that is NaN neither.
      plateau: its height, > 0.
      share: how far below it counts, as a share of its height; more than the noise of the curve.
      sustained, log: as for `crossing_time`: how many recorded points in a row, interpolation in `ln(1 + t)`.
    """
    require(bool(np.isfinite(plateau)) and plateau > 0, "plateau", plateau, "a finite height > 0")
    require(0 < share < 1, "share", share, "between 0 and 1")
    return crossing_time(steps, losses, (1 - share) * plateau, "down", sustained=sustained, log=log)


def _longest(x: np.ndarray, y: np.ndarray, span: float) -> tuple[int, int]:
    """First and last index of the stretch of largest extent in `x` on which `max y - min y <= span`."""
    best, start = (0, 0), 0
    for end in range(len(x)):
        while np.ptp(y[start : end + 1]) > span:
            start += 1
        if x[end] - x[start] > x[best[1]] - x[best[0]]:
            best = (start, end)
    return best
