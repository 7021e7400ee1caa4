"""Automata: the languages they claim to hold, by other means; and the facts of theory."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlab import config
from toy_tasks.automata import Automaton


def balanced(word: str, depth: int) -> bool:
    opened = [word[:n].count("(") - word[:n].count(")") for n in range(len(word) + 1)]
    return min(opened) >= 0 and max(opened) <= depth and opened[-1] == 0


CASES = {
    "parity": (Automaton.parity(), lambda w: w.count("1") % 2 == 1),
    "mod 3": (Automaton.counter(3), lambda w: w.count("1") % 3 == 0),
    "mod 1": (Automaton.counter(1), lambda w: True),
    "dyck 1": (Automaton.dyck(1), lambda w: balanced(w, 1)),
    "dyck 3": (Automaton.dyck(3), lambda w: balanced(w, 3)),
    "aba": (Automaton.contains("aba"), lambda w: "aba" in w),
    "abcab": (Automaton.contains("abcab", "abc"), lambda w: "abcab" in w),
    "(ab)*": (Automaton.repeated("ab"), lambda w: re.fullmatch("(ab)*", w) is not None),
    "(aba)*": (Automaton.repeated("aba"), lambda w: re.fullmatch("(aba)*", w) is not None),
}


@pytest.mark.parametrize("name", CASES)
def test_languages_by_all_short_words(name):
    automaton, holds = CASES[name]
    for length in range(9 if automaton.num_symbols == 2 else 7):
        for letters in itertools.product(automaton.alphabet, repeat=length):
            assert automaton.accepts("".join(letters)) == holds("".join(letters))


@given(st.text("ab", min_size=1, max_size=5), st.text("ab", max_size=20))
def test_patterns_and_repeats(pattern, word):
    assert Automaton.contains(pattern).accepts(word) == (pattern in word)
    repeated = Automaton.repeated(pattern)
    assert repeated.accepts(word) == (re.fullmatch(f"({pattern})*", word) is not None)
    assert repeated.accepts(pattern * 3) and not repeated.accepts(
        pattern * 2 + "aabb"[: len(pattern) - 1] + "bbaab" * 5
    )


def test_states_mean_what_is_told():
    assert Automaton.dyck(3).read("(()(") == 2 and Automaton.dyck(3).read("((((") == 4 == Automaton.dyck(3).read(")(")
    assert Automaton.contains("aba").read("bbab") == 2 and Automaton.contains("aba").read("abab") == 3
    assert Automaton.repeated("ab").read("aba") == 1 and Automaton.repeated("ab").read("abb") == 2
    assert Automaton.counter(4).read("110111") == 1


def test_facts():
    """Counters permute and never forget; the others are star-free: repeating a word settles."""
    facts = {n: (a.is_reversible, a.is_aperiodic) for n, (a, _) in CASES.items()}
    assert facts["parity"] == facts["mod 3"] == (True, False) and facts["mod 1"] == (True, True)
    assert all(facts[name] == (False, True) for name in ("dyck 1", "dyck 3", "aba", "abcab"))
    assert facts["(ab)*"] == (False, True)  # (aa)* is not:
    assert not Automaton.repeated("aa").is_aperiodic and not Automaton.repeated("abab").is_aperiodic
    assert len(Automaton.counter(5).monoid) == 5 and len(Automaton.repeated("ab").monoid) == 6  # Brandt's, with a one
    assert Automaton.dyck(2).alive.tolist() == [True, True, True, False]
    assert Automaton.contains("ab").alive.all() and Automaton.contains("ab").reachable.all()
    odd = Automaton("odd", "a", ((1,), (0,), (0,)), (2,))
    assert odd.reachable.tolist() == [True, True, False] and odd.alive.tolist() == [False, False, True]


def test_an_automaton_is_a_value():
    for automaton, _ in CASES.values():
        again = config.loads(config.dumps(automaton))
        assert again == automaton and hash(again) == hash(automaton) and not automaton.table.flags.writeable


def test_monoids_that_are_too_large():
    """All maps of seven points to themselves, from a turn, a swap and a merger: 823,543."""
    rows = tuple(((n + 1) % 7, {0: 1, 1: 0}.get(n, n), max(n, 1)) for n in range(7))
    with pytest.raises(ValueError, match=r"Automaton\.monoid: got more than 20000 maps"):
        _ = Automaton("all maps", "tsm", rows, (0,)).monoid


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": 3}, r"Automaton\.name: got 3; allowed is a string"),
        ({"alphabet": "aa"}, r"Automaton\.alphabet: got 'aa'; allowed is different characters"),
        ({"alphabet": ""}, r"Automaton\.alphabet: got ''"),
        (
            {"transitions": ((0, 1),)},
            r"Automaton\.transitions: got .*; allowed is one row per state of 2",
        ),
        ({"transitions": ((0,), (1, 0))}, r"Automaton\.transitions"),
        ({"transitions": ()}, r"Automaton\.transitions"),
        ({"accepting": (2,)}, r"Automaton\.accepting: got \(2,\); allowed is different states from 0 to 1"),
        ({"start": 2}, r"Automaton\.start: got 2; allowed is a state from 0 to 1"),
    ],
)
def test_errors_name_the_field(fields, message):
    good = {"name": "flip", "alphabet": "ab", "transitions": ((0, 1), (1, 0)), "accepting": (0,)}
    with pytest.raises(ValueError, match=message):
        Automaton(**(good | fields))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Automaton.counter(0), r"Automaton\.counter: modulus: got 0; allowed is an integer >= 1"),
        (lambda: Automaton.dyck(0), r"Automaton\.dyck: depth: got 0"),
        (lambda: Automaton.contains("abc"), r"Automaton\.contains: pattern: got 'abc'; allowed is a word of 'ab'"),
        (lambda: Automaton.repeated(""), r"Automaton\.repeated: word: got ''"),
        (lambda: Automaton.parity().read("012"), r"Automaton\.read: character: got '2'; allowed is one of '01'"),
    ],
)
def test_errors_of_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
