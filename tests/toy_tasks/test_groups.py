"""Groups: axioms of every constructor, orders, commutators by brute force, and the facts of theory."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlab import config
from toy_tasks.groups import Group

FACTORS = st.sampled_from(
    [*(("Z", n) for n in (1, 2, 3, 4, 6)), ("S", 1), ("S", 3), ("A", 2), ("A", 4), ("D", 1), ("D", 3), ("D", 4)]
)
ORDER = {"Z": lambda n: n, "S": lambda n: [1, 1, 2, 6][n], "A": lambda n: [1, 1, 1, 3, 12][n], "D": lambda n: 2 * n}
S3_SQUARED = Group.product(Group.symmetric(3), Group.symmetric(3))


def permutations_of(group: Group, base: int) -> list[tuple[int, ...]]:
    """The permutations of `S_n` or `A_n` in the order that the module promises, sorted by itself."""
    every = sorted(itertools.permutations(range(base)))
    if group.name.startswith("S"):
        return every
    return [p for p in every if np.linalg.det(np.eye(base)[list(p)]) > 0]


@given(st.lists(FACTORS, min_size=1, max_size=2))
def test_every_constructor_makes_a_group(factors):
    """Closed, associative, with identity and inverses, all of it by `from_table`; order and name as they should be."""
    group = Group(" x ".join(f"{kind}{n}" for kind, n in factors))
    size = int(np.prod([ORDER[kind](n) for kind, n in factors]))
    assert group.order == size == len(group.table) and not group.table.flags.writeable
    again = Group.from_table(group.table, group.name)
    assert np.array_equal(again.table, group.table) and again.order == size
    e, table = group.identity, group.table
    assert (table[e] == np.arange(size)).all() and (table[:, e] == np.arange(size)).all()
    assert (table[np.arange(size), group.inverses] == e).all() and (table[group.inverses, np.arange(size)] == e).all()
    for g in range(size):  # a Latin square
        assert set(table[g]) == set(table[:, g]) == set(range(size))
    assert group.is_abelian == (table == table.T).all()
    assert len(group.generated(group.generators)) == size and group.generated([]) == {e}


@given(st.lists(FACTORS, min_size=2, max_size=2), st.data())
def test_a_product_multiplies_by_component(factors, data):
    first, second = (Group(f"{kind}{n}") for kind, n in factors)
    both = Group.product(first, second)
    a, b = (data.draw(st.integers(0, both.order - 1)) for _ in range(2))
    (g, h), (k, m) = divmod(a, second.order), divmod(b, second.order)
    assert both.table[a, b] == first.table[g, k] * second.order + second.table[h, m]
    assert both.is_abelian == (first.is_abelian and second.is_abelian)
    assert both.is_solvable == (first.is_solvable and second.is_solvable)


@pytest.mark.parametrize(("name", "base"), [("S3", 3), ("S4", 4), ("A4", 4), ("A5", 5), ("S5", 5)])
def test_permutations_are_composed(rng, name, base):
    """`(g h)(x) = g(h(x))`, elements in lexicographic order."""
    group = Group(name)
    elements = permutations_of(group, base)
    assert len(elements) == group.order
    for g, h in rng.integers(group.order, size=(200, 2)):
        composed = tuple(elements[g][elements[h][x]] for x in range(base))
        assert elements[group.table[g, h]] == composed


def test_symmetries_of_the_square_are_dihedral():
    """`r^k` and `r^k s` as matrices multiply like their numbers."""
    turn, flip = np.array([[0, -1], [1, 0]]), np.array([[1, 0], [0, -1]])
    matrices = [np.linalg.matrix_power(turn, k) @ m for m in (np.eye(2, dtype=int), flip) for k in range(4)]
    group = Group.dihedral(4)
    for g, h in itertools.product(range(8), repeat=2):
        assert (matrices[g] @ matrices[h] == matrices[group.table[g, h]]).all()


def test_the_facts_of_theory():
    """Z60, A4 x Z5 and A5 have one order and differ in what makes them hard; S5 has 120 elements."""
    abelian, solvable, simple = Group.cyclic(60), Group("A4xZ5"), Group.alternating(5)
    assert abelian.order == solvable.order == simple.order == 60 and Group.symmetric(5).order == 120
    assert (abelian.is_abelian, abelian.is_solvable) == (True, True)
    assert (solvable.is_abelian, solvable.is_solvable) == (False, True)
    assert (simple.is_abelian, simple.is_solvable) == (False, False)
    assert simple.derived_series == (frozenset(range(60)),)  # perfect
    assert not Group.symmetric(5).is_solvable
    sizes = {
        "S3": [6, 3, 1],
        "S4": [24, 12, 4, 1],
        "S5": [120, 60],
        "A4 x Z5": [60, 4, 1],
        "D4": [8, 2, 1],
        "Z7": [7, 1],
    }
    for name, wanted in sizes.items():
        assert [len(subgroup) for subgroup in Group(name).derived_series] == wanted
    assert solvable == Group.product(Group.alternating(4), Group.cyclic(5)) and solvable.name == "A4 x Z5"


@pytest.mark.parametrize("group", [Group("S4"), Group("D4"), S3_SQUARED], ids=lambda g: g.name)
def test_commutators_by_brute_force(group):
    table, back = group.table, group.inverses
    found = {
        int(table[table[table[g, h], back[g]], back[h]]) for g, h in itertools.product(range(group.order), repeat=2)
    }
    while True:  # all products of commutators
        larger = found | {int(table[g, h]) for g, h in itertools.product(found, repeat=2)}
        if larger == found:
            break
        found = larger
    assert group.derived_series[1] == found


def test_swaps_are_the_permutations_that_move_two():
    for n in (2, 3, 4, 5):
        group = Group.symmetric(n)
        elements = permutations_of(group, n)
        assert {elements[i] for i in group.swaps} == {
            tuple(j if x == i else i if x == j else x for x in range(n)) for i, j in itertools.combinations(range(n), 2)
        }
        assert len(group.generated(group.swaps)) == group.order
    with pytest.raises(ValueError, match=r"Group\.swaps: group: got A5; allowed is a symmetric group"):
        _ = Group("A5").swaps


@given(st.lists(st.integers(0, 23), max_size=8))
def test_words_are_multiplied_from_left_to_right(word):
    group = Group("S4")
    elements, value = permutations_of(group, 4), (0, 1, 2, 3)
    for letter in word:
        value = tuple(value[elements[letter][x]] for x in range(4))
    assert elements[group.multiply(word)] == value


def test_a_group_is_a_value():
    """Names are brought to one form; a group goes to a file by its name alone, or with its table if it has none."""
    assert Group("A4×Z5") == Group("A_4 x Z_5") == Group("A4xZ5") and hash(Group("A4xZ5")) == hash(Group("A4 x Z5"))
    assert len(config.dumps(Group("S5"))) < 100
    klein = Group.from_table([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]], "Klein")
    for group in (Group("S5"), klein, Group.product(klein, Group("Z2"))):
        again = config.loads(config.dumps(group))
        assert again == group and np.array_equal(again.table, group.table)
    assert np.array_equal(klein.table, Group("D2").table) and Group.product(klein, Group("Z2")).name == "Klein x Z2"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], r"Group\.table: got 0 rows; allowed is a square"),
        ([[0, 1], [1]], r"Group\.table: got 2 rows; allowed is a square"),
        ([[0, 1], [1, 2]], r"Group\.table: got the entry 2; allowed is integers from 0 to 1"),
        ([[0, 1], [1, 0.5]], r"Group\.table: got the entry 0\.5"),
        ([[1, 1], [1, 1]], r"Group\.table: got no identity"),
        ([[0, 1], [1, 1]], r"Group\.table: got \[1\] without inverse"),
        (
            [[0, 1, 2], [1, 0, 0], [2, 0, 0]],
            r"Group\.table: got \(1 1\) 2 = 2, 1 \(1 2\) = 1; allowed is an associative",
        ),
    ],
)
def test_tables_that_are_no_groups(table, message):
    with pytest.raises(ValueError, match=message):
        Group("wrong", tuple(tuple(row) for row in table))


@pytest.mark.parametrize("name", ["Q8", "Z0", "Z", "A4 y Z5", "", "Z2 x"])
def test_names_that_are_no_groups(name):
    with pytest.raises(ValueError, match=r"Group\.name: got .*; allowed is Z<n>, S<n>, A<n>, D<n> with n >= 1"):
        Group(name)


def test_groups_that_are_too_large():
    with pytest.raises(ValueError, match=r"Group\.name: got S7; allowed is a group of at most 1024 elements"):
        Group.symmetric(7)


def test_almost_a_group_is_found_out():
    """A Latin square with an identity and inverses that is not associative: the smallest loop that is no group."""
    with pytest.raises(ValueError, match=r"got the entry 1\.5"):
        Group.from_table([[0, 1], [1.5, 0]])
    loop = [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
    with pytest.raises(ValueError, match="allowed is an associative product"):
        Group.from_table(loop)
