"""Swap tracking: things in a row of boxes, swaps of two boxes, then the question what a box holds.

    c a d b   (0 2) (1 3) (0 1) ...   ?1            N things, M swaps, Q questions; T = N + M + Q

The row is given at the beginning, a uniform permutation; then come swaps, each uniform over all pairs of boxes and one
token; then different boxes, uniform, each asking for the thing that is in it now. It is the word problem of S_N in
swaps, with a start that is not always the same and an answer that needs only a part of the product.

Reference: the permutation state tracking of Zuo et al., Local Linear Attention, arXiv 2510.01450. Their generator is
not published; this one is our own.
"""

from __future__ import annotations

import dataclasses
import itertools
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
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class SwapTracking:
    """What is in a box after many swaps.

    Attributes:
      num_items: `N >= 2`, things and boxes. Tokens: things `0 .. N - 1`; questions `N + box`; then the swaps of boxes
        `i < j`, in lexicographic order (`swap_pairs`).
      num_swaps: `M`.
      num_queries: `Q <= N`, different boxes that are asked.

    A batch has as target the thing where a box is asked, where alone `loss_mask` is 1, and 0 elsewhere.
    Position classes: `item`, `swap`, `query`.
    """

    num_items: int = 5
    num_swaps: int = 16
    num_queries: int = 1

    reference = "Zuo et al.: Local Linear Attention, arXiv 2510.01450 (2025), its permutation task; our own generator"

    def __post_init__(self) -> None:
        answers.whole("SwapTracking.num_items", self.num_items, 2)
        answers.whole("SwapTracking.num_swaps", self.num_swaps, 0)
        answers.whole("SwapTracking.num_queries", self.num_queries)
        note = "the number of boxes: those that are asked are different"
        answers.at_most("SwapTracking.num_queries", self.num_queries, self.num_items, note)

    def at_length(self, length: int) -> SwapTracking:
        """As many things and questions, more or fewer swaps."""
        swaps = length - self.num_items - self.num_queries
        least = self.num_items + self.num_queries
        require(swaps >= 0, "SwapTracking.at_length: length", length, f">= {least}: things and questions")
        return dataclasses.replace(self, num_swaps=swaps)

    # ---- sizes

    @property
    def length(self) -> int:
        """`T = N + M + Q`."""
        return self.num_items + self.num_swaps + self.num_queries

    @cached_property
    def swap_pairs(self) -> np.ndarray:
        """`Int[N (N - 1) / 2, 2]`: the boxes that each swap token exchanges, from token `2 N` on. Read-only."""
        pairs = np.array(list(itertools.combinations(range(self.num_items), 2)), np.int32)
        pairs.setflags(write=False)
        return pairs

    @property
    def vocab_size(self) -> int:
        """`V = 2 N + N (N - 1) / 2`: things, questions, swaps; of the inputs and of the outputs."""
        return 2 * self.num_items + math.comb(self.num_items, 2)

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        return "\n".join(
            [
                f"Swap tracking, {self.num_items} things, {self.num_swaps} swaps, {self.num_queries} question(s)",
                f"V = {self.vocab_size}, T = {self.length}",
                f"oracle 0 nats; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        items_key, swaps_key, asked_key = jax.random.split(key, 3)
        items = draws.distinct(items_key, batch_size, self.num_items, self.num_items)
        shape = (batch_size, self.num_swaps)
        swaps = jax.random.randint(swaps_key, shape, 2 * self.num_items, self.vocab_size, jnp.int32)
        asked = self.num_items + draws.distinct(asked_key, batch_size, self.num_queries, self.num_items)
        return self.batch(jnp.concatenate([items, swaps, asked], axis=1))

    def batch(self, inputs: Int[Array | np.ndarray, "B T"]) -> Batch:
        """The batch of given tokens: `N` things, any number of swaps, `Q` questions."""
        inputs = jnp.asarray(inputs, jnp.int32)
        query = (inputs >= self.num_items) & (inputs < 2 * self.num_items)
        positions = {"item": inputs < self.num_items, "swap": inputs >= 2 * self.num_items, "query": query}
        return Batch(inputs, self._answers(inputs), query.astype(jnp.float32), positions)

    def rows(self, inputs: Int[Array, "B T"]) -> Int[Array, "B N"]:
        """What every box holds at the end: the given row, with two boxes exchanged by every swap in turn."""
        swaps = inputs[:, self.num_items : inputs.shape[1] - self.num_queries]
        pairs = jnp.asarray(self.swap_pairs)
        batch = jnp.arange(len(inputs), dtype=jnp.int32)[:, None]

        def exchange(row, swap):
            boxes = pairs[swap - 2 * self.num_items]
            return row.at[batch, boxes].set(row[batch, boxes[:, ::-1]]), None

        return jax.lax.scan(exchange, inputs[:, : self.num_items], swaps.T)[0]

    def _answers(self, inputs: Int[Array, "B T"]) -> Int[Array, "B T"]:
        """What the boxes hold that are asked; 0 elsewhere."""
        ends = inputs.shape[1] - self.num_queries
        found = jnp.take_along_axis(self.rows(inputs), inputs[:, ends:] - self.num_items, axis=1)
        return jnp.pad(found, ((0, 0), (ends, 0)))

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """All mass on what the box holds; uniform where nothing is asked. Its loss is 0."""
        return answers.sure(self._answers(batch.inputs), batch.positions["query"], self.vocab_size)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss` in nats and `accuracy`, over the questions; `things`, what of the loss is for not saying a thing."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        every = jnp.ones((len(logits), self.vocab_size), bool).at[:, self.num_items :].set(False)
        risks = answers.recall_risks(logits, batch, batch.positions["query"], every)
        return {"loss": risks["loss"], "accuracy": risks["accuracy"], "things": risks["values"]}

    def stays(self, swaps: int) -> float:
        """The probability that a box holds what it held `swaps` uniform swaps ago: `1/N + (1 - 1/N) λ^swaps`.

        A swap moves what is in a box with probability `2 / N`, to any other box alike. The chain of the place of one
        thing has the eigenvalues 1 and `λ = 1 - 2 / (N - 1)`. Derived.
        """
        size = self.num_items
        return (1.0 + (size - 1.0) * (1.0 - 2.0 / (size - 1.0)) ** swaps) / size

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """What the best predictors pay that know less than the oracle.

        vocabulary: nothing. things: that a thing is asked for, `log N`. start: the row at the beginning and the number
        of swaps: what the box held then is as likely as `stays` says, all else alike. window: see there.
        """
        sizes = {"vocabulary": self.vocab_size, "things": self.num_items}
        return {name: Plateau(math.log(n), 1.0 / n) for name, n in sizes.items()} | {"start": self.window(0)}

    def window(self, width: int) -> Plateau:
        """What the best predictor pays that sees the row at the beginning and, of the swaps, only the last `width`.

        It follows the box back through these, to one that held the thing `M - width` swaps after the beginning.
        """
        answers.whole("width", width, 0)
        same = self.stays(max(self.num_swaps - width, 0))
        other = (1.0 - same) / (self.num_items - 1)
        terms = [same, *[other] * (self.num_items - 1)]
        return Plateau(-sum(p * math.log(p) for p in terms if p > 0), max(same, other))
