"""The contract of an attention mechanism: a pair of pure functions, up to three views that must agree.

Shapes: leading batch axes `*B` first, then `H` heads, `T` query and `U` key positions, `K` head width, `n` null
columns; `x[*B, T, D]` is what the layer reads (after its norm), for gates, temperatures and decays.

1. **map** (`view="map"`): the mixing matrix `A[*B, H, T, U]` with `out = A @ v (+ null part)`; all diagnostics read it.
2. **parallel** (`view="parallel"`): the form one trains with; may return `weights=None`.
3. **step** (`start`, `step`): decode one position at a time with an explicit state.

Two families share it: `attention.weighted` (a map of pairwise scores, a cache of keys and values) and
`attention.recurrent` (a linear recurrence, a state of fixed size; causal only).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from attnlab.config import ConfigError

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
    """Decode state: keys and values `[*B, H, U, K]` of a fixed length, how many are filled, and the keys' clock."""

    k: Float[Array, "*B H U K"]
    v: Float[Array, "*B H U K"]
    filled: Int[Array, ""]
    clock: Float[Array, "*B H U"] | None = None


class SiteFn(Protocol):
    """Where activations are read and edited (`attnlab.tape.Sites`, scoped to this mechanism)."""

    def __call__(self, name: str, value: Array) -> Array: ...


class NoSite:
    """Reads and edits nothing."""

    def __call__(self, name: str, value: Array) -> Array:
        return value

    def wants(self, name: str) -> bool:
        return False


no_site = NoSite()


def wants(site: SiteFn, name: str) -> bool:
    """Whether anyone reads or edits `name` there; True for a plain function, which cannot say."""
    asked = getattr(site, "wants", None)
    return True if asked is None else asked(name)


def lack(site: SiteFn, name: str, why: str) -> None:
    """Say that there is no `name` here, and why: who asks for it is told."""
    told = getattr(site, "lack", None)
    if told is not None:
        told(name, why)


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
        x: Float[Array, "*B T D"] | None = None,
        mask: Bool[HostOrDevice, "*M T U"] | None = None,
        bias: Float[HostOrDevice, "*N T U"] | None = None,
        view: View = "parallel",
        site: SiteFn = no_site,
    ) -> AttentionOutput: ...


def no_params(key: Key[Array, ""], dims: Dims) -> Params:
    """`init` of a mechanism without parameters."""
    return {}


def init_slots(name: str, slots: Sequence[Any], key: Key[Array, ""], dims: Dims) -> Params:
    """The parameters of all slots (None: an empty one) side by side in one dict; slot `n` draws from `fold_in(key, n)`.

    Raises:
      ConfigError: two slots have a parameter of the same name.
    """
    params: Params = {}
    for number, slot in enumerate(slots):
        own = {} if slot is None else slot.init(jax.random.fold_in(key, number), dims)
        if twice := [parameter for parameter in own if parameter in params]:
            raise ConfigError(f"{name}: two slots have a parameter {twice[0]!r}; rename one of them.")
        params |= own
    return params


def undecayed(part: Any) -> frozenset[str]:
    """Parameters of a mechanism that weight decay must leave alone: `no_decay` of itself, of its slots and of theirs.

    A slot declares the names as a class variable. They are what sets a rate of forgetting or a strength on a scale
    whose 0 is no neutral place (the logarithm of a rate, the bias of a step size, an exponent, a factor that begins at
    1), and draws that are never trained; where their authors' code marks them so, the slot says it.
    """
    found = frozenset(getattr(part, "no_decay", ()))
    if isinstance(part, tuple | list):
        inner: Any = part
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        inner = (getattr(part, field.name) for field in dataclasses.fields(part))
    else:
        return found
    return found.union(*map(undecayed, inner))


WeightMap = Callable[[Float[Array, "*B T W"], Bool[Array, "*M T W"]], Float[Array, "*B T W"]]


def causal_mask(num_queries: int, num_keys: int | None = None, *, window: int | None = None, prefix: int = 0):
    """`Bool[T, U]`: query `t` sees key `u <= t`; only the last `window` of them if given; keys `< prefix` always.

    With fewer queries than keys the queries are the last positions. Up to a million pairs it is no part of a trace:
    who mixes by it may look at it (`attention.tiles`).
    """
    num_keys = num_queries if num_keys is None else num_keys
    if num_queries * num_keys > 2**20:
        return _causal(jnp, num_queries, num_keys, window, prefix)
    with jax.ensure_compile_time_eval():
        return jnp.asarray(_causal(np, num_queries, num_keys, window, prefix))


def _causal(numpy: Any, num_queries: int, num_keys: int, window: int | None, prefix: int) -> Any:
    t = numpy.arange(num_keys - num_queries, num_keys)[:, None]
    u = numpy.arange(num_keys)[None, :]
    seen = u <= t
    if window is not None:
        seen &= u > t - window
    return seen | (u < prefix)
