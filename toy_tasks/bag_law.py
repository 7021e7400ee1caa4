"""Balls in boxes: `balls` values drawn uniformly from `boxes`, how many there are, how well their counts predict one.

Given the counts `c_v`, the value of a ball chosen at random is `v` with probability `c_v / balls`. Exact, in float64.
"""

from __future__ import annotations

import math

import numpy as np


def bag_entropy(balls: int, boxes: int) -> float:
    """`E[-Σ_v (c_v / n) log(c_v / n)]` in nats, with `n = balls`: every `c_v` is binomial `(n, 1 / boxes)`."""
    count = np.arange(1, balls + 1)
    chance = np.array([_binomial(balls, int(c), boxes) for c in count])
    return float(boxes * np.sum(chance * (count / balls) * np.log(balls / count)))


def bag_accuracy(balls: int, boxes: int) -> float:
    """`E[max_v c_v] / n`, what guessing the most frequent value achieves.

    `P(max_v c_v <= m)` is the probability that independent Poisson counts of mean `n / boxes`, none above `m`, sum to
    `n`, over the probability that they sum to `n` at all.
    """
    law = np.array([_poisson(c, balls / boxes) for c in range(balls + 1)])
    total = 0.0
    for largest in range(balls):
        below = _power(np.where(np.arange(balls + 1) <= largest, law, 0.0), boxes)[balls] / _poisson(balls, balls)
        total += 1.0 - min(below, 1.0)
    return total / balls


def distinct_law(balls: int, boxes: int) -> np.ndarray:
    """`Float[m + 1]`, `m = min(balls, boxes)`: the probability that exactly so many boxes hold a ball."""
    law = np.zeros(min(balls, boxes) + 1)
    law[0] = 1.0
    filled = np.arange(len(law)) / boxes
    for _ in range(balls):
        law = law * filled + np.append(0.0, (law * (1.0 - filled))[:-1])
    return law


def _power(law: np.ndarray, times: int) -> np.ndarray:
    """The law of a sum of `times` independent counts, kept up to `len(law) - 1`."""
    found = np.zeros_like(law)
    found[0] = 1.0
    while times:
        if times % 2:
            found = np.convolve(found, law)[: len(law)]
        law = np.convolve(law, law)[: len(law)]
        times //= 2
    return found


def _poisson(count: int, mean: float) -> float:
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))


def _binomial(trials: int, count: int, boxes: int) -> float:
    """Of `count` among `trials` with chance `1 / boxes`."""
    if boxes == 1:
        return float(count == trials)
    rest = trials - count
    ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(rest + 1)
    return math.exp(ways - count * math.log(boxes) + rest * math.log1p(-1.0 / boxes))
