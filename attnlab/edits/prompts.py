"""Prompts as keys and values beside the tokens, as an edit of head outputs: learned, by role, by token (TCPA).

A prompt `n` is a key `k_n` and a value `v_n` that every row may look at and that asks nothing itself. With
`s_tn = q_t . k_n / sqrt(K)` and the row's own `Z_t = sum_u exp(l_tu)`, what a softmax head writes becomes

    z' = (1 - g) z + sum_n P_tn v_n,     P_tn = exp(s_tn) / (Z_t + sum_m exp(s_tm)),     g = sum_n P_tn

an output mix whose amount is read off the pass; `Z_t` is `exp(l_tu) / A_tu` at the row's largest weight. So the model
stays as it is, the prompts are arrays, and gradients reach them.

Reference: Token Coordinated Prompt Attention, arXiv 2505.02406 (2025), and its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.config import require
from attnlab.edits.columns import NEVER, Place
from attnlab.tape import Edit

_READS = ("in", "q", "logits", "weights")


def prompts(
    layer: int,
    keys: Float[Array, "H n K"],
    values: Float[Array, "H n K"],
    allowed: Any = True,
    pool: Float[Array, "n D"] | None = None,
    count: int | None = None,
    place: Place = "logit",
    mask: Any = None,
) -> Edit:
    """`n` prompts in block `layer`, whose mechanism must be softmax attention.

    Args:
      allowed: which row may see which prompt, broadcast to `[*B, T, n]`: roles, as in R-TCPA (`roles`). A row without
        any keeps its output under `logit`.
      pool, count: T-TCPA: of those allowed, a row sees the `count` whose vectors in `pool` have the largest cosine with
        what the row reads (`nearest`). With `count` at least the number allowed this is R-TCPA.
      place: `logit` prompts not seen are taken out before the map, so that a row's weights sum to 1; `post` they are
        set to 0 after it and the row is **not** renormalised, as in the published code: their mass vanishes.

    Raises:
      ConfigError: `pool` without `count` or the other way around; fewer than one; an unknown place.
    """
    require(place in get_args(Place), "place", place, " | ".join(get_args(Place)))
    require((pool is None) == (count is None), "count", count, "a number together with `pool`, None without")
    if count is not None:
        require(count >= 1, "count", count, "at least 1")
    given = (keys, values, jnp.asarray(allowed), pool)
    return Edit(f"blocks.{layer}.attn.head_out", _Prompted(count, place), given, mask, reads=_READS)


@dataclass(frozen=True)
class _Prompted:
    count: int | None
    place: Place

    def __call__(self, z, value, read):
        keys, values, allowed, pool = value
        x, q, logits, weights = read
        scores = jnp.einsum("...htk,hnk->...htn", q, keys) * q.shape[-1] ** -0.5
        seen = allowed if self.count is None else nearest(x, pool, self.count, allowed)
        seen = jnp.broadcast_to(seen, (*x.shape[:-1], keys.shape[1]))[..., None, :, :]
        counted = seen if self.place == "logit" else jnp.ones_like(seen)
        mixed = jnp.where(counted, scores, NEVER)
        own = _log_partition(logits, weights)[..., None]
        whole = jnp.logaddexp(own, jax.nn.logsumexp(mixed, axis=-1, keepdims=True))
        shares = jnp.where(counted & seen, jnp.exp(mixed - whole), 0.0)
        return jnp.exp(own - whole) * z + shares @ values


def _log_partition(logits: Float[Array, "*B T U"], weights: Float[Array, "*B T U"]) -> Float[Array, "*B T"]:
    """`log sum_u exp(l_tu)` over what the row sees, from its largest weight."""
    best = jnp.argmax(weights, axis=-1, keepdims=True)
    taken = jnp.take_along_axis(logits, best, -1) - jnp.log(jnp.take_along_axis(weights, best, -1))
    return taken[..., 0]


def roles(rows: Bool[Array, "R T"], num_each: int) -> Bool[Array, "T n"]:
    """R-TCPA: as many prompts for every role, `n = R num_each`; a row sees those of the roles it has."""
    return jnp.repeat(rows.T, num_each, axis=1)


def nearest(
    x: Float[Array, "*B T D"], pool: Float[Array, "n D"], count: int, allowed: Any = True
) -> Bool[Array, "*B T n"]:
    """For every row the `count` allowed prompts of largest cosine; all that are allowed where there are no more."""
    cosine = jnp.where(allowed, cosines(x, pool), -jnp.inf)
    kept = min(count, cosine.shape[-1])
    _, places = jax.lax.top_k(cosine, kept)
    chosen = jnp.any(places[..., None] == jnp.arange(cosine.shape[-1]), axis=-2)
    return chosen & jnp.broadcast_to(allowed, chosen.shape)


def cosines(x: Float[Array, "*B T D"], pool: Float[Array, "n D"]) -> Float[Array, "*B T n"]:
    """`x_t . p_n / (|x_t| |p_n|)`."""
    size = jnp.linalg.norm(x, axis=-1, keepdims=True) * jnp.linalg.norm(pool, axis=-1)
    return x @ pool.T / jnp.maximum(size, 1e-12)


def pull(x: Float[Array, "*B T D"], pool: Float[Array, "n D"], count: int, allowed: Any = True) -> Float[Array, ""]:
    """The mean of `1 - cosine` over rows and chosen prompts: what T-TCPA adds to its loss, times .01 in its script
    (10 in its readme)."""
    chosen = nearest(x, pool, count, allowed)
    return jnp.sum((1 - cosines(x, pool)) * chosen) / jnp.maximum(jnp.sum(chosen), 1)
