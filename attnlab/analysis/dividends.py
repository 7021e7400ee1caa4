"""Interactions of parts of an input: Harsanyi dividends and Shapley values of a score, and what to do with them.

A score `v(S)` is known for every coalition `S` of `n` players (segments of an input, say, the others masked). Then

    I(S) = sum_{T in S} (-1)^(|S| - |T|) v(T),      v(S) = sum_{T in S} I(T),      phi_i = sum_{S with i} I(S) / |S|.

Coalitions are numbered by bits: player `i` is in coalition `c` if bit `i` of `c` is set, so `v[0]` is the empty one and
`v[-1]` that of all. `I(empty) = v(empty)`, so that dividends sum to `v(N)`, Shapley values to `v(N) - v(empty)`.

Source: arXiv 2507.05056 for dividends of image and instruction in decoding; the definitions are Harsanyi's and
Shapley's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from attnlab.config import require

MOST_PLAYERS = 12


def coalition_masks(players: int) -> Bool[np.ndarray, "C n"]:
    """Who is in each of the `C = 2^n` coalitions: `masks[c, i]` is bit `i` of `c`."""
    whole = isinstance(players, int) and not isinstance(players, bool) and 1 <= players <= MOST_PLAYERS
    require(whole, "players", players, f"an integer from 1 to {MOST_PLAYERS}", "There is a score for every coalition.")
    return (np.arange(2**players)[:, None] >> np.arange(players)) % 2 == 1


def harsanyi(values: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
    """Dividends `I(S)` of scores `v(S)`, both over the `C = 2^n` coalitions; `n 2^n` subtractions.

    Raises:
      ConfigError: a number of scores that is no power of two.
    """
    return _transform(values, -1.0)


def coalition_values(dividends: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
    """Scores `v(S)` of dividends: the inverse of `harsanyi`."""
    return _transform(dividends, 1.0)


def shapley(values: Float[Array, "*B C"]) -> Float[Array, "*B n"]:
    """Shapley values of scores: every dividend is shared evenly by its coalition."""
    masks = coalition_masks(_players(values))
    return harsanyi(values) @ jnp.asarray(masks / np.maximum(masks.sum(axis=1, keepdims=True), 1), values.dtype)


def coalition_scores(score: Callable[[Bool[Array, " n"]], Any], players: int) -> Any:
    """`score(mask)` of every coalition, one forward pass each in one `vmap`: leaves `[*B, C]`.

    Args:
      score: from who is present, `[n]`, to an array or a pytree of arrays `[*B]`. Pure.
      players: `n`, at most 12.
    """
    found = jax.vmap(score)(jnp.asarray(coalition_masks(players)))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), found)


def dividends(score: Callable[[Bool[Array, " n"]], Any], players: int) -> Any:
    """The Harsanyi dividends of a score, leaves `[*B, C]`; see `coalition_scores`.

    Example:
      def score(present):
          kept = jnp.where(present[segment_of][:, None], embedded, blank)
          return logits(kept)[-1, answer]
      dividends(score, 2)[3]          # the interaction of both segments
    """
    return jax.tree.map(harsanyi, coalition_scores(score, players))


# ---- of two players, in decoding


def interaction_guided(
    v11: Float[Array, "*B"], v10: Float[Array, "*B"], v01: Float[Array, "*B"], v00: Float[Array, "*B"], weight: Any
) -> Float[Array, "*B"]:
    """`v11 + w I`, `I = v11 - v10 - v01 + v00`: logits plus their interaction of image (first) and instruction."""
    return v11 + weight * (v11 - v10 - v01 + v00)


def contrast(v11: Float[Array, "*B"], v01: Float[Array, "*B"], weight: Any) -> Float[Array, "*B"]:
    """`(1 + w) v11 - w v01`: logits against those without the image. The same without `w (v00 - v10)`."""
    return (1 + weight) * v11 - weight * v01


# ---- the transform


def _players(values: Array) -> int:
    count = values.shape[-1]
    players = count.bit_length() - 1
    hint = "Give a score for every coalition (`coalition_scores`)."
    require(count == 2**players and players >= 1, "scores", f"{count} coalitions", "2^n, n from 1", hint)
    return players


def _transform(values: Float[Array, "*B C"], sign: float) -> Float[Array, "*B C"]:
    for player in range(_players(values)):
        pairs = values.reshape(*values.shape[:-1], -1, 2, 2**player)
        without, with_ = pairs[..., :1, :], pairs[..., 1:, :]
        values = jnp.concatenate([without, with_ + sign * without], axis=-2).reshape(values.shape)
    return values
