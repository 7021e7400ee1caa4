"""Induction: random tokens, none twice, that are repeated for ever; what comes next was behind it a period ago.

    P ~ uniform on {p_min .. p_max};    z_0 .. z_{P-1} distinct, all ordered choices alike;    z_t = z_{t-P}

The period is drawn anew for every sequence: a head that looks back a fixed distance fails, one that finds the token's
last occurrence and reads the one behind it does not. From place `P` on the future is certain.

Reference: Olsson et al., In-context Learning and Induction Heads, arXiv 2209.11895 (repeated random tokens).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Plateau
from toy_tasks.backcopy_risks import cross_entropy, mean_over
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class Induction:
    """Repeated random tokens, the period unknown.

    Attributes:
      vocab_size: `V`, at least the largest period.
      length: `T` input places; a sequence has `T + 1` tokens, the targets are its last `T`.
      periods: `(p_min, p_max)`, both included, `p_max < T`; None = `(T // 4, T // 2)`, which grows with the length.

    Position classes: `copy`, places `t >= P`, whose token was seen before, and where alone `loss_mask` is 1; `first`,
    all before (at place `P - 1` the period ends, but nothing shows it).
    """

    vocab_size: int = 64
    length: int = 64
    periods: tuple[int, int] | None = None

    reference = "Olsson et al.: In-context Learning and Induction Heads, arXiv 2209.11895 (2022)"

    def __post_init__(self) -> None:
        answers.whole("Induction.vocab_size", self.vocab_size)
        answers.whole("Induction.length", self.length, 2, ": a token and its copy")
        if self.periods is not None:
            given = self.periods if isinstance(self.periods, (tuple, list)) and len(self.periods) == 2 else (0, 0)
            right = all(isinstance(p, int) and not isinstance(p, bool) for p in given) and 1 <= given[0] <= given[1]
            require(right, "Induction.periods", self.periods, "two integers 1 <= p_min <= p_max, or None")
            object.__setattr__(self, "periods", tuple(given))
        _, largest = self.period_range
        answers.at_most(
            "Induction.periods", largest, self.length - 1, "length - 1: a token must come back to be copied"
        )
        note = "vocab_size: no token comes twice in a period. Take a larger vocabulary, or give shorter periods"
        answers.at_most("Induction.periods", largest, self.vocab_size, note)

    def at_length(self, length: int) -> Induction:
        """Sequences of another length. Periods that were given stay; the default ones grow with it."""
        return dataclasses.replace(self, length=length)

    @property
    def period_range(self) -> tuple[int, int]:
        """`(p_min, p_max)`."""
        return (max(self.length // 4, 1), self.length // 2) if self.periods is None else self.periods

    @property
    def plateaus(self) -> dict[str, Plateau]:
        """vocabulary: knows nothing. tokens: knows which tokens are in the period, not their order. Over `copy`."""
        low, high = self.period_range
        period = np.arange(low, high + 1)
        weight = (self.length - period) / np.sum(self.length - period)  # a sequence has T - P places that copy
        tokens = Plateau(float(weight @ np.log(period)), float(weight @ (1.0 / period)))
        return {"vocabulary": Plateau(float(np.log(self.vocab_size)), 1.0 / self.vocab_size), "tokens": tokens}

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        low, high = self.period_range
        return "\n".join(
            [
                f"Induction, V = {self.vocab_size}, T = {self.length}, periods {low} to {high}",
                f"oracle 0 nats where tokens are copied; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        period_key, token_key = jax.random.split(key)
        low, high = self.period_range
        period = jax.random.randint(period_key, (batch_size,), low, high + 1, jnp.int32)
        return self.assemble(draws.distinct(token_key, batch_size, high, self.vocab_size), period)

    def assemble(self, tokens: Int[Array, "B P"], period: Int[Array, " B"]) -> Batch:
        """The batch that repeats the first `period` of the given tokens."""
        turn = jnp.arange(self.length + 1, dtype=jnp.int32) % period[:, None]
        sequence = jnp.take_along_axis(tokens, turn, axis=1)
        copy = jnp.arange(self.length, dtype=jnp.int32) >= period[:, None]
        positions = {"copy": copy, "first": ~copy}
        return Batch(sequence[:, :-1], sequence[:, 1:], copy.astype(jnp.float32), positions)

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The exact law of the next token given those so far, everywhere.

        Once the first token has come back, at place `P`, all mass on the token a period ago. Before, with `n` tokens
        seen, the period ends here with probability `h = 1 / (p_max - n + 1)` (0 if `n < p_min`): the first token with
        probability `h`, and otherwise any of the `V - n` tokens not seen yet.
        """
        inputs = batch.inputs
        low, high = self.period_range
        place = jnp.arange(inputs.shape[1], dtype=jnp.int32)
        returned = (inputs == inputs[:, :1]) & (place > 0)
        period = jnp.argmax(returned, axis=1).astype(jnp.int32)[:, None]  # where one has returned
        ago = jnp.take_along_axis(inputs, jnp.maximum(place + 1 - period, 0), axis=1)
        copied = jax.nn.one_hot(ago, self.vocab_size, dtype=jnp.float32)
        seen = place + 1
        left = jnp.maximum(high - seen + 1, 1).astype(jnp.float32)  # periods that may still end
        ends = jnp.where((seen >= low) & (seen <= high), 1.0 / left, 0.0)[:, None]
        unseen = jnp.maximum(self.vocab_size - seen, 1).astype(jnp.float32)
        fresh = self._unseen(inputs) / unseen[:, None]
        first = jax.nn.one_hot(inputs[:, :1], self.vocab_size, dtype=jnp.float32)
        open_law = ends * first + (1.0 - ends) * fresh
        has_returned = jnp.cumsum(returned, axis=1, dtype=jnp.int32) > 0
        return jnp.where(has_returned[..., None], copied, open_law)

    def _unseen(self, inputs: Int[Array, "B T"]) -> Float[Array, "B T V"]:
        """1 for tokens that have not come up to each place."""
        seen = jnp.cumsum(jax.nn.one_hot(inputs, self.vocab_size, dtype=jnp.int32), axis=1, dtype=jnp.int32)
        return (seen == 0).astype(jnp.float32)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Over `copy`: `loss` in nats and `accuracy`. Over `first`, against the exact law: `first`, `excess_first`."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        law = self.oracle(batch)
        entropy = -jnp.sum(law * jnp.log(jnp.where(law > 0, law, 1.0)), axis=-1)
        loss, where = cross_entropy(law, logits), batch.positions["first"]
        first = {"first": mean_over(loss, where), "excess_first": mean_over(loss - entropy, where)}
        return answers.answer_risks(logits, batch, batch.positions["copy"]) | first
