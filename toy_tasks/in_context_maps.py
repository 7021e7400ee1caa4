"""Maps shown by examples: pairs of symbols of one of a few fixed maps, then a symbol whose image is asked for.

    x_1 f(x_1) x_2 f(x_2) ... x_C f(x_C) x        f one of F permutations of n symbols, the same F in every sequence

Which map it is, only the examples say. No symbol comes twice, so that copying does not help: the map must be inferred
and applied. Without examples the best law is the mixture over all maps, which is what a prompt of the query alone gets;
a *task vector* is what, put into the model, makes up for the examples.

Reference: task vectors as in Hendel et al., arXiv 2310.15916, and Soft injection of task embeddings, arXiv 2507.20906;
the task is our own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Ask, Plateau
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class InContextMaps:
    """A family of permutations, one of them by examples.

    Attributes:
      num_symbols: `n`. As inputs of maps they are the tokens `0 .. n - 1`, as images `n .. 2 n - 1`.
      num_maps: `F`, all equally likely.
      num_examples: `C < n`, before the last query.
      ask: the image of every symbol (`prefix`; of the first nothing is known but the family), or of the last alone.
      seed: of the family: distinct permutations, drawn uniformly.

    Position classes: `asked`, `last`; `input` and `image`, what the token is; `first`, the symbol before any example.
    """

    num_symbols: int = 12
    num_maps: int = 8
    num_examples: int = 4
    ask: Ask = "prefix"
    seed: int = 0

    reference = "Hendel et al.: In-Context Learning Creates Task Vectors, arXiv 2310.15916 (2023); our own task"

    def __post_init__(self) -> None:
        answers.whole("InContextMaps.num_symbols", self.num_symbols, 2)
        answers.whole("InContextMaps.num_maps", self.num_maps)
        answers.whole("InContextMaps.num_examples", self.num_examples, 0)
        note = "num_symbols - 1: no symbol comes twice"
        answers.at_most("InContextMaps.num_examples", self.num_examples, self.num_symbols - 1, note)
        if self.num_symbols < 12:  # 12! is more than anyone asks for
            number = int(np.prod(np.arange(1, self.num_symbols + 1)))
            answers.at_most("InContextMaps.num_maps", self.num_maps, number, "num_symbols!: all permutations")
        require(self.ask in ("prefix", "last"), "InContextMaps.ask", repr(self.ask), "prefix | last")
        seed = isinstance(self.seed, int) and not isinstance(self.seed, bool) and 0 <= self.seed < 2**32
        require(seed, "InContextMaps.seed", repr(self.seed), "an integer from 0 to 2^32 - 1")

    def at_length(self, length: int) -> InContextMaps:
        """The same family with more or fewer examples."""
        require(length >= 1 and length % 2 == 1, "InContextMaps.at_length: length", length, "an odd number >= 1")
        return dataclasses.replace(self, num_examples=length // 2)

    @property
    def length(self) -> int:
        """`T = 2 C + 1`."""
        return 2 * self.num_examples + 1

    @property
    def vocab_size(self) -> int:
        """`V = 2 n`."""
        return 2 * self.num_symbols

    @cached_property
    def maps(self) -> np.ndarray:
        """`Int[F, n]`: `maps[f, x]` is the image of `x` under map `f`, from 0."""
        rng, found = np.random.RandomState(self.seed), []
        while len(found) < self.num_maps:
            drawn = rng.permutation(self.num_symbols).tolist()
            if drawn not in found:
                found.append(drawn)
        return np.array(found, np.int32)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """vocabulary: knows nothing. images: which tokens are images. family: the maps, not which one it is.
        Over `asked`.
        """
        law = np.stack([(self.maps == y).mean(axis=0) for y in range(self.num_symbols)])  # [y, x]
        entropy = -np.sum(law * np.log(np.where(law > 0, law, 1.0)), axis=0)
        found = {"vocabulary": self.vocab_size, "images": self.num_symbols}
        plateaus = {name: Plateau(float(np.log(size)), 1.0 / size) for name, size in found.items()}
        return plateaus | {"family": Plateau(float(entropy.mean()), float(law.max(axis=0).mean()))}

    def describe(self) -> str:
        """A few lines of text: sizes, and what partial knowledge achieves."""
        return "\n".join(
            [
                f"In-context maps, {self.num_maps} permutations of {self.num_symbols} symbols, "
                f"{self.num_examples} examples, asked: {self.ask}",
                f"V = {self.vocab_size}, T = {self.length}; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        map_key, symbol_key = jax.random.split(key)
        number = jax.random.randint(map_key, (batch_size,), 0, self.num_maps, jnp.int32)
        symbols = draws.distinct(symbol_key, batch_size, self.num_examples + 1, self.num_symbols)
        return self.assemble(number, symbols)

    def assemble(self, number: Int[Array, " B"], symbols: Int[Array, "B n"]) -> Batch:
        """The batch of given maps and symbols, the last of which is the query; any number of examples."""
        images = self.num_symbols + jnp.asarray(self.maps)[number[:, None], symbols]
        both = jnp.stack([symbols, images], axis=2).reshape(len(symbols), -1)
        inputs, following = both[:, :-1], both[:, 1:]
        place = jnp.arange(inputs.shape[1], dtype=jnp.int32)
        last = place == inputs.shape[1] - 1
        asked = (place % 2 == 0) if self.ask == "prefix" else last
        kinds = {"asked": asked, "last": last, "input": place % 2 == 0, "image": place % 2 == 1, "first": place == 0}
        positions = {name: jnp.broadcast_to(where, inputs.shape) for name, where in kinds.items()}
        mask = positions["asked"]
        return Batch(inputs, jnp.where(mask, following, 0), mask.astype(jnp.float32), positions)

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """At asked places the share of each image among the maps that agree with all examples before; else uniform."""
        maps, inputs = jnp.asarray(self.maps), batch.inputs
        symbols, images = inputs[:, 0::2], inputs[:, 1::2] - self.num_symbols
        agrees = maps[:, symbols[:, :-1]] == images  # [F, B, C]
        wrong = jnp.cumsum(~agrees, axis=2, dtype=jnp.int32)
        possible = jnp.pad(wrong == 0, ((0, 0), (0, 0), (1, 0)), constant_values=True).astype(jnp.float32)
        said = jax.nn.one_hot(self.num_symbols + maps[:, symbols], self.vocab_size, dtype=jnp.float32)
        law = jnp.einsum("fbc,fbcv->bcv", possible, said) / jnp.sum(possible, axis=0)[..., None]
        everywhere = jnp.full((*inputs.shape, self.vocab_size), 1.0 / self.vocab_size, jnp.float32)
        return jnp.where(batch.positions["asked"][..., None], everywhere.at[:, 0::2].set(law), everywhere)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss` in nats and `accuracy` over `asked`, `last_loss` and `last_accuracy` over `last`."""
        return answers.asked_risks(logits, batch, self.vocab_size)
