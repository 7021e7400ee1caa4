"""Recall among red herrings: pairs whose keys resemble the one that is asked for, and that were shown first.

    [h; v_h] ... [h; v_h]   |   [h; v_h] [k; v] [h'; v_h'] [o; v_o] ... in random order   |   [k; 0]
    primes: one herring       the target k, r herrings with cos(h, k) = ρ, others with cos(o, k) = 0

One vector per place, a key of norm `‖k‖` in R^d beside a one-hot value. A softmax head that compares keys as they are,
at scale `1/√d`, puts on the right value (derived)

    P(correct) = 1 / (1 + (r + p) e^-Δ + n e^-Δ₀),    Δ = (1 - ρ) ‖k‖² / √d,    Δ₀ = ‖k‖² / √d

with `p` primes, each a copy of the first herring, and `n` others: what resembles the cue competes with it, and what was
seen more often competes more. The exact cue always tells them apart, so that the oracle pays nothing.

Reference: the red herrings and their priming are those of Naeini et al., Large Language Models are Fixated by Red
Herrings, arXiv 2306.11167 (the Only Connect Wall); the task and the formula are our own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Plateau
from toy_tasks.base import Batch
from toy_tasks.gaussian import normal
from toy_tasks.least_squares import EXACT
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class DistractorRecall:
    """Recall of one pair among others whose keys resemble its own. Read with `input_dim = task.width`.

    Attributes:
      dim: `d`, of a key. The target's direction is uniform on the sphere; what a herring or another key does not share
        with it is uniform on the sphere orthogonal to it, each by itself.
      num_values: how many there are to choose from; `V`. The values of a sequence are distinct.
      num_herrings: `r`. num_others: `n`.
      num_primes: `p`, copies of the first herring, its value included, at the begin of the sequence.
      cosine: `ρ < 1`, of a herring's key and the target's.
      norm: `‖k‖`, of every key.

    A batch has `inputs Float[B, T, d + V]` and as target the id of the value, `0 .. V - 1`, at the last place, where
    alone `loss_mask` is 1, and 0 elsewhere. Position classes: `prime`, `target`, `herring`, `other`, `query`.

    With two herrings or more the target is the key in their middle, so that the context by itself, without the query,
    says something about which pair will be asked; with one it says nothing.
    """

    dim: int = 16
    num_values: int = 32
    num_herrings: int = 2
    num_others: int = 4
    num_primes: int = 0
    cosine: float = 0.7
    norm: float = 4.0

    reference = "Naeini et al.: Fixated by Red Herrings, arXiv 2306.11167 (2023), for the idea; our own task"

    def __post_init__(self) -> None:
        for name, least in (("dim", 2), ("num_values", 1), ("num_herrings", 0), ("num_others", 0), ("num_primes", 0)):
            answers.whole(f"DistractorRecall.{name}", getattr(self, name), least)
        note = "1 + num_herrings + num_others distinct values are needed"
        require(
            self.pairs <= self.num_values, "DistractorRecall.num_values", self.num_values, f">= {self.pairs}; {note}"
        )
        primed = self.num_herrings > 0 or self.num_primes == 0
        require(primed, "DistractorRecall.num_primes", self.num_primes, "0 without herrings: a prime is a copy of one")
        number = isinstance(self.cosine, (int, float)) and -1.0 <= self.cosine < 1.0
        require(number, "DistractorRecall.cosine", repr(self.cosine), "a number from -1 to below 1")
        number = isinstance(self.norm, (int, float)) and np.isfinite(self.norm) and self.norm > 0
        require(number, "DistractorRecall.norm", repr(self.norm), "a finite number > 0")

    # ---- sizes

    @property
    def pairs(self) -> int:
        """Different pairs: the target, herrings, others."""
        return 1 + self.num_herrings + self.num_others

    @property
    def length(self) -> int:
        """`T`: primes, pairs, query."""
        return self.num_primes + self.pairs + 1

    @property
    def width(self) -> int:
        """Numbers per place: the model's `input_dim`."""
        return self.dim + self.num_values

    @property
    def vocab_size(self) -> int:
        """`V`, the number of values: of the outputs, not of the inputs."""
        return self.num_values

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge and a plain softmax head achieve."""
        return "\n".join(
            [
                f"Distractor recall, {self.num_herrings} herrings at cosine {self.cosine:g}, {self.num_others} others, "
                f"{self.num_primes} primes",
                f"keys in R^{self.dim} of norm {self.norm:g}, V = {self.num_values}, T = {self.length}, "
                f"vectors of width {self.width}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}; plain softmax: P = {self.correct():.4f}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        direction_key, values_key, order_key = jax.random.split(key, 3)
        white = normal(direction_key, (batch_size, self.pairs, self.dim))
        target = _unit(white[:, :1])
        away = _orthogonal(_orthogonal(white[:, 1:], target), target)  # twice: once more for what was nearly parallel
        share = np.zeros(self.pairs - 1)
        share[: self.num_herrings] = self.cosine
        along, across = (jnp.asarray(a[:, None], jnp.float32) for a in (share, np.sqrt(1.0 - share**2)))
        keys = jnp.concatenate([target, along * target + across * away], axis=1) * np.float32(self.norm)
        values = draws.distinct(values_key, batch_size, self.pairs, self.num_values)
        return self.assemble(keys, values, draws.distinct(order_key, batch_size, self.pairs, self.pairs))

    def assemble(self, keys: Float[Array, "B C d"], values: Int[Array, "B C"], order: Int[Array, "B C"]) -> Batch:
        """The batch of given pairs (the target, herrings, others), and of which pair stands at each place."""
        size, first = len(keys), self.num_primes
        primes = jnp.ones((size, first), jnp.int32)  # the first herring
        pair = jnp.concatenate([primes, order, jnp.zeros((size, 1), jnp.int32)], axis=1)
        place = jnp.broadcast_to(jnp.arange(pair.shape[1], dtype=jnp.int32), pair.shape)
        query, prime = place == pair.shape[1] - 1, place < first
        shown = ~query & ~prime
        herring = (pair >= 1) & (pair <= self.num_herrings)
        positions = {"prime": prime, "target": shown & (pair == 0), "herring": shown & herring, "query": query}
        positions["other"] = shown & (pair > self.num_herrings)
        one_hot = jax.nn.one_hot(jnp.take_along_axis(values, pair, axis=1), self.num_values, dtype=jnp.float32)
        key_part = jnp.take_along_axis(keys, pair[..., None], axis=1)
        inputs = jnp.concatenate([key_part, jnp.where(query[..., None], 0.0, one_hot)], axis=2)
        return Batch(inputs, jnp.where(query, values[:, :1], 0), query.astype(jnp.float32), positions)

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the value of the key that is closest to the query, which is the query itself; uniform where
        nothing is asked. Its loss is 0."""
        keys, values = batch.inputs[:, :-1, : self.dim], batch.inputs[:, :-1, self.dim :]
        closeness = jnp.einsum("bcd,bd->bc", keys, batch.inputs[:, -1, : self.dim], precision=EXACT)
        found = jnp.take_along_axis(values, jnp.argmax(closeness, axis=1)[:, None, None], axis=1)
        return jnp.where(batch.positions["query"][..., None], found, 1.0 / self.num_values)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """At the query: `loss`, `accuracy` and `loss = values + binding` (see `answers.recall_risks`), and where the
        probability goes: `correct`, to the answer; `herrings`, to their values; `primed`, to the primed herring's."""
        answers.fits(logits, batch, self.num_values, "build the model with vocab_size=task.vocab_size")
        query, shown = batch.positions["query"], batch.inputs[..., self.dim :] > 0
        risks = answers.recall_risks(logits, batch, query, jnp.any(shown, axis=1))
        law = jax.nn.softmax(logits[:, -1], axis=-1)
        for name, kind in (("correct", "target"), ("herrings", "herring"), ("primed", "prime")):
            theirs = jnp.any(shown & batch.positions[kind][..., None], axis=1)
            risks[name] = jnp.mean(jnp.sum(law, axis=1, where=theirs))
        return risks

    def correct(self, sharpness: float = 1.0) -> float:
        """What a softmax head of logits `sharpness q . k / √d` puts on the right value: the formula above."""
        return 1.0 / self._competition(sharpness)[1]

    def softmax(self, sharpness: float = 1.0) -> Plateau:
        """Loss `-log P(correct)` and accuracy of that head: sure, unless `1 + p` primed places outweigh the target."""
        herring, total = self._competition(sharpness)
        fooled = self.num_herrings > 0 and (1 + self.num_primes) * herring > 1.0
        return Plateau(math.log(total), 0.0 if fooled else 1.0)

    def _competition(self, sharpness: float) -> tuple[float, float]:
        """Weight of one herring, and of everything, where the target has weight 1."""
        scale = sharpness * self.norm**2 / math.sqrt(self.dim)
        herring, other = math.exp(-(1.0 - self.cosine) * scale), math.exp(-scale)
        return herring, 1.0 + (self.num_herrings + self.num_primes) * herring + self.num_others * other

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """What the best predictors pay that know less than the oracle.

        values: nothing but the list of values, `log V`. context: which values this sequence shows, and how often, but
        no key: any value that was shown once, of `1 + r + n`, or one less with primes, for a primed one is never asked.
        """
        known = {"values": self.num_values, "context": self.pairs - (self.num_primes > 0)}
        return {name: Plateau(math.log(n), 1.0 / n) for name, n in known.items()}


def _unit(vectors: Float[Array, "B C d"]) -> Float[Array, "B C d"]:
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def _orthogonal(vectors: Float[Array, "B C d"], unit: Float[Array, "B 1 d"]) -> Float[Array, "B C d"]:
    """Unit vectors: what is left of each without its part along the other unit vector."""
    return _unit(vectors - jnp.einsum("bcd,bed->bce", vectors, unit, precision=EXACT) * unit)
