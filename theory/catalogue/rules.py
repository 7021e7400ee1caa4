"""Learning rules of an associative memory, in closed form over any number of repetitions of one trial.

A trial shows a cue `k` (the conditional stimulus, a key) with an outcome `v` (the unconditional stimulus, a value); the
memory `S [K, V]` answers a cue with `S^T k`. Each rule's `after(memory, k, v, m)` is what `m` equal trials leave.

    Hebb                    S <- a S + b k v^T                        a < 1: forgetting; b < 0: anti-Hebb
    Delta                   S <- S + b k (v - S^T k)^T                Rescorla-Wagner; normalised: b / (e + |k|^2)
    RecursiveLeastSquares   S <- S + P k (v - S^T k)^T / (1 + k^T P k),   P <- P - P k k^T P / (1 + k^T P k)
    Oja                     S <- S + b (k - S v) v^T
    BCM                     S <- S + b k (v (v - t))^T,   t <- t + (v^2 - t)/T      entrywise in v, the outcome

Source: arXiv 2508.08289 for the reading; the rules are standard; the closed forms are derived here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from theory import _checks as check


class Memory(NamedTuple):
    """What a rule carries from trial to trial.

    Attributes:
      S: `[K, V]` associations.
      P: `[K, K]` of recursive least squares, the inverse of what was seen; else None.
      threshold: `[V]` of BCM; else None.
    """

    S: check.Array
    P: check.Array | None = None
    threshold: check.Array | None = None


class Rule(Protocol):
    """A learning rule."""

    def start(self, width: int, outcomes: int) -> Memory:
        """The memory before the first trial, for cues of this width and outcomes of that many entries."""
        ...

    def after(self, memory: Memory, cue: ArrayLike, outcome: ArrayLike, trials: int) -> Memory:
        """The memory after so many equal trials, a cue `[K]` with an outcome `[V]`."""
        ...


@dataclass(frozen=True)
class Hebb:
    """`S_m = a^m S_0 + b (1 + a + ... + a^(m-1)) k v^T`.

    Attributes:
      rate: `b`; negative for the anti-Hebbian rule.
      retention: `a` in [0, 1]; 1 never forgets.
    """

    rate: float = 1.0
    retention: float = 1.0

    def __post_init__(self) -> None:
        check.number("rate", self.rate)
        check.number("retention", self.retention, 0.0, 1.0)

    def start(self, width: int, outcomes: int = 1) -> Memory:
        """All zeros."""
        return Memory(_zeros(width, outcomes))

    def after(self, memory: Memory, cue: ArrayLike, outcome: ArrayLike, trials: int) -> Memory:
        """The formula of the class."""
        k, v, m = _trial(memory, cue, outcome, trials)
        a = self.retention
        return Memory(a**m * memory.S + self.rate * _geometric(a, m) * np.outer(k, v))


@dataclass(frozen=True)
class Delta:
    """`S_m = S_0 + k (v - S_0^T k)^T (1 - (1 - b |k|^2)^m) / |k|^2`: the error shrinks by `1 - b |k|^2` every trial.

    Attributes:
      rate: `b`.
      normalised: divide the rate by `epsilon + |k|^2`, so that the error shrinks by about `1 - b` whatever the cue.
      epsilon: of the normalised rule.
    """

    rate: float = 0.1
    normalised: bool = False
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        check.number("rate", self.rate)
        check.number("epsilon", self.epsilon, 0.0)

    def start(self, width: int, outcomes: int = 1) -> Memory:
        """All zeros."""
        return Memory(_zeros(width, outcomes))

    def after(self, memory: Memory, cue: ArrayLike, outcome: ArrayLike, trials: int) -> Memory:
        """The formula of the class."""
        k, v, m = _trial(memory, cue, outcome, trials)
        size = float(k @ k)
        if size == 0:
            return memory
        rate = self.rate / (self.epsilon + size) if self.normalised else self.rate
        gain = rate * _geometric(1 - rate * size, m)
        return Memory(memory.S + gain * np.outer(k, v - memory.S.T @ k))


@dataclass(frozen=True)
class RecursiveLeastSquares:
    """`S_m = S_0 + m P_0 k (v - S_0^T k)^T / (1 + m k^T P_0 k)`, `P_m = P_0 - m P_0 k k^T P_0 / (1 + m k^T P_0 k)`.

    Derivation: `P_m^-1 = P_0^-1 + m k k^T`, and `S` is the ridge solution of all trials seen.

    Attributes:
      ridge: `lambda` of the start `P = I / lambda`.
    """

    ridge: float = 1.0

    def __post_init__(self) -> None:
        check.number("ridge", self.ridge, 0.0, strict=True)

    def start(self, width: int, outcomes: int = 1) -> Memory:
        """No associations, `P = I / lambda`."""
        return Memory(_zeros(width, outcomes), np.eye(width) / self.ridge)

    def after(self, memory: Memory, cue: ArrayLike, outcome: ArrayLike, trials: int) -> Memory:
        """The formula of the class."""
        k, v, m = _trial(memory, cue, outcome, trials)
        if memory.P is None:
            raise check.fail("memory.P", None, "a matrix", "Begin with `start` of this rule.")
        seen = memory.P @ k
        gain = m / (1 + m * float(k @ seen))
        S = memory.S + gain * np.outer(seen, v - memory.S.T @ k)
        return Memory(S, memory.P - gain * np.outer(seen, seen))


@dataclass(frozen=True)
class Oja:
    """`S_m = S_0 + (k - S_0 v) v^T (1 - (1 - b |v|^2)^m) / |v|^2`: the delta rule with cue and outcome exchanged.

    A trial without an outcome changes nothing, so nothing is ever extinguished; and what is predicted already does not
    block, for the rule corrects its guess of the cue, not of the outcome.

    Attributes:
      rate: `b`.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        check.number("rate", self.rate)

    def start(self, width: int, outcomes: int = 1) -> Memory:
        """All zeros."""
        return Memory(_zeros(width, outcomes))

    def after(self, memory: Memory, cue: ArrayLike, outcome: ArrayLike, trials: int) -> Memory:
        """The formula of the class."""
        k, v, m = _trial(memory, cue, outcome, trials)
        gain = self.rate * _geometric(1 - self.rate * float(v @ v), m)
        return Memory(memory.S + gain * np.outer(k - memory.S @ v, v))


