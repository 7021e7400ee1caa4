"""Finite groups by their Cayley tables: what a word problem multiplies, and the facts that decide how hard it is.

A group is a name in usual notation: `Z60`, `S5`, `A5`, `D4` (dihedral, of order 8), and products, `A4 x Z5`; or any
table, `Group.from_table`. Elements are `0 .. n - 1`:

    Z_n    i j = i + j mod n
    S_n    permutations of 0 .. n - 1 in lexicographic order, (g h)(x) = g(h(x)); element 0 is the identity
    A_n    the even ones of these, in the same order
    D_n    rotations r^k as k, reflections r^k s as n + k, with s r = r^-1 s
    G x H  (g, h) as g |H| + h

The word problem of a group that is not solvable is complete for NC1 (Barrington 1989); that of a solvable one is in
ACC0. Pure NumPy.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from toy_tasks.regression_checks import require

LARGEST = 1024  # elements: the table of S6 (720) has half a million entries, that of S7 25 million


@dataclass(frozen=True)
class Group:
    """A finite group.

    Attributes:
      name: usual notation, from which the table is made; of a group that is given by its table, any name.
      rows: the table, `rows[g][h] = g h`, of a group without a usual name; see `from_table`.
    """

    name: str
    rows: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        require(isinstance(self.name, str), "Group.name", repr(self.name), "a string, such as 'A4 x Z5'")
        if self.rows is None:
            object.__setattr__(self, "name", " x ".join(kind + str(n) for kind, n in _factors(self.name)))
            require(self.order <= LARGEST, "Group.name", self.name, f"a group of at most {LARGEST} elements")
        else:
            table = _square(self.rows)
            object.__setattr__(self, "rows", tuple(tuple(row) for row in table.tolist()))
            _check_axioms(table)

    # ---- how groups are made

    @classmethod
    def cyclic(cls, n: int) -> Group:
        """`Z_n`, addition modulo `n`."""
        return cls(f"Z{n}")

    @classmethod
    def symmetric(cls, n: int) -> Group:
        """`S_n`, all permutations of `n` things."""
        return cls(f"S{n}")

    @classmethod
    def alternating(cls, n: int) -> Group:
        """`A_n`, the even permutations of `n` things."""
        return cls(f"A{n}")

    @classmethod
    def dihedral(cls, n: int) -> Group:
        """`D_n`, the `2 n` symmetries of a regular polygon with `n` corners."""
        return cls(f"D{n}")

    @classmethod
    def product(cls, first: Group, second: Group) -> Group:
        """`G x H`, pairs multiplied by component. Its name is both names if these make it, or else it has a table."""
        name = f"{first.name} x {second.name}"
        if first.rows is None and second.rows is None:
            return cls(name)
        return cls.from_table(_product(first.table, second.table), name)

    @classmethod
    def from_table(cls, table: np.ndarray | Iterable[Iterable[int]], name: str = "group") -> Group:
        """The group of a Cayley table, `table[g, h] = g h`.

        Raises:
          ValueError: the table is no square of `0 .. n - 1`, or an axiom does not hold; it says which, and where.
        """
        return cls(name, tuple(map(tuple, np.asarray(table).tolist())))

    # ---- the table

    @property
    def order(self) -> int:
        """Number of elements."""
        if self.rows is not None:
            return len(self.rows)
        return math.prod(_ORDERS[kind](n) for kind, n in _factors(self.name))

    @cached_property
    def table(self) -> np.ndarray:
        """`Int[n, n]`: the Cayley table, `table[g, h] = g h`. Read-only."""
        if self.rows is not None:
            table = np.array(self.rows)
        else:
            table = np.zeros((1, 1), int)
            for kind, n in _factors(self.name):
                table = _product(table, _TABLES[kind](n))
        table.setflags(write=False)
        return table

    @cached_property
    def identity(self) -> int:
        """The element that changes none."""
        return int(np.flatnonzero((self.table == np.arange(self.order)).all(axis=1))[0])

    @cached_property
    def inverses(self) -> np.ndarray:
        """`Int[n]`: the inverse of each element."""
        return np.argmax(self.table == self.identity, axis=1)

    def multiply(self, word: Iterable[int]) -> int:
        """The product of a word, from left to right; the identity if it is empty."""
        found = self.identity
        for letter in word:
            found = int(self.table[found, letter])
        return found

    # ---- facts

    @cached_property
    def is_abelian(self) -> bool:
        """Whether `g h = h g` for all."""
        return bool((self.table == self.table.T).all())

    def generated(self, elements: Iterable[int]) -> frozenset[int]:
        """The smallest subgroup that holds these elements."""
        letters = np.array(sorted({self.identity, *elements}))
        found = np.zeros(self.order, bool)
        fresh = np.array([self.identity])
        while len(fresh):
            found[fresh] = True
            reached = np.unique(self.table[fresh][:, letters])
            fresh = reached[~found[reached]]
        return frozenset(np.flatnonzero(found).tolist())

    def commutators(self, subgroup: Iterable[int]) -> frozenset[int]:
        """The subgroup that is generated by all `g h g^-1 h^-1` of a subgroup: its derived subgroup."""
        inside = np.array(sorted(subgroup))
        products = self.table[np.ix_(inside, inside)]
        back = self.table[np.ix_(self.inverses[inside], self.inverses[inside])]
        return self.generated(np.unique(self.table[products, back]).tolist())

    @cached_property
    def derived_series(self) -> tuple[frozenset[int], ...]:
        """The group, its derived subgroup, that one's, and so on until nothing changes."""
        series = [frozenset(range(self.order))]
        while len(following := self.commutators(series[-1])) < len(series[-1]):
            series.append(following)
        return tuple(series)

    @cached_property
    def is_solvable(self) -> bool:
        """Whether the derived series ends with the identity alone."""
        return len(self.derived_series[-1]) == 1

    @cached_property
    def generators(self) -> tuple[int, ...]:
        """A few elements that generate the group: each in turn the first that makes the subgroup largest."""
        found: list[int] = []
        inside = self.generated(found)
        while len(inside) < self.order:
            rest = [g for g in range(self.order) if g not in inside]
            found.append(max(rest, key=lambda g: len(self.generated([*found, g]))))
            inside = self.generated(found)
        return tuple(found)

    @cached_property
    def swaps(self) -> tuple[int, ...]:
        """The transpositions of a symmetric group.

        Raises:
          ValueError: the group is not called `S_n`.
        """
        factors = [] if self.rows is not None else _factors(self.name)
        known = len(factors) == 1 and factors[0][0] == "S"
        require(known, "Group.swaps: group", self.name, "a symmetric group, S_n: others have no transpositions")
        moved = [sum(x != i for i, x in enumerate(p)) for p in _permutations(factors[0][1])]
        return tuple(i for i, count in enumerate(moved) if count == 2)


