"""The indirect object: two names, one of which comes again; the answer is the other one.

    bos .. f A f B f S f  =>  the name of A, B that is not S          S = A or S = B, either order; padding after bos

as in "Then Mary and John went out. John gave a drink to" => "Mary". Names are distinct and uniform, fillers independent
and uniform: nothing but the repetition says the answer. The minimal flip makes the last name the other one.

Reference: Wang et al., Interpretability in the Wild, arXiv 2211.00593, for the task; Merullo, Eickhoff, Pavlick,
Circuit Component Reuse Across Tasks, arXiv 2310.08744, for its comparison with coloured objects.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from toy_tasks import answers, circuit_words, draws
from toy_tasks.answers import Plateau
from toy_tasks.base import Batch
from toy_tasks.circuit_words import WORDS, Flip, Words

SHORTEST = 8


@dataclass(frozen=True)
class IndirectObject:
    """The name that is not repeated.

    Attributes:
      words: the vocabulary.
      length: `T >= 8`; what is more is padding behind bos, so that the answer is asked at the last place.

    A batch has as target the answer at the last place, where alone `loss_mask` is 1, and 0 elsewhere. Position classes:
    every place is one of `bos`, `padding`, `object` (the answer), `subject` (the name that comes again), `repeat`
    (where it does), `filler` and `answer` (the last filler).
    """

    words: Words = WORDS
    length: int = 9

    reference = "Wang et al.: Interpretability in the Wild, arXiv 2211.00593 (2022), in a small form"

    def __post_init__(self) -> None:
        circuit_words.check("IndirectObject", self.words, self.length, SHORTEST, ": bos f A f B f S f")

    def at_length(self, length: int) -> IndirectObject:
        """The same sequences with more or less padding."""
        return dataclasses.replace(self, length=length)

    @property
    def vocab_size(self) -> int:
        """`V`."""
        return self.words.vocab_size

    @property
    def plateaus(self) -> dict[str, Plateau]:
        """vocabulary: knows nothing. names: knows what a name is. pair: knows the two names, not which comes again."""
        sizes = {"vocabulary": self.vocab_size, "names": self.words.num_names, "pair": 2}
        return {name: Plateau(float(np.log(size)), 1.0 / size) for name, size in sizes.items()}

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        return "\n".join(
            [
                f"Indirect object, {self.words.num_names} names, V = {self.vocab_size}, T = {self.length}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        name_key, again_key, filler_key = jax.random.split(key, 3)
        names = draws.distinct(name_key, batch_size, 2, self.words.num_names)
        second = jax.random.bits(again_key, (batch_size,), jnp.uint32) >> 31 == 1
        first, last = self.words.first_filler, self.words.bos
        return self.assemble(names, second, jax.random.randint(filler_key, (batch_size, 4), first, last, jnp.int32))

    def assemble(self, names: Int[Array, "B 2"], second: Bool[Array, " B"], fillers: Int[Array, "B 4"]) -> Batch:
        """The batch of given names, whether the second one comes again (else the first), and fillers."""
        again = jnp.where(second, names[:, 1], names[:, 0])
        f = fillers.T
        tail = jnp.stack([f[0], names[:, 0], f[1], names[:, 1], f[2], again, f[3]], axis=1)
        head = jnp.full((len(tail), self.length - tail.shape[1]), self.words.padding, jnp.int32)
        return self._batch(jnp.concatenate([head.at[:, 0].set(self.words.bos), tail], axis=1))

    def _batch(self, inputs: Int[Array, "B T"]) -> Batch:
        place = jnp.broadcast_to(jnp.arange(self.length, dtype=jnp.int32) - self.length, inputs.shape)  # from the end
        answer, repeated = place == -1, inputs == inputs[:, -2:-1]
        named = (place == -6) | (place == -4)
        positions = {
            "bos": place == -self.length,
            "padding": (place < -7) & (place > -self.length),
            "object": named & ~repeated,
            "subject": named & repeated,
            "repeat": place == -2,
            "filler": (place == -7) | (place == -5) | (place == -3),
            "answer": answer,
        }
        return Batch(inputs, jnp.where(answer, self.answer(inputs)[:, None], 0), answer.astype(jnp.float32), positions)

    def answer(self, inputs: Int[Array, "B T"]) -> Int[Array, " B"]:
        """The name that is not repeated."""
        first, second, again = inputs[:, -6], inputs[:, -4], inputs[:, -2]
        return jnp.where(again == first, second, first)

    def corrupt(self, batch: Batch, key: Key[Array, ""] | None = None) -> Flip:
        """The last name becomes the other one, so that subject and object are exchanged: one token. No key is read."""
        right, subject = self.answer(batch.inputs), batch.inputs[:, -2]
        return Flip(self._batch(batch.inputs.at[:, -2].set(right)), right, subject)

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the name that is not repeated; uniform where nothing is asked. Its loss is 0."""
        answer = jnp.broadcast_to(self.answer(batch.inputs)[:, None], batch.inputs.shape)
        return answers.sure(answer, batch.positions["answer"], self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss` in nats and `accuracy`, at the last place."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        return answers.answer_risks(logits, batch, batch.positions["answer"])
