"""Bigram-Backcopy: a Markov chain over characters that, after a trigger character, repeats the one before the trigger.

    z[0] = bos;  z[1] ~ μ restricted to ordinary (non-trigger) characters
    z[i+1] = z[i-1]          if z[i] is a trigger
    z[i+1] ~ P[z[i], ·]      otherwise

Ordinary positions need no context beyond the current token, trigger positions need exactly the previous one: a head
that serves the triggers has nothing to do elsewhere and rests on the first token, the attention sink.

Reference: Guo, Pai, Bai, Jiao, Jordan, Mei, Active-Dormant Attention Heads, arXiv 2410.13835.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import alias, backcopy_checks, backcopy_law, backcopy_risks, bigram_counts
from toy_tasks.base import Batch


class Options(TypedDict, total=False):
    """The fields that every constructor of `BigramBackcopy` passes on."""

    bos: bool
    delimiter: bool
    smoothing: float
    variant: Literal["backcopy", "bigram_shift"]
    mix_p: float
    first_token: Literal["ordinary", "marginal"]


@dataclass(frozen=True, eq=False)
class BigramBackcopy:
    """The Bigram-Backcopy task. Usually made by `tiny_shakespeare`, `from_text` or `from_matrix`.

    Attributes:
      transition: `Float[V0, V0]`, rows `P[x, ·]` of the bigram law, before smoothing.
      marginal: `Float[V0]`, the unigram law μ, from which the first token is drawn.
      characters: names of the `V0` characters; ids are their places.
      triggers: ids of the trigger characters. Empty: a plain Markov chain.
      length: `T`, the number of input positions; a sequence has `T + 1` tokens, the targets are its last `T`.
      bos: begin with the token `<s>` (id `V0`), which occurs nowhere else; else position 0 holds the first character.
      delimiter: add `<d>` to the vocabulary, which is never emitted: the 67 classes of the authors' code.
      smoothing: `ε`; the kernel used is `(1 - ε) P + ε / V0`. Any `ε > 0` removes absorbing cycles.
      variant: what happens at a trigger: `backcopy` repeats `z[i-1]`; `bigram_shift` draws from `P[z[i-1], ·]` (the
        authors' `dormant_markov`).
      mix_p: probability of that happening; otherwise the trigger acts as an ordinary character, `P[z[i], ·]`.
      first_token: `ordinary` draws the first character from μ without triggers, `marginal` from μ (the authors'
        `dormant_markov` does; possible for `bigram_shift` with bos only).

    Position classes of a batch, each `Bool[B, T]`: `trigger`; `ordinary`, all others, position 0 included (the paper's
    attention metric); `bos`; `bigram`, ordinary positions that are not bos, those of the excess bigram risk.
    """

    transition: np.ndarray
    marginal: np.ndarray
    characters: tuple[str, ...]
    triggers: tuple[int, ...]
    length: int = 64
    bos: bool = True
    delimiter: bool = False
    smoothing: float = 0.0
    variant: Literal["backcopy", "bigram_shift"] = "backcopy"
    mix_p: float = 1.0
    first_token: Literal["ordinary", "marginal"] = "ordinary"

    reference = "Guo, Pai, Bai, Jiao, Jordan, Mei: Active-Dormant Attention Heads, arXiv 2410.13835 (2024)"

    def __post_init__(self) -> None:
        for name in ("transition", "marginal"):
            value = np.array(getattr(self, name), np.float64)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "characters", tuple(self.characters))
        object.__setattr__(self, "triggers", tuple(int(t) for t in self.triggers))
        backcopy_checks.check(self)

    # ---- making one

    @classmethod
    def tiny_shakespeare(
        cls,
        num_triggers: int = 3,
        length: int = 64,
        *,
        triggers: Sequence[str] | None = None,
        drop: Sequence[str] = "",
        **options: Unpack[Options],
    ) -> BigramBackcopy:
        """The task of the paper: bigrams of Tiny Shakespeare, the `num_triggers` most frequent characters as triggers.

        `triggers`, a string or a sequence of characters, names them instead. `drop="3"` takes out the character whose
        row makes `3␣3␣3␣…` an absorbing cycle; by default it is kept, as in the paper.
        """
        counts = bigram_counts.drop_characters(bigram_counts.tiny_shakespeare_counts(), drop)
        return cls._from_counts(counts, num_triggers, length, triggers, options)

    @classmethod
    def from_text(
        cls,
        path: str | Path,
        num_triggers: int = 3,
        length: int = 64,
        *,
        triggers: Sequence[str] | None = None,
        drop: Sequence[str] = "",
        **options: Unpack[Options],
    ) -> BigramBackcopy:
        """The same task made of the bigrams of a UTF-8 text file."""
        counts = bigram_counts.drop_characters(bigram_counts.file_counts(path), drop)
        return cls._from_counts(counts, num_triggers, length, triggers, options)

    @classmethod
    def from_matrix(
        cls,
        transition: np.ndarray,
        marginal: np.ndarray | None = None,
        characters: Sequence[str] | None = None,
        *,
        triggers: Sequence[str | int] | None = None,
        num_triggers: int = 3,
        length: int = 64,
        **options: Unpack[Options],
    ) -> BigramBackcopy:
        """The task of any row-stochastic matrix. `marginal` defaults to the stationary law of `transition`.

        `triggers` are ids or names; by default the `num_triggers` characters of largest marginal.
        """
        transition = backcopy_checks.checked_matrix(transition)
        marginal = bigram_counts.stationary(transition) if marginal is None else np.asarray(marginal, np.float64)
        names = tuple(map(str, range(len(transition)))) if characters is None else tuple(characters)
        ids = backcopy_checks.trigger_ids(triggers, num_triggers, names, marginal)
        return cls(transition, marginal, names, ids, length, **options)

    @classmethod
    def _from_counts(cls, counts, num_triggers, length, triggers, options) -> BigramBackcopy:
        transition, marginal = bigram_counts.normalised(counts)
        ids = backcopy_checks.trigger_ids(triggers, num_triggers, counts.characters, marginal)
        return cls(transition, marginal, counts.characters, ids, length, **options)

    # ---- names and numbers

    @property
    def num_characters(self) -> int:
        """`V0`, without `<s>` and `<d>`."""
        return len(self.characters)

    @property
    def vocab_size(self) -> int:
        """`V = V0 + bos + delimiter`."""
        return self.num_characters + self.bos + self.delimiter

    @property
    def bos_id(self) -> int | None:
        """The id of `<s>`, or None if the sequences have none."""
        return self.num_characters if self.bos else None

    @cached_property
    def is_trigger(self) -> np.ndarray:
        """`Bool[V]`, by token id."""
        return np.isin(np.arange(self.vocab_size), self.triggers)

    @cached_property
    def first_law(self) -> np.ndarray:
        """`Float[V0]`, the law of the first character."""
        law = self.marginal.copy()
        if self.first_token == "ordinary":
            law[list(self.triggers)] = 0.0
        return law / law.sum()

    @cached_property
    def rows(self) -> np.ndarray:
        """`Float[V0 + 1, V0]`: the smoothed bigram rows, and last the law of the first character."""
        smoothed = (1.0 - self.smoothing) * self.transition + self.smoothing / self.num_characters
        return np.vstack([smoothed, self.first_law])

    @cached_property
    def kernel(self) -> np.ndarray:
        """`Float[V, V]`: the law after an ordinary token. Row of `<s>`: the first character's; of `<d>`: μ."""
        kernel = np.zeros((self.vocab_size, self.vocab_size))
        kernel[:, : self.num_characters] = self.marginal
        kernel[: self.num_characters + self.bos, : self.num_characters] = self.rows[: self.num_characters + self.bos]
        return kernel

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of every token id."""
        return self.characters + ("<s>",) * self.bos + ("<d>",) * self.delimiter

    def decode(self, ids: Int[Array | np.ndarray, " T"] | Sequence[int]) -> str:
        """The text of one sequence of ids."""
        return "".join(self.names[int(i)] for i in np.asarray(ids))

    def encode(self, text: Sequence[str]) -> Int[np.ndarray, " T"]:
        """The ids of a string or a sequence of names (`<s>` included). Raises ValueError for a name not known."""
        place = {name: i for i, name in enumerate(self.names)}
        if unknown := [c for c in text if c not in place]:
            raise ValueError(f"encode: {unknown[0]!r} is not in the vocabulary {self.names}.")
        return np.array([place[c] for c in text], np.int32)

    def describe(self) -> str:
        """A few lines of text: the vocabulary, the triggers, and what an oracle achieves at this length."""
        expected = backcopy_law.expected_risks(self)
        triggers = ", ".join(f"{self.characters[t]!r} ({self.marginal[t]:.3f})" for t in self.triggers) or "none"
        return "\n".join(
            [
                f"Bigram-Backcopy, variant {self.variant}, mix_p {self.mix_p:g}, smoothing {self.smoothing:g}",
                f"{self.num_characters} characters, vocabulary {self.vocab_size}, T = {self.length}, bos {self.bos}",
                f"triggers: {triggers}; {expected.trigger_fraction:.4f} of the positions",
                f"oracle, nats per position: overall {expected.overall:.4f}, bigram {expected.bigram:.4f}, "
                f"backcopy {expected.backcopy:.4f}; backcopy without attention {expected.plateau:.4f}",
                self.reference,
            ]
        )

    # ---- sampling

    @cached_property
    def _tables(self) -> alias.AliasTable:
        return alias.alias_table(self.rows)

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be an integer >= 1.")
        steps = self.length + (not self.bos)
        word_key, coin_key = jax.random.split(key)
        words = jax.random.bits(word_key, (steps, batch_size), jnp.uint32)
        coins = None if self.mix_p == 1.0 else jax.random.bernoulli(coin_key, self.mix_p, words.shape)
        threshold, target = map(jnp.asarray, self._tables)
        is_trigger = jnp.asarray(np.append(self.is_trigger[: self.num_characters], False))

        def step(carry, randomness):
            previous, current = carry
            word, coin = randomness
            active = is_trigger.at[current].get(mode="promise_in_bounds")
            active = active if coin is None else active & coin
            if self.variant == "bigram_shift":
                following = alias.draw(threshold, target, jnp.where(active, previous, current), word)
            else:
                following = jnp.where(active, previous, alias.draw(threshold, target, current, word))
            return (current, following), following

        start = jnp.full((batch_size,), self.num_characters, jnp.int32)  # the extra row: the law of the first character
        _, tokens = jax.lax.scan(step, (start, start), (words, coins))
        return self.batch(jnp.concatenate([start[None], tokens]).T if self.bos else tokens.T)

    def batch(self, tokens: Int[Array | np.ndarray, "B L"]) -> Batch:
        """The batch of given sequences of `L = T + 1` tokens, with their position classes."""
        tokens = jnp.asarray(tokens, jnp.int32)
        inputs = tokens[:, :-1]
        trigger = jnp.asarray(self.is_trigger)[inputs]
        bos = inputs == self.num_characters if self.bos else jnp.zeros_like(trigger)
        positions = {"trigger": trigger, "ordinary": ~trigger, "bos": bos, "bigram": ~trigger & ~bos}
        return Batch(inputs, tokens[:, 1:], jnp.ones(inputs.shape, jnp.float32), positions)

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The exact law of the next token: after bos, the law of the first character; at triggers, the copy.

        `P[z_i]` at ordinary positions; `p e(z_{i-1}) + (1-p) P[z_i]` at triggers, with `p = mix_p` (for bigram_shift
        `P[z_{i-1}]` in place of the one-hot `e(z_{i-1})`).
        """
        inputs = batch.inputs
        kernel = jnp.asarray(self.kernel, jnp.float32)
        previous = jnp.pad(inputs, ((0, 0), (1, 0)))[:, :-1]
        special = (
            kernel[previous]
            if self.variant == "bigram_shift"
            else jax.nn.one_hot(previous, self.vocab_size, dtype=jnp.float32)
        )
        plain = kernel[inputs]
        mixed = special if self.mix_p == 1.0 else self.mix_p * special + (1.0 - self.mix_p) * plain
        return jnp.where(batch.positions["trigger"][..., None], mixed, plain)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Expected cross entropies of `logits`, in nats; see `backcopy_risks.risks`."""
        return backcopy_risks.risks(self, logits, batch)

    def oracle_risks(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        """The least possible `backcopy`, `bigram`, `bigram_code` and `overall` risks on this batch."""
        return backcopy_risks.oracle_risks(self, batch)

    def ideal_attention(self, batch: Batch) -> Float[Array, "B T T"]:
        """The active-dormant map: triggers attend to the previous position, all others to position 0."""
        place = jnp.arange(batch.inputs.shape[1])
        goal = jnp.where(batch.positions["trigger"], jnp.maximum(place - 1, 0), 0)
        return jax.nn.one_hot(goal, len(place), dtype=jnp.float32)
