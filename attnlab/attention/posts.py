"""New weights from weights: slots of `weighted.Weighted` that act after the map.

`Parallax` and `LocalLinear` tilt a row of softmax weights: `A_tu = p_tu (1 - r_t . (k_u - k_mean_t))` with `k_mean_t`
the mean key under `p`; rows still sum to 1, weights may be negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention.maps import SOFTMAX
from attnlab.attention.projections import vector_per_head
from attnlab.attention.weighted import Seen
from attnlab.config import require

Penalty = Literal["absolute", "relative"]


@dataclass(frozen=True)
class Reweight:
    """`A'_tu = B_tu / sum_w B_tw`, `B_tu = max(n_t A_tu - 1, 0)^power`: only weights above the uniform one stay.

    LSSAR (2501.13428); `power` 15, or 3 for the length one trains at. Rows of at most `free` visible keys do not have
    the 1 subtracted (the first three rows of a causal mask). Powers are taken as logarithms: `(n A - 1)^15` leaves
    float32 as soon as a row has 400 keys. A row in which no weight is above uniform stays as it is.
    """

    power: float = 15.0
    free: int = 3

    def __post_init__(self):
        require(self.power > 0, "Reweight.power", self.power, "a number > 0")

    def init(self, key, dims):
        return {}

    def __call__(self, params, weights, seen: Seen):
        excess = seen.count * weights - (seen.count > self.free)
        # `n A` of a uniform row is 1 to rounding: what is left of it after the subtraction is no weight.
        kept = seen.visible & (excess > seen.count * jnp.finfo(weights.dtype).eps)
        logs = self.power * jnp.log(jnp.where(kept, excess, 1))
        return jnp.where(jnp.any(kept, axis=-1, keepdims=True), SOFTMAX(logs, kept), weights)


def tilted(p: Array, k: Array, r: Array) -> Array:
    """`p_tu (1 - r_t . (k_u - sum_w p_tw k_w))` for `p[*B, H, T, U]`, `k[*B, H, U, K]`, `r[*B, H, T, K]`."""
    along = r @ jnp.swapaxes(k, -1, -2)
    return p * (1 + jnp.sum(p * along, axis=-1, keepdims=True) - along)


@dataclass(frozen=True)
class Parallax:
    """The tilt is a second, learned query `r_t = x_t W_h`, not scaled (2605.29157). `W[D, H, K]` is N(0, 1 / D)."""

    def init(self, key, dims):
        shape = (dims.width, dims.num_heads, dims.head_dim)
        return {"probe": dims.width**-0.5 * jax.random.normal(key, shape)}

    def __call__(self, params, weights, seen: Seen):
        r = vector_per_head(seen.rows.x, params["probe"], "the probe of Parallax")
        return tilted(weights, seen.tokens.k, r)


@dataclass(frozen=True)
class LocalLinear:
    """Local linear regression at the query (LLA, 2510.01450), solved directly: `O(T U K^2 + T K^3)`. Definition only.

    With `w_tu = exp(l_tu)` it is the `b` of `min_{b, W} sum_u w_tu |v_u - b - W (k_u - q_t)|^2 + ridge |W|^2`. The
    intercept is free, so the fit may be taken around the mean key: `r_t = (C_t + ridge / sum_u w_tu)^-1 (k_mean_t -
    q_t)` with `C_t` the covariance of keys under `p = softmax(l)` (derived): no division by a small difference, and
    nothing overflows. `ridge -> inf` is softmax.

    `ridge = exp(log_ridge_h)`, learned per head, begins at `ridge`. Over `sum_u w_tu` it counts as at least `sqrt(eps)
    sum_u p_tu |k_u - q_t|^2`, `eps` the rounding of the dtype: a smaller one changes the result by less than the
    rounding of keys does, which it divides (with fewer keys than dimensions, or one key with all the weight).

    `penalty="relative"` takes `ridge` in the place of `ridge / sum_u w_tu`: over normalised weights, as the paper's
    released kernel does, so that neither a shift of the logits nor more keys change how much it counts.
    """

    ridge: float = 1.0
    penalty: Penalty = "absolute"

    def __post_init__(self):
        require(self.ridge > 0, "LocalLinear.ridge", self.ridge, "a number > 0")
        require(self.penalty in get_args(Penalty), "LocalLinear.penalty", self.penalty, "absolute | relative")

    def init(self, key, dims):
        return {"log_ridge": jnp.full(dims.num_heads, log(self.ridge))}

    def __call__(self, params, weights, seen: Seen):
        kind = jnp.promote_types(weights.dtype, jnp.float32)
        p, k, q = (y.astype(kind) for y in (weights, seen.tokens.k, seen.tokens.q))
        mean = p @ k
        centred = k[..., None, :, :] - mean[..., :, None, :]
        covariance = jnp.einsum("...tu,...tui,...tuj->...tij", p, centred, centred)
        logits = jnp.where(seen.visible, seen.logits.astype(kind), jnp.finfo(kind).min)
        ridge = self._ridge(params["log_ridge"].astype(kind)[:, None], logits)
        spread = jnp.trace(covariance, axis1=-2, axis2=-1) + jnp.sum(jnp.square(mean - q), axis=-1)
        ridge = jnp.maximum(ridge, float(jnp.finfo(kind).eps) ** 0.5 * spread + float(jnp.finfo(kind).tiny) ** 0.5)
        system = covariance + ridge[..., None, None] * jnp.eye(k.shape[-1], dtype=kind)
        r = jnp.linalg.solve(system, (mean - q)[..., None])
        return (p * (1 - (centred @ r)[..., 0])).astype(weights.dtype)

    def _ridge(self, log_ridge: Array, logits: Array) -> Array:
        """`ridge / sum_u exp(l_tu)`, but finite: beyond the square root of the largest number it is infinite enough."""
        if self.penalty == "relative":
            return jnp.broadcast_to(jnp.exp(log_ridge), logits.shape[:-1])
        limit = 0.5 * log(float(jnp.finfo(logits.dtype).max))
        return jnp.exp(jnp.minimum(log_ridge - jax.scipy.special.logsumexp(logits, axis=-1), limit))
