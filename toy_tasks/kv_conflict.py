"""What a model knows against what it is told: a fixed map of keys to values, and contexts that may contradict it.

    bos | k v  k v  k v  k v | k | _ | _  =>  v of the context, whatever the map says        context
    bos | _  _  _  _  _  _  _  _ | k | _ | _  =>  v* = map(k)                                bare query

The map is learned in the weights, from bare queries; in a context every pair by itself agrees with it with probability
`agree`, else its value is any other one; the context is always right. Two places behind the query are for an indicator
and for a role; without them padding stands there, so that one model reads every stage:

    KVConflict()                     pretraining: half of the contexts contradict the map, some queries are bare
    task.tuning(role=True)           tuning: 95 % agree; a new token stands where the answer begins
    task.tuning(role=True, indicator="conflict")        the same with the indicator where the context is needed

Both the memory and the context answer most of tuning; what it costs to rely on the memory is seen on conflicts.

Reference: Wang et al., On the Loss of Context-awareness in General Instruction Fine-tuning, arXiv 2411.02688; the task
is our own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Plateau
from toy_tasks.backcopy_risks import mean_over
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require

Indicator = Literal["none", "conflict", "all"]


@dataclass(frozen=True)
class KVConflict:
    """A query that the context answers, or else the memory.

    Attributes:
      num_keys: tokens `0 .. num_keys - 1`. num_values: the tokens after these; then bos, padding, indicator, role.
      num_pairs: `C`, of a context; its keys are distinct, and one of them is asked.
      agree: the probability that a pair has the value of the map.
      bare: the share of sequences without a context.
      role: whether the role token stands at the last place, where the answer is asked.
      indicator: in which sequences the indicator stands behind the query: in none, those in conflict, all.
      seed: of the map: each key's value is uniform, by itself.

    A batch has as target the answer at the last place, where alone `loss_mask` is 1, and 0 elsewhere. Position classes:
    every place is one of `bos`, `key`, `value`, `query`, `indicator`, `role`, `padding`. `user`: all that is said
    before the role (keys, values, query, indicator); `source`: the value in the context of the key that is asked;
    `answer`: the last place, which is also in one of `conflict` (the context contradicts the map about that key),
    `agree`, `bare`.
    """

    num_keys: int = 16
    num_values: int = 16
    num_pairs: int = 4
    agree: float = 0.5
    bare: float = 0.25
    role: bool = False
    indicator: Indicator = "none"
    seed: int = 0

    reference = "Wang et al.: On the Loss of Context-awareness, arXiv 2411.02688 (2024), for the question; our own task"

    def __post_init__(self) -> None:
        for name, least in (("num_keys", 1), ("num_values", 2), ("num_pairs", 1)):
            answers.whole(f"KVConflict.{name}", getattr(self, name), least)
        note = "num_keys: the keys of a context are distinct"
        answers.at_most("KVConflict.num_pairs", self.num_pairs, self.num_keys, note)
        for name in ("agree", "bare"):
            share = getattr(self, name)
            number = isinstance(share, (int, float)) and not isinstance(share, bool)
            require(number and 0 <= share <= 1, f"KVConflict.{name}", repr(share), "a share from 0 to 1")
        require(isinstance(self.role, bool), "KVConflict.role", repr(self.role), "True | False")
        allowed = get_args(Indicator)
        require(self.indicator in allowed, "KVConflict.indicator", repr(self.indicator), " | ".join(allowed))
        seed = isinstance(self.seed, int) and not isinstance(self.seed, bool) and 0 <= self.seed < 2**32
        require(seed, "KVConflict.seed", repr(self.seed), "an integer from 0 to 2^32 - 1")

    def tuning(
        self, *, agree: float = 0.95, bare: float = 0.0, role: bool = False, indicator: Indicator = "none"
    ) -> KVConflict:
        """The stage after pretraining: the same map, contexts that hardly ever contradict it."""
        return dataclasses.replace(self, agree=agree, bare=bare, role=role, indicator=indicator)

    # ---- sizes

    @property
    def length(self) -> int:
        """`T = 2 C + 4`."""
        return 2 * self.num_pairs + 4

    @property
    def vocab_size(self) -> int:
        """`V`: keys, values, bos, padding, indicator, role."""
        return self.num_keys + self.num_values + 4

    @property
    def marks(self) -> dict[str, int]:
        """The tokens that are neither keys nor values."""
        first = self.num_keys + self.num_values
        return {"bos": first, "padding": first + 1, "indicator": first + 2, "role": first + 3}

    @cached_property
    def memory(self) -> np.ndarray:
        """`Int[num_keys]`: the token `v*` of each key."""
        return self.num_keys + np.random.RandomState(self.seed).randint(0, self.num_values, self.num_keys)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """What the best predictors pay that know less than the oracle.

        vocabulary: nothing. memory: the map and the query, not the context; `v*` is right with probability
        `p = bare + (1 - bare) agree`. context: the context and the query, of the map only how often it has each value.
        """
        p, others = self.bare + (1.0 - self.bare) * self.agree, self.num_values - 1
        memory = Plateau(_entropy(np.array([p] + [(1.0 - p) / others] * others)), max(p, (1.0 - p) / others))
        often = np.bincount(self.memory) / self.num_keys
        context = Plateau(self.bare * _entropy(often), 1.0 - self.bare + self.bare * float(often.max()))
        vocabulary = Plateau(float(np.log(self.vocab_size)), 1.0 / self.vocab_size)
        return {"vocabulary": vocabulary, "memory": memory, "context": context}

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        return "\n".join(
            [
                f"Memory against context, {self.num_pairs} pairs of {self.num_keys} keys and {self.num_values} values, "
                f"{self.agree:g} agree, {self.bare:g} bare, role {self.role}, indicator {self.indicator}",
                f"V = {self.vocab_size}, T = {self.length}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        keys_key, agree_key, other_key, asked_key, bare_key = jax.random.split(key, 5)
        shape = batch_size, self.num_pairs
        keys = draws.distinct(keys_key, *shape, self.num_keys)
        known = jnp.asarray(self.memory, jnp.int32)[keys] - self.num_keys
        agrees = jax.random.uniform(agree_key, shape, jnp.float32) < np.float32(self.agree)
        other = (known + jax.random.randint(other_key, shape, 1, self.num_values, jnp.int32)) % self.num_values
        asked = jax.random.randint(asked_key, (batch_size,), 0, self.num_pairs, jnp.int32)
        bare = jax.random.uniform(bare_key, (batch_size,), jnp.float32) < np.float32(self.bare)
        return self.assemble(keys, jnp.where(agrees, known, other), asked, bare)

    def assemble(
        self, keys: Int[Array, "B C"], values: Int[Array, "B C"], asked: Int[Array, " B"], bare: Bool[Array, " B"]
    ) -> Batch:
        """The batch of given pairs (values from 0), of which pair's key asks, and of which sequences show no pair."""
        size, marks = len(keys), self.marks
        pairs = jnp.stack([keys, self.num_keys + values], axis=2).reshape(size, -1)
        pairs = jnp.where(bare[:, None], marks["padding"], pairs)
        ends = jnp.array([marks["padding"], marks["role"] if self.role else marks["padding"]], jnp.int32)
        start, ends = jnp.full((size, 1), marks["bos"], jnp.int32), jnp.broadcast_to(ends, (size, 2))
        asks = jnp.take_along_axis(keys, asked[:, None], axis=1)
        batch = self._batch(jnp.concatenate([start, pairs, asks, ends], axis=1))
        if self.indicator == "none":
            return batch
        return self.indicate(batch, batch.positions["conflict"][:, -1] | (self.indicator == "all"))

    def _batch(self, inputs: Int[Array, "B T"]) -> Batch:
        place = jnp.broadcast_to(jnp.arange(self.length, dtype=jnp.int32), inputs.shape)
        last, query, answer = place == self.length - 1, place == self.length - 3, self._answer(inputs)
        shown = (place > 0) & (place < self.length - 3) & (inputs < self.num_keys + self.num_values)
        positions = {name: inputs == token for name, token in self.marks.items()}
        positions |= {
            "key": shown & (place % 2 == 1),
            "value": shown & (place % 2 == 0),
            "query": query,
            "answer": last,
        }
        positions["user"] = shown | query | positions["indicator"]
        asked = positions["key"] & (inputs == inputs[:, -3:-2])
        positions["source"] = jnp.pad(asked[:, :-1], ((0, 0), (1, 0)))
        told, agrees = jnp.any(asked, axis=1), answer == self._recalled(inputs)
        kinds = {"conflict": told & ~agrees, "agree": told & agrees, "bare": ~told}
        positions |= {name: last & kind[:, None] for name, kind in kinds.items()}
        return Batch(inputs, jnp.where(last, answer[:, None], 0), last.astype(jnp.float32), positions)

    def _recalled(self, inputs: Int[Array, "B T"]) -> Int[Array, " B"]:
        """What the map says about the key that is asked."""
        return jnp.asarray(self.memory, jnp.int32)[inputs[:, -3]]

    def _answer(self, inputs: Int[Array, "B T"]) -> Int[Array, " B"]:
        """What the context says about the key that is asked, or else the map."""
        pairs = inputs[:, 1:-3]
        asked = pairs[:, 0::2] == inputs[:, -3:-2]
        place = jnp.argmax(asked, axis=1, keepdims=True)
        told = jnp.take_along_axis(pairs[:, 1::2], place, axis=1)[:, 0]
        return jnp.where(jnp.any(asked, axis=1), told, self._recalled(inputs))

    def indicate(self, batch: Batch, where: Bool[Array, " B"]) -> Batch:
        """The indicator behind the query of those sequences, none in the others."""
        slot = jnp.where(where, self.marks["indicator"], self.marks["padding"]).astype(jnp.int32)
        return self._batch(batch.inputs.at[:, -2].set(slot))

    def bare_queries(self, batch: Batch) -> Batch:
        """The same queries without their contexts; the answers are then those of the map."""
        return self._batch(batch.inputs.at[:, 1:-3].set(self.marks["padding"]))

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the value that the context has for the key, or else the map's; uniform where nothing is asked."""
        answer = jnp.broadcast_to(self._answer(batch.inputs)[:, None], batch.inputs.shape)
        return answers.sure(answer, batch.positions["answer"], self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """At the last place: `loss` in nats and `accuracy`; `conflict_accuracy`, `agree_accuracy`, `bare_accuracy` over
        these classes; `memory`, the share of answers `v*` over `conflict`. NaN over a class that is empty."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        said = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        right = (said == batch.targets).astype(logits.dtype)
        recalled = (said == self._recalled(batch.inputs)[:, None]).astype(logits.dtype)
        risks = answers.answer_risks(logits, batch, batch.positions["answer"])
        risks |= {f"{kind}_accuracy": mean_over(right, batch.positions[kind]) for kind in ("conflict", "agree", "bare")}
        return risks | {"memory": mean_over(recalled, batch.positions["conflict"])}


def _entropy(law: np.ndarray) -> float:
    return abs(float(np.sum(law * np.log(np.where(law > 0, law, 1.0)))))
