"""Coloured objects: a list of objects and their colours; one object is asked for, the answer is its colour.

    bos .. c_1 o_1 c_2 o_2 c_3 o_3 ? o_k  =>  c_k          padding after bos

as in "On the table are a blue pencil, a red cup and a black vase. What colour is the cup?". Objects and colours of a
list are distinct and uniform. With `label_noise` the label is at times another colour of the list: a model that learned
from such labels hesitates among the listed colours, as large models do. The minimal flip asks for another object.

Reference: Merullo, Eickhoff, Pavlick, Circuit Component Reuse Across Tasks, arXiv 2310.08744; the task is that of
Srivastava et al., Beyond the Imitation Game, arXiv 2206.04615.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import answers, circuit_words, draws
from toy_tasks.answers import Plateau
from toy_tasks.backcopy_risks import mean_over
from toy_tasks.base import Batch
from toy_tasks.circuit_words import WORDS, Flip, Words
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class ColouredObjects:
    """The colour of one object of a list.

    Attributes:
      words: the vocabulary; its names serve as objects.
      length: `T >= 2 num_objects + 3`; what is more is padding behind bos.
      num_objects: `n`, of a list.
      label_noise: `ρ`, the probability that the target is one of the `n - 1` other colours of the list, each alike.

    A batch has as target the (perhaps wrong) label at the last place, where alone `loss_mask` is 1, and 0 elsewhere.
    Position classes: every place is one of `bos`, `padding`, `colour`, `object`, `question` and `answer` (the object
    that is asked for, at the last place); `right_colour` and `right_object` are where the answer stands.
    """

    words: Words = WORDS
    length: int = 9
    num_objects: int = 3
    label_noise: float = 0.0

    reference = "Merullo, Eickhoff, Pavlick: Circuit Component Reuse, arXiv 2310.08744 (2023), its task in a small form"

    def __post_init__(self) -> None:
        answers.whole("ColouredObjects.num_objects", self.num_objects, 2)
        least = 2 * self.num_objects + 3
        circuit_words.check("ColouredObjects", self.words, self.length, least, ": bos, pairs, ?, an object")
        note = "of either kind there are that many, and those of a list are distinct"
        most = min(self.words.num_names, self.words.num_colours)
        answers.at_most("ColouredObjects.num_objects", self.num_objects, most, note)
        share = isinstance(self.label_noise, (int, float)) and not isinstance(self.label_noise, bool)
        right = share and 0 <= self.label_noise <= 1
        require(right, "ColouredObjects.label_noise", repr(self.label_noise), "a probability from 0 to 1")

    def at_length(self, length: int) -> ColouredObjects:
        """The same sequences with more or less padding."""
        return dataclasses.replace(self, length=length)

    @property
    def vocab_size(self) -> int:
        """`V`."""
        return self.words.vocab_size

    @property
    def plateaus(self) -> dict[str, Plateau]:
        """vocabulary: knows nothing. colours: knows what a colour is. list: knows which are listed, not the object's.
        oracle: knows all but the noise of the label, `-(1 - ρ) log (1 - ρ) - ρ log (ρ / (n - 1))`."""
        sizes = {"vocabulary": self.vocab_size, "colours": self.words.num_colours, "list": self.num_objects}
        plateaus = {name: Plateau(float(np.log(size)), 1.0 / size) for name, size in sizes.items()}
        law = np.array([1.0 - self.label_noise] + [self.label_noise / (self.num_objects - 1)] * (self.num_objects - 1))
        entropy = -float(np.sum(law * np.log(np.where(law > 0, law, 1.0))))
        return plateaus | {"oracle": Plateau(abs(entropy), float(law.max()))}

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        return "\n".join(
            [
                f"Coloured objects, {self.num_objects} of {self.words.num_names} in {self.words.num_colours} colours, "
                f"label noise {self.label_noise:g}, V = {self.vocab_size}, T = {self.length}",
                f"plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        object_key, colour_key, asked_key, noise_key, other_key = jax.random.split(key, 5)
        size, count = batch_size, self.num_objects
        objects = draws.distinct(object_key, size, count, self.words.num_names)
        colours = draws.distinct(colour_key, size, count, self.words.num_colours)
        asked = jax.random.randint(asked_key, (size,), 0, count, jnp.int32)
        wrong = jax.random.uniform(noise_key, (size,), jnp.float32) < np.float32(self.label_noise)
        other = (asked + jax.random.randint(other_key, (size,), 1, count, jnp.int32)) % count
        return self.assemble(objects, colours, asked, jnp.where(wrong, other, asked))

    def assemble(
        self, objects: Int[Array, "B n"], colours: Int[Array, "B n"], asked: Int[Array, " B"], label: Int[Array, " B"]
    ) -> Batch:
        """The batch of given lists (colours from 0), of which item is asked, and of which the label has its colour."""
        colours = self.words.first_colour + colours
        size = len(objects)
        pairs = jnp.stack([colours, objects], axis=2).reshape(size, -1)
        asks = jnp.take_along_axis(objects, asked[:, None], axis=1)
        mark = jnp.full((size, 1), self.words.question, jnp.int32)
        head = jnp.full((size, self.length - pairs.shape[1] - 2), self.words.padding, jnp.int32)
        inputs = jnp.concatenate([head.at[:, 0].set(self.words.bos), pairs, mark, asks], axis=1)
        return self._batch(inputs, jnp.take_along_axis(colours, label[:, None], axis=1)[:, 0])

    def _batch(self, inputs: Int[Array, "B T"], label: Int[Array, " B"]) -> Batch:
        place = jnp.broadcast_to(jnp.arange(self.length, dtype=jnp.int32) - self.length, inputs.shape)  # from the end
        listed = (place >= -2 - 2 * self.num_objects) & (place < -2)
        answer = place == -1
        positions = {
            "bos": place == -self.length,
            "padding": (place < -2 - 2 * self.num_objects) & (place > -self.length),
            "colour": listed & (place % 2 == 0),
            "object": listed & (place % 2 == 1),
            "question": place == -2,
            "answer": answer,
        }
        positions["right_object"] = positions["object"] & (inputs == inputs[:, -1:])
        positions["right_colour"] = jnp.pad(positions["right_object"][:, 1:], ((0, 0), (0, 1)))
        return Batch(inputs, jnp.where(answer, label[:, None], 0), answer.astype(jnp.float32), positions)

    def _list(self, inputs: Int[Array, "B T"]) -> tuple[Int[Array, "B n"], Int[Array, "B n"]]:
        """The objects and their colours."""
        pairs = inputs[:, self.length - 2 - 2 * self.num_objects : -2]
        return pairs[:, 1::2], pairs[:, 0::2]

    def answer(self, inputs: Int[Array, "B T"]) -> Int[Array, " B"]:
        """The colour of the object that is asked for."""
        objects, colours = self._list(inputs)
        asked = jnp.argmax(objects == inputs[:, -1:], axis=1, keepdims=True)
        return jnp.take_along_axis(colours, asked, axis=1)[:, 0]

    def corrupt(self, batch: Batch, key: Key[Array, ""]) -> Flip:
        """Another object of the list is asked for, each alike: one token changes. Labels of the flip have no noise."""
        objects, _ = self._list(batch.inputs)
        asked = jnp.argmax(objects == batch.inputs[:, -1:], axis=1).astype(jnp.int32)
        step = jax.random.randint(key, asked.shape, 1, self.num_objects, jnp.int32)
        other = jnp.take_along_axis(objects, ((asked + step) % self.num_objects)[:, None], axis=1)[:, 0]
        flipped = batch.inputs.at[:, -1].set(other)
        wrong = self.answer(flipped)
        return Flip(self._batch(flipped, wrong), self.answer(batch.inputs), wrong)

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """`1 - ρ` on the object's colour, `ρ / (n - 1)` on every other of the list; uniform where nothing is asked."""
        _, colours = self._list(batch.inputs)
        right, count = self.answer(batch.inputs)[:, None], self.num_objects
        law = jnp.where(colours == right, 1.0 - self.label_noise, self.label_noise / (count - 1)).astype(jnp.float32)
        spread = jnp.sum(jax.nn.one_hot(colours, self.vocab_size, dtype=jnp.float32) * law[..., None], axis=1)
        asked = batch.positions["answer"][..., None]
        return jnp.where(asked, spread[:, None], 1.0 / self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """At the last place: `loss` in nats and `accuracy` against the labels; `correct`, the share of right colours,
        whatever the labels say."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        where = batch.positions["answer"]
        right = jnp.argmax(logits, axis=-1).astype(jnp.int32) == self.answer(batch.inputs)[:, None]
        return answers.answer_risks(logits, batch, where) | {"correct": mean_over(right.astype(logits.dtype), where)}
