"""Paired recall: every place of the context shows a key together with its value, then keys come alone.

    (k_1, v_1) (k_2, v_2) ... (k_C, v_C)   |   (k_q1, .) (k_q2, .) ...

One vector per place, the one-hot key beside the one-hot value (0 where a key comes alone): a linear embedding of it is
the sum of a key's and a value's embedding. No shift from a key to the value behind it is needed, so that one layer can
do it, and what is compared is the memory alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Plateau
from toy_tasks.bag_law import bag_accuracy, bag_entropy
from toy_tasks.base import Batch
from toy_tasks.least_squares import EXACT


@dataclass(frozen=True)
class PairedRecall:
    """Associative recall of pairs that are shown in one place each. Read with `input_dim = task.width`.

    Attributes:
      num_keys, num_values: how many there are to choose from; `V = num_values`.
      num_pairs: `C`; the keys of a sequence are distinct, drawn anew.
      num_queries: places behind the pairs; None = `C`. Each asks a pair chosen uniformly, independent of the others.
      distinct_values: whether the values of a sequence are distinct too, or each is drawn by itself.

    A batch has `inputs Float[B, C + queries, num_keys + num_values]`, and as targets the ids of the values,
    `0 .. num_values - 1`, where asked (`loss_mask` 1), and 0 elsewhere. Position classes: `pair`, `query`.
    """

    num_keys: int = 64
    num_values: int = 64
    num_pairs: int = 16
    num_queries: int | None = None
    distinct_values: bool = False

    reference = "The paired form of multi-query associative recall (Arora et al., arXiv 2312.04927, and its code)"

    def __post_init__(self) -> None:
        for name in ("num_keys", "num_values", "num_pairs"):
            answers.whole(f"PairedRecall.{name}", getattr(self, name))
        if self.num_queries is not None:
            answers.whole("PairedRecall.num_queries", self.num_queries, note=", or None for num_pairs")
        note = "the number of keys: those of a sequence are distinct"
        answers.at_most("PairedRecall.num_pairs", self.num_pairs, self.num_keys, note)
        if self.distinct_values:
            note = "the number of values; or leave distinct_values=False"
            answers.at_most("PairedRecall.num_pairs", self.num_pairs, self.num_values, note)

    @property
    def queries(self) -> int:
        """Places that ask."""
        return self.num_pairs if self.num_queries is None else self.num_queries

    @property
    def length(self) -> int:
        """`T`, pairs and queries."""
        return self.num_pairs + self.queries

    @property
    def width(self) -> int:
        """Numbers per place: the model's `input_dim`."""
        return self.num_keys + self.num_values

    @property
    def vocab_size(self) -> int:
        """`V`, the number of values: of the outputs, not of the inputs."""
        return self.num_values

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        kind = "distinct" if self.distinct_values else "independent"
        return "\n".join(
            [
                f"Paired recall, {self.num_pairs} pairs of {self.num_keys} keys and {self.num_values} {kind} values",
                f"T = {self.num_pairs} + {self.queries} places, vectors of width {self.width}, V = {self.vocab_size}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        keys_key, values_key, asked_key = jax.random.split(key, 3)
        keys = draws.distinct(keys_key, batch_size, self.num_pairs, self.num_keys)
        if self.distinct_values:
            values = draws.distinct(values_key, batch_size, self.num_pairs, self.num_values)
        else:
            values = jax.random.randint(values_key, keys.shape, 0, self.num_values, jnp.int32)
        asked = jax.random.randint(asked_key, (batch_size, self.queries), 0, self.num_pairs, jnp.int32)
        return self.assemble(keys, values, asked)

    def assemble(self, keys: Int[Array, "B C"], values: Int[Array, "B C"], asked: Int[Array, "B Q"]) -> Batch:
        """The batch of given pairs and of the places in the context that are asked for."""
        again, answer = (jnp.take_along_axis(a, asked, axis=1) for a in (keys, values))
        key_part = jax.nn.one_hot(jnp.concatenate([keys, again], axis=1), self.num_keys, dtype=jnp.float32)
        value_part = jax.nn.one_hot(values, self.num_values, dtype=jnp.float32)
        alone = jnp.pad(value_part, ((0, 0), (0, asked.shape[1]), (0, 0)))
        targets = jnp.concatenate([jnp.zeros_like(values), answer], axis=1)
        query = jnp.broadcast_to(jnp.arange(targets.shape[1]) >= self.num_pairs, targets.shape)
        inputs = jnp.concatenate([key_part, alone], axis=2)
        return Batch(inputs, targets, query.astype(jnp.float32), {"query": query, "pair": ~query})

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on the value that was shown with the key; uniform where nothing is asked. Its loss is 0.

        Products of one-hot vectors, `(q K^T) V`: linear attention with the exact keys.
        """
        keys, values = batch.inputs[..., : self.num_keys], batch.inputs[:, : self.num_pairs, self.num_keys :]
        match = jnp.einsum("btk,bck->btc", keys, keys[:, : self.num_pairs], precision=EXACT)
        found = jnp.einsum("btc,bcv->btv", match, values, precision=EXACT)
        return jnp.where(batch.positions["query"][..., None], found, 1.0 / self.num_values)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss`, `accuracy`, and `loss = values + binding`, over the queries; see `answers.recall_risks`."""
        answers.fits(logits, batch, self.num_values, "build the model with vocab_size=task.vocab_size")
        present = jnp.any(batch.inputs[..., self.num_keys :] > 0, axis=1)
        return answers.recall_risks(logits, batch, batch.positions["query"], present)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """What the best predictors pay that know less than the oracle.

        values: nothing but the list of values. context: how often each value occurs in this sequence, not with which
        key (what the mean over the context tells): `log C`, and less if values are not distinct.
        """
        size, pairs = self.num_values, self.num_pairs
        if self.distinct_values:
            context = Plateau(float(np.log(pairs)), 1.0 / pairs)
        else:
            context = Plateau(bag_entropy(pairs, size), bag_accuracy(pairs, size))
        return {"values": Plateau(float(np.log(size)), 1.0 / size), "context": context}
