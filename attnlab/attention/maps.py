"""Maps from logits to weights: the slot in which the mechanisms of the weight family differ.

Each takes `logits[*B, T, W]` and `visible[*M, T, W]` (W = keys and null columns) and returns weights of the same shape,
exactly zero where not visible. A row that sees nothing is all zeros, by definition, in every map. Maps onto the
simplex other than softmax are in `simplex`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from attnlab.attention.base import Dims, Params, WeightMap
from attnlab.config import require

Logits = Float[Array, "*B T W"]
Visible = Bool[Array, "*M T W"]


@runtime_checkable
class LearnedMap(Protocol):
    """A map with parameters: `given(params)` is the map."""

    def init(self, key: Key[Array, ""], dims: Dims) -> Params: ...

    def given(self, params: Params) -> WeightMap: ...


@dataclass(frozen=True)
class Softmax:
    """`A_tu = exp(l_tu) / sum_w exp(l_tw)` over visible columns."""

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        # A finite floor keeps rows that see nothing free of nan, in value and in gradient.
        floor = jnp.finfo(logits.dtype).min
        masked = jnp.where(visible, logits, floor)
        shifted = masked - jax.lax.stop_gradient(jnp.max(masked, axis=-1, keepdims=True))
        weights = jnp.where(visible, jnp.exp(shifted), 0)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        return weights / jnp.where(total == 0, 1, total)


SOFTMAX = Softmax()


@dataclass(frozen=True)
class Top:
    """Softmax of the `max(floor(n_t^power), at_least)` largest logits of a row, of all where it sees no more.

    The sparse variant in the code of SSA (Zhang et al., 2411.12892): `power` is no parameter but was searched for in
    [0.9, 1] after training, `at_least` is 10, and there is no temperature. Logits that tie with the last one are kept
    (there one of them is, as it happens). Which logits are kept has no derivative.
    """

    power: float = 0.9
    at_least: int = 10

    def __post_init__(self):
        require(0 <= self.power <= 1, "Top.power", self.power, "a number from 0 to 1")
        require(self.at_least >= 1, "Top.at_least", self.at_least, "an integer >= 1")

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        width = logits.shape[-1]
        # In float64, before anything is traced: `n^power` may be a whole number, which float32 can miss.
        kept = np.clip(np.floor(np.arange(width + 1.0) ** self.power), self.at_least, width).astype(np.int32)
        floor = jnp.finfo(logits.dtype).min
        rising = jnp.sort(jax.lax.stop_gradient(jnp.where(visible, logits, floor)), axis=-1)
        count = jnp.sum(visible, axis=-1, keepdims=True)
        place = jnp.broadcast_to(width - jnp.asarray(kept)[count], (*rising.shape[:-1], 1))
        return SOFTMAX(logits, visible & (logits >= jnp.take_along_axis(rising, place, axis=-1)))


@dataclass(frozen=True)
class ReluOverPosition:
    """`A_tu = max(l_tu, 0) / n_t` with `n_t` the number of visible columns of row `t`.

    Under a causal mask `n_t` is the 1-based position, the rule of Guo et al. (2410.13835, `BBM/model.py`).
    """

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        count = jnp.sum(visible, axis=-1, keepdims=True).astype(logits.dtype)
        return jnp.where(visible, jax.nn.relu(logits), 0) / jnp.maximum(count, 1)


@dataclass(frozen=True)
class Sigmoid:
    """`A_tu = sigmoid(l_tu + bias)`, divided by its row sum if `normalized`.

    `bias=None` takes `-log n_t`, with which a row of zero logits sums to `n_t / (n_t + 1)`. Ramapuram et al.
    (2409.04431) take `-log n` with one length `n` for all rows, so that early rows have little mass:
    `catalogue.sigmoid_for`. Gu et al. (2410.10781) use 0.
    """

    bias: float | None = 0.0
    normalized: bool = False

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        if self.bias is None:
            count = jnp.sum(visible, axis=-1, keepdims=True).astype(logits.dtype)
            logits = logits - jnp.log(jnp.maximum(count, 1))
        else:
            logits = logits + self.bias
        if not self.normalized:
            return jnp.where(visible, jax.nn.sigmoid(logits), 0)
        # sigmoid / sum sigmoid in logs: all logits very negative would otherwise be 0 / 0.
        return SOFTMAX(jax.nn.log_sigmoid(logits), visible)


def linear(logits: Array) -> Array:
    """`l`: weights of either sign."""
    return logits


def logistic(logits: Array) -> Array:
    """`1 / (1 + exp(-l))`."""
    return jax.nn.sigmoid(logits)


def relu(logits: Array) -> Array:
    """`max(l, 0)`."""
    return jax.nn.relu(logits)


def squared_relu(logits: Array) -> Array:
    """`max(l, 0)^2`."""
    return jnp.square(jax.nn.relu(logits))


def elu_plus_one(logits: Array) -> Array:
    """`exp(l)` below 0, `1 + l` above."""
    return jnp.where(logits > 0, 1 + logits, jnp.exp(jnp.minimum(logits, 0)))


def second_order(logits: Array) -> Array:
    """`1 + l + l^2 / 2`, the exponential to second order; at least 1/2, and rising only where `l > -1`."""
    return 1 + logits + 0.5 * jnp.square(logits)


def log_softplus(logits: Array) -> Array:
    """`log log(1 + exp(l))`, which is `l` to rounding where `exp(l)` is below the rounding of 1."""
    far = jnp.log(jnp.finfo(logits.dtype).eps).astype(logits.dtype)
    return jnp.where(logits > far, jnp.log(jax.nn.softplus(jnp.maximum(logits, far))), logits)


@dataclass(frozen=True)
class Normalized:
    """`A_tu = f(l_tu) / sum_w f(l_tw)` for a positive `f`, given as `log f`: no row loses its sum to rounding."""

    log_function: Callable[[Array], Array]

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        return SOFTMAX(self.log_function(logits), visible)


def row_sum(raw: Array, visible: Array) -> Array:
    """`sum_w f(l_tw)`."""
    return jnp.sum(raw, axis=-1, keepdims=True)


def abs_sum_or_one(raw: Array, visible: Array) -> Array:
    """`max(|sum_w f(l_tw)|, 1)`: the sum of a signed row may be near 0 (Gu et al., 2410.10781)."""
    return jnp.maximum(jnp.abs(jnp.sum(raw, axis=-1, keepdims=True)), 1)


def count(raw: Array, visible: Array) -> Array:
    """`n_t`, the number of visible columns."""
    return jnp.sum(visible, axis=-1, keepdims=True).astype(raw.dtype)


def root_count(raw: Array, visible: Array) -> Array:
    """`sqrt(n_t)`."""
    return jnp.sqrt(count(raw, visible))


@dataclass(frozen=True)
class Length:
    """The constant `n`, whatever the row sees."""

    n: int

    def __post_init__(self):
        require(self.n >= 1, "Length.n", self.n, "an integer >= 1")

    def __call__(self, raw: Array, visible: Array) -> Array:
        return jnp.asarray(self.n, raw.dtype)


@dataclass(frozen=True)
class Pointwise:
    """`A_tu = f(l_tu) / Z_t`; `Z = 1` if `divisor` is None, and where it would be 0.

    Attributes:
      function: of one logit.
      divisor: `row_sum`, `count`, `root_count`, `abs_sum_or_one`, `Length(n)`, or your own
        `(f(l) [*B, T, W], visible [*M, T, W]) -> [*B, T, 1]`.
    """

    function: Callable[[Array], Array]
    divisor: Callable[[Array, Array], Array] | None = None

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        # Hidden logits become 0 first: a function that overflows there would send nan through the gradient.
        raw = jnp.where(visible, self.function(jnp.where(visible, logits, 0)), 0)
        if self.divisor is None:
            return raw
        total = self.divisor(raw, visible)
        return raw / jnp.where(total == 0, 1, total)


@dataclass(frozen=True)
class Softpick:
    """`A_tu = max(e_tu, 0) / sum_w |e_tw|`, `e = exp(l) - 1`: rows of sum at most 1, all zeros where no `l > 0`.

    Zuhri et al., 2504.20966; their `+ 1e-8` in the denominator matters only where all logits are exactly 0.
    """

    def __call__(self, logits: Logits, visible: Visible) -> Logits:
        seen = jnp.where(visible, logits, 0)
        top = jax.lax.stop_gradient(jnp.maximum(jnp.max(seen, axis=-1, keepdims=True), 0))
        up, down = jnp.maximum(seen, 0), jnp.minimum(seen, 0)
        # exp(l - top) - exp(-top), by expm1 on either side of 0, so that small logits keep their digits.
        excess = -jnp.exp(up - top) * jnp.expm1(-up)
        lack = -jnp.exp(-top) * jnp.expm1(down)
        total = jnp.sum(excess + lack, axis=-1, keepdims=True)
        return excess / jnp.where(total == 0, 1, total)
