"""What gates, temperatures and decays read of a layer's input."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.config import require


def needed(x: Array | None, who: str) -> Array:
    """`x`, or an error that says who needs it."""
    require(x is not None, "x", x, "[*B, T, D], what the layer reads", f"Pass x=: {who} depends on it.")
    return jnp.asarray(x)


def number_per_head(x: Array | None, w: Float[Array, "D H"], who: str) -> Float[Array, "*B H T"]:
    """`x @ w`, heads before positions."""
    x = needed(x, who)
    return jnp.swapaxes(x @ w.astype(x.dtype), -1, -2)


def vector_per_head(x: Array | None, w: Float[Array, "D H K"], who: str) -> Float[Array, "*B H T K"]:
    """`x @ w`, heads before positions."""
    x = needed(x, who)
    return jnp.einsum("...td,dhk->...htk", x, w.astype(x.dtype))
