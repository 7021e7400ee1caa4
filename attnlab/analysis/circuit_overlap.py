"""Do two tasks use the same heads? Overlap of circuits, with what chance and an unrelated task give.

Two random sets of `k` among `N` heads share `k / N` of their members, so an overlap says something only above that, and
only above the overlap with a task that has nothing in common (2605.08348 finds circuits of unrelated tasks to overlap).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from attnlab.config import require


class Overlap(NamedTuple):
    """Jaccard index and share of members, of two sets of `size` among `total` heads; what chance gives; its p-value."""

    jaccard: float
    shared: float
    size: int
    total: int
    chance_jaccard: float
    chance_shared: float
    p: float


def circuit(scores: Float[np.ndarray, "L H"], size: int) -> Bool[np.ndarray, "L H"]:
    """The `size` heads with the largest absolute scores; NaN never is one."""
    flat = np.nan_to_num(np.abs(np.asarray(scores, float)), nan=-1.0).ravel()
    count = int((flat >= 0).sum())
    require(1 <= size <= count, "size", size, f"1 to {count} heads")
    chosen = np.zeros(flat.size, bool)
    chosen[np.argsort(-flat, kind="stable")[:size]] = True
    return chosen.reshape(np.shape(scores))


def jaccard(one: Bool[np.ndarray, "L H"], two: Bool[np.ndarray, "L H"]) -> float:
    """`|A ∩ B| / |A ∪ B|`."""
    return float((one & two).sum() / (one | two).sum())


def overlap(
    one: Float[np.ndarray, "L H"], two: Float[np.ndarray, "L H"], size: int, draws: int = 10_000, seed: int = 0
) -> Overlap:
    """The overlap of the top `size` heads by two scores, and the share of random sets that overlap as much."""
    first, second = circuit(one, size), circuit(two, size)
    total = int(np.isfinite(np.asarray(one)).sum())
    rng = np.random.default_rng(seed)
    common = rng.hypergeometric(size, total - size, size, draws)  # members shared by two random sets
    indices = common / (2 * size - common)
    found = jaccard(first, second)
    return Overlap(
        found,
        float((first & second).sum() / size),
        size,
        total,
        float(indices.mean()),
        size / total,
        float((1 + (indices >= found - 1e-12).sum()) / (1 + draws)),
    )


def paired_p(differences: Float[np.ndarray, " S"], draws: int = 10_000, seed: int = 0) -> float:
    """One-sided p-value of a mean above 0 by flipping signs of the seeds' differences; exact for up to 13 seeds."""
    values = np.asarray(differences, float)
    if len(values) <= 13:
        signs = np.array(np.meshgrid(*[[1, -1]] * len(values))).reshape(len(values), -1).T
        return float((signs @ values >= values.sum() - 1e-12).mean())
    signs = np.random.default_rng(seed).choice([1, -1], (draws, len(values)))
    return float((1 + (signs @ values >= values.sum() - 1e-12).sum()) / (1 + draws))
