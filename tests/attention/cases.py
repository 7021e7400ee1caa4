"""The mechanisms under test and what they are fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import attention
from attnlab.attention import (
    Buckets,
    Dims,
    Gated,
    KeyBias,
    OffsetTable,
    PositionTable,
    Reweight,
    Top,
    Weighted,
    causal_mask,
    from_weights,
    named,
    relu_for,
    sigmoid_for,
)
from attnlab.attention.gated import ns_sigmoid, silu

BATCH, HEADS, LENGTH, HEAD_DIM = 2, 3, 7, 4
DIMS = Dims(HEADS, HEAD_DIM, HEADS * HEAD_DIM)
SHAPE = (BATCH, HEADS, LENGTH, HEAD_DIM)


def one_sided(params, q, k, *, mask):
    """A user's own map: `l / (1 + |l|)`, without a normaliser."""
    logits = q @ jnp.swapaxes(k, -1, -2)
    return jnp.where(mask, logits / (1 + jnp.abs(logits)), 0)


OWN = from_weights(None, one_sided)

# Sizes at which 7 positions meet every branch.
SMALL = (
    named(attention.soft_cap, "soft_cap", cap=2.0),
    named(attention.relative, "relative", score=Buckets(6, 5)),
    named(attention.offset_table, "offset_table", score=OffsetTable(4)),
    named(attention.position_table, "position_table", score=PositionTable(LENGTH)),
    named(attention.ssa_top, "ssa_top", map=Top(0.6, 2)),
)
_SMALL = {mechanism.name: mechanism for mechanism in SMALL}

VARIANTS = (
    named(attention.key_bias, "key_bias_shared", columns=KeyBias(shared_over_heads=True)),
    named(attention.softmax, "softmax_unscaled", scale=1.0),
    named(attention.offset_table, "offsets_and_content", score=OffsetTable(4, content=True)),
    sigmoid_for(LENGTH),
    relu_for(LENGTH),
    attention.differential_unnormalized,
    Gated(attention.softmax, "value", per="head"),
    Gated(attention.kv_bias, per="head", shared=True, function=ns_sigmoid),
    Gated(attention.softmax, combine="add", function=silu),
    Gated(attention.softmax, input_dependent=False),
    Gated(attention.softmax, of_itself=True),
)
# A gate behind the output matrix is not seen by `apply`: test_gates.
WEIGHTS = tuple(
    _SMALL.get(mechanism.name, mechanism)
    for mechanism in (*attention.WEIGHTED, *VARIANTS)
    if mechanism.name != "softmax+dense_gate" and not getattr(mechanism, "causal_only", False)
)
ALL = (*WEIGHTS, OWN)

# Mechanisms that are a map of logits and no more (but for a re-weighting): of logits alone they can be asked.
MAPS = tuple(
    m
    for m in (*WEIGHTS, named(attention.softmax, "softmax_reweighted", post=Reweight(15.0)))
    if isinstance(m, Weighted) and not (m.tokens or m.score or m.temper or m.cap) and m.name not in ("parallax", "lla")
)
WITH_NULL = tuple(m for m in MAPS if m.columns is not None)
NORMALIZED = {
    *("softmax", "softmax_unscaled", "value_bias", "softmax_reweighted", "sigmoid_normalized", "approximate"),
    *("sparsemax", "entmax15", "entmax", "ssa_top"),
}
SIGNED = {"identity_map", "identity_map_over_count"}
NONNEGATIVE = {m.name for m in MAPS} - SIGNED

BY_NAME = {mechanism.name: mechanism for mechanism in ALL}


def mask_of(kind: str) -> np.ndarray:
    """`causal`, `window`, `prefix`, `none`, or `holes`: at random, other ones per sequence, some rows see nothing."""
    if kind == "holes":
        holes = np.random.default_rng(1).random((BATCH, 1, LENGTH, LENGTH)) < 0.5
        holes[0, :, 2] = holes[1, :, 0] = False
        return holes
    options: dict[str, Any] = {
        "causal": {},
        "window": {"window": 3},
        "prefix": {"prefix": 2},
        "none": {"prefix": LENGTH},
    }
    return np.asarray(causal_mask(LENGTH, **options[kind]))


MASKS = ("none", "causal", "window", "prefix", "holes")


@dataclass(frozen=True)
class Inputs:
    """Parameters of one mechanism, queries, keys, values, what the layer reads, a logit bias; all of one dtype."""

    params: Any
    q: Any
    k: Any
    v: Any
    x: Any
    bias: Any

    @property
    def arrays(self) -> tuple:
        return self.params, self.q, self.k, self.v, self.x


def inputs_of(mechanism, dtype=np.float32, seed: int = 0) -> Inputs:
    """Standard normal arrays, a bias where the mechanism takes one, and parameters.

    Parameters are normal too (many begin at 0 or 0.02), divided by `sqrt(D)` where they read `x`.
    """
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: mechanism.init(key, DIMS), jax.random.key(0))

    def drawn(leaf):
        reads_x = leaf.shape[:1] == (DIMS.width,)
        return jnp.asarray((DIMS.width**-0.5 if reads_x else 1.0) * rng.normal(size=leaf.shape), dtype)

    params = jax.tree.map(drawn, shapes)
    q, k, v = (jnp.asarray(rng.normal(size=SHAPE), dtype) for _ in range(3))
    x = jnp.asarray(rng.normal(size=(BATCH, LENGTH, DIMS.width)), dtype)
    bias = None if mechanism is OWN else jnp.asarray(rng.normal(size=(HEADS, LENGTH, LENGTH)), dtype)
    return Inputs(params, q, k, v, x, bias)


def full(x, default) -> np.ndarray:
    """`x` broadcast to `[B, H, T, U]` in NumPy; `default` everywhere if None."""
    return np.broadcast_to(np.asarray(default if x is None else x), (BATCH, HEADS, LENGTH, LENGTH))
