"""Weights by hand: for a group and a family of transitions that can track it, a recurrence that does.

    sign_tracker        diagonal of signs                Z_2^k                        k channels
    rotation_tracker    complex diagonal                 abelian groups               one channel a cyclic factor
    mirror_tracker      delta rule, one factor a token   Z_2^k, all letters           2^k - 1 channels, one a letter
    householder_tracker delta rule, m factors a token    all, m = `reflections_needed` of a faithful representation
    dense_tracker       any matrix                       all                          n channels, permutation matrices

In all of them `A(g) = rho(g)^T`, so that the state after `g_1 ... g_t` is `rho(g_1 ... g_t)^T S_0`.

Source: the families are those of arXiv 2411.12537 and 2502.10297; the constructions are derived here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from theory import _checks as check
from theory.tracking.factors import householder_factors
from theory.tracking.representations import (
    faithful_representation,
    is_faithful,
    reflections_needed,
)
from theory.tracking.trackers import Dense, Diagonal, Householder, Tracker
from theory.tracking.words import Group, alphabet_of, element_orders


def sign_tracker(group: Group) -> Tracker:
    """Channels that flip: every letter multiplies each channel by 1 or -1.

    Args:
      group: `Z_2^k`, in any guise.

    Raises:
      ValueError: some element is not its own inverse.
    """
    _require_involutions(group)
    return _diagonal_tracker(group, np.round(np.real(_characters(group))))


def rotation_tracker(group: Group) -> Tracker:
    """Channels that turn: every letter multiplies each complex channel by a root of unity.

    The roots are exact to rounding: angles are rounded to multiples of `2 pi / m`, `m` the exponent of the group.

    Args:
      group: abelian.

    Raises:
      ValueError: the group is not abelian.
    """
    if not group.is_abelian:
        raise check.fail("group", group, "abelian", "Diagonal matrices commute: use householder_tracker.")
    return _diagonal_tracker(group, _characters(group))


def mirror_tracker(group: Group) -> Tracker:
    """One factor a token for every letter of `Z_2^k`: a channel of its own for each, `2^k - 1`, that the letter flips.

    The state knows more than the product, the parity of every letter's count; all `2^(2^k - 1)` states are codes.

    Args:
      group: `Z_2^k`, `k` up to 4.

    Raises:
      ValueError: some element is not its own inverse, or the group is too large.
    """
    _require_involutions(group)
    size = group.table.shape[0]
    if not 2 <= size <= 16:
        raise check.fail("order", size, "from 2 to 16", "There is one code for every set of letters.")
    letters = [g for g in range(size) if g != group.identity]
    codes = np.array(list(itertools.product((1.0, -1.0), repeat=size - 1)))
    labels = np.full(len(codes), group.identity)
    for channel, letter in enumerate(letters):
        labels = np.where(codes[:, channel] < 0, group.table[labels, letter], labels)
    keys = np.zeros((size, 1, size - 1))
    keys[letters, 0, np.arange(size - 1)] = 1.0
    keys[group.identity, 0, 0] = 1.0
    rates = np.where(np.arange(size)[:, None] == group.identity, 0.0, 2.0)
    transition = Householder(keys, rates)
    return Tracker(tuple(range(size)), transition, np.ones((size - 1, 1)), codes[:, :, None], labels)


def householder_tracker(
    group: Group,
    alphabet: Iterable[int] | None = None,
    factors: int | None = None,
    representation: np.ndarray | None = None,
) -> Tracker:
    """`m` factors a token: keys and rates of `householder_factors` of a faithful representation.

    Args:
      group: `G`.
      alphabet: the letters of the words; None for all elements.
      factors: `m`; None for as many as the letters need.
      representation: `[n, K, K]` orthogonal and faithful; None for `faithful_representation`.

    Raises:
      ValueError: the representation is none, or is not faithful, or a letter needs more factors.
    """
    letters = alphabet_of(group, alphabet)
    rho = faithful_representation(group, letters) if representation is None else _checked(group, representation)
    needed = int(reflections_needed(rho[list(letters)]).max())
    count = max(needed, 1) if factors is None else check.count("factors", factors)
    made = [householder_factors(rho[g].T, count) for g in letters]
    transition = Householder(np.stack([f.keys for f in made]), np.stack([f.rates for f in made]))
    codes = np.ascontiguousarray(np.swapaxes(rho, 1, 2))
    return Tracker(letters, transition, np.eye(rho.shape[1]), codes, np.arange(len(rho)))


def dense_tracker(group: Group, alphabet: Iterable[int] | None = None) -> Tracker:
    """A one-hot state: letter `g` takes `e_h` to `e_(h g)`. Permutation matrices, so that no rounding occurs.

    Args:
      group: `G`.
      alphabet: the letters of the words; None for all elements.
    """
    letters, size = alphabet_of(group, alphabet), group.table.shape[0]
    matrices = np.zeros((len(letters), size, size))
    for i, letter in enumerate(letters):
        matrices[i, group.table[:, letter], np.arange(size)] = 1.0
    start = np.eye(size)[:, [group.identity]]
    return Tracker(letters, Dense(matrices), start, np.eye(size)[:, :, None], np.arange(size))


def _characters(group: Group) -> np.ndarray:
    """`[n, K]`: faithful complex characters of an abelian group, from the planes of its representation."""
    rho, columns, start = faithful_representation(group), [], 0
    exponent = int(np.lcm.reduce(element_orders(group)))
    while start < rho.shape[1]:
        paired = start + 1 < rho.shape[1] and np.abs(rho[:, start + 1, start]).max() > 1e-6
        columns.append(rho[:, start, start] + 1j * (rho[:, start + 1, start] if paired else 0.0))
        start += 2 if paired else 1
    turns = np.round(np.angle(np.stack(columns, axis=1)) / (2 * np.pi) * exponent) / exponent
    return np.exp(2j * np.pi * turns)


def _diagonal_tracker(group: Group, values: np.ndarray) -> Tracker:
    """Abelian: the state after a word is the character of its product, whatever the order."""
    start = np.ones((values.shape[1], 1), dtype=values.dtype)
    size = len(values)
    return Tracker(tuple(range(size)), Diagonal(values), start, values[:, :, None], np.arange(size))


def _require_involutions(group: Group) -> None:
    orders = element_orders(group)
    if orders.max() > 2:
        worst = int(np.argmax(orders))
        raise check.fail(f"order of element {worst}", int(orders[worst]), "1 or 2", "Signs track Z_2^k alone.")


def _checked(group: Group, representation: np.ndarray) -> np.ndarray:
    rho = np.asarray(representation, dtype=np.float64)
    size = group.table.shape[0]
    if rho.ndim != 3 or rho.shape[0] != size or rho.shape[1] != rho.shape[2]:
        raise check.fail("shape of representation", rho.shape, f"({size}, K, K)", "Pass one matrix for each element.")
    worst = max(float(np.abs(rho[g] @ rho - rho[group.table[g]]).max()) for g in range(size))
    if worst > 1e-8 or not is_faithful(rho):
        raise check.fail("representation", worst, "faithful, with rho(g) rho(h) = rho(g h)", "Pass another.")
    return rho
