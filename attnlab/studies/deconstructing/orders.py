"""Taylor attention as the appendix of 2510.11602 writes it: every order divided by its own row sum."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.attention.weighted import Weighted


@dataclass(frozen=True)
class OrdersApart:
    """`A_tu = 1/n_t + l_tu / sum_w l_tw + l_tu^2 / sum_w l_tw^2` over the visible columns `w`.

    The recurrences (14) to (17) of 2510.11602 read `o = o0 + o1 + o2`, each order with a normaliser of its own; its
    equation (6), and Based (2402.18668), divide the sum of the orders by the sum of their normalisers
    (`attention.approximate`). Rows here sum to 3, and `sum l` has no sign: where it passes through 0 a row has no
    bound. Where a sum is exactly 0 its order counts as 0.
    """

    def __call__(self, logits: Float[Array, "*B T W"], visible: Bool[Array, "*M T W"]) -> Float[Array, "*B T W"]:
        seen = jnp.where(visible, logits, 0)
        count = jnp.sum(visible, axis=-1, keepdims=True).astype(logits.dtype)
        flat = jnp.where(visible, 1 / jnp.maximum(count, 1), 0)
        return flat + _over_sum(seen) + _over_sum(jnp.square(seen))


def _over_sum(raw: Array) -> Array:
    total = jnp.sum(raw, axis=-1, keepdims=True)
    return jnp.where(total == 0, 0, raw / jnp.where(total == 0, 1, total))


approximate_apart = Weighted("approximate_apart", OrdersApart())
