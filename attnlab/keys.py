"""One root key; everything random is reached from it by name and step.

`stream(root, "data", t)` is two `fold_in`s, so any step can be recomputed on its own, nothing carries a key, and two
streams never share randomness. Names in use: `init`, `data`, `eval`, `analysis`.
"""

from __future__ import annotations

import zlib
from numbers import Integral

import jax
from jaxtyping import Array, Int, Key


def root(seed: int) -> Key[Array, ""]:
    """The root key of a run, from an integer of 32 bits (JAX keeps no more: 2^32 would be 0 again)."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"seed: got {seed!r}; allowed is an integer from 0 to 2^32 - 1, for example 0.")
    return jax.random.key(int(seed))


def stream(root_key: Key[Array, ""], name: str, step: int | Int[Array, ""] = 0) -> Key[Array, ""]:
    """The key of stream `name` at `step`: `fold_in(fold_in(root, crc32(name)), step)`."""
    return jax.random.fold_in(jax.random.fold_in(root_key, zlib.crc32(name.encode())), step)
