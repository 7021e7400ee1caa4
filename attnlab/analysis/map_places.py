"""Where the mass of a map lies: on one key, at a distance, beside another head, beside a teacher.

Conventions on masks and rows without mass are those of `attnlab.analysis.map_rows`. With fewer queries than keys the
queries are the last positions, so key `j` is at distance `i + U - T - j` (0-based) from query `i`.

**Share and mass are two figures.** A map whose rows do not sum to one can put all of its share on a key and next to
nothing of its mass: a share alone says "sink" of a head that is switched off. What looks at one key gives both.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.map_rows import kept, of_mass, root, row_shares
from attnlab.attention.base import HostOrDevice
from attnlab.config import require


class OnKey(NamedTuple):
    """What each query puts on one key, each `Float[*B, T]`.

    Attributes:
      share: `|A_ik| / Σ_m |A_im|`; NaN for a row without mass.
      mass: `|A_ik|`.
      gated: `|g_i| |A_ik|`, what is left of the mass behind an output gate; None without a gate.
    """

    share: Array
    mass: Array
    gated: Array | None = None


def on_key(
    weights: Float[Array, "*B T U"],
    key: int = 0,
    mask: Bool[HostOrDevice, "*M T U"] | None = None,
    gate: Float[Array, "*G T"] | None = None,
) -> OnKey:
    """Share and mass on key `key`: the attention sink for `key=0`.

    A headwise gate does not change a share, for it multiplies the whole row; of a closed gate the gated mass says that
    nothing is taken, from the sink or elsewhere.

    Args:
      gate: one number per query, broadcast against `[*B, T]` (`gate_size` makes it of an elementwise gate).
    """
    num_keys = weights.shape[-1]
    require(0 <= key < num_keys, "key", key, f"0 to {num_keys - 1}")
    share, mass = row_shares(weights, mask), jnp.abs(kept(weights, mask)[..., key])
    return OnKey(of_mass(share[..., key], share), mass, None if gate is None else jnp.abs(gate) * mass)


def local_focus(weights: Float[Array, "*B T U"], offset: int = 1) -> Float[Array, "*B T"]:
    """`A_{i, i-N}` for `N = offset`: 0 = self, 1 = the key before; NaN for a query without such a key.

    Its mean over the queries that have one is `LocFoc_N` of 2510.11602 and, for `N = 1`, `previous_token_score`. Give
    it `row_shares(A)` for shares in place of masses.
    """
    num_queries, num_keys = weights.shape[-2:]
    require(0 <= offset < num_keys, "offset", offset, f"0 to {num_keys - 1}")
    start = num_keys - num_queries - offset
    found = jnp.diagonal(weights, offset=start, axis1=-2, axis2=-1)
    before = [(0, 0)] * (weights.ndim - 2) + [(num_queries - found.shape[-1], 0)]
    return jnp.pad(found, before, constant_values=jnp.nan)


def window_mass(weights: Float[Array, "*B T U"], window: int) -> Float[Array, "*B T"]:
    """`Σ_{N < window} A_{i, i-N}`, the key itself and those before it, as many of them as there are."""
    num_queries, num_keys = weights.shape[-2:]
    require(1 <= window <= num_keys, "window", window, f"1 to {num_keys}")
    distance = jnp.arange(num_keys - num_queries, num_keys)[:, None] - jnp.arange(num_keys)
    return jnp.sum(kept(weights, (distance >= 0) & (distance < window)), axis=-1)


def head_diversity(
    weights: Float[Array, "*B H T U"], mask: Bool[HostOrDevice, "*M T U"] | None = None
) -> Float[Array, "*B"]:
    """Standard deviation over heads (divided by `H`, so 0 for one head) of an entry, mean over visible entries.

    Under a causal mask `2 / (T (T+1)) Σ_{j<=i} std_h A^h_ij` (2510.11602). NaN if nothing is visible.

    Args:
      mask: of all heads alike.
    """
    spread = root(jnp.var(weights, axis=-3))
    seen = jnp.ones(spread.shape, bool) if mask is None else jnp.broadcast_to(jnp.asarray(mask), spread.shape)
    count = jnp.sum(seen, axis=(-1, -2))
    total = jnp.sum(jnp.where(seen, spread, 0), axis=(-1, -2))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def kl_to_teacher(
    weights: Float[Array, "*B T U"],
    teacher: Float[Array, "*B T U"],
    mask: Bool[HostOrDevice, "*M T U"] | None = None,
    *,
    floor: float = 0.0,
) -> Float[Array, "*B T"]:
    """`Σ_j p_ij ln(p_ij / a_ij)`, shares `p` of the teacher, `a` of the map: cross entropy less the teacher's entropy.

    Its gradient in `weights` is that of the cross entropy, the distillation loss of Hedgehog (2402.04347).

    Args:
      floor: smallest `a` inside the logarithm. With 0 a map that takes nothing where the teacher takes something is
        infinitely far; a loss wants more (LoLCATs has 1e-12).

    Returns:
      per query; NaN where the teacher's row has no mass.
    """
    require(floor >= 0, "floor", floor, "a number >= 0")
    wanted, own = row_shares(teacher, mask), row_shares(weights, mask)
    nothing = wanted == 0
    logs = jnp.log(jnp.where(nothing, 1, wanted)) - jnp.log(jnp.where(nothing, 1, jnp.maximum(own, floor)))
    return of_mass(jnp.sum(jnp.where(nothing, 0, wanted * logs), axis=-1), wanted)
