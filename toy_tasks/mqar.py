"""Multi-query associative recall: key-value pairs, then some of the keys again, each asking for its value.

    k_1 v_1 k_2 v_2 ... k_C v_C   |   . . k_3 . . . k_1 . . .        length T, fillers written as dots

The keys are `C` distinct ids of `1 .. V/2 - 1`, the values `C` distinct ids of `V/2 .. V - 1`, both anew in every
sequence; 0 is the filler. Behind the pairs there are `(T - 2C) / 2` slots of two places. Pair `i` draws its slot, after
the pairs before it, from those left, with probability in proportion to `g^(a - 1)`, `g = 1, 2, ...`, and its key stands
at the first place of it. What is asked there is the value, which is never shown again.

Fillers that are drawn from all tokens, as the published code does, collide with keys. With `F = T - 2 C passes - C`
places behind the pairs that ask nothing, each filler is one of the `C` keys with probability `C / V`, by itself:

    repeats  F C / V  a sequence     touched  1 - (1 - C / V)^F  of the sequences     (`MQAR.collisions`)

At V = 8192 this is rare for few pairs (T = 64, C = 4: 0.025 repeats, 2.5 % of the sequences) and common for many
(T = 512, C = 64: 2.5 repeats, 92 %); in a small vocabulary (V = 64, T = 48, C = 8) it is 3 repeats and 96 %. A repeat
is a key that asks nothing and is not followed by its value: a model that reads the last occurrence of a key, not the
first, is then wrong. Here fillers avoid the keys of their sequence unless the published behaviour is asked for.

Reference: Arora, Eyuboglu, Timalsina, Johnson, Poli, Zou, Rudra, Ré, Zoology: Measuring and Improving Recall in
Efficient Language Models, arXiv 2312.04927, and the generator of its code.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Plateau
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require
from toy_tasks.slot_law import slot_law

Fillers = Literal["zero", "random", "any"]

FIGURE_2 = {64: 4, 128: 8, 256: 16, 512: 64}  # the pairs of each length


class Collisions(NamedTuple):
    """How fillers show the keys of their sequence: expected number of `repeats`, share of sequences `touched` by any,
    and expected number of fillers `before` a query that show its own key, the mean over queries."""

    repeats: float
    touched: float
    before: float


@dataclass(frozen=True)
class MQAR:
    """Multi-query associative recall with the published law of keys, values and gaps.

    Attributes:
      vocab_size: `V`.
      length: `T`, an even number of at least `2 C (passes + 1)`.
      num_pairs: `C`.
      power: `a > 0`; small favours short gaps, 1 draws all slots alike.
      fillers: what stands where no key is asked, after the pairs. `zero`: the token 0 (the paper's figure 2).
        `random`: independent, uniform over all tokens but the keys of the sequence, so that a key behind the pairs is
        always asked. `any`: independent, uniform over all tokens (the default of the published code), so that a filler
        may repeat a key and be followed by a token that is not its value; how often: `collisions`.
      passes: how often the pairs are shown (2: just read twice, arXiv 2407.05483).

    A batch has as target the value at the places that ask, where alone `loss_mask` is 1, and 0 elsewhere.
    Position classes: `query`; `key` and `value` of the pairs; `filler`. They are disjoint and cover everything.
    """

    vocab_size: int = 8192
    length: int = 64
    num_pairs: int = 4
    power: float = 0.01
    fillers: Fillers = "random"
    passes: int = 1

    reference = "Arora et al.: Zoology, Measuring and Improving Recall, arXiv 2312.04927 (2023)"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "length", "num_pairs", "passes"):
            answers.whole(f"MQAR.{name}", getattr(self, name))
        least = 2 * self.num_pairs * (self.passes + 1)
        fits = self.length >= least and self.length % 2 == 0
        wanted = f"an even number >= 2 num_pairs (passes + 1) = {least}: the pairs, and a slot of two places for each"
        require(fits, "MQAR.length", self.length, wanted)
        answers.at_most("MQAR.num_pairs", self.num_pairs, self.num_keys, f"the keys of vocab_size={self.vocab_size}")
        number = isinstance(self.power, (int, float)) and np.isfinite(self.power) and self.power > 0
        require(number, "MQAR.power", repr(self.power), "a finite number > 0")
        require(self.fillers in get_args(Fillers), "MQAR.fillers", repr(self.fillers), " | ".join(get_args(Fillers)))

    @classmethod
    def figure_2(cls, length: int = 64) -> MQAR:
        """A setting of the paper's figure 2: `V = 8192`, fillers 0, T, C: (64, 4), (128, 8), (256, 16), (512, 64)."""
        require(length in FIGURE_2, "MQAR.figure_2: length", length, " | ".join(map(str, FIGURE_2)))
        return cls(8192, length, FIGURE_2[length], fillers="zero")

    def at_length(self, length: int) -> MQAR:
        """The same task with as many pairs in sequences of another length: larger gaps, more fillers."""
        return dataclasses.replace(self, length=length)

    # ---- sizes

    @property
    def num_keys(self) -> int:
        """Ids `1 .. V // 2 - 1`."""
        return self.vocab_size // 2 - 1

    @property
    def num_values(self) -> int:
        """Ids `V // 2 .. V - 1`."""
        return self.vocab_size - self.vocab_size // 2

    @property
    def context(self) -> int:
        """Places that the pairs take, all passes together."""
        return 2 * self.num_pairs * self.passes

    @cached_property
    def slot_weights(self) -> np.ndarray:
        """`Float[slots]`: the weight `g^(a - 1)` of slot `g - 1`, whose key stands at place `context + 2 (g - 1)`."""
        return np.arange(1, (self.length - self.context) // 2 + 1, dtype=np.float64) ** (self.power - 1.0)

    def describe(self) -> str:
        """A few lines of text: sizes, fillers, and what partial knowledge achieves."""
        met = self.collisions
        told = f" (show keys {met.repeats:.3g}x a sequence, in {met.touched:.1%} of them)" * (self.fillers == "any")
        return "\n".join(
            [
                f"MQAR, V = {self.vocab_size} ({self.num_keys} keys, {self.num_values} values), T = {self.length}",
                f"{self.num_pairs} pairs, shown {self.passes}x, power {self.power:g}, fillers {self.fillers}{told}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        keys_key, values_key, slots_key, filler_key = jax.random.split(key, 4)
        keys = 1 + draws.distinct(keys_key, batch_size, self.num_pairs, self.num_keys)
        values = self.vocab_size // 2 + draws.distinct(values_key, batch_size, self.num_pairs, self.num_values)
        slots = draws.successive(slots_key, self.slot_weights, batch_size, self.num_pairs)
        return self.assemble(keys, values, slots, self._draw_fillers(filler_key, keys))

    def _draw_fillers(self, key: Key[Array, ""], keys: Int[Array, "B C"]) -> Int[Array, "B Z"]:
        zone = self.length - self.context
        if self.fillers == "zero":
            return jnp.zeros((len(keys), zone), jnp.int32)
        if self.fillers == "any":
            return jax.random.randint(key, (len(keys), zone), 0, self.vocab_size, jnp.int32)
        return draws.avoiding(key, keys, zone, self.vocab_size)

    def assemble(
        self, keys: Int[Array, "B C"], values: Int[Array, "B C"], slots: Int[Array, "B C"], fillers: Int[Array, "B Z"]
    ) -> Batch:
        """The batch of given pairs, the slot of each pair, and fillers of the `Z` places behind the pairs."""
        pairs = jnp.tile(jnp.stack([keys, values], axis=2).reshape(len(keys), -1), (1, self.passes))
        rows = jnp.arange(len(keys), dtype=jnp.int32)[:, None]
        zone = fillers.at[rows, 2 * slots].set(keys)
        answer = jnp.zeros_like(fillers).at[rows, 2 * slots].set(values)
        targets = jnp.concatenate([jnp.zeros_like(pairs), answer], axis=1)
        query = targets > 0  # no value is 0
        place = jnp.arange(self.length, dtype=jnp.int32)
        kinds = {"key": (place < self.context) & (place % 2 == 0), "value": (place < self.context) & (place % 2 == 1)}
        positions = {"query": query} | {name: jnp.broadcast_to(at, query.shape) for name, at in kinds.items()}
        positions["filler"] = (place >= self.context) & ~query
        inputs = jnp.concatenate([pairs, zone], axis=1)
        return Batch(inputs, targets, query.astype(jnp.float32), positions)

    # ---- what is best

    def pairs(self, inputs: Int[Array, "B T"]) -> tuple[Int[Array, "B C"], Int[Array, "B C"]]:
        """The keys and the values that a sequence shows."""
        return inputs[:, 0 : 2 * self.num_pairs : 2], inputs[:, 1 : 2 * self.num_pairs : 2]

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the value shown with the key, where one is asked; uniform elsewhere. Its loss is 0."""
        keys, values = self.pairs(batch.inputs)
        same = batch.inputs[:, :, None] == keys[:, None, :]
        answer = jnp.sum(jnp.where(same, values[:, None, :], 0), axis=2, dtype=jnp.int32)
        return answers.sure(answer, batch.positions["query"], self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss`, `accuracy`, and `loss = values + binding`, over the queries; see `answers.recall_risks`.

        `accuracy` is the published metric: every sequence has the same number of queries.
        """
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        return answers.recall_risks(logits, batch, batch.positions["query"], self._present(batch))

    def _present(self, batch: Batch) -> Bool[Array, "B V"]:
        _, values = self.pairs(batch.inputs)
        rows = jnp.arange(len(values), dtype=jnp.int32)[:, None]
        return jnp.zeros((len(values), self.vocab_size), bool).at[rows, values].set(True)

    @cached_property
    def slot_law(self) -> np.ndarray:
        """`Float[C, slots]`: the probability that pair `i` is asked at slot `g`. Early pairs are asked sooner."""
        return slot_law(self.slot_weights, self.num_pairs)

    @property
    def collisions(self) -> Collisions:
        """How often fillers show keys: derived; all zero unless `fillers="any"` (and 0 is no key).

        repeats: `F C / V`. touched: `1 - (1 - C / V)^F`. before: the fillers before the query at slot `g - 1` are the
        `2 (g - 1)` places before it less the queries there, and of two queries one is before the other:
        `(E[2 (g - 1)] - (C - 1) / 2) / V`.
        """
        if self.fillers != "any":
            return Collisions(0.0, 0.0, 0.0)
        places, share = self.length - self.context - self.num_pairs, self.num_pairs / self.vocab_size
        ahead = 2.0 * self.slot_law.mean(axis=0) @ np.arange(self.slot_law.shape[1]) - (self.num_pairs - 1) / 2
        return Collisions(places * share, 1.0 - (1.0 - share) ** places, float(ahead) / self.vocab_size)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """What the best predictors pay that know less than the oracle.

        vocabulary: nothing, `log V`. values: which tokens can be values, `log(V - V // 2)`. context: which values this
        sequence holds, `log C` and right in `1/C`, where training stands before recall sets in. place: also at which
        slot it stands, hence which pairs are likely, but not which key it reads. (A pair draws its slot before the
        pairs behind it do, so that the place of a query says something about its answer: accuracy is above `1/C`
        without any recall.)
        """
        found = {"vocabulary": self.vocab_size, "values": self.num_values, "context": self.num_pairs}
        plateaus = {name: Plateau(float(np.log(size)), 1.0 / size) for name, size in found.items()}
        law = self.slot_law / self.num_pairs
        seen = law.sum(axis=0, keepdims=True)
        loss = -np.sum(law * np.log(np.where(law > 0, law / seen, 1.0)))
        return plateaus | {"place": Plateau(float(loss), float(law.max(axis=0).sum()))}
