"""Standard normal numbers on the device, at a third of the price of the inverse distribution function on CPU.

Box-Muller in pairs: two words of 32 random bits give a radius `sqrt(-2 log u)` and an angle `2 pi v`, hence two
independent N(0, 1). The words are those of Threefry-2x32, JAX's own generator. Both functions are written so that XLA
can keep them in vector registers: the rounds of the hash are unrolled, sine and cosine are polynomials.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_SCALE = np.float32(2.0**-24)
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(7))
_COSINE = tuple((-1) ** k / math.factorial(2 * k) for k in range(8))


def threefry_words(key: Key[Array, ""], count: int) -> tuple[UInt32[Array, " n"], UInt32[Array, " n"]]:
    """Threefry-2x32-20 of the counters `(i, 0)`, `i < count`: the very words of `jax.extend.random.threefry2x32_p`.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
    """
    first, second = jax.random.key_data(key)
    schedule = (first, second, first ^ second ^ _PARITY)
    x = jax.lax.iota(jnp.uint32, count) + first
    y = jnp.broadcast_to(second, (count,))
    for group in range(5):
        for turn in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << turn) | (y >> (32 - turn)))
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Independent N(0, 1) in float32; a key of another generator than Threefry goes to `jax.random.normal`.

    `u` has 24 bits, so `|z| <= sqrt(48 log 2) = 5.77`, which a normal number exceeds once in 10^8.
    """
    if jax.random.key_impl(key) != "threefry2x32":
        return jax.random.normal(key, shape)
    size = math.prod(shape)
    pairs = (size + 1) // 2
    # Without the barrier XLA would hash once for the cosine and once more for the sine.
    words = jax.lax.optimization_barrier(threefry_words(key, pairs))
    radius, angle = ((word >> 8).astype(jnp.float32) for word in words)
    length = jnp.sqrt(-2 * jnp.log((radius + 1) * _SCALE))
    sine, cosine = _half_turn(angle * _SCALE - np.float32(0.5))
    parts = length * (1 - 2 * sine * sine), length * (2 * sine * cosine)
    if shape and shape[0] % 2 == 0:
        half = (shape[0] // 2, *shape[1:])
        return jnp.concatenate([part.reshape(half) for part in parts])
    return jnp.concatenate(parts)[:size].reshape(shape)


def _half_turn(turns: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """`sin(pi v), cos(pi v)` for `|v| <= 1/2`, by Taylor polynomials, to 1e-7."""
    x = turns * np.float32(np.pi)
    square = x * x
    return x * _polynomial(_SINE, square), _polynomial(_COSINE, square)


def _polynomial(coefficients: tuple[float, ...], x: Float[Array, " n"]) -> Float[Array, " n"]:
    """`sum_k coefficients[k] x^k`, by Horner's rule."""
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + np.float32(coefficient)
    return value
