"""Associative recall of one pair: key-value pairs of a dictionary, then one of its keys, which asks for its value.

    a 2 c 4 b 3 a 2 => c          length T = 2 C + 2 with the separator, what is asked at the last place: 4

Every sequence has a dictionary of its own: each key has a value, drawn uniformly and by itself. The keys of the pairs
are drawn with replacement, so that a pair may come again, always with the same value; the key that is asked is uniform
over those that were shown. The published code also trains on the tokens before, which are mostly noise; here, as in its
test, only the answer counts.

Reference: Dao, Fu, Saab, Thomas, Rudra, Ré, Hungry Hungry Hippos, arXiv 2212.14052, and the generator of its code;
longer ones in Poli et al., Hyena Hierarchy, arXiv 2302.10866.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Plateau
from toy_tasks.bag_law import bag_accuracy, bag_entropy, distinct_law
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class SingleRecall:
    """Recall with a single query at the end.

    Attributes:
      num_keys: tokens `0 .. num_keys - 1`.
      num_values: the tokens after these.
      num_pairs: `C`.
      repeats: whether the keys of the pairs are drawn with replacement (as published), or are distinct.
      separator: whether the last token of the vocabulary stands before the key that asks (as published).

    A batch has as target the value at the last place, where alone `loss_mask` is 1, and 0 elsewhere.
    Position classes: `key` and `value` of the pairs, `separator`, `query`.
    """

    num_keys: int = 16
    num_values: int = 16
    num_pairs: int = 16
    repeats: bool = True
    separator: bool = True

    reference = "Dao et al.: Hungry Hungry Hippos, arXiv 2212.14052 (2022), its associative recall"

    def __post_init__(self) -> None:
        for name in ("num_keys", "num_values", "num_pairs"):
            answers.whole(f"SingleRecall.{name}", getattr(self, name))
        for name in ("repeats", "separator"):
            require(
                isinstance(getattr(self, name), bool),
                f"SingleRecall.{name}",
                repr(getattr(self, name)),
                "True | False",
            )
        if not self.repeats:
            note = "the number of keys; or let keys come again by repeats=True"
            answers.at_most("SingleRecall.num_pairs", self.num_pairs, self.num_keys, note)

    @classmethod
    def h3(cls) -> SingleRecall:
        """The setting of the paper's table: 4 keys, 4 values, 10 pairs, so that a guess is right in 25 %."""
        return cls(4, 4, 10)

    def at_length(self, length: int) -> SingleRecall:
        """The same tokens, more or fewer pairs."""
        pairs, rest = divmod(length - 1 - self.separator, 2)
        wanted = f"an {'even' if self.separator else 'odd'} number >= {3 + self.separator}: pairs, and what asks"
        require(pairs >= 1 and rest == 0, "SingleRecall.at_length: length", length, wanted)
        return dataclasses.replace(self, num_pairs=pairs)

    # ---- sizes

    @property
    def length(self) -> int:
        """`T = 2 C + separator + 1`."""
        return 2 * self.num_pairs + self.separator + 1

    @property
    def vocab_size(self) -> int:
        """`V`: keys, values, separator."""
        return self.num_keys + self.num_values + self.separator

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        kind = "drawn with replacement" if self.repeats else "distinct"
        return "\n".join(
            [
                f"Single recall, {self.num_pairs} pairs of {self.num_keys} keys, {kind}, and {self.num_values} values",
                f"V = {self.vocab_size}, T = {self.length}, separator {self.separator}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        keys_key, values_key, asked_key = jax.random.split(key, 3)
        size, shape = self.num_keys, (batch_size, self.num_pairs)
        if self.repeats:
            keys = jax.random.randint(keys_key, shape, 0, size, jnp.int32)
        else:
            keys = draws.distinct(keys_key, *shape, size)
        book = jax.random.randint(values_key, (batch_size, size), 0, self.num_values, jnp.int32)
        rows = jnp.arange(batch_size, dtype=jnp.int32)[:, None]
        shown = jnp.zeros((batch_size, size), bool).at[rows, keys].set(True)
        lots = (jax.random.bits(asked_key, (batch_size, size), jnp.uint32) >> 1) + np.uint32(1)
        asked = jnp.argmax(jnp.where(shown, lots, 0), axis=1).astype(jnp.int32)  # the highest lot of what was shown
        return self.assemble(keys, jnp.take_along_axis(book, keys, axis=1), asked)

    def assemble(self, keys: Int[Array, "B C"], values: Int[Array, "B C"], asked: Int[Array, " B"]) -> Batch:
        """The batch of given pairs, numbers of keys and of values each from 0, and the keys that ask."""
        pairs = jnp.stack([keys, self.num_keys + values], axis=2).reshape(len(keys), -1)
        ends = jnp.full((len(keys), int(self.separator)), self.vocab_size - 1, jnp.int32)
        inputs = jnp.concatenate([pairs, ends, asked[:, None]], axis=1)
        place = jnp.arange(inputs.shape[1], dtype=jnp.int32)
        pair, query = place < pairs.shape[1], place == inputs.shape[1] - 1
        kinds = {"key": pair & (place % 2 == 0), "value": pair & (place % 2 == 1), "query": query}
        positions = {name: jnp.broadcast_to(at, inputs.shape) for name, at in kinds.items()}
        positions["separator"] = jnp.broadcast_to(~pair & ~query, inputs.shape)
        targets = jnp.where(positions["query"], self._value(inputs)[:, None], 0)
        return Batch(inputs, targets, positions["query"].astype(jnp.float32), positions)

    def _value(self, inputs: Int[Array, "B T"]) -> Int[Array, " B"]:
        """The token behind the first place that holds the last token."""
        place = jnp.argmax(inputs == inputs[:, -1:], axis=1, keepdims=True)
        return jnp.take_along_axis(inputs, place + 1, axis=1)[:, 0]

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the value that was shown with the key; uniform where nothing is asked. Its loss is 0."""
        answer = jnp.broadcast_to(self._value(batch.inputs)[:, None], batch.inputs.shape)
        return answers.sure(answer, batch.positions["query"], self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss`, `accuracy`, and `loss = values + binding`, at the query; see `answers.recall_risks`."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        return answers.recall_risks(logits, batch, batch.positions["query"], self._present(batch.inputs))

    def _present(self, inputs: Int[Array, "B T"]) -> Bool[Array, "B V"]:
        values = inputs[:, 1 : 2 * self.num_pairs : 2]
        rows = jnp.arange(len(values), dtype=jnp.int32)[:, None]
        return jnp.zeros((len(values), self.vocab_size), bool).at[rows, values].set(True)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """What the best predictors pay that know less than the oracle.

        vocabulary: nothing, `log V`. values: which tokens are values, `log num_values`. context: which keys were shown
        with which values, but not which of the keys asks; `m` distinct keys were shown, whose values are `m` balls in
        `num_values` boxes: `Σ_m P(m) E[entropy of the boxes]`.
        """
        sizes = {"vocabulary": self.vocab_size, "values": self.num_values}
        plateaus = {name: Plateau(float(np.log(size)), 1.0 / size) for name, size in sizes.items()}
        shown = distinct_law(self.num_pairs, self.num_keys) if self.repeats else np.eye(self.num_pairs + 1)[-1]
        known = [(p, bag_entropy(m, self.num_values), bag_accuracy(m, self.num_values)) for m, p in _positive(shown)]
        loss, right = (float(sum(row[0] * row[i] for row in known)) for i in (1, 2))
        return plateaus | {"context": Plateau(loss, right)}


def _positive(law: np.ndarray) -> list[tuple[int, float]]:
    """Outcomes and their probabilities, without those that float64 would not notice."""
    return [(m, float(p)) for m, p in enumerate(law) if p > 1e-18]
