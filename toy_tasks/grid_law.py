"""How often a rule that weighs evidence against a prior is right: the exact trade-off of `GridQA`. NumPy, float64.

A colour `c*` is seen as `y = onehot(c*) + σ n`, `n ~ N(0, I)`. The rule answers `argmax_c [w log prior_c + y_c / σ²]`,
where the prior has `π` at the canonical colour and `(1 - π) / (C - 1)` at every other: it adds to the canonical
evidence

    λ = w σ² log [π (C - 1) / (1 - π)]

so that all it does is a race of `C` normal numbers of variance `σ²`. Their means are, for a consistent object,
`1 + λ` and `C - 1` times 0; for one in conflict, `1`, `λ` and `C - 2` times 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from toy_tasks.regression_checks import require

# The trapezoidal rule on a smooth integrand that falls off as exp(-z²/2): both its errors are below 1e-15.
_NODES = np.linspace(-9.0, 9.0, 361)
_WEIGHTS = np.exp(-0.5 * _NODES**2) * (_NODES[1] - _NODES[0]) / np.sqrt(2.0 * np.pi)


class Frontier(NamedTuple):
    """What the rule of each weight `w` achieves on specific questions about a picture, each `Float64[n]`.

    Attributes:
      weights: `w`. 0: evidence only. 1: Bayes.
      hallucination: `P(answer = canonical | conflict)`.
      conflict, consistent: accuracy on either kind.
      accuracy: `(1 - π) conflict + π consistent`.
    """

    weights: np.ndarray
    hallucination: np.ndarray
    conflict: np.ndarray
    consistent: np.ndarray
    accuracy: np.ndarray


def frontier(weights: np.ndarray, prior: float, noise: float, num_colours: int) -> Frontier:
    """The trade-off at the given weights `[n]`.

    Raises:
      ValueError: weights that are not a list of finite numbers.
    """
    weights = np.asarray(weights, np.float64)
    fits = weights.ndim == 1 and bool(np.isfinite(weights).all())
    require(fits, "weights", weights.tolist(), "a list of finite numbers; 0 is evidence only, 1 is Bayes")
    lead = weights * noise**2 * np.log(prior * (num_colours - 1) / (1.0 - prior))
    one, zero, rest = np.ones_like(lead), np.zeros_like(lead), num_colours - 2
    consistent = _first(1.0 + lead, [(zero, rest + 1)], noise)
    conflict = _first(one, [(lead, 1), (zero, rest)], noise)
    hallucination = _first(lead, [(one, 1), (zero, rest)], noise)
    return Frontier(weights, hallucination, conflict, consistent, (1.0 - prior) * conflict + prior * consistent)


def _first(mean: np.ndarray, others: list[tuple[np.ndarray, int]], noise: float) -> np.ndarray:
    """`P(N(mean, σ²) is the largest)` against independent ones of the given means, each so many times:
    `∫ φ(z) Π_k Φ(z + (mean - mean_k) / σ) dz`."""
    chance = np.ones((len(mean), len(_NODES)))
    for other, times in others:
        chance *= ndtr(_NODES + (mean - other)[:, None] / noise) ** times
    return chance @ _WEIGHTS
