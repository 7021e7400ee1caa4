"""Maps from logits to weights that can be taken block by block: what the blockwise kernels have as an argument.

A map is one or three small functions of single logits,

    A_tu = weight(l_tu, c_t),    c_t = log sum_u total(l_tu, 0)    (0 without `total`)

so that a row needs one pass over its keys, with one number `c_t` carried along. Gradients are derived from the same
functions: `dl_tu = weight'(l_tu, c_t) g_tu - total'(l_tu, c_t) sum_w A_tw g_tw`, `g_tu` the gradient of `A_tu`.

Your own map, and a mechanism of it; the kernels, the map view and all diagnostics take it:

    def weight(logits, c):
        return jnp.exp(-c) / (1 + jnp.square(logits))

    cauchy = RowMap(weight, total=weight)                     # A_tu = (1 + l_tu^2)^-1 / sum_w (1 + l_tw^2)^-1
    out = kernels.attention(q, k, v, map=cauchy)
    model = Transformer(..., mechanism=Blockwise("cauchy", map=cauchy))

What cannot be written so: a weight that depends on the order of a row's logits or on a threshold found from all of them
(sparsemax, entmax, the largest `n`), and weights made from the finished weights (LSSAR): those need the row twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.config import require

Logits = Float[Array, "*B T W"]


@dataclass(frozen=True)
class RowMap:
    """`A_tu = weight(l_tu, c_t)`, `c_t = log sum_u total(l_tu, 0)`: see the module.

    It is a map of the catalogue too: `Weighted("mine", RowMap(...))` is the same with the whole map in memory.

    Attributes:
      weight: `(logits, c) -> weights`, elementwise; with a `total`, `weight(l, c + x) = weight(l, c) exp(-x)`.
      total: `(logits, c) -> numbers >= 0`, elementwise, whose sum is the normaliser; it scales with `c` as `weight`
        does. None: rows have no normaliser, `c` is 0.
      top: `logits -> numbers`, elementwise; `weight` and `total` are at most about 1 where `c` is at least this. Sums
        are then kept relative to the running maximum of it. None: they are kept as they are.
    """

    weight: Callable[[Array, Array], Array]
    total: Callable[[Array, Array], Array] | None = None
    top: Callable[[Array], Array] | None = None

    def __post_init__(self):
        require(self.top is None or self.total is not None, "RowMap.top", self.top, "None without a total")

    def __call__(self, logits: Logits, visible: Bool[Array, "*M T W"]) -> Logits:
        """The whole map: weights of the shape of `logits`, 0 where not visible."""
        safe = jnp.where(visible, logits, 0)
        c = jnp.zeros((*logits.shape[:-1], 1), logits.dtype)
        if self.total is None:
            return jnp.where(visible, self.weight(safe, c), 0)
        if self.top is not None:
            tops = jnp.where(visible, self.top(safe), jnp.finfo(logits.dtype).min)
            highest = jnp.max(tops, axis=-1, keepdims=True)
            c = jax.lax.stop_gradient(jnp.where(jnp.any(visible, axis=-1, keepdims=True), highest, 0))
        # Hidden logits count as the row's `c`: as 0 they would overflow below a very negative maximum.
        safe = jnp.where(visible, logits, jnp.broadcast_to(c, logits.shape))
        weights = jnp.where(visible, self.weight(safe, c), 0)
        total = jnp.sum(jnp.where(visible, self.total(safe, c), 0), axis=-1, keepdims=True)
        return weights / jnp.where(total == 0, 1, total)


def itself(logits: Array) -> Array:
    """`l`."""
    return logits


def exponential(logits: Array, c: Array) -> Array:
    """`exp(l - c)`."""
    return jnp.exp(logits - c)


SOFTMAX = RowMap(exponential, exponential, itself)
"""`A_tu = exp(l_tu) / sum_w exp(l_tw)`."""


@dataclass(frozen=True)
class Of:
    """`outer(inner(l), c)`."""

    inner: Callable[[Array], Array]
    outer: Callable[..., Array] = exponential

    def __call__(self, logits: Array, *c: Array) -> Array:
        return self.outer(self.inner(logits), *c)


@dataclass(frozen=True)
class Plain:
    """`f(l) exp(-c)`; with `unscaled`, `f(l)`."""

    function: Callable[[Array], Array]
    unscaled: bool = False

    def __call__(self, logits: Array, c: Array) -> Array:
        return self.function(logits) if self.unscaled else self.function(logits) * jnp.exp(-c)


@dataclass(frozen=True)
class Logistic:
    """`sigmoid(l + bias)`.

    `by_tanh`: as `(1 + tanh((l + bias) / 2)) / 2`, one transcendental instead of two operations (FlashSigmoid,
    2409.04431). It is right to 6e-8, and so a weight of `1 / n` only to `6e-8 n` of itself: with `bias = -log n` the
    output of a row is off by up to 3e-5, 9e-5, 3e-4 of its norm at `n` = 512, 2048, 8192 in float32, without it by
    1e-6 (measured on a CPU). In bfloat16 that does not matter.
    """

    bias: float = 0.0
    by_tanh: bool = False

    def __call__(self, logits: Array) -> Array:
        shifted = logits + self.bias
        return 0.5 + 0.5 * jnp.tanh(0.5 * shifted) if self.by_tanh else jax.lax.logistic(shifted)


@dataclass(frozen=True)
class Cap:
    """`cap tanh(l / cap)`."""

    cap: float

    def __call__(self, logits: Array) -> Array:
        return self.cap * jnp.tanh(logits / self.cap)


@dataclass(frozen=True)
class LogLogistic:
    """`log sigmoid(l + bias)`."""

    bias: float = 0.0

    def __call__(self, logits: Array) -> Array:
        shifted = logits + self.bias
        return jnp.minimum(shifted, 0) - jnp.log1p(jnp.exp(-jnp.abs(shifted)))


@dataclass(frozen=True)
class Share:
    """`f(l) / n`."""

    function: Callable[[Array], Array]
    n: int

    def __call__(self, logits: Array) -> Array:
        return self.function(logits) / self.n


def log_softplus(logits: Array) -> Array:
    """`log log(1 + exp(l))`, which is `l` to rounding where `exp(l)` is below the rounding of 1."""
    far = log(float(jnp.finfo(logits.dtype).eps))
    near = jnp.maximum(logits, far)
    return jnp.where(logits > far, jnp.log(jnp.maximum(near, 0) + jnp.log1p(jnp.exp(-jnp.abs(near)))), logits)


def _less_one(logits: Array) -> Array:
    """`exp(l) - 1` for `l <= 0`; small logits keep their digits (`expm1`, which Mosaic has not)."""
    half = jnp.tanh(0.5 * logits)
    return 2 * half / (1 - half)


def _excess(logits: Array, c: Array) -> Array:
    """`max(exp(l) - 1, 0) exp(-c)`."""
    up = jnp.maximum(logits, 0)
    return -jnp.exp(up - c) * _less_one(-up)


def _distance(logits: Array, c: Array) -> Array:
    """`|exp(l) - 1| exp(-c)`."""
    return _excess(logits, c) - jnp.exp(-c) * _less_one(jnp.minimum(logits, 0))


def _above_zero(logits: Array) -> Array:
    return jnp.maximum(logits, 0)


SOFTPICK = RowMap(_excess, _distance, _above_zero)
"""`A_tu = max(exp(l_tu) - 1, 0) / sum_w |exp(l_tw) - 1|` (2504.20966)."""


def pointwise(function: Callable[[Array], Array]) -> RowMap:
    """`A_tu = f(l_tu)`."""
    return RowMap(Plain(function, unscaled=True))


def over_sum(function: Callable[[Array], Array]) -> RowMap:
    """`A_tu = f(l_tu) / sum_w f(l_tw)` for `f >= 0` of moderate size; `normalized` for one that grows like `exp`."""
    return RowMap(Plain(function), Plain(function))


def normalized(log_function: Callable[[Array], Array]) -> RowMap:
    """`A_tu = f(l_tu) / sum_w f(l_tw)` of `log f`, relative to the largest."""
    return RowMap(Of(log_function), Of(log_function), log_function)


def sigmoid(bias: float = 0.0, by_tanh: bool = False) -> RowMap:
    """`A_tu = sigmoid(l_tu + bias)`; 2409.04431 takes `bias = -log n`, `n` the length. `by_tanh`: see `Logistic`."""
    return pointwise(Logistic(bias, by_tanh))


LSSA = normalized(log_softplus)
"""`A_tu = softplus(l_tu) / sum_w softplus(l_tw)` (2501.13428)."""


def capped(row_map: RowMap, cap: float) -> RowMap:
    """`row_map` of `cap tanh(l / cap)`."""
    cut = Cap(cap)
    parts = (row_map.weight, row_map.total, row_map.top)
    weight, total, top = (None if part is None else Of(cut, part) for part in parts)
    assert weight is not None
    return RowMap(weight, total, top)
