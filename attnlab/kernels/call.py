"""One call of attention, checked and written out: what every implementation reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.config import require
from attnlab.kernels.row_maps import SOFTMAX, RowMap


def sigmoid_gate(out: Array, score: Array) -> Array:
    """`out sigmoid(score)`: the output gate G1 (2505.06708), elementwise."""
    return out * jax.lax.logistic(score)


@dataclass(frozen=True)
class Blocks:
    """Sizes of the blocks of rows and keys; heads that share keys count as rows.

    Compiled for TPU, both are multiples of 128 unless there is only one block; for CUDA powers of two, at least 16.
    """

    q: int = 128
    k: int = 128

    def __post_init__(self):
        for name in ("q", "k"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(whole, f"Blocks.{name}", value, "an integer >= 1")


BLOCKS = Blocks()


@dataclass(frozen=True, eq=False)
class Call:
    """The arguments of `kernels.attention`; shapes `q[*B, H, T, K]`, `k[*B, G, U, K]`, `v[*B, G, U, E]`.

    Attributes:
      clock: of rows `[*B, H, T]` and of keys `[*B, G, U]`, either or both None.
      sink: `[*B, H, T]` or None. gate: `[*B, H, T, E]` or None.
      segments: of rows `[*B, T]` and of keys `[*B, U]`, or None.
    """

    q: Any
    k: Any
    v: Any
    map: RowMap
    scale: float
    causal: bool
    window: int | None
    mask: Any
    segments: tuple[Any, Any] | None
    at: Any
    clock: tuple[Any | None, Any | None] | None
    sink: Any
    gate: Any
    finish: Callable[[Array, Array], Array]
    blocks: Blocks

    @property
    def num_groups(self) -> int:
        return self.k.shape[-3]

    @property
    def pairs(self) -> tuple[int, ...]:
        """`[*B, H, T, U]`."""
        return *self.q.shape[:-1], self.k.shape[-2]

    def extras(self) -> tuple[str, ...]:
        """What is asked for besides softmax of all keys or of those before."""
        given = (("window", self.window), ("mask", self.mask), ("segments", self.segments), ("at", self.at))
        more = (("clock", self.clock), ("sink", self.sink))
        names = tuple(name for name, value in (*given, *more) if value is not None)
        return (() if self.map == SOFTMAX else ("map",)) + names


def checked(call: Call) -> Call:
    """The call, its small arguments broadcast.

    Raises:
      ConfigError: arguments that do not fit each other.
    """
    q, k, v = call.q, call.k, call.v
    *batch, heads, num, width = q.shape
    groups, num_keys = call.num_groups, k.shape[-2]
    require(heads % groups == 0, "k", f"{groups} heads", f"a divisor of the {heads} heads of q")
    same = k.shape[:-1] == v.shape[:-1] and tuple(k.shape[:-3]) == tuple(batch) and k.shape[-1] == width
    shapes = f"q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
    require(same, "q, k, v", shapes, "[*B, H, T, K], [*B, G, U, K], [*B, G, U, E]")
    require(call.window is None or call.window >= 1, "window", call.window, "an integer >= 1, or None")
    hint = "Give positions `at`, or causal=False."
    fits = call.at is not None or num <= num_keys or not call.causal
    require(fits, "q", f"{num} queries", f"at most as many as the {num_keys} keys", hint)
    total = call.map.total is not None
    require(call.sink is None or total, "sink", "a logit", "None: this map has no normaliser for a sink to enter")
    kind = jnp.promote_types(q.dtype, jnp.float32)
    clock = None
    if call.clock is not None:
        hint = "Heads that share keys share their clocks; repeat the keys where they do not."
        shapes = (*batch, heads, num), (*batch, groups, num_keys)
        clock = tuple(
            None if x is None else _spread(f"clock[{i}]", x, shape, kind, hint)
            for i, (x, shape) in enumerate(zip(call.clock, shapes, strict=True))
        )
    sink = None if call.sink is None else _spread("sink", call.sink, (*batch, heads, num), kind)
    gate = None if call.gate is None else _spread("gate", call.gate, (*batch, heads, num, v.shape[-1]), kind)
    segments = None
    if call.segments is not None:
        shapes = (*batch, num), (*batch, num_keys)
        segments = tuple(
            _spread(f"segments[{i}]", x, s, jnp.int32)
            for i, (x, s) in enumerate(zip(call.segments, shapes, strict=True))
        )
    mask = None if call.mask is None else jnp.asarray(call.mask)
    return _replaced(call, clock=clock, sink=sink, gate=gate, segments=segments, mask=mask)


def _replaced(call: Call, **changes: Any) -> Call:
    return Call(**({name: getattr(call, name) for name in call.__dataclass_fields__} | changes))


def _spread(name: str, x: Any, shape: tuple[int, ...], kind: Any, hint: str = "") -> Array:
    """`x` broadcast to `shape`."""
    x = jnp.asarray(x, kind)
    try:
        fits = jnp.broadcast_shapes(x.shape, shape) == tuple(shape)
    except ValueError:
        fits = False
    require(fits, name, f"shape {list(x.shape)}", f"what broadcasts to {list(shape)}", hint)
    return jnp.broadcast_to(x, shape)
