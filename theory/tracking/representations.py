"""Groups as orthogonal matrices, found from the Cayley table alone.

The regular representation holds every irreducible one. What commutes with it is the algebra of right translations; a
random symmetric element of that algebra has, with probability one, one irreducible representation over the reals in
each eigenspace (its eigenvalues on the copies of one representation are those of a random Hermitian matrix, distinct).

Source: standard representation theory; the numerical form is derived here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from theory import _checks as check
from theory.tracking.words import Group, alphabet_of

LARGEST = 360  # elements: the eigenvectors of a matrix of that size
MOST_SUMS = 100_000  # sums of irreducible representations that are compared: a second


def irreducible_representations(group: Group) -> tuple[Float[np.ndarray, "n K K"], ...]:
    """Every irreducible representation over the reals, once each, by rising dimension: `rho(g h) = rho(g) rho(h)`.

    A rotation of the plane counts as irreducible here: over the complex numbers it is two of dimension 1.

    Args:
      group: `G`, of at most 360 elements.

    Returns:
      For each, `[n, K, K]` orthogonal matrices.
    """
    table, size = group.table, group.table.shape[0]
    if size > LARGEST:
        raise check.fail("order", size, f"at most {LARGEST}", "Give a representation of your own.")
    inverse = np.argmax(table == group.identity, axis=1)
    weights = np.random.default_rng(0).standard_normal(size)
    mixed = np.zeros((size, size))
    np.add.at(mixed, (table, np.arange(size)[:, None]), (weights + weights[inverse])[None, :])
    values, vectors = np.linalg.eigh(mixed)
    cuts = np.flatnonzero(np.diff(values) > 1e-7 * np.abs(values).max()) + 1
    found: list[check.Array] = []
    for basis in np.split(vectors, cuts, axis=1):
        # Left translation by g takes the row h of the basis to the row g h.
        matrices = np.stack([basis[table[g]].T @ basis for g in range(size)])
        character = np.trace(matrices, axis1=1, axis2=2)
        if all(np.abs(character - np.trace(other, axis1=1, axis2=2)).max() > 1e-6 for other in found):
            found.append(matrices)
    found.sort(key=lambda matrices: matrices.shape[1])
    return tuple(check.frozen(matrices) for matrices in found)


def reflections_needed(matrices: Float[np.ndarray, "n K K"]) -> Int[np.ndarray, " n"]:
    """The least number of reflections whose product is `Q`: the dimension of what `Q` moves, `rank(I - Q)`.

    A product of `m` reflections fixes what all their mirrors share, of codimension at most `m`; and `rank(I - Q)` are
    enough, by `theory.tracking.householder_factors`.

    Args:
      matrices: `[n, K, K]` orthogonal.
    """
    moved = np.linalg.svd(np.eye(matrices.shape[-1]) - matrices, compute_uv=False)
    return np.sum(moved > 1e-6, axis=-1)


def is_faithful(matrices: Float[np.ndarray, "n K K"]) -> bool:
    """Whether no two elements have the same matrix.

    Args:
      matrices: `[n, K, K]`, a representation.
    """
    trace = np.trace(matrices, axis1=1, axis2=2)
    return int(np.sum(trace > matrices.shape[1] - 1e-6)) == 1


def faithful_representation(group: Group, alphabet: Iterable[int] | None = None) -> Float[np.ndarray, "n K K"]:
    """A faithful representation in which the letters need few reflections: the least of the largest number, then of
    the dimension, over all sums of up to as many irreducible representations as it takes, and at least two.

    `Z_n`: rotations of the plane. `S_n`: the standard one, of dimension `n - 1`, where transpositions are reflections.
    `A5`: the rotations of the icosahedron. `S4`: those of the cube.

    Args:
      group: `G`, of at most 360 elements.
      alphabet: the letters that count; None for all elements.

    Returns:
      `[n, K, K]`.
    """
    letters, size = list(alphabet_of(group, alphabet)), group.table.shape[0]
    parts = irreducible_representations(group)
    widths = np.array([part.shape[1] for part in parts])
    moved = np.stack([reflections_needed(part) for part in parts])
    trivial = np.stack([np.trace(part, axis1=1, axis2=2) > part.shape[1] - 1e-6 for part in parts])
    best: tuple[tuple[int, int], tuple[int, ...]] | None = None
    for terms in range(1, len(parts) + 1):
        if math.comb(len(parts), terms) > MOST_SUMS:
            raise check.fail("group", group, "one with few representations", "Give a representation of your own.")
        for chosen in itertools.combinations(range(len(parts)), terms):
            rows = list(chosen)
            if trivial[rows].all(axis=0).sum() == 1:
                cost = (int(moved[rows].sum(axis=0)[letters].max()), int(widths[rows].sum()))
                best = min(best or (cost, chosen), (cost, chosen))
        if best is not None and terms >= 2:
            break
    assert best is not None  # the sum of all is the regular representation, which is faithful
    matrices = np.zeros((size, best[0][1], best[0][1]))
    start = 0
    for part in (parts[i] for i in best[1]):
        end = start + part.shape[1]
        matrices[:, start:end, start:end] = part
        start = end
    return check.frozen(matrices)
