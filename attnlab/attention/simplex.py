"""Maps onto the simplex with exact zeros: sparsemax and entmax.

`entmax_alpha(l) = argmax_p p . l + H_alpha(p)` over the simplex is `[(alpha - 1) l - tau]_+^(1 / (alpha - 1))` with the
`tau` that makes the row sum 1; `alpha -> 1` is softmax, `alpha = 2` sparsemax (Martins & Astudillo, 1602.02068; Peters
et al., 1905.05702). With `z = (alpha - 1)(l - max l)`, `tau >= -1`: a logit of `z <= -1` has weight 0, and so
`z = -1` stands for what is not visible.

The derivative is given, not traced: at weight 0 the square root of the closed form has none (nan). On the support,
with `u = p^(2 - alpha)`: `dp = u dl - u (u . dl) / sum u`.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from attnlab.attention.base import WeightMap
from attnlab.attention.maps import Logits, Visible
from attnlab.attention.rows import COSTLY
from attnlab.config import require


def _below_top(logits: Array, visible: Array, factor: Array | float) -> Array:
    """`factor (l - max l)`, at least -1, and -1 where not visible."""
    top = jnp.max(jnp.where(visible, logits, jnp.finfo(logits.dtype).min), axis=-1, keepdims=True)
    return jnp.where(visible, jnp.maximum(factor * (jnp.where(visible, logits, top) - top), -1), -1)


def _finish(p: Array, visible: Array) -> Array:
    """Exactly zero where not visible, and the row sum is 1 to rounding."""
    p = jnp.where(visible, p, 0)
    total = jnp.sum(p, axis=-1, keepdims=True)
    return p / jnp.where(total == 0, 1, total)


def _along_support(u: Array, change: Array) -> Array:
    total = jnp.sum(u, axis=-1, keepdims=True)
    mean = jnp.sum(u * change, axis=-1, keepdims=True) / jnp.where(total == 0, 1, total)
    return u * (change - mean)


@jax.custom_jvp
def sparsemax(logits: Array, visible: Array) -> Array:
    """The nearest point of the simplex, `[l - tau]_+`, by sorting."""
    z = _below_top(logits, visible, 1.0)
    falling = -jnp.sort(-z, axis=-1)
    size = jnp.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    taus = (jnp.cumsum(falling, axis=-1) - 1) / size
    support = jnp.sum(falling > taus, axis=-1, keepdims=True)
    tau = jnp.take_along_axis(taus, jnp.maximum(support - 1, 0), axis=-1)
    return _finish(jax.nn.relu(z - tau), visible)


@sparsemax.defjvp
def _sparsemax_jvp(primals, tangents):
    p = checkpoint_name(sparsemax(*primals), COSTLY)
    return p, _along_support((p > 0).astype(p.dtype), tangents[0])


@jax.custom_jvp
def entmax15(logits: Array, visible: Array) -> Array:
    """`alpha = 3/2` in closed form: `[l / 2 - tau]_+^2`, by sorting."""
    z = _below_top(logits, visible, 0.5)
    falling = -jnp.sort(-z, axis=-1)
    size = jnp.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    mean = jnp.cumsum(falling, axis=-1) / size
    spread = jnp.cumsum(jnp.square(falling), axis=-1) - size * jnp.square(mean)
    # The largest `k` give `sum (z - tau)^2 = 1`: `spread + k (mean - tau)^2 = 1`.
    taus = mean - jnp.sqrt(jnp.maximum(1 - spread, 0) / size)
    support = jnp.sum(falling > taus, axis=-1, keepdims=True)
    tau = jnp.take_along_axis(taus, jnp.maximum(support - 1, 0), axis=-1)
    return _finish(jnp.square(jax.nn.relu(z - tau)), visible)


@entmax15.defjvp
def _entmax15_jvp(primals, tangents):
    p = checkpoint_name(entmax15(*primals), COSTLY)
    return p, _along_support(_power(p, 0.5), tangents[0])


def _power(base: Array, exponent: Array | float) -> Array:
    """`base^exponent`, 0 where `base` is 0, without the derivative's infinity there."""
    positive = base > 0
    return jnp.where(positive, jnp.power(jnp.where(positive, base, 1), exponent), 0)


@jax.jit
def _bisect(z: Array, alpha: Array) -> Array:
    """`[z - tau]_+^(1 / (alpha - 1))` with the root `tau` in `[-1, -W^(1 - alpha)]` halved down to rounding."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        above = jnp.sum(_power(jax.nn.relu(z - middle), 1 / (alpha - 1)), axis=-1, keepdims=True) >= 1
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    top = jnp.full((*z.shape[:-1], 1), -1, z.dtype)
    low, high = jax.lax.fori_loop(
        0, jnp.finfo(z.dtype).nmant + 2, halve, (top, top * (0 * alpha + z.shape[-1]) ** (1 - alpha))
    )
    return _power(jax.nn.relu(z - (low + high) / 2), 1 / (alpha - 1))


@jax.custom_jvp
def entmax(logits: Array, visible: Array, alpha: Array) -> Array:
    """Any `alpha > 1`, broadcast against `logits`, by bisection; differentiable in `alpha` too."""
    return _finish(_bisect(_below_top(logits, visible, alpha - 1), alpha), visible)


@entmax.defjvp
def _entmax_jvp(primals, tangents):
    """In `alpha`: from `log p = log((alpha - 1) l - tau) / (alpha - 1)`, `tau` moving so that the sum stays 1."""
    logits, visible, alpha = primals
    p = checkpoint_name(entmax(logits, visible, alpha), COSTLY)
    u = _power(p, 2 - alpha)
    total = jnp.sum(u, axis=-1, keepdims=True)
    spread = p * jnp.log(jnp.where(p > 0, p, 1))
    towards = jnp.sum(spread, axis=-1, keepdims=True) * u / jnp.where(total == 0, 1, total)
    # Only differences of logits matter: from the top, so that hidden and huge ones do no harm.
    relative = _below_top(logits, visible, alpha - 1) / (alpha - 1)
    by_alpha = (_along_support(u, relative) - spread + towards) / (alpha - 1)
    return p, _along_support(u, tangents[0]) + by_alpha * tangents[2]


@dataclass(frozen=True)
class Sparsemax:
    """`A_t = sparsemax(l_t)` over visible columns (1602.02068)."""

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        return sparsemax(logits, visible)


@dataclass(frozen=True)
class Entmax15:
    """`A_t = entmax_1.5(l_t)` over visible columns (1905.05702)."""

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        return entmax15(logits, visible)


@dataclass(frozen=True)
class Entmax:
    """`A_t = entmax_alpha(l_t)` over visible columns, `alpha > 1`."""

    alpha: float = 1.5

    def __post_init__(self):
        require(self.alpha > 1, "Entmax.alpha", self.alpha, "a number > 1", "alpha = 1 is Softmax.")

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        return entmax(logits, visible, jnp.asarray(self.alpha, logits.dtype))


@dataclass(frozen=True)
class AdaptiveEntmax:
    """`Entmax` with a learned `alpha_h = 1 + sigmoid(a_h)` per head, `a_h = 0` at first (1909.00015)."""

    def init(self, key, dims):
        return {"alpha": jnp.zeros(dims.num_heads)}

    def given(self, params) -> WeightMap:
        alpha = 1 + jax.nn.sigmoid(params["alpha"])[:, None, None]
        return lambda logits, visible: entmax(logits, visible, alpha.astype(logits.dtype))