# ---- notation


def _factors(name: str) -> list[tuple[str, int]]:
    """`[("A", 4), ("Z", 5)]` of `A4 x Z5`."""
    found = []
    for part in re.split(r"\s*[x×]\s*", name.strip()):
        match = re.fullmatch(r"([ZSAD])_?([0-9]+)", part)
        allowed = "Z<n>, S<n>, A<n>, D<n> with n >= 1, or a product of these, e.g. 'A4 x Z5'; or Group.from_table"
        require(match is not None and int(match[2]) >= 1, "Group.name", repr(name), allowed)
        assert match is not None
        found.append((match[1], int(match[2])))
    return found


def _permutations(n: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(n)))


def _is_even(permutation: tuple[int, ...]) -> bool:
    return sum(a > b for a, b in itertools.combinations(permutation, 2)) % 2 == 0


# ---- tables


def _cyclic(n: int) -> np.ndarray:
    return np.add.outer(np.arange(n), np.arange(n)) % n


def _composed(permutations: list[tuple[int, ...]]) -> np.ndarray:
    """The table of permutations that are closed under composition."""
    base = len(permutations[0])
    each = np.array(permutations).reshape(len(permutations), base)
    both = each[:, each]  # [g, h, x]: g(h(x))
    weights = base ** np.arange(base)[::-1]  # lexicographic order is the order of these codes
    return np.searchsorted(each @ weights, both @ weights)


def _symmetric(n: int) -> np.ndarray:
    return _composed(_permutations(n))


def _alternating(n: int) -> np.ndarray:
    return _composed([p for p in _permutations(n) if _is_even(p)])


def _dihedral(n: int) -> np.ndarray:
    turn, flip = np.arange(2 * n) % n, np.arange(2 * n) // n
    turned = (turn[:, None] + np.where(flip[:, None] == 1, -1, 1) * turn) % n
    return n * ((flip[:, None] + flip) % 2) + turned


def _product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    size = len(first) * len(second)
    pairs = first[:, None, :, None] * len(second) + second[None, :, None, :]
    return pairs.reshape(size, size)


_ORDERS = {
    "Z": lambda n: n,
    "S": math.factorial,
    "A": lambda n: max(math.factorial(n) // 2, 1),
    "D": lambda n: 2 * n,
}
_TABLES = {"Z": _cyclic, "S": _symmetric, "A": _alternating, "D": _dihedral}


# ---- axioms


def _square(rows: Iterable[Iterable[int]]) -> np.ndarray:
    """The table as an array, if it is a square of numbers that it can hold."""
    lists = [list(row) for row in rows]
    size = len(lists)
    require(size >= 1 and all(len(row) == size for row in lists), "Group.table", f"{size} rows", "a square, not empty")
    require(size <= LARGEST, "Group.table", f"{size} elements", f"at most {LARGEST}")
    table = np.array(lists)
    inside = table.dtype.kind in "iu" and table.min() >= 0 and table.max() < size
    strange = [v for row in lists for v in row if v not in range(size)]
    require(inside, "Group.table", f"the entry {(strange or [table.dtype])[0]}", f"integers from 0 to {size - 1}")
    return table


def _check_axioms(table: np.ndarray) -> None:
    """Raises ValueError unless there are an identity and inverses and the product is associative."""
    size = len(table)
    everything = np.arange(size)
    neutral = (table == everything).all(axis=1) & (table == everything[:, None]).all(axis=0)
    require(neutral.any(), "Group.table", "no identity", "one element e with e g = g e = g for all g")
    e = int(np.argmax(neutral))
    undone = table == e
    lonely = np.flatnonzero(~(undone & undone.T).any(axis=1))
    require(len(lonely) == 0, "Group.table", f"{lonely[:1]} without inverse", "for every g one h with g h = h g = e")
    for g in everything:
        left, right = table[table[g]], table[g][table]
        if (left != right).any():
            h, k = np.argwhere(left != right)[0]
            told = f"({g} {h}) {k} = {left[h, k]}, {g} ({h} {k}) = {right[h, k]}"
            require(False, "Group.table", told, "an associative product")
