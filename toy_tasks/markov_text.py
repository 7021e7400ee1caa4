"""Markov text: the control task, whose next token depends on the last one alone.

    bos x_1 x_2 ..          x_1 ~ π,  x_{t+1} ~ P[x_t]          the words of the tasks that it is compared with

Nothing is repeated on purpose, nothing is asked for: what it shares with a task of recall is what any two tasks share.

Reference: the caution that circuits of unrelated tasks overlap too; the task is our own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from toy_tasks import alias, answers, circuit_words, markov_chain
from toy_tasks.answers import Plateau
from toy_tasks.backcopy_risks import cross_entropy, mean_over
from toy_tasks.base import Batch
from toy_tasks.circuit_words import WORDS, Flip, Words
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class MarkovText:
    """An order-1 Markov chain over all words.

    Attributes:
      words: the vocabulary: names, colours and fillers alike.
      length: `T >= 2`, bos included; a sequence has `T + 1` tokens, the targets are its last `T`, and all count.
      concentration, seed: of the Dirichlet law of the kernel's rows, and of its draw.

    Position classes: `bos` and `text`; `answer`, the last place.
    """

    words: Words = WORDS
    length: int = 9
    concentration: float = 0.1
    seed: int = 0

    reference = "a control: our own task"

    def __post_init__(self) -> None:
        circuit_words.check("MarkovText", self.words, self.length, 2, ": bos, a word")
        markov_chain.check("MarkovText", self.concentration, self.seed)

    def at_length(self, length: int) -> MarkovText:
        """Longer or shorter texts of the same language."""
        return dataclasses.replace(self, length=length)

    @property
    def vocab_size(self) -> int:
        """`V`."""
        return self.words.vocab_size

    @cached_property
    def kernel(self) -> np.ndarray:
        """`Float64[W, W]` over the `W` words."""
        return markov_chain.kernel(self.words.bos, self.concentration, self.seed)

    @cached_property
    def likeliest(self) -> np.ndarray:
        """`Int[W]`: the likeliest successor of each word."""
        return self.kernel.argmax(axis=1)

    @cached_property
    def _tables(self) -> alias.AliasTable:
        return markov_chain.tables(self.kernel)

    @cached_property
    def _flips(self) -> np.ndarray:
        """`Bool[W, W]`: whether two words have different likeliest successors."""
        flips = self.likeliest[:, None] != self.likeliest
        note = "a language in which words have different likeliest successors: take another seed"
        require(flips.any(axis=1).all(), "MarkovText.seed", self.seed, note)
        return flips

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """Over all places. vocabulary: knows nothing. words: knows `π`. oracle: knows `P`."""
        first, size = markov_chain.start(self.kernel), self.length
        unigram = Plateau(_entropy(first), float(first.max()))
        rows = float(first @ [_entropy(row) for row in self.kernel])
        loss = (unigram.loss + (size - 1) * rows) / size
        best = (float(first.max()) + (size - 1) * float(first @ self.kernel.max(axis=1))) / size
        vocabulary = Plateau(float(np.log(self.vocab_size)), 1.0 / self.vocab_size)
        return {"vocabulary": vocabulary, "words": unigram, "oracle": Plateau(loss, best)}

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        return "\n".join(
            [
                f"Markov text of {self.words.bos} words, concentration {self.concentration:g}, seed {self.seed}",
                f"V = {self.vocab_size}, T = {self.length}; nats per place: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh texts, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        return self.assemble(markov_chain.walk(self._tables, key, batch_size, self.length))

    def assemble(self, text: Int[Array, "B T"]) -> Batch:
        """The batch of given texts of `T` words, bos not among them."""
        inputs = jnp.concatenate([jnp.full((len(text), 1), self.words.bos, jnp.int32), text[:, :-1]], axis=1)
        place = jnp.broadcast_to(jnp.arange(self.length, dtype=jnp.int32), inputs.shape)
        positions = {"bos": place == 0, "text": place > 0, "answer": place == self.length - 1}
        return Batch(inputs, text, jnp.ones(inputs.shape, jnp.float32), positions)

    def corrupt(self, batch: Batch, key: Key[Array, ""]) -> Flip:
        """The last word becomes another one, uniform over those with another likeliest successor: one token changes.
        `right` and `wrong` are the likeliest successors of the two; the flip's target there is `wrong`.

        Raises:
          ValueError: a language in which some word has the same likeliest successor as all others.
        """
        last = jnp.minimum(batch.inputs[:, -1], self.words.bos - 1)  # any word, if the row is of another task
        allowed = jnp.asarray(self._flips)[last]
        other = _any_of(key, allowed)
        best = jnp.asarray(self.likeliest, jnp.int32)
        text = jnp.concatenate([batch.inputs[:, 1:-1], other[:, None], best[other][:, None]], axis=1)
        return Flip(self.assemble(text), best[last], best[other])

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The row of the kernel of the word that stands there; `π` at bos."""
        rows = np.zeros((self.vocab_size, self.vocab_size))
        rows[: self.words.bos, : self.words.bos] = self.kernel
        rows[self.words.bos :, : self.words.bos] = markov_chain.start(self.kernel)
        return jnp.asarray(rows, jnp.float32)[batch.inputs]

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Against the exact law `p`: `loss`, `-Σ p log q`; `excess`, that minus the entropy of `p`;
        `accuracy`, `p` of the largest logit. Over the places that count in `loss_mask`."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        law, where = self.oracle(batch), batch.loss_mask > 0
        entropy = -jnp.sum(law * jnp.log(jnp.where(law > 0, law, 1.0)), axis=-1)
        loss = cross_entropy(law, logits)
        said = jnp.take_along_axis(law, jnp.argmax(logits, axis=-1, keepdims=True), axis=-1)[..., 0]
        parts = {"loss": loss, "excess": loss - entropy, "accuracy": said}
        return {name: mean_over(part, where) for name, part in parts.items()}


def _entropy(law: np.ndarray) -> float:
    return float(-np.sum(law * np.log(np.where(law > 0, law, 1.0))))


def _any_of(key: Key[Array, ""], allowed: Bool[Array, "B n"]) -> Int[Array, " B"]:
    """One of the places allowed in each row, each alike: the highest lot wins."""
    lots = (jax.random.bits(key, allowed.shape, jnp.uint32) >> 1) + np.uint32(1)
    return jnp.argmax(jnp.where(allowed, lots, 0), axis=1).astype(jnp.int32)