@dataclass(frozen=True)
class BCM:
    """`S_m = S_0 + b k (m v (v - v^2) - v (t_0 - v^2) (1 + r + ... + r^(m-1)))^T`, `t_m = v^2 + r^m (t_0 - v^2)`.

    `r = 1 - 1/T`. The activity is the outcome itself, as in every rule here, so the threshold settles at `v^2` and an
    outcome of 1 ends in balance; one below 1 is learned without end, one above 1 is unlearned. With `T` infinite the
    threshold stays where it is and the rule is Hebb's with `v (v - t)` for `v`.

    Derivation: `t_i - v^2` falls by the factor `r` every trial; sum `v (v - t_i)` over `i < m`.

    Attributes:
      rate: `b`.
      threshold: `t` at the start.
      memory_span: `T` in trials, at least 1.
    """

    rate: float = 0.1
    threshold: float = 0.0
    memory_span: float = np.inf

    def __post_init__(self) -> None:
        check.number("rate", self.rate)
        check.number("threshold", self.threshold)
        if not self.memory_span >= 1:
            raise check.fail("memory_span", self.memory_span, "at least 1", "Pass a number of trials.")

    def start(self, width: int, outcomes: int = 1) -> Memory:
        """No associations, every threshold at its start."""
        return Memory(_zeros(width, outcomes), threshold=np.full(outcomes, float(self.threshold)))

    def after(self, memory: Memory, cue: ArrayLike, outcome: ArrayLike, trials: int) -> Memory:
        """The formula of the class."""
        k, v, m = _trial(memory, cue, outcome, trials)
        if memory.threshold is None:
            raise check.fail("memory.threshold", None, "a vector", "Begin with `start` of this rule.")
        r = 1 - 1 / self.memory_span
        excess = memory.threshold - v**2
        written = m * v * (v - v**2) - v * excess * _geometric(r, m)
        return Memory(memory.S + self.rate * np.outer(k, written), threshold=v**2 + r**m * excess)


def _zeros(width: int, outcomes: int) -> check.Array:
    return np.zeros((check.count("width", width), check.count("outcomes", outcomes)))


def _trial(memory: Memory, cue: ArrayLike, outcome: ArrayLike, trials: int) -> tuple[check.Array, check.Array, int]:
    width, outcomes = memory.S.shape
    v = check.vector("outcome", np.atleast_1d(np.asarray(outcome, dtype=np.float64)), outcomes)
    return check.vector("cue", cue, width), v, check.count("trials", trials, 0)


def _geometric(ratio: float, terms: int) -> float:
    """`1 + r + ... + r^(m-1)`; the quotient loses digits near `r = 1`, where the sum is taken term by term."""
    if abs(1 - ratio) < 1e-3:
        return float(np.sum(ratio ** np.arange(terms)))
    return float((1 - ratio**terms) / (1 - ratio))
