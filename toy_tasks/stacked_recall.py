"""Stacked (continuous) multi-query recall: a token is a key's vector on a value's vector; queries have a zero value.

    [k_1; v_1] [k_2; v_2] ... [k_C; v_C]   |   [k_q1; 0] [k_q2; 0] ... [k_qC; 0]        tokens in R^{2d}, T = 2 C

Keys and values are rows of two tables of unit vectors, drawn once, uniform on the sphere, and frozen. Nothing of them
is learned, and no shift from a key to its value is needed: one layer can do it, and so can a memory that is not trained
at all. Every key is asked once, in random order. What is asked is scored in one of two ways:

    answer="ids"      the row of the value, by cross entropy: of a model's own logits over all rows, or of a vector that
                      it says, read out by the frozen table, `logits = E output` (`StackedRecall.logits`,
                      `FixedReadout`); the latter is the published loss
    answer="vectors"  the value's vector itself, by squared error

Reference: the continuous form of MQAR in the code of Arora et al., Zoology, arXiv 2312.04927 (January 2026).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Plateau
from toy_tasks.backcopy_risks import mean_over
from toy_tasks.base import Batch
from toy_tasks.least_squares import EXACT
from toy_tasks.regression_checks import require

Answer = Literal["ids", "vectors"]

CLOSEST = 1.0 - 1e-4  # cosine of two rows that float32 surely tells apart: a product of rows is right to 1e-6


class Embeddings(NamedTuple):
    """Unit vectors in float32: `keys [num_keys, d]`, `values [num_values, d]`."""

    keys: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class StackedRecall:
    """Multi-query recall of pairs of frozen unit vectors. Read with `input_dim = task.width`.

    Attributes:
      dim: `d`, of a key and of a value.
      num_keys, num_values: rows of the two tables.
      num_pairs: `C`; the keys of a sequence are distinct, and so are its values.
      passes: how often the pairs are shown, each time in another order (2: just read twice, arXiv 2407.05483).
      answer: what the targets are, ids or vectors; see above.
      seed: of the tables, not of the sequences. The same seed gives the same tables everywhere (NumPy's frozen
        MT19937).

    A batch has `inputs Float[B, C (passes + 1), 2 d]` and as targets, where asked (`loss_mask` 1), the id
    `Int[B, T]` or the vector `Float[B, T, d]` of the value, and 0 elsewhere. Position classes: `pair`, `query`.
    With vectors the task has no `vocab_size`.
    """

    dim: int = 32
    num_keys: int = 4096
    num_values: int = 4096
    num_pairs: int = 16
    passes: int = 1
    answer: Answer = "ids"
    seed: int = 0

    reference = "The continuous form of multi-query associative recall (Arora et al., arXiv 2312.04927, and its code)"

    def __post_init__(self) -> None:
        for name, least in (("dim", 2), ("num_keys", 1), ("num_values", 1), ("num_pairs", 1), ("passes", 1)):
            answers.whole(f"StackedRecall.{name}", getattr(self, name), least)
        answers.whole("StackedRecall.seed", self.seed, 0)
        for name in ("num_keys", "num_values"):
            note = f"{name}: those of a sequence are distinct"
            answers.at_most("StackedRecall.num_pairs", self.num_pairs, getattr(self, name), note)
        require(self.answer in get_args(Answer), "StackedRecall.answer", repr(self.answer), "ids | vectors")
        apart = self.answer == "vectors" or self.dim != self.num_values
        require(apart, "StackedRecall.dim", self.dim, "not num_values: outputs are told from logits by their width")

    # ---- sizes and tables

    @property
    def length(self) -> int:
        """`T = C (passes + 1)`."""
        return self.num_pairs * (self.passes + 1)

    @property
    def context(self) -> int:
        """Places that show pairs."""
        return self.num_pairs * self.passes

    @property
    def width(self) -> int:
        """Numbers per place, `2 d`: the model's `input_dim`."""
        return 2 * self.dim

    @property
    def vocab_size(self) -> int:
        """`V = num_values`, of the outputs; only if ids are asked."""
        if self.answer == "vectors":
            raise AttributeError(
                "StackedRecall.vocab_size: vectors are asked; build the model with output_dim=task.dim."
            )
        return self.num_values

    @cached_property
    def embeddings(self) -> Embeddings:
        """The frozen tables.

        Raises:
          ValueError: two rows of a table are too close to be told apart in float32.
        """
        rng = np.random.RandomState(self.seed)
        tables = []
        for size in (self.num_keys, self.num_values):
            rows = rng.standard_normal((size, self.dim))
            rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
            closest = float(np.max(rows @ rows.T - 2.0 * np.eye(size, dtype=np.float32)))
            wanted = (
                f"more, for rows whose cosine is at most {CLOSEST} (here {closest:.6f}); or fewer rows, another seed"
            )
            require(closest <= CLOSEST, "StackedRecall.dim", self.dim, wanted)
            rows.setflags(write=False)
            tables.append(rows)
        return Embeddings(*tables)

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        unit = "nats" if self.answer == "ids" else "squared error per coordinate"
        return "\n".join(
            [
                f"Stacked recall, {self.num_pairs} pairs of {self.num_keys} keys and {self.num_values} values in "
                f"R^{self.dim}, shown {self.passes}x, seed {self.seed}",
                f"T = {self.length} places, vectors of width {self.width}, asked: {self.answer}",
                f"{unit}: oracle 0; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        keys_key, values_key, order_key = jax.random.split(key, 3)
        keys = draws.distinct(keys_key, batch_size, self.num_pairs, self.num_keys)
        values = draws.distinct(values_key, batch_size, self.num_pairs, self.num_values)
        again = draws.distinct(order_key, batch_size * self.passes, self.num_pairs, self.num_pairs)
        first = jnp.broadcast_to(jnp.arange(self.num_pairs, dtype=jnp.int32), keys.shape)
        return self.assemble(keys, values, jnp.concatenate([first, again.reshape(batch_size, -1)], axis=1))

    def assemble(self, keys: Int[Array, "B C"], values: Int[Array, "B C"], order: Int[Array, "B T"]) -> Batch:
        """The batch of given pairs, ids of keys and values, and of the pair that stands or is asked at each place."""
        key_table, value_table = (jnp.asarray(table) for table in self.embeddings)
        keys, values = (jnp.take_along_axis(ids, order, axis=1) for ids in (keys, values))
        query = jnp.broadcast_to(jnp.arange(order.shape[1]) >= self.context, order.shape)
        shown = jnp.where(query[..., None], 0.0, value_table[values])
        asked = jnp.where(query, values, 0)
        targets = asked if self.answer == "ids" else jnp.where(query[..., None], value_table[values], 0.0)
        inputs = jnp.concatenate([key_table[keys], shown], axis=2)
        return Batch(inputs, targets, query.astype(jnp.float32), {"query": query, "pair": ~query})

    # ---- what is best

    def logits(self, outputs: Float[Array, "*B d"]) -> Float[Array, "*B V"]:
        """The frozen read-out of vectors: their products with all values."""
        return jnp.matmul(outputs, jnp.asarray(self.embeddings.values).T, precision=EXACT)

    def ids(self, vectors: Float[Array, "*B d"]) -> Int[Array, "*B"]:
        """The row of the value that is closest in direction: of a value itself, its id."""
        return jnp.argmax(self.logits(vectors), axis=-1).astype(jnp.int32)

    def values(self, inputs: Float[Array, "B T D"]) -> Float[Array, "B T d"]:
        """At every place the value that was shown with the key that stands there."""
        keys, pairs = inputs[..., : self.dim], inputs[:, : self.num_pairs]  # the first pass shows every pair
        same = jnp.einsum("btd,bcd->btc", keys, pairs[..., : self.dim], precision=EXACT)
        place = jnp.argmax(same, axis=2, keepdims=True)
        return jnp.take_along_axis(pairs[..., self.dim :], place, axis=1)

    def oracle(self, batch: Batch) -> Array:
        """`Float[B, T, V]`, all mass on the value that was shown with the key, uniform where nothing is asked; or
        `Float[B, T, d]`, that value, 0 where nothing is asked. Its loss is 0."""
        query, found = batch.positions["query"], self.values(batch.inputs)
        if self.answer == "vectors":
            return jnp.where(query[..., None], found, 0.0)
        return answers.sure(self.ids(found), query, self.num_values)

    def risks(self, logits: Float[Array, "B T m"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Of the queries, from logits over the values or, as told by their width, from vectors (`logits`).

        Ids: `loss` in nats, `accuracy` over all values, and `loss = values + binding`; see `answers.recall_risks`.
        Vectors: `mse` per coordinate; `unexplained`, its ratio to that of predicting 0; `loss`, `accuracy` of the
        frozen read-out.
        """
        query = batch.positions["query"]
        if self.answer == "vectors":
            answers.fits(logits, batch, self.dim, "build the model with output_dim=task.dim")
            gap, power = (jnp.mean(a * a, axis=-1) for a in (logits - batch.targets, batch.targets))
            mse = mean_over(gap, query)
            read = answers.answer_risks(
                self.logits(logits), dataclasses.replace(batch, targets=self.ids(batch.targets)), query
            )
            return {"mse": mse, "unexplained": mse / mean_over(power, query)} | read
        if logits.shape[-1] == self.dim:
            logits = self.logits(logits)
        hint = (
            "build the model with vocab_size=task.vocab_size, or with output_dim=task.dim and loss=FixedReadout(task)"
        )
        answers.fits(logits, batch, self.num_values, hint)
        ids = self.ids(batch.inputs[:, : self.num_pairs, self.dim :])
        rows = jnp.arange(len(ids), dtype=jnp.int32)[:, None]
        present = jnp.zeros((len(ids), self.num_values), bool).at[rows, ids].set(True)
        return answers.recall_risks(logits, batch, query, present)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """What the best predictors pay that know less than the oracle.

        Ids: values: nothing but the table, `log V`. context: which values this sequence holds, `log C`.
        Vectors, per coordinate: zero: predicts 0, `1 / d`. table: the mean of the table, `(1 - |mean|^2) / d`.
        context: the mean of the values shown, `(1 - |mean|^2) / d`, where in expectation, with `a` the mean product of
        two different rows of the table, `|mean|^2 = (1 + (C - 1) a) / C`.
        """
        size, pairs = self.num_values, self.num_pairs
        if self.answer == "ids":
            return {name: Plateau(float(np.log(n)), 1.0 / n) for name, n in (("values", size), ("context", pairs))}
        total = self.embeddings.values.astype(np.float64).sum(axis=0)
        power = float(total @ total)
        product = (power - size) / (size * (size - 1)) if size > 1 else 0.0
        known = {"zero": 0.0, "table": power / size**2, "context": (1.0 + (pairs - 1) * product) / pairs}
        return {name: Plateau((1.0 - explained) / self.dim) for name, explained in known.items()}


@dataclass(frozen=True)
class FixedReadout:
    """The training loss of a model that says vectors (`output_dim = task.dim`), scored as ids by the frozen table.

    `-log softmax(E output)[id]` per place, in nats; `attnlab.run(..., loss=FixedReadout(task))`. It takes the batches
    of both kinds of answer.
    """

    task: StackedRecall

    def __call__(self, outputs: Float[Array, "B T d"], batch: Batch) -> Float[Array, "B T"]:
        targets = batch.targets if self.task.answer == "ids" else self.task.ids(batch.targets)
        return answers.log_losses(self.task.logits(outputs), targets)
