"""Where a layer takes its queries and keys from, if not from the stream it writes to (2510.11602, sections 3.3, 3.4).

A second stream runs through the same blocks, with its own queries, keys and values, and knows nothing of the sequence:
attention maps that are made from it are the same for every input. Values are always those of the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.config import ConfigError, require


@dataclass(frozen=True)
class RandomStream:
    """RndEmbQK: fixed noise `N(0, std^2)`, the same for every sequence and never learned, in place of embeddings."""

    std: float = 1.0
    seed: int = 0

    def start(self, token: Float[Array, "V D"] | None, num: int, width: int) -> Float[Array, "T D"]:
        """What enters the first block, without positions."""
        return self.std * jax.random.normal(jax.random.key(self.seed), (num, width))


@dataclass(frozen=True)
class FixedStream:
    """FixedSeqQK: the embeddings of one fixed sequence of token ids, repeated if it is too short."""

    tokens: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "tokens", tuple(self.tokens))
        require(len(self.tokens) > 0, "FixedStream.tokens", self.tokens, "one token id or more")

    def start(self, token: Float[Array, "V D"] | None, num: int, width: int) -> Float[Array, "T D"]:
        """What enters the first block, without positions."""
        if token is None:
            raise ConfigError("FixedStream: this model has no vocabulary; allowed is a model that reads tokens.")
        ids = jnp.asarray([self.tokens[t % len(self.tokens)] for t in range(num)])
        return token[ids]


@dataclass(frozen=True)
class StaticEmbedding:
    """StaticEmbQK: queries and keys are read from the embedded tokens of the sequence itself, in every layer."""


QKSource = RandomStream | FixedStream | StaticEmbedding
