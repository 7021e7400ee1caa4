"""What a row of a mixing matrix says of its query: mass, shares, entropy, support.

Rows may be signed, may not sum to one, and may be empty. All functions take `A[*B, T, U]` and `mask` (True where a
query may look, None = everywhere; entries outside count as 0) and are pure and differentiable. In all of them

    p_ij = |A_ij| / Σ_m |A_im|        n_i = number of keys that query i may see

**A row without mass** (a dead row under ReLU, a query that sees nothing) has mass 0, support 0 and shares 0; what is
made of its shares (entropy, spikiness, the share of a key) is NaN, so that averages can leave it out and say so.

References: entropy and `|A|_F`: 2510.11602; spikiness: Zhang et al. (2411.12892); `|A| / Σ|A|` for maps that do not sum
to one: Gu et al. (2410.10781), whose own form with a floor is `sink_metric.proxy`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.head_terms import ratio
from attnlab.attention.base import HostOrDevice
from attnlab.config import require


class RowMass(NamedTuple):
    """`signed` `Σ_j A_ij` and `absolute` `Σ_j |A_ij|`, each `Float[*B, T]`."""

    signed: Array
    absolute: Array


def kept(weights: Float[Array, "*B T U"], mask: Bool[HostOrDevice, "*M T U"] | None) -> Float[Array, "*B T U"]:
    """`A` with 0 where a query may not look."""
    return weights if mask is None else jnp.where(mask, weights, 0)


def num_visible(
    weights: Float[Array, "*B T U"], mask: Bool[HostOrDevice, "*M T U"] | None = None
) -> Float[Array, "*B T"]:
    """`n_i`, as floating point numbers."""
    seen = jnp.ones(weights.shape, bool) if mask is None else jnp.broadcast_to(jnp.asarray(mask), weights.shape)
    return jnp.sum(seen, axis=-1, dtype=weights.dtype)


def row_mass(weights: Float[Array, "*B T U"], mask: Bool[HostOrDevice, "*M T U"] | None = None) -> RowMass:
    """What a query takes in all: 1 and 1 under softmax, from 0 to `n_i` under a sigmoid."""
    own = kept(weights, mask)
    return RowMass(jnp.sum(own, axis=-1), jnp.sum(jnp.abs(own), axis=-1))


def row_shares(
    weights: Float[Array, "*B T U"], mask: Bool[HostOrDevice, "*M T U"] | None = None
) -> Float[Array, "*B T U"]:
    """`p_ij`; a row without mass is all 0. Exact for any mass that is not 0, however small."""
    size = jnp.abs(kept(weights, mask))
    return ratio(size, jnp.broadcast_to(jnp.sum(size, axis=-1, keepdims=True), size.shape))


def map_entropy(
    weights: Float[Array, "*B T U"], mask: Bool[HostOrDevice, "*M T U"] | None = None
) -> Float[Array, "*B T"]:
    """`H_i = -Σ_j p_ij ln p_ij` in nats, `0 ln 0 = 0`; NaN for a row without mass."""
    share = row_shares(weights, mask)
    terms = jnp.where(share == 0, 0, share * jnp.log(jnp.where(share == 0, 1, share)))
    return of_mass(-jnp.sum(terms, axis=-1), share)


def evenness(weights: Float[Array, "*B T U"], mask: Bool[HostOrDevice, "*M T U"] | None = None) -> Float[Array, "*B T"]:
    """`H_i / ln n_i`: 0 = one key, 1 = all keys alike; NaN for a row without mass, or one that sees a single key.

    Scores that are bounded bring it to 1 as `n` grows, the dispersion of softmax.
    """
    count = num_visible(weights, mask)
    choice = count > 1
    return jnp.where(choice, map_entropy(weights, mask) / jnp.log(jnp.where(choice, count, 2)), jnp.nan)


def spikiness(
    weights: Float[Array, "*B T U"], mask: Bool[HostOrDevice, "*M T U"] | None = None
) -> Float[Array, "*B T"]:
    """`1 / (n_i Σ_j p_ij^2)`, from `1 / n_i` (one key) to 1 (all keys alike): lower is spikier; NaN without mass.

    The published `1 / (T Σ_j A_ij^2)` is this where rows sum to one and see all `T` keys; dividing by `n_i` makes the
    rows of a causal map comparable.
    """
    share = row_shares(weights, mask)
    square = jnp.sum(share * share, axis=-1)
    count = num_visible(weights, mask)
    return of_mass(1 / (jnp.maximum(count, 1) * jnp.where(square == 0, 1, square)), share)


def support_size(
    weights: Float[Array, "*B T U"], mask: Bool[HostOrDevice, "*M T U"] | None = None, *, eps: float = 0.0
) -> Float[Array, "*B T"]:
    """`#{j: |A_ij| > eps}`: how many keys a query takes anything from. 0 for a row without mass."""
    require(eps >= 0, "eps", eps, "a number >= 0")
    size = jnp.abs(kept(weights, mask))
    return jnp.where(jnp.any(jnp.isnan(size), axis=-1), jnp.nan, jnp.sum(size > eps, axis=-1, dtype=weights.dtype))


def frobenius(weights: Float[Array, "*B T U"], mask: Bool[HostOrDevice, "*M T U"] | None = None) -> Float[Array, "*B"]:
    """`|A|_F`, the concentration of a whole map: `√T` if every query takes one key, `√(Σ_i 1/n_i)` if it takes all.

    Of weights that do not sum to one it says how large they are rather than how concentrated.
    """
    own = kept(weights, mask)
    return root(jnp.sum(own * own, axis=(-1, -2)))


def of_mass(values: Float[Array, "*B T"], share: Float[Array, "*B T U"]) -> Float[Array, "*B T"]:
    """`values`, NaN where a row has no mass."""
    return jnp.where(jnp.all(share == 0, axis=-1), jnp.nan, values)


def root(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """`√x` whose derivative at 0 is 0 instead of infinite."""
    return jnp.where(x == 0, 0, jnp.sqrt(jnp.where(x == 0, 1, x)))
