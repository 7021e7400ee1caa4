"""Parity: is the number of ones odd? Asked after every bit, or after the last one.

    x_t ~ Bernoulli(1/2),    y_t = x_0 xor x_1 xor ... xor x_t

The smallest task that needs a state to change sign: a linear recurrence whose transitions have only positive
eigenvalues cannot solve it at all lengths (Grazzi, Siems, Zela, Franke, Hutter, Pontil, arXiv 2411.12537).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import answers
from toy_tasks.answers import Ask, Plateau
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class Parity:
    """Parity of fair bits.

    Attributes:
      ask: `prefix`: the parity of the bits so far, after every bit. `last`: that of all bits, at the last place alone.
      length: `T`, the begin token included.
      bos: begin with the token 2, which is no bit; nothing is asked there.

    A batch has token ids 0 and 1 (and 2) as inputs, and as targets the parity of the prefix, 0 or 1, at every place;
    `loss_mask` is 1 where it is asked. Position classes: `bos`; `bit`; `asked`; `last`, the last place.
    """

    ask: Ask
    length: int = 24
    bos: bool = False

    reference = "Grazzi et al.: Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues, arXiv 2411.12537"

    def __post_init__(self) -> None:
        require(self.ask in get_args(Ask), "Parity.ask", repr(self.ask), " | ".join(get_args(Ask)))
        require(isinstance(self.bos, bool), "Parity.bos", repr(self.bos), "True | False")
        answers.whole("Parity.length", self.length, 1 + self.bos, ": one bit" + ", and bos" * self.bos)

    def at_length(self, length: int) -> Parity:
        """The same task with more or fewer bits."""
        return dataclasses.replace(self, length=length)

    @property
    def vocab_size(self) -> int:
        """`V = 2 + bos`, of the inputs and of the outputs."""
        return 2 + self.bos

    def describe(self) -> str:
        """A few lines of text: sizes, and what a guess achieves."""
        return "\n".join(
            [
                f"Parity of fair bits, T = {self.length}, bos {self.bos}, asked: {self.ask}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        shape = (batch_size, self.length - self.bos)
        bits = (jax.random.bits(key, shape, jnp.uint32) >> 31).astype(jnp.int32)
        return self.batch(jnp.pad(bits, ((0, 0), (int(self.bos), 0)), constant_values=2))

    def batch(self, inputs: Int[Array | np.ndarray, "B T"]) -> Batch:
        """The batch of given tokens, of this or another length."""
        inputs = jnp.asarray(inputs, jnp.int32)
        bit = inputs < 2
        last = jnp.broadcast_to(jnp.arange(inputs.shape[1]) == inputs.shape[1] - 1, bit.shape)
        asked = bit & last if self.ask == "last" else bit
        targets = jnp.cumsum(inputs == 1, axis=1, dtype=jnp.int32) % 2
        positions = {"bit": bit, "bos": ~bit, "last": last, "asked": asked}
        return Batch(inputs, targets, asked.astype(jnp.float32), positions)

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the parity of the prefix where it is asked; uniform elsewhere. Its loss is 0."""
        parity = jnp.cumsum(batch.inputs == 1, axis=1, dtype=jnp.int32) % 2
        return answers.sure(parity, batch.positions["asked"], self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss` in nats and `accuracy` over the places that are asked; `last_loss`, `last_accuracy` at the last one.

        Short prefixes are easy, so that over all of them accuracy is above 1/2 without a state; the last is not.
        """
        return answers.asked_risks(logits, batch, self.vocab_size)

    @property
    def plateaus(self) -> dict[str, Plateau]:
        """coin: knows that the answer is 0 or 1. It stays the best, however many bits are seen, if one bit is not."""
        return {"coin": Plateau(float(np.log(2.0)), 0.5)}
