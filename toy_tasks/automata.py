"""Finite automata: what a stream of symbols does to a state, and which words a regular language holds. Pure NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from toy_tasks.regression_checks import require

LARGEST_MONOID = 20_000


@dataclass(frozen=True)
class Automaton:
    """A deterministic, complete finite automaton.

    Attributes:
      name: for people.
      alphabet: one character per symbol; symbol `a` is `alphabet[a]`.
      transitions: `transitions[state][symbol]`, the next state.
      accepting: the states in which a word is in the language.
      start: the state before the first symbol.
    """

    name: str
    alphabet: str
    transitions: tuple[tuple[int, ...], ...]
    accepting: tuple[int, ...]
    start: int = 0

    def __post_init__(self) -> None:
        require(isinstance(self.name, str), "Automaton.name", repr(self.name), "a string")
        given = self.alphabet if isinstance(self.alphabet, str) else ""
        require(0 < len(given) == len(set(given)), "Automaton.alphabet", repr(self.alphabet), "different characters")
        states = len(self.transitions)
        allowed = f"one row per state of {len(given)} states from 0 to {states - 1}, one for each of {given!r}"
        rows = tuple(tuple(row) for row in self.transitions)
        fits = states > 0 and all(len(row) == len(given) and all(_inside(s, states) for s in row) for row in rows)
        require(fits, "Automaton.transitions", self.transitions, allowed)
        object.__setattr__(self, "transitions", rows)
        object.__setattr__(self, "accepting", tuple(self.accepting))
        listed = all(_inside(s, states) for s in self.accepting) and len(set(self.accepting)) == len(self.accepting)
        require(listed, "Automaton.accepting", self.accepting, f"different states from 0 to {states - 1}")
        require(_inside(self.start, states), "Automaton.start", repr(self.start), f"a state from 0 to {states - 1}")

    # ---- examples

    @classmethod
    def counter(cls, modulus: int) -> Automaton:
        """The number of ones modulo `m`, words of 0 and 1; accepts multiples."""
        _at_least("Automaton.counter: modulus", modulus, 1)
        rows = tuple((state, (state + 1) % modulus) for state in range(modulus))
        return cls(f"number of ones mod {modulus}", "01", rows, (0,))

    @classmethod
    def parity(cls) -> Automaton:
        """Whether the number of ones is odd, which it accepts."""
        return cls("odd number of ones", "01", ((0, 1), (1, 0)), (1,))

    @classmethod
    def dyck(cls, depth: int) -> Automaton:
        """Balanced brackets, nested at most `depth` deep. States: how many are open; the last one, that all is lost."""
        _at_least("Automaton.dyck: depth", depth, 1)
        lost = depth + 1
        rows = [(n + 1 if n < depth else lost, n - 1 if n > 0 else lost) for n in range(depth + 1)]
        return cls(f"balanced brackets of depth <= {depth}", "()", (*rows, (lost, lost)), (0,))

    @classmethod
    def contains(cls, pattern: str, alphabet: str = "ab") -> Automaton:
        """Words in which the pattern stands somewhere. States: how much of it the last symbols are (Knuth, Morris,
        Pratt), until it was seen."""
        inside = isinstance(pattern, str) and len(pattern) > 0 and set(pattern) <= set(alphabet)
        require(inside, "Automaton.contains: pattern", repr(pattern), f"a word of {alphabet!r}, not empty")
        full = len(pattern)
        rows = []
        for state in range(full):
            seen = [pattern[:state] + symbol for symbol in alphabet]
            rows.append(tuple(max(n for n in range(full + 1) if word.endswith(pattern[:n])) for word in seen))
        return cls(f"contains {pattern}", alphabet, (*rows, (full,) * len(alphabet)), (full,))

    @classmethod
    def repeated(cls, word: str, alphabet: str = "ab") -> Automaton:
        """`(word)*`: the word, any number of times. States: how much of it there is; the last one, that all is lost."""
        inside = isinstance(word, str) and len(word) > 0 and set(word) <= set(alphabet)
        require(inside, "Automaton.repeated: word", repr(word), f"a word of {alphabet!r}, not empty")
        size = len(word)
        rows = [tuple((n + 1) % size if symbol == word[n] else size for symbol in alphabet) for n in range(size)]
        return cls(f"({word})*", alphabet, (*rows, (size,) * len(alphabet)), (0,))

    # ---- reading

    @property
    def num_states(self) -> int:
        """Number of states."""
        return len(self.transitions)

    @property
    def num_symbols(self) -> int:
        """Number of symbols."""
        return len(self.alphabet)

    def read(self, word: str) -> int:
        """The state after a word.

        Raises:
          ValueError: a character that is not in the alphabet.
        """
        state = self.start
        for character in word:
            require(
                character in self.alphabet, "Automaton.read: character", repr(character), f"one of {self.alphabet!r}"
            )
            state = self.transitions[state][self.alphabet.index(character)]
        return state

    def accepts(self, word: str) -> bool:
        """Whether the word is in the language."""
        return self.read(word) in self.accepting

    # ---- facts

    @cached_property
    def table(self) -> np.ndarray:
        """`Int[states, symbols]`: the next state. Read-only."""
        table = np.array(self.transitions)
        table.setflags(write=False)
        return table

    @cached_property
    def reachable(self) -> np.ndarray:
        """`Bool[states]`: states that some word leads to."""
        found = np.arange(self.num_states) == self.start
        for _ in range(self.num_states):
            found[np.unique(self.table[found])] = True
        return found

    @cached_property
    def alive(self) -> np.ndarray:
        """`Bool[states]`: states from which some word leads to acceptance; elsewhere all is lost."""
        found = np.isin(np.arange(self.num_states), self.accepting)
        for _ in range(self.num_states):
            found = found | found[self.table].any(axis=1)
        return found

    @property
    def is_reversible(self) -> bool:
        """Whether every symbol permutes the states: then no symbol makes the state forget what it was."""
        return all(len(set(column)) == self.num_states for column in self.table.T.tolist())

    @cached_property
    def monoid(self) -> frozenset[tuple[int, ...]]:
        """What words can do to the states: all maps `state -> state` of words, the empty one too.

        Raises:
          ValueError: there are more than 20,000 of them.
        """
        letters = [tuple(column) for column in self.table.T.tolist()]
        found = {tuple(range(self.num_states))}
        fresh = list(found)
        while fresh:
            reached = {tuple(letter[s] for s in word) for word in fresh for letter in letters} - found
            found |= reached
            fresh = list(reached)
            small = len(found) <= LARGEST_MONOID
            require(small, "Automaton.monoid", f"more than {LARGEST_MONOID} maps", "an automaton with fewer")
        return frozenset(found)

    @cached_property
    def is_aperiodic(self) -> bool:
        """Whether no word repeated moves states in a circle (it never counts modulo anything): then the language is
        star-free, in AC0. Schützenberger 1965; the converse needs the smallest automaton of the language."""
        return all(_settles(word) for word in self.monoid)


def _inside(state: int, states: int) -> bool:
    return isinstance(state, (int, np.integer)) and not isinstance(state, bool) and 0 <= state < states


def _at_least(field: str, value: int, least: int) -> None:
    right = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(right, field, repr(value), f"an integer >= {least}")


def _settles(word: tuple[int, ...]) -> bool:
    """Whether `word^n = word^(n + 1)` for some `n`, which is then at most the number of states."""
    power = word
    for _ in word:
        following = tuple(word[s] for s in power)
        if following == power:
            return True
        power = following
    return False
