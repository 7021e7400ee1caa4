"""Mechanisms used as memories: pairs are written as keys and values, every stored key is read back. No training.

A read needs no token of its own: the query of the last written token is free, so that all keys are read from the state
that the last write leaves, by the mechanism's own decode step. Independent draws are heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.attention import Dims, softmax
from attnlab.attention import recurrent_catalogue as known
from attnlab.attention.features import Each, Hedgehog, elu_plus_one
from attnlab.attention.gates import FixedBeta
from attnlab.attention.mesa import Mesa
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.rules import Delta, Oja


@dataclass(frozen=True)
class Memory:
    """A mechanism as a memory of unit keys of width `K`.

    Attributes:
      mechanism: with `init`, `start` and `step`; no gates of `x`.
      passes: how often the pairs are written.
      sharpness: keys and queries are both multiplied by `K^sharpness`: 0 leaves them of norm 1, 1/2 gives entries of
        variance 1. (With softmax, 1/2 gives the logits `sqrt(K) cos`.)
    """

    mechanism: Any
    passes: int = 1
    sharpness: float = 0.0


ONE = FixedBeta(1.0)
MEMORIES = {
    "hebb": Memory(known.hebb),
    "oja": Memory(Recurrent("oja", Oja(beta=ONE))),
    "delta": Memory(Recurrent("delta", Delta(beta=ONE))),
    "delta_2": Memory(Recurrent("delta", Delta(beta=ONE)), passes=2),
    "ridge": Memory(Recurrent("ridge", Mesa(gated=False, ridge=1e-3))),
    "softmax": Memory(softmax, sharpness=0.5),
    "hedgehog": Memory(Recurrent("hedgehog", feature=Hedgehog(), normalizer=known.SUM), sharpness=0.5),
    "elu": Memory(Recurrent("elu", feature=Each(elu_plus_one), normalizer=known.SUM), sharpness=0.5),
}
"""The columns of the table."""


class Draw(NamedTuple):
    """Keys and values `[R, n, K]` of `R` independent draws."""

    keys: Array
    values: Array


def unit(key: Array, *shape: int) -> Float[Array, "*B K"]:
    """Random directions."""
    x = jax.random.normal(key, shape)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def draw(seed: int, draws: int, pairs: int, width: int) -> Draw:
    """Independent random unit keys and values."""
    keys_key, values_key = jax.random.split(jax.random.key(seed))
    return Draw(unit(keys_key, draws, pairs, width), unit(values_key, draws, pairs, width))


def reader(memory: Memory, draws: int, longest: int, width: int) -> Callable[..., np.ndarray]:
    """`read(keys, values, queries, pairs)` `[R, n, K]` -> `[R, n, K]`: what each query gets after the first `pairs`
    pairs were written `memory.passes` times. One compiled program for every number of pairs."""
    mechanism, dims = memory.mechanism, Dims(draws, width, 1)
    params = mechanism.init(jax.random.key(0), dims)
    scale = float(width**memory.sharpness)

    @jax.jit
    def read(keys, values, queries, pairs):
        keys, queries = scale * keys, scale * queries

        def write(number, state):
            at = number % pairs
            return mechanism.step(params, state, keys[:, at], keys[:, at], values[:, at])[1]

        last = memory.passes * pairs - 1
        state = mechanism.start(params, (), memory.passes * longest, dims)
        state = jax.lax.fori_loop(0, last, write, state)
        one = partial(_answer, mechanism, params, state, keys[:, pairs - 1], values[:, pairs - 1])
        return jnp.swapaxes(jax.vmap(one)(jnp.swapaxes(queries, 0, 1)), 0, 1)

    return lambda keys, values, queries, pairs: np.asarray(read(keys, values, queries, jnp.int32(pairs)))


def _answer(mechanism: Any, params: Any, state: Any, k: Array, v: Array, query: Array) -> Array:
    return mechanism.step(params, state, query, k, v)[0]


class Reads(NamedTuple):
    """Of `R` draws and `n` pairs, in the order of writing.

    Attributes:
      cosine: `r . v / (|r| |v|)`, `[R, n]`.
      right: whether the stored value nearest to `r` is the right one, `[R, n]`.
      fidelity: `E[r . v] / sqrt(E |r|^2)` over draws, `[n]`.
    """

    cosine: np.ndarray
    right: np.ndarray
    fidelity: np.ndarray


def judge_reads(reads: np.ndarray, values: np.ndarray) -> Reads:
    """Compare reads `[R, n, K]` with the values `[R, n, K]` of norm 1."""
    r, v = np.asarray(reads, np.float64), np.asarray(values, np.float64)
    overlap, energy = np.sum(r * v, axis=-1), np.sum(r * r, axis=-1)
    scores = np.einsum("rnk,rmk->rnm", r, v)
    right = np.argmax(scores, axis=-1) == np.arange(v.shape[1])
    return Reads(overlap / np.sqrt(energy), right, overlap.mean(0) / np.sqrt(energy.mean(0)))


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over draws `[R, ...]` and its standard error, from the means of the draws."""
    means = np.reshape(values, (len(values), -1)).mean(axis=1)
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))
