"""Products of numbers of 16 bits, added up in 32: what "bfloat16 with float32 accumulation" means here, in one place.

A bfloat16 number has 8 bits of mantissa (unit roundoff `u = 2^-8`), the exponents of float32. A sum kept in bfloat16
stops growing once it is 2^8 times its terms, so that its error grows with its length; a product of two bfloat16
numbers is exact in float32, and a float32 sum of `n` of them is off by at most `n 2^-24` of the sum of their sizes.
Other dtypes pass through unchanged.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_ADD_IN_FLOAT32 = jax.lax.DotAlgorithmPreset.BF16_BF16_F32


def is_narrow(x: Array) -> bool:
    """Whether it is bfloat16."""
    return x.dtype == jnp.bfloat16


def widen(x: Array) -> Array:
    """float32 of bfloat16; everything else as it is."""
    return x.astype(jnp.float32) if is_narrow(x) else x


def product(a: Float[Array, "*B T K"], b: Float[Array, "*B K U"]) -> Float[Array, "*B T U"]:
    """`a @ b`; of bfloat16 numbers added in float32 and rounded once. So are both its gradients."""
    return jnp.matmul(a, b, precision=_ADD_IN_FLOAT32 if is_narrow(a) and is_narrow(b) else None)


def wide_product(a: Float[Array, "*B T K"], b: Float[Array, "*B K U"]) -> Float[Array, "*B T U"]:
    """`a @ b`; of bfloat16 numbers added in float32 and left so, for what softmax or a loss reads.

    Its gradient rounds what comes back to bfloat16, so that the backward pass multiplies narrow numbers, too. Reverse
    mode only.
    """
    if not (is_narrow(a) and is_narrow(b)):
        return a @ b
    lead = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return _wide(*(jnp.broadcast_to(y, (*lead, *y.shape[-2:])) for y in (a, b)))


@jax.custom_vjp
def _wide(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_ADD_IN_FLOAT32, preferred_element_type=jnp.float32)


def _wide_forward(a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
    return _wide(a, b), (a, b)


def _wide_backward(held: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    a, b = held
    narrow = slope.astype(a.dtype)
    return product(narrow, jnp.swapaxes(b, -1, -2)), product(jnp.swapaxes(a, -1, -2), narrow)


_wide.defvjp(_wide_forward, _wide_backward)
