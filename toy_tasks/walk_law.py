"""Where a random walk on finitely many states is after each step, and in the long run. NumPy, float64."""

from __future__ import annotations

import numpy as np


def place_laws(kernel: np.ndarray, start: np.ndarray, places: int) -> np.ndarray:
    """`Float[places, n]`: the law of the state after `1 .. places` steps of `kernel [n, n]` from a law `start [n]`."""
    laws = np.zeros((places, len(start)))
    law = start
    for place in range(places):
        law = law @ kernel
        laws[place] = law
    return laws


def long_run(kernel: np.ndarray, start: np.ndarray) -> np.ndarray:
    """`Float[n]`: the share of time that a walk from `start` spends in each state, in the limit of many steps.

    The walk that rests in half of its steps has the same limit and no period; its kernel is squared until nothing
    changes, `2^60` steps at most.
    """
    power = (kernel + np.eye(len(kernel))) / 2.0
    for _ in range(60):
        squared = power @ power
        squared /= squared.sum(axis=1, keepdims=True)
        if np.abs(squared - power).max() < 1e-15:
            break
        power = squared
    return start @ power


def entropies(laws: np.ndarray) -> np.ndarray:
    """`-Σ p log p` in nats, over the last axis."""
    return -np.sum(laws * np.log(np.where(laws > 0, laws, 1.0)), axis=-1)
