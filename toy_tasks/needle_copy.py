"""A needle in a haystack, copied word by word: a key and some values inside of text; at the end the key asks for them.

    bos  h h h  KEY v_1 .. v_m  h h h h h  KEY  =>  v_1 .. v_m          n haystack tokens, the needle's place uniform

The answer is teacher-forced: after the second key the inputs are its first values, so that one run shows every step of
the retrieval, and each step has one place that it should look at (`source`). The haystack is uniform noise or an
order-1 Markov language, which goes on behind the needle as if there were none; values are uniform and independent. With
`joint` the language counts in the loss too, and a model has something else to do with its heads.

Reference: Wu et al., Retrieval Head Mechanistically Explains Long-Context Factuality, arXiv 2404.15574, whose needles
are sentences; the task is our own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import alias, answers, markov_chain
from toy_tasks.answers import Plateau
from toy_tasks.backcopy_risks import cross_entropy, mean_over
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require

Haystack = Literal["uniform", "markov"]


@dataclass(frozen=True)
class NeedleCopy:
    """Retrieval of several tokens from a random depth.

    Attributes:
      num_tokens: `0 .. num_tokens - 1`, of haystack and needle alike; then KEY, then bos.
      haystack: `n >= 0` of its tokens. needle: `m >= 1` values.
      language: of the haystack, `uniform` or `markov`.
      joint: whether the language counts in `loss_mask`, besides the answer.
      concentration, seed: of the Dirichlet law of the Markov kernel's rows, and of its draw.

    A sequence has `T + 1` tokens, `T = n + 2 m + 2`; the targets are its last `T`. Position classes: every place is one
    of `bos`, `haystack`, `key` (the planted one), `needle` (`v_1 .. v_m` behind it) and `answer` (the second key and
    all but the last value, where a value is to be said). `language`: places where text may go on, or a key comes: all
    before the second key but those inside the needle, `n + 2` of them.
    """

    num_tokens: int = 32
    haystack: int = 24
    needle: int = 4
    language: Haystack = "uniform"
    joint: bool = False
    concentration: float = 0.1
    seed: int = 0

    reference = "Wu et al.: Retrieval Head, arXiv 2404.15574 (2024), for the question; our own task"

    def __post_init__(self) -> None:
        for name, least in (("num_tokens", 2), ("haystack", 0), ("needle", 1)):
            answers.whole(f"NeedleCopy.{name}", getattr(self, name), least)
        allowed = get_args(Haystack)
        require(self.language in allowed, "NeedleCopy.language", repr(self.language), " | ".join(allowed))
        require(isinstance(self.joint, bool), "NeedleCopy.joint", repr(self.joint), "True | False")
        markov_chain.check("NeedleCopy", self.concentration, self.seed)

    def at_length(self, length: int) -> NeedleCopy:
        """The same needle in more or less hay."""
        rest = length - 2 * self.needle - 2
        require(rest >= 0, "NeedleCopy.at_length: length", length, f"at least {length - rest}: bos, needle, answer")
        return dataclasses.replace(self, haystack=rest)

    # ---- sizes

    @property
    def length(self) -> int:
        """`T = n + 2 m + 2`."""
        return self.asks + self.needle

    @property
    def asks(self) -> int:
        """The place of the second key, the first of the places that ask: `n + m + 2`."""
        return self.haystack + self.needle + 2

    @property
    def key(self) -> int:
        """The token KEY."""
        return self.num_tokens

    @property
    def vocab_size(self) -> int:
        """`V`: tokens, KEY, bos."""
        return self.num_tokens + 2

    @property
    def chance(self) -> float:
        """The accuracy of a guess among all tokens that can be values."""
        return 1.0 / self.num_tokens

    @cached_property
    def kernel(self) -> np.ndarray:
        """`Float64[n, n]`, of the haystack's tokens."""
        if self.language == "uniform":
            return np.full((self.num_tokens, self.num_tokens), 1.0 / self.num_tokens)
        return markov_chain.kernel(self.num_tokens, self.concentration, self.seed)

    @cached_property
    def _tables(self) -> alias.AliasTable:
        return markov_chain.tables(self.kernel)

    @property
    def plateaus(self) -> dict[str, Plateau]:
        """Where the answer is asked. vocabulary: knows nothing. tokens: knows what can be a value."""
        sizes = {"vocabulary": self.vocab_size, "tokens": self.num_tokens}
        return {name: Plateau(float(np.log(size)), 1.0 / size) for name, size in sizes.items()}

    def describe(self) -> str:
        """A few lines of text: sizes, and what a guess achieves."""
        counts = "language and answer" if self.joint else "the answer"
        return "\n".join(
            [
                f"Needle copy, {self.needle} values in {self.haystack} tokens, {self.language}; {counts} in the loss",
                f"V = {self.vocab_size}, T = {self.length}",
                f"oracle 0 nats at the answer; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        hay_key, value_key, depth_key = jax.random.split(key, 3)
        values = jax.random.randint(value_key, (batch_size, self.needle), 0, self.num_tokens, jnp.int32)
        depth = jax.random.randint(depth_key, (batch_size,), 0, self.haystack + 1, jnp.int32)
        return self.assemble(markov_chain.walk(self._tables, hay_key, batch_size, self.haystack), values, depth)

    def assemble(self, hay: Int[Array, "B n"], values: Int[Array, "B m"], depth: Int[Array, " B"]) -> Batch:
        """The batch of given haystacks, values, and numbers of haystack tokens in front of the needle, `0 .. n`."""
        size, middle = len(hay), self.haystack + self.needle + 1
        keys = jnp.full((size, 1), self.key, jnp.int32)
        needle = jnp.concatenate([keys, values], axis=1)
        ends = jnp.zeros((size, 1), jnp.int32)  # so that neither is empty; never read
        offset = jnp.arange(middle, dtype=jnp.int32) - depth[:, None]  # from the planted key
        inside = (offset >= 0) & (offset <= self.needle)
        place = jnp.arange(middle, dtype=jnp.int32) - jnp.where(offset > self.needle, self.needle + 1, 0)
        text = jnp.take_along_axis(jnp.concatenate([hay, ends], axis=1), jnp.clip(place, 0, self.haystack), axis=1)
        found = jnp.take_along_axis(needle, jnp.clip(offset, 0, self.needle), axis=1)
        bos = jnp.full((size, 1), self.num_tokens + 1, jnp.int32)
        sequence = jnp.concatenate([bos, jnp.where(inside, found, text), needle], axis=1)
        return self.batch(sequence)

    def batch(self, sequence: Int[Array, "B L"]) -> Batch:
        """The batch of given sequences of `L = T + 1` tokens."""
        inputs = sequence[:, :-1]
        place = jnp.arange(self.length, dtype=jnp.int32)
        offset = place - self._planted(inputs)
        answer = jnp.broadcast_to(place >= self.asks, inputs.shape)
        positions = {
            "bos": jnp.broadcast_to(place == 0, inputs.shape),
            "key": offset == 0,
            "needle": (offset >= 1) & (offset <= self.needle),
            "answer": answer,
        }
        positions["haystack"] = ~(positions["bos"] | positions["key"] | positions["needle"] | answer)
        positions["language"] = ~(answer | ((offset >= 0) & (offset < self.needle)))
        counted = answer | positions["language"] if self.joint else answer
        return Batch(inputs, sequence[:, 1:], counted.astype(jnp.float32), positions)

    def _planted(self, inputs: Int[Array, "B T"]) -> Int[Array, "B 1"]:
        """The place of the first key."""
        return jnp.argmax(inputs == self.key, axis=1, keepdims=True).astype(jnp.int32)

    def source(self, batch: Batch) -> Int[Array, "B T"]:
        """Where the answer asks for a value, the place in the needle where it stands; 0 elsewhere."""
        turn = jnp.arange(self.length, dtype=jnp.int32) - self.asks
        return jnp.where(turn >= 0, self._planted(batch.inputs) + 1 + turn, 0)

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The exact law of the next token given those so far, everywhere.

        Before the needle, after `j` tokens of text, the key comes with probability `1 / (n - j + 1)`, otherwise text,
        by the row of the last token. Inside the needle: uniform over values. Behind it: text, by the row of the last
        token of text, wherever it stands; after all `n` of them the second key; then the needle's values.
        """
        inputs, size = batch.inputs, self.num_tokens
        place, planted = jnp.arange(self.length, dtype=jnp.int32), self._planted(inputs)
        before, inside = place < planted, (place >= planted) & (place < planted + self.needle)
        read = jnp.where(place == planted + self.needle, planted - 1, place)  # the last token of text
        last = jnp.take_along_axis(inputs, read, axis=1)
        first = markov_chain.start(self.kernel)
        rows = jnp.asarray(np.vstack([self.kernel, first, first]), jnp.float32)  # of tokens, of KEY (unused), of bos
        text = jnp.where(inside[..., None], 1.0 / size, rows[last])
        seen = jnp.where(before, place, place - self.needle - 1)  # tokens of text so far
        left = jnp.maximum(self.haystack - seen, 0).astype(jnp.float32)
        ends = jnp.where(before, 1.0 / (left + 1.0), jnp.where(left == 0, 1.0, 0.0))
        ends = jnp.where(inside, 0.0, ends)[..., None]
        law = jnp.concatenate([(1.0 - ends) * text, ends, jnp.zeros_like(ends)], axis=2)
        answer = jnp.take_along_axis(inputs, self.source(batch), axis=1)
        copied = jax.nn.one_hot(answer, self.vocab_size, dtype=jnp.float32)
        return jnp.where((place >= self.asks)[:, None], copied, law)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """At the answer: `loss` in nats and `accuracy`. Over `language`, against the exact law: `language`, and
        `excess_language`, that minus the entropy."""
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        law = self.oracle(batch)
        entropy = -jnp.sum(law * jnp.log(jnp.where(law > 0, law, 1.0)), axis=-1)
        loss, where = cross_entropy(law, logits), batch.positions["language"]
        text = {"language": mean_over(loss, where), "excess_language": mean_over(loss - entropy, where)}
        return answers.answer_risks(logits, batch, batch.positions["answer"]) | text
