"""What is tracked: words over a finite group, and the product of every prefix.

A group is anything with a Cayley table and the two facts that decide how hard it is; `toy_tasks.groups.Group` is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from theory import _checks as check


class Group(Protocol):
    """A finite group of elements `0 .. n - 1`. (Attributes may be computed when first asked for: their types are open.)

    Attributes:
      table: `[n, n]` array, `table[g, h] = g h`.
      identity: int, the element that changes none.
      is_abelian: bool, whether `g h = h g` for all.
      is_solvable: bool, whether its derived series ends with the identity alone.
    """

    @property
    def table(self) -> Any: ...
    @property
    def identity(self) -> Any: ...
    @property
    def is_abelian(self) -> Any: ...
    @property
    def is_solvable(self) -> Any: ...


def prefix_products(group: Group, word: Iterable[int]) -> Int[np.ndarray, " N"]:
    """`g_1, g_1 g_2, g_1 g_2 g_3, ...`: the targets of the word problem.

    Args:
      group: `G`.
      word: `[N]` elements.
    """
    found, products = group.identity, []
    for letter in checked_elements(group, word):
        found = int(group.table[found, letter])
        products.append(found)
    return np.array(products, dtype=np.int64)


def element_orders(group: Group) -> Int[np.ndarray, " n"]:
    """The least `m >= 1` with `g^m = 1`, of every element."""
    size = group.table.shape[0]
    powers, orders = np.arange(size), np.ones(size, dtype=np.int64)
    while (unfinished := powers != group.identity).any():
        powers = np.where(unfinished, group.table[powers, np.arange(size)], powers)
        orders += unfinished
    return orders


def checked_elements(group: Group, elements: Iterable[int]) -> tuple[int, ...]:
    """The elements, if they are of the group.

    Raises:
      ValueError: one is not a whole number from 0 to `n - 1`.
    """
    size, found = group.table.shape[0], np.asarray(list(elements))
    if found.size and (found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= size):
        raise check.fail("elements", found.tolist(), f"whole numbers from 0 to {size - 1}", "Pass elements.")
    return tuple(int(g) for g in found)


def alphabet_of(group: Group, alphabet: Iterable[int] | None) -> tuple[int, ...]:
    """The letters of the words: those given, or every element.

    Raises:
      ValueError: there are none, they repeat, or they are not of the group.
    """
    size = group.table.shape[0]
    letters = tuple(range(size)) if alphabet is None else checked_elements(group, alphabet)
    if not letters or len(set(letters)) != len(letters):
        raise check.fail("alphabet", letters, "distinct elements, at least one", "Remove repeats.")
    return letters
