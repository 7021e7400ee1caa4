"""Passkey: one key and its value somewhere in random filler; at the end the key comes again and asks for the value.

    . . . . k v . . . . . . . k          length T; the place of the pair is uniform

What changes with the length is only how much there is to overlook: train at one, test at others by `at_length`.

Reference: the retrieval test of Mohtashami, Jaggi, Landmark Attention, arXiv 2305.16300, in its smallest form.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import answers
from toy_tasks.answers import Plateau
from toy_tasks.base import Batch


@dataclass(frozen=True)
class Passkey:
    """Retrieval of one planted pair.

    Attributes:
      num_keys: tokens `0 .. num_keys - 1`, one of which is planted and asked; never filler.
      num_values: the tokens after these; the value is one of them.
      num_fillers: the tokens after these, of which fillers are drawn, independent and uniform. 0: fillers are drawn
        from the values, so that only the key in front of it tells the value from them.
      length: `T >= 3`, with the pair and the final key.

    A batch has as target the value at the last place, where alone `loss_mask` is 1, and 0 elsewhere.
    Position classes: `key` and `value` of the pair, `filler`, `query`.
    """

    num_keys: int = 1
    num_values: int = 16
    num_fillers: int = 32
    length: int = 64

    reference = "Mohtashami, Jaggi: Landmark Attention, arXiv 2305.16300 (2023), its passkey test in a small form"

    def __post_init__(self) -> None:
        answers.whole("Passkey.num_keys", self.num_keys)
        answers.whole("Passkey.num_values", self.num_values)
        answers.whole("Passkey.num_fillers", self.num_fillers, 0, " (0: fillers are drawn from the values)")
        answers.whole("Passkey.length", self.length, 3, ": a pair and a query")

    def at_length(self, length: int) -> Passkey:
        """The same tokens, more or less filler."""
        return dataclasses.replace(self, length=length)

    @property
    def vocab_size(self) -> int:
        """`V`: keys, values, fillers."""
        return self.num_keys + self.num_values + self.num_fillers

    @property
    def plateaus(self) -> dict[str, Plateau]:
        """vocabulary: knows nothing. values: knows which tokens are values, not which one was planted."""
        sizes = {"vocabulary": self.vocab_size, "values": self.num_values}
        return {name: Plateau(float(np.log(size)), 1.0 / size) for name, size in sizes.items()}

    def describe(self) -> str:
        """A few lines of text: sizes, and what a guess achieves."""
        own = f"{self.num_fillers} fillers" if self.num_fillers else "fillers from the values"
        return "\n".join(
            [
                f"Passkey, {self.num_keys} key(s), {self.num_values} values, {own}, V = {self.vocab_size}, "
                f"T = {self.length}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        key_key, value_key, place_key, filler_key = jax.random.split(key, 4)
        first = self.num_keys + (self.num_values if self.num_fillers else 0)
        last = first + (self.num_fillers or self.num_values)
        fillers = jax.random.randint(filler_key, (batch_size, self.length), first, last, jnp.int32)
        asked = jax.random.randint(key_key, (batch_size,), 0, self.num_keys, jnp.int32)
        value = jax.random.randint(value_key, (batch_size,), self.num_keys, self.num_keys + self.num_values, jnp.int32)
        place = jax.random.randint(place_key, (batch_size,), 0, self.length - 2, jnp.int32)
        return self.assemble(asked, value, place, fillers)

    def assemble(
        self, asked: Int[Array, " B"], value: Int[Array, " B"], place: Int[Array, " B"], fillers: Int[Array, "B T"]
    ) -> Batch:
        """The batch of given keys, their values, the places of the pairs, and fillers that they are written over."""
        here = jnp.arange(fillers.shape[1], dtype=jnp.int32)
        at_key, at_value = here == place[:, None], here == place[:, None] + 1
        query = jnp.broadcast_to(here == fillers.shape[1] - 1, at_key.shape)
        inputs = jnp.where(at_key | query, asked[:, None], jnp.where(at_value, value[:, None], fillers))
        positions = {"key": at_key, "value": at_value, "query": query, "filler": ~(at_key | at_value | query)}
        return Batch(inputs, jnp.where(query, value[:, None], 0), query.astype(jnp.float32), positions)

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the token behind the first place that holds the last token; uniform where nothing is asked."""
        place = jnp.argmax(batch.inputs == batch.inputs[:, -1:], axis=1, keepdims=True)
        value = jnp.take_along_axis(batch.inputs, place + 1, axis=1)
        answer = jnp.broadcast_to(value, batch.inputs.shape)
        return answers.sure(answer, batch.positions["query"], self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss` in nats and `accuracy`, at the query."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        return answers.answer_risks(logits, batch, batch.positions["query"])
