"""The contract of an attention mechanism: a pair of pure functions, up to three views that must agree.

Shapes: leading batch axes `*B` first, then `H` heads, `T` query and `U` key positions, `K` head width, `n` null
columns.

1. **map** (`view="map"`): the mixing matrix `A[*B, H, T, U]` with `out = A @ v (+ null part)`; all diagnostics read it.
2. **parallel** (`view="parallel"`): the form one trains with; may return `weights=None`.
3. **step** (`start`, `step`): decode one position at a time with an explicit state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

View = Literal["parallel", "map"]
Params = Any
HostOrDevice = Array | np.ndarray


class Dims(NamedTuple):
    """Sizes that `init` may need: `H`, `K`, model width `D`."""

    num_heads: int
    head_dim: int
    width: int


class AttentionOutput(NamedTuple):
    """`out[*B, H, T, K]`; `weights[*B, H, T, U]` or None; `null[*B, H, T]` mass on null columns or None."""

    out: Float[Array, "*B H T K"]
    weights: Float[Array, "*B H T U"] | None = None
    null: Float[Array, "*B H T"] | None = None


class KVCache(NamedTuple):
    """Decode state: keys and values `[*B, H, U, K]` of a fixed length, and how many are filled."""

    k: Float[Array, "*B H U K"]
    v: Float[Array, "*B H U K"]
    filled: Int[Array, ""]


class SiteFn(Protocol):
    """Where activations are read and edited (`attnlab.tape.Sites`, scoped to this mechanism)."""

    def __call__(self, name: str, value: Array) -> Array: ...


def no_site(name: str, value: Array) -> Array:
    """Reads and edits nothing."""
    return value


@runtime_checkable
class Mechanism(Protocol):
    """An attention mechanism. A user's own needs `init` and `apply`; `attention.from_weights` makes one from a map."""

    @property
    def name(self) -> str: ...

    def init(self, key: Key[Array, ""], dims: Dims) -> Params: ...

    def apply(
        self,
        params: Params,
        q: Float[Array, "*B H T K"],
        k: Float[Array, "*B H U K"],
        v: Float[Array, "*B H U K"],
        *,
        mask: Bool[HostOrDevice, "*M T U"] | None = None,
        bias: Float[HostOrDevice, "*N T U"] | None = None,
        view: View = "parallel",
        site: SiteFn = no_site,
    ) -> AttentionOutput: ...


def no_params(key: Key[Array, ""], dims: Dims) -> Params:
    """`init` of a mechanism without parameters."""
    return {}


WeightMap = Callable[[Float[Array, "*B T W"], Bool[Array, "*M T W"]], Float[Array, "*B T W"]]


def causal_mask(num_queries: int, num_keys: int | None = None, *, window: int | None = None, prefix: int = 0):
    """`Bool[T, U]`: query `t` sees key `u <= t`; only the last `window` of them if given; keys `< prefix` always.

    With fewer queries than keys the queries are the last positions.
    """
    num_keys = num_queries if num_keys is None else num_keys
    t = jnp.arange(num_keys - num_queries, num_keys)[:, None]
    u = jnp.arange(num_keys)[None, :]
    seen = u <= t
    if window is not None:
        seen &= u > t - window
    return seen | (u < prefix)
