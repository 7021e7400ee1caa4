"""One root key; everything random is reached from it by name and step.

`stream(root, "data", t)` is two `fold_in`s, so any step can be recomputed on its own, nothing carries a key, and two
streams never share randomness. Names in use: `init`, `data`, `eval`, `analysis`.
"""

from __future__ import annotations

import zlib

import jax
from jaxtyping import Array, Int, Key


def root(seed: int) -> Key[Array, ""]:
    """The root key of a run, from a non-negative integer."""
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed: got {seed!r}; allowed is an integer >= 0, for example 0.")
    return jax.random.key(seed)


def stream(root_key: Key[Array, ""], name: str, step: int | Int[Array, ""] = 0) -> Key[Array, ""]:
    """The key of stream `name` at `step`: `fold_in(fold_in(root, crc32(name)), step)`."""
    return jax.random.fold_in(jax.random.fold_in(root_key, zlib.crc32(name.encode())), step)
