"""Streams of a regular language: a finite automaton reads random symbols, and its state is asked after every one.

    s_0 = start,    s_t = δ(s_{t-1}, x_t),    asked: s_t, or whether x_1 .. x_t is in the language

What has to be remembered is one of finitely many states; what makes automata differ is how symbols act on them: those
of a counter permute states and forget nothing, those of a pattern reset them, so that a window of the last symbols is
nearly enough (`RegularLanguage.window`).

Symbols are drawn one after another: with probability `stray` uniform over all; otherwise uniform over those after
which the word can still be completed to one of the language (all, if there is none). With `stray = 1` they are
independent and uniform, but balanced brackets are then soon lost; with `stray = 0` they never are.

References: Hahn, Theoretical Limitations of Self-Attention, arXiv 1906.06755 (parity, Dyck); Bhattamishra, Ahuja,
Goyal, arXiv 2009.11264 (counters, star-free languages); Liu et al., Transformers Learn Shortcuts to Automata,
arXiv 2210.10749.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import alias, answers
from toy_tasks.answers import Ask, Plateau
from toy_tasks.automata import Automaton
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require
from toy_tasks.walk_law import entropies, long_run, place_laws

Say = Literal["state", "accept"]

MOD_3 = Automaton.counter(3)
LARGEST_WINDOW = 2**20  # words times states that `window` goes through


@dataclass(frozen=True)
class RegularLanguage:
    """The state of a finite automaton, or whether it accepts, after random symbols.

    Attributes:
      automaton: see `toy_tasks.automata`: `Automaton.parity()`, `.counter(m)`, `.dyck(depth)`, `.contains("aba")`,
        `.repeated("ab")`, or your own table.
      length: `T`, the begin token included.
      say: `state`: the state. `accept`: 1 if the prefix is in the language, else 0.
      ask: `prefix`: after every symbol. `last`: at the last place alone.
      stray: see above.
      bos: begin with the token behind the symbols, which is none; nothing is asked there.

    A batch has symbols as inputs, and as targets the answer at every place; `loss_mask` is 1 where it is asked.
    Position classes: `bos`; `symbol`; `asked`; `last`; `lost`, places where no word can lead to acceptance any more.
    """

    automaton: Automaton = MOD_3
    length: int = 24
    say: Say = "state"
    ask: Ask = "prefix"
    stray: float = 1.0
    bos: bool = False

    reference = (
        "Liu et al.: Transformers Learn Shortcuts to Automata, arXiv 2210.10749 (2022), for the task; our own laws"
    )

    def __post_init__(self) -> None:
        allowed = "an Automaton, such as Automaton.counter(3)"
        require(isinstance(self.automaton, Automaton), "RegularLanguage.automaton", repr(self.automaton), allowed)
        for name, kind in (("say", Say), ("ask", Ask)):
            given = getattr(self, name)
            require(given in get_args(kind), f"RegularLanguage.{name}", repr(given), " | ".join(get_args(kind)))
        require(isinstance(self.bos, bool), "RegularLanguage.bos", repr(self.bos), "True | False")
        number = isinstance(self.stray, (int, float)) and not isinstance(self.stray, bool) and 0 <= self.stray <= 1
        require(number, "RegularLanguage.stray", repr(self.stray), "a number from 0 to 1")
        answers.whole("RegularLanguage.length", self.length, 1 + self.bos, ": one symbol" + ", and bos" * self.bos)

    def at_length(self, length: int) -> RegularLanguage:
        """The same task with longer or shorter streams."""
        return dataclasses.replace(self, length=length)

    # ---- sizes and laws

    @property
    def num_answers(self) -> int:
        """States, or two."""
        return self.automaton.num_states if self.say == "state" else 2

    @property
    def vocab_size(self) -> int:
        """`V`: symbols and begin token of the inputs, or answers, whichever are more."""
        return max(self.automaton.num_symbols + self.bos, self.num_answers)

    @cached_property
    def labels(self) -> np.ndarray:
        """`Int[states]`: the answer in each state."""
        states = np.arange(self.automaton.num_states)
        return states if self.say == "state" else np.isin(states, self.automaton.accepting).astype(int)

    @cached_property
    def symbol_law(self) -> np.ndarray:
        """`Float[states, symbols]`: the law of the next symbol."""
        hopeful = self.automaton.alive[self.automaton.table].astype(float)
        hopeful[~hopeful.any(axis=1)] = 1.0
        hopeful /= hopeful.sum(axis=1, keepdims=True)
        return self.stray / self.automaton.num_symbols + (1.0 - self.stray) * hopeful

    @cached_property
    def kernel(self) -> np.ndarray:
        """`Float[states, states]`: the chain of states, `Σ_x p(x | s) 1[δ(s, x) = s']`."""
        size = self.automaton.num_states
        kernel = np.zeros((size, size))
        np.add.at(kernel, (np.arange(size)[:, None], self.automaton.table), self.symbol_law)
        return kernel

    @cached_property
    def laws(self) -> np.ndarray:
        """`Float[k + 1, states]`: the law of the state after `0 .. k` symbols."""
        start = np.eye(self.automaton.num_states)[self.automaton.start]
        return np.vstack([start, place_laws(self.kernel, start, self.length - self.bos)])

    @cached_property
    def stationary(self) -> np.ndarray:
        """`Float[states]`: the share of time in each state in a stream without end. All is lost if it can be."""
        return long_run(self.kernel, self.laws[0])

    def describe(self) -> str:
        """A few lines of text: the language, sizes, and what a guess achieves."""
        symbols = f"{self.automaton.num_symbols} symbols {self.automaton.alphabet!r}, stray {self.stray:g}"
        return "\n".join(
            [
                f"Regular language: {self.automaton.name}; {self.automaton.num_states} states, {symbols}",
                f"T = {self.length}, bos {self.bos}, asked: {self.say}, {self.ask}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    @cached_property
    def _tables(self) -> alias.AliasTable:
        return alias.alias_table(self.symbol_law)

    @cached_property
    def _steps(self) -> np.ndarray:
        """`Int32[states * (symbols + 1)]`: the next state; the begin token, behind the symbols, changes none."""
        rest = np.arange(self.automaton.num_states)[:, None]
        return np.hstack([self.automaton.table, rest]).reshape(-1).astype(np.int32)

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh streams, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        words = jax.random.bits(key, (self.length - self.bos, batch_size), jnp.uint32)
        threshold, target = map(jnp.asarray, self._tables)
        steps, width = jnp.asarray(self._steps), self.automaton.num_symbols + 1

        def step(state, word):
            symbol = alias.draw(threshold, target, state, word)
            following = steps[state * width + symbol]
            return following, (symbol, following)

        start = jnp.full((batch_size,), self.automaton.start, jnp.int32)
        symbols, states = (x.T for x in jax.lax.scan(step, start, words)[1])
        front = ((0, 0), (int(self.bos), 0))
        states = jnp.pad(states, front, constant_values=self.automaton.start)
        return self._labelled(jnp.pad(symbols, front, constant_values=width - 1), states)

    def batch(self, inputs: Int[Array | np.ndarray, "B T"]) -> Batch:
        """The batch of given symbols, with their begin token if there is one, of this or another length."""
        inputs = jnp.asarray(inputs, jnp.int32)
        return self._labelled(inputs, self.states(inputs))

    def _labelled(self, inputs: Int[Array, "B T"], states: Int[Array, "B T"]) -> Batch:
        """The batch of symbols and the states after them."""
        symbol = inputs < self.automaton.num_symbols
        last = jnp.broadcast_to(jnp.arange(inputs.shape[1]) == inputs.shape[1] - 1, symbol.shape)
        asked = symbol & last if self.ask == "last" else symbol
        lost = jnp.asarray(~self.automaton.alive)[states]
        positions = {"symbol": symbol, "bos": ~symbol, "last": last, "asked": asked, "lost": lost}
        return Batch(inputs, jnp.asarray(self.labels, jnp.int32)[states], asked.astype(jnp.float32), positions)

    def states(self, inputs: Int[Array, "B T"]) -> Int[Array, "B T"]:
        """The state after every place."""
        steps, width = jnp.asarray(self._steps), self.automaton.num_symbols + 1

        def step(state, symbol):
            following = steps[state * width + symbol]
            return following, following

        start = jnp.full((len(inputs),), self.automaton.start, jnp.int32)
        return jax.lax.scan(step, start, inputs.T)[1].T

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the answer where it is asked; uniform elsewhere. Its loss is 0."""
        answer = jnp.asarray(self.labels, jnp.int32)[self.states(batch.inputs)]
        return answers.sure(answer, batch.positions["asked"], self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss` in nats and `accuracy` over the places that are asked; `last_loss`, `last_accuracy` at the last."""
        return answers.asked_risks(logits, batch, self.vocab_size)

    def window(self, width: int) -> Plateau:
        """What the best predictor pays that sees the last `width` symbols and its place: no state at all.

        With the law of the state before these, every word of `width` symbols is followed to the end. Exact.

        Raises:
          ValueError: there are more than `2^20` words times states.
        """
        answers.whole("width", width, 0)
        size, symbols, letters = self.automaton.num_states, self.automaton.num_symbols, self.length - self.bos
        work = symbols ** min(width, letters) * size
        require(work <= LARGEST_WINDOW, "width", width, f"less: {symbols} symbols to this power, times {size} states")
        counts = range(1, letters + 1) if self.ask == "prefix" else [letters]
        losses, right = [], []
        for count in counts:
            joint = self.laws[max(count - width, 0)][None]  # [words, states]: words seen, and where they lead
            for _ in range(min(width, count)):
                joint = self._extended(joint)
            joint = joint @ np.eye(self.num_answers)[self.labels]
            losses.append(entropies(joint).sum() - entropies(joint.sum(axis=1)))
            right.append(joint.max(axis=1).sum())
        return Plateau(float(np.mean(losses)), float(np.mean(right)))

    def _extended(self, joint: np.ndarray) -> np.ndarray:
        """`Float[words * symbols, states]` of `Float[words, states]`: each word with each further symbol."""
        words, size = joint.shape
        found = np.zeros((words, self.automaton.num_symbols, size))
        for symbol in range(self.automaton.num_symbols):
            moved = joint * self.symbol_law[:, symbol]
            np.add.at(found[:, symbol].T, self.automaton.table[:, symbol], moved.T)
        return found.reshape(-1, size)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """What the best predictors pay that know less than the oracle.

        answers: which answers are possible, all alike. frequency: how often each is right, over all places that are
        asked. place: how often at each place. stationary: what `frequency` becomes in a stream without end, from the
        long-run law of its states.
        """
        counted = np.eye(self.num_answers)[self.labels]
        at = (self.laws[1:] if self.ask == "prefix" else self.laws[-1:]) @ counted
        possible = len(np.unique(self.labels[self.automaton.reachable]))
        found = {"answers": Plateau(float(np.log(possible)), 1.0 / possible)}
        for name, law in (("frequency", at.mean(axis=0)), ("place", at), ("stationary", self.stationary @ counted)):
            found[name] = Plateau(float(entropies(law).mean()), float(law.max(axis=-1).mean()))
        return found
