"""Maps from logits to weights: the slot in which the mechanisms of the weight family differ.

Each takes `logits[*B, T, W]` and `visible[*M, T, W]` (W = keys and null columns) and returns weights of the same shape,
exactly zero where not visible. A row that sees nothing is all zeros, by definition, in every map.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Logits = Float[Array, "*B T W"]
Visible = Bool[Array, "*M T W"]


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

    `bias=None` takes `-log n_t`, with which a row of zero logits sums to `n_t / (n_t + 1)` (2409.04431); Gu et al.
    (2410.10781) use 0.
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
