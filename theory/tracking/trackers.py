"""Hand-built linear recurrences that track a group, and the plain loop that runs them.

    S_t = A(g_t) S_(t-1),   answer_t = label of the code nearest to S_t,   S [K, M]

The state starts at a fixed `S_0` (a learned initial state, or what a first token writes); codes are the states that can
be reached, all of one norm, so that the nearest is the one of largest inner product: a linear read-out and an argmax.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Inexact, Int

from theory import _checks as check
from theory.catalogue import householder


class Transition(Protocol):
    """What a letter does to the state."""

    def step(self, letter: int, state: np.ndarray) -> np.ndarray:
        """`A S`, for the letter at this place of the alphabet."""
        ...

    def matrix(self, letter: int) -> np.ndarray:
        """`A`, `[K, K]`."""
        ...


@dataclass(frozen=True, eq=False)
class Diagonal:
    """`A = diag(a)`: real for decays and signs, complex of modulus 1 for rotations.

    Attributes:
      values: `[letters, K]`.
    """

    values: np.ndarray

    def step(self, letter: int, state: np.ndarray) -> np.ndarray:
        """`a` times the rows of the state."""
        return self.values[letter][:, None] * state

    def matrix(self, letter: int) -> np.ndarray:
        """`diag(a)`."""
        return np.diag(self.values[letter])


@dataclass(frozen=True, eq=False)
class Householder:
    """`A = (I - b_m k_m k_m^T) ... (I - b_1 k_1 k_1^T)`: the delta rule with values 0, `m` micro-steps a token.

    Attributes:
      keys: `[letters, m, K]` of norm 1.
      rates: `[letters, m]`, from 0 to 2.
    """

    keys: np.ndarray
    rates: np.ndarray

    def step(self, letter: int, state: np.ndarray) -> np.ndarray:
        """One micro-step after the other: `S <- S - b k (k^T S)`."""
        for key, rate in zip(self.keys[letter], self.rates[letter], strict=True):
            state = state - rate * np.outer(key, key @ state)
        return state

    def matrix(self, letter: int) -> np.ndarray:
        """The product of the factors."""
        product = np.eye(self.keys.shape[2])
        for key, rate in zip(self.keys[letter], self.rates[letter], strict=True):
            product = householder(key, float(rate)) @ product
        return product


@dataclass(frozen=True, eq=False)
class Dense:
    """`A`, any matrix.

    Attributes:
      matrices: `[letters, K, K]`.
    """

    matrices: np.ndarray

    def step(self, letter: int, state: np.ndarray) -> np.ndarray:
        """`A S`."""
        return self.matrices[letter] @ state

    def matrix(self, letter: int) -> np.ndarray:
        """`A`."""
        return self.matrices[letter]


@dataclass(frozen=True, eq=False)
class Tracker:
    """A recurrence with its start and read-out.

    Attributes:
      alphabet: the elements of the group that words are made of.
      transition: what each of them does.
      start: `[K, M]`, the state before the first letter.
      codes: `[C, K, M]` of one norm.
      labels: `[C]`, the element that each code stands for.

    Raises:
      ValueError: the shapes disagree, or the codes are not of one norm.
    """

    alphabet: tuple[int, ...]
    transition: Transition
    start: np.ndarray
    codes: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        shapes = (self.start.shape, self.codes.shape, self.labels.shape)
        if self.codes.shape[1:] != self.start.shape or self.labels.shape != self.codes.shape[:1]:
            raise check.fail("shapes of (start, codes, labels)", shapes, "[K, M], [C, K, M], [C]", "Make them agree.")
        norms = np.linalg.norm(self.codes.reshape(len(self.codes), -1), axis=1)
        if np.ptp(norms) > 1e-9 * norms.max():
            raise check.fail("norms of codes", np.unique(norms).tolist(), "equal", "Normalise the codes.")

    @property
    def state_size(self) -> int:
        """Numbers in the state; a complex one counts as two."""
        return self.start.size * (2 if np.iscomplexobj(self.start) else 1)

    def scores(self, state: Inexact[np.ndarray, "K M"]) -> Float[np.ndarray, " C"]:
        """`Re <code, S>` of every code.

        Args:
          state: `[K, M]`.
        """
        return np.real(np.einsum("ckm,km->c", self.codes.conj(), state))

    def states(self, word: Iterable[int]) -> Inexact[np.ndarray, "N K M"]:
        """The state after every letter.

        Args:
          word: `[N]` elements of the alphabet.
        """
        place = {element: i for i, element in enumerate(self.alphabet)}
        state, found = self.start, []
        for letter in word:
            if int(letter) not in place:
                raise check.fail("letter", int(letter), f"one of the alphabet {self.alphabet}", "Choose other words.")
            state = self.transition.step(place[int(letter)], state)
            found.append(state)
        return np.array(found).reshape(-1, *self.start.shape)

    def run(self, word: Iterable[int]) -> Int[np.ndarray, " N"]:
        """The element read after every letter: `theory.tracking.prefix_products`, if the tracker is right.

        Args:
          word: `[N]` elements of the alphabet.
        """
        return np.array([self.labels[np.argmax(self.scores(state))] for state in self.states(word)], dtype=np.int64)
