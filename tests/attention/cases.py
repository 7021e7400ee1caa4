"""The mechanisms under test and what they are fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import attention
from attnlab.attention import Dims, KeyBias, Sigmoid, from_weights, named

BATCH, HEADS, LENGTH, HEAD_DIM = 2, 3, 9, 4
DIMS = Dims(HEADS, HEAD_DIM, HEADS * HEAD_DIM)
SHAPE = (BATCH, HEADS, LENGTH, HEAD_DIM)


def one_sided(params, q, k, *, mask):
    """A user's own map: `l / (1 + |l|)`, without a normaliser."""
    logits = q @ jnp.swapaxes(k, -1, -2)
    return jnp.where(mask, logits / (1 + jnp.abs(logits)), 0)


OWN = from_weights(None, one_sided)
VARIANTS = (
    named(attention.sigmoid, "sigmoid_log_count", map=Sigmoid(bias=None)),
    named(attention.key_bias, "key_bias_shared", columns=KeyBias(shared_over_heads=True)),
    named(attention.softmax, "softmax_unscaled", scale=1.0),
)
WEIGHTED = (*attention.MECHANISMS[:7], *VARIANTS)
ALL = (*WEIGHTED, OWN)
NORMALIZED = tuple(m for m in WEIGHTED if m.name in ("softmax", "softmax_unscaled", "sigmoid_normalized"))
WITH_NULL = tuple(m for m in WEIGHTED if m.columns is not None)


def mask_of(kind: str) -> np.ndarray | None:
    """`causal`, `window`, `prefix`, `none`, or `holes`: at random, other ones per sequence, some rows see nothing."""
    t, u = np.indices((LENGTH, LENGTH))
    if kind == "none":
        return None
    if kind == "holes":
        holes = np.random.default_rng(1).random((BATCH, 1, LENGTH, LENGTH)) < 0.5
        holes[0, :, 2] = holes[1, :, 0] = False
        return holes
    seen = u <= t
    return {"causal": seen, "window": seen & (t - u < 3), "prefix": seen | (u < 2)}[kind]


MASKS = ("none", "causal", "window", "prefix", "holes")


@dataclass(frozen=True)
class Inputs:
    """Queries, keys, values, a logit bias and parameters of one mechanism, all of one dtype."""

    params: Any
    q: Any
    k: Any
    v: Any
    bias: Any

    @property
    def arrays(self) -> tuple:
        return self.params, self.q, self.k, self.v


def inputs_of(mechanism, dtype=np.float32, seed: int = 0) -> Inputs:
    """Standard normal `q, k, v`, bias (where the mechanism takes one) and parameters (`init` has 0.02)."""
    rng = np.random.default_rng(seed)
    params = mechanism.init(jax.random.key(seed), DIMS)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), dtype), params)
    q, k, v = (jnp.asarray(rng.normal(size=SHAPE), dtype) for _ in range(3))
    bias = None if mechanism is OWN else jnp.asarray(rng.normal(size=(HEADS, LENGTH, LENGTH)), dtype)
    return Inputs(params, q, k, v, bias)


def full(x, default) -> np.ndarray:
    """`x` broadcast to `[B, H, T, U]` in NumPy; `default` everywhere if None."""
    return np.broadcast_to(np.asarray(default if x is None else x), (BATCH, HEADS, LENGTH, LENGTH))
