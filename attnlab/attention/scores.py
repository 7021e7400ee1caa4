"""Scores other than `scale q . k`: slots of `weighted.Weighted`. Most here look at positions alone, not at content."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention.pairwise import Tokens
from attnlab.config import require


def _spread(scores: Array, tokens: Tokens) -> Array:
    """`scores` (of some trailing axes) as `[*B, H, T, U]`."""
    shape = (*tokens.q.shape[:-1], tokens.k.shape[-2])
    return jnp.broadcast_to(scores.astype(tokens.q.dtype), shape)


def _offsets(tokens: Tokens, at: Array) -> Array:
    """`t - u`, `[T, U]`."""
    return at[:, None] - jnp.arange(tokens.k.shape[-2])[None, :]


@dataclass(frozen=True)
class Zero:
    """`l_tu = 0`: with softmax the uniform mean of what is visible."""

    def init(self, key, dims):
        return {}

    def __call__(self, params, tokens, scale, at):
        return _spread(jnp.zeros(()), tokens)


@dataclass(frozen=True)
class Itself:
    """`l_tu = 1` if `t = u`, else 0: with a map that keeps 0 and 1, `A` is the identity and no token sees another."""

    def init(self, key, dims):
        return {}

    def __call__(self, params, tokens, scale, at):
        return _spread(_offsets(tokens, at) == 0, tokens)


@dataclass(frozen=True)
class OffsetTable:
    """`l_tu = b_h[t - u]`, learned, the same for all inputs; offsets beyond `length - 1` share the last entry.

    With `content`, `scale q_t . k_u` is added: a learned relative position bias. Future keys have the entries of
    negative offsets. `b[H, 2 length - 1]` begins at 0.
    """

    length: int
    content: bool = False

    def __post_init__(self):
        require(self.length >= 1, "OffsetTable.length", self.length, "an integer >= 1")

    def init(self, key, dims):
        return {"offset": jnp.zeros((dims.num_heads, 2 * self.length - 1))}

    def __call__(self, params, tokens, scale, at):
        index = jnp.clip(_offsets(tokens, at), 1 - self.length, self.length - 1) + self.length - 1
        scores = _spread(params["offset"][:, index], tokens)
        return scores + (scale * tokens.q) @ jnp.swapaxes(tokens.k, -1, -2) if self.content else scores


@dataclass(frozen=True)
class PositionTable:
    """`l_tu = b_h[t, u]`, learned, the same for all inputs, for at most `length` positions; it begins at 0."""

    length: int

    def __post_init__(self):
        require(self.length >= 1, "PositionTable.length", self.length, "an integer >= 1")

    def init(self, key, dims):
        return {"table": jnp.zeros((dims.num_heads, self.length, self.length))}

    def __call__(self, params, tokens, scale, at):
        keys = tokens.k.shape[-2]
        hint = f"Its table has {self.length} positions: give PositionTable a greater length."
        require(keys <= self.length, "PositionTable", f"{keys} keys", f"at most {self.length}", hint)
        return _spread(params["table"][:, at, :keys], tokens)


@dataclass(frozen=True)
class Buckets:
    """`l_tu = scale q_t . k_u + b_h[bucket(t - u)]`: the relative positions of T5 (1910.10683), for causal attention.

    Half of the `number` buckets are offsets 0, 1, ...; the others grow in size like a logarithm up to `farthest`, and
    the last holds all beyond. Future keys are in bucket 0. `b[H, number]` begins at 0.
    """

    number: int = 32
    farthest: int = 128

    def __post_init__(self):
        require(self.number >= 2, "Buckets.number", self.number, "an integer >= 2")
        require(self.farthest > self.number // 2, "Buckets.farthest", self.farthest, f"above {self.number // 2}")

    def init(self, key, dims):
        return {"bucket": jnp.zeros((dims.num_heads, self.number))}

    def __call__(self, params, tokens, scale, at):
        offset, exact = jnp.maximum(_offsets(tokens, at), 0), self.number // 2
        far = jnp.maximum(offset, exact).astype(jnp.float32)
        share = jnp.log(far / exact) / log(self.farthest / exact)
        far = jnp.minimum(exact + (share * (self.number - exact)).astype(jnp.int32), self.number - 1)
        bucket = jnp.where(offset < exact, offset, far)
        return (scale * tokens.q) @ jnp.swapaxes(tokens.k, -1, -2) + _spread(params["bucket"][:, bucket], tokens)
