"""The word problem of a finite group: the product of a word's letters, asked after every letter.

    g_1 g_2 ... g_k, letters drawn independently,    y_t = g_1 g_2 ... g_t    (from left to right: y_t = y_{t-1} g_t)

Every letter counts: if all elements are letters and one is not known, the product is uniform, whatever the others are.
How hard it is to carry the product along in few layers depends on the group. S5 and A5 are not solvable, and their word
problem is complete for NC1 (Barrington 1989): out of reach of a fixed number of layers of softmax or diagonal linear
attention, unless TC0 = NC1. Z60 is abelian, A4 x Z5 solvable, and both have as many elements as A5.

References: Merrill, Petty, Sabharwal, The Illusion of State in State-Space Models, arXiv 2404.08819, and its code (all
elements, prefix products); Siems et al., DeltaProduct, arXiv 2502.10297 (swaps alone).
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

from toy_tasks import answers
from toy_tasks.answers import Ask, Plateau
from toy_tasks.base import Batch
from toy_tasks.groups import Group
from toy_tasks.regression_checks import require
from toy_tasks.walk_law import entropies, place_laws

Letters = Literal["all", "generators", "swaps"]

A5 = Group("A5")


@dataclass(frozen=True)
class WordProblem:
    """Prefix products of random words over a finite group.

    Attributes:
      group: or its name, `'A4 x Z5'`.
      length: `T`, the begin token included.
      letters: which elements words are made of, uniformly: `all`; `generators`, a few that generate the group; `swaps`,
        the transpositions of a symmetric group; or a tuple of elements.
      ask: `prefix`: the product so far, after every letter. `last`: that of the whole word, at the last place alone.
      bos: begin with the token `|G|`, which is no element; nothing is asked there.

    Tokens are elements, inputs and answers alike. A batch has as targets the product of the prefix at every place (the
    identity at `bos`); `loss_mask` is 1 where it is asked. Position classes: `bos`; `letter`; `asked`; `last`.
    """

    group: Group = A5
    length: int = 24
    letters: Letters | tuple[int, ...] = "all"
    ask: Ask = "prefix"
    bos: bool = False

    reference = "Merrill, Petty, Sabharwal: The Illusion of State in State-Space Models, arXiv 2404.08819 (2024)"

    def __post_init__(self) -> None:
        if isinstance(self.group, str):
            object.__setattr__(self, "group", Group(self.group))
        require(isinstance(self.group, Group), "WordProblem.group", repr(self.group), "a Group or its name")
        require(self.ask in get_args(Ask), "WordProblem.ask", repr(self.ask), " | ".join(get_args(Ask)))
        require(isinstance(self.bos, bool), "WordProblem.bos", repr(self.bos), "True | False")
        answers.whole("WordProblem.length", self.length, 1 + self.bos, ": one letter" + ", and bos" * self.bos)
        last = self.group.order - 1
        allowed = f"{' | '.join(get_args(Letters))}, or a tuple of different elements from 0 to {last}"
        if isinstance(self.letters, (tuple, list)):
            given = self.letters
            inside = all(isinstance(g, int) and not isinstance(g, bool) and 0 <= g <= last for g in given)
            different = inside and len(set(given)) == len(given) > 0
            require(different, "WordProblem.letters", given, allowed)
            object.__setattr__(self, "letters", tuple(given))
        else:
            require(self.letters in get_args(Letters), "WordProblem.letters", repr(self.letters), allowed)
        require(len(self.alphabet) > 0, "WordProblem.letters", repr(self.letters), f"'all' for {self.group.name}")

    def at_length(self, length: int) -> WordProblem:
        """The same task with longer or shorter words."""
        return dataclasses.replace(self, length=length)

    # ---- sizes

    @property
    def vocab_size(self) -> int:
        """`V = |G| + bos`, of the inputs and of the outputs."""
        return self.group.order + self.bos

    @cached_property
    def alphabet(self) -> tuple[int, ...]:
        """The elements that words are made of."""
        if isinstance(self.letters, tuple):
            return self.letters
        chosen = {
            "all": lambda g: tuple(range(g.order)),
            "generators": lambda g: g.generators,
            "swaps": lambda g: g.swaps,
        }
        return chosen[self.letters](self.group)

    def describe(self) -> str:
        """A few lines of text: the group, sizes, and what a guess achieves."""
        kind = "abelian" if self.group.is_abelian else "solvable" if self.group.is_solvable else "not solvable"
        return "\n".join(
            [
                f"Word problem of {self.group.name} ({self.group.order} elements, {kind}), "
                f"{len(self.alphabet)} of them as letters",
                f"T = {self.length}, bos {self.bos}, asked: {self.ask}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh words, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        shape = (batch_size, self.length - self.bos)
        drawn = jax.random.randint(key, shape, 0, len(self.alphabet), jnp.int32)
        words = jnp.asarray(self.alphabet, jnp.int32)[drawn]
        return self.batch(jnp.pad(words, ((0, 0), (int(self.bos), 0)), constant_values=self.group.order))

    def batch(self, inputs: Int[Array | np.ndarray, "B T"]) -> Batch:
        """The batch of given words, with their begin token if there is one, of this or another length."""
        inputs = jnp.asarray(inputs, jnp.int32)
        letter = inputs < self.group.order
        last = jnp.broadcast_to(jnp.arange(inputs.shape[1]) == inputs.shape[1] - 1, letter.shape)
        asked = letter & last if self.ask == "last" else letter
        positions = {"letter": letter, "bos": ~letter, "last": last, "asked": asked}
        return Batch(inputs, self.products(inputs), asked.astype(jnp.float32), positions)

    def products(self, inputs: Int[Array, "B T"]) -> Int[Array, "B T"]:
        """The product of every prefix, in `O(log T)` rounds of reading the table: the product is associative."""
        size = self.group.order
        table = jnp.asarray(self.group.table.reshape(-1), jnp.int32)
        letters = jnp.where(inputs < size, inputs, self.group.identity)
        return jax.lax.associative_scan(lambda g, h: table[g * size + h], letters, axis=1)

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the product of the prefix where it is asked; uniform elsewhere. Its loss is 0."""
        return answers.sure(self.products(batch.inputs), batch.positions["asked"], self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss` in nats and `accuracy` over the places that are asked; `last_loss`, `last_accuracy` at the last one.

        Short prefixes are easy, so that over all of them accuracy is above chance without a state; the last is not.
        """
        return answers.asked_risks(logits, batch, self.vocab_size)

    @cached_property
    def laws(self) -> np.ndarray:
        """`Float[k + 1, |G|]`: the law of the product of `0 .. k` letters; from 1 on uniform, if all are letters."""
        size = self.group.order
        kernel = np.zeros((size, size))
        for letter in self.alphabet:
            kernel[np.arange(size), self.group.table[:, letter]] += 1.0 / len(self.alphabet)
        start = np.eye(size)[self.group.identity]
        return np.vstack([start, place_laws(kernel, start, self.length - self.bos)])

    def window(self, width: int) -> Plateau:
        """What the best predictor pays that sees the last `width` letters and its place: no state at all.

        It does not know the product `h` before them, and the answer is `h` times what it sees: the entropy of `h`.
        """
        answers.whole("width", width, 0)
        letters = len(self.laws) - 1
        counts = np.arange(1, letters + 1) if self.ask == "prefix" else np.array([letters])
        unseen = self.laws[np.maximum(counts - width, 0)]
        return Plateau(float(entropies(unseen).mean()), float(unseen.max(axis=1).mean()))

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """element: knows what an element is, `log |G|`. place: knows how many letters there were; less if not all
        elements are letters (after an even number of swaps the product is even)."""
        size = self.group.order
        return {"element": Plateau(float(np.log(size)), 1.0 / size), "place": self.window(0)}
