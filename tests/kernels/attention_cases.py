"""Calls of `kernels.attention` that between them use every argument, and what they are by definition, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from kernel_masks import holes, padding

from attnlab.kernels import Blocks, RowMap, attention, row_maps

BATCH, HEADS, GROUPS, LENGTH, WIDTH, VALUES = 2, 4, 2, 23, 5, 3
PADDING, HOLES = padding(BATCH, LENGTH), holes(BATCH, HEADS, LENGTH)
# Neither divides the 46 rows of a key head, nor the 23 keys.
BLOCKS = Blocks(8, 4)


def reciprocal(logits: jax.Array, c: jax.Array) -> jax.Array:
    """A map of one's own: `1 / (1 + l^2)`, normalised."""
    return jnp.exp(-c) / (1 + jnp.square(logits))


CAUCHY = RowMap(reciprocal, total=reciprocal)


def exponential_less_one(logits: jax.Array) -> jax.Array:
    return jnp.exp(logits) - 1


@dataclass(frozen=True)
class Case:
    """A map, what it is by definition, and what else is asked for.

    Attributes:
      numerator, total: `A_tu = numerator(l_tu) / sum_w total(l_tw)`; without a total over 1.
      queries: `T`, the last positions. options: of `attention`. extra: differentiable arguments by name.
      mask, segments: arrays that are no options, as they go through `jit`.
      amplified: what `1 / sum_w total(l_tw)` makes of rounding, on the way back, in the row where it is largest.
    """

    map: RowMap
    numerator: Callable[[Any], Any]
    total: Callable[[Any], Any] | None = None
    queries: int = LENGTH
    options: dict[str, Any] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    mask: np.ndarray | None = None
    segments: bool = False
    amplified: float = 1.0


def second_order(logits: Any) -> Any:
    return 1 + logits + 0.5 * logits**2


FULL = {"causal": False}
CASES = {
    "softmax": Case(row_maps.SOFTMAX, jnp.exp, jnp.exp),
    "everything": Case(
        row_maps.SOFTMAX,
        jnp.exp,
        jnp.exp,
        options=FULL,
        extra=("sink", "gate", "clock"),
        mask=HOLES,
    ),
    "sigmoid": Case(
        row_maps.sigmoid(-log(LENGTH), by_tanh=True),
        lambda x: jax.nn.sigmoid(x - log(LENGTH)),
        None,
        9,
        mask=PADDING,
    ),
    "lssa": Case(row_maps.LSSA, jax.nn.softplus, jax.nn.softplus, options=FULL, segments=True, mask=PADDING),
    "softpick": Case(
        row_maps.SOFTPICK,
        lambda x: jnp.maximum(exponential_less_one(x), 0),
        lambda x: jnp.abs(exponential_less_one(x)),
        options={"window": 6},
        extra=("gate",),
        amplified=24.2,  # the first row of head 3 has one key, of logit -0.04
    ),
    "second order": Case(row_maps.over_sum(second_order), second_order, second_order, extra=("sink",)),
    "sigmoid, normalised": Case(
        row_maps.normalized(row_maps.LogLogistic()), jax.nn.sigmoid, jax.nn.sigmoid, extra=("clock",)
    ),
    "capped": Case(
        row_maps.capped(row_maps.SOFTMAX, 2.0),
        lambda x: jnp.exp(2 * jnp.tanh(x / 2)),
        lambda x: jnp.exp(2 * jnp.tanh(x / 2)),
        options=FULL,
    ),
    "one's own": Case(CAUCHY, lambda x: 1 / (1 + x**2), lambda x: 1 / (1 + x**2), options={"scale": 0.7}),
}


def arguments(case: Case, seed: int = 0) -> tuple[Any, ...]:
    """Standard normal `q, k, v`; a dict of what else has a gradient; a dict of what has none."""
    rng = np.random.default_rng(seed)
    queries = (BATCH, HEADS, case.queries)
    q, k, v = (
        rng.normal(size=shape)
        for shape in ((*queries, WIDTH), (BATCH, GROUPS, LENGTH, WIDTH), (BATCH, GROUPS, LENGTH, VALUES))
    )
    every = {
        "sink": rng.normal(size=(HEADS, 1)),
        "gate": rng.normal(size=(*queries, VALUES)),
        "clock": (rng.normal(size=queries), rng.normal(size=(BATCH, GROUPS, LENGTH))),
    }
    fixed = {} if case.mask is None else {"mask": case.mask}
    if case.segments:
        fixed["segments"] = tuple(np.sort(rng.integers(0, 3, (BATCH, size))) for size in (case.queries, LENGTH))
    return q, k, v, {name: every[name] for name in case.extra}, fixed


def by_kernel(case: Case, implementation: str, blocks: Blocks = BLOCKS) -> Callable[..., Any]:
    """`(q, k, v, extra, fixed) -> out`."""

    def run(q, k, v, extra, fixed):
        return attention(
            q, k, v, map=case.map, implementation=implementation, blocks=blocks, **case.options, **extra, **fixed
        )

    return run


def by_definition(case: Case) -> Callable[..., Any]:
    """The same with the whole map, for JAX to differentiate. Logits are small: nothing is subtracted from them."""

    def run(q, k, v, extra, fixed):
        share = q.shape[1] // k.shape[1]
        k, v = (jnp.repeat(x, share, axis=1) for x in (k, v))
        logits = case.options.get("scale", WIDTH**-0.5) * q @ jnp.swapaxes(k, -1, -2)
        if "clock" in extra:
            rows, keys = extra["clock"]
            logits = logits + rows[..., :, None] - jnp.repeat(keys, share, axis=1)[..., None, :]
        t, u = np.arange(LENGTH - case.queries, LENGTH)[:, None], np.arange(LENGTH)
        seen = np.ones((case.queries, LENGTH), bool)
        if case.options.get("causal", True):
            seen &= u <= t
        if "window" in case.options:
            seen &= u > t - case.options["window"]
        if "mask" in fixed:
            seen = seen & fixed["mask"]
        if "segments" in fixed:
            seen = seen & (fixed["segments"][0][:, None, :, None] == fixed["segments"][1][:, None, None, :])
        weights = jnp.where(seen, case.numerator(logits), 0)
        if case.total is not None:
            total = jnp.sum(jnp.where(seen, case.total(logits), 0), axis=-1, keepdims=True)
            if "sink" in extra:
                total = total + case.total(extra["sink"])[..., None]
            weights = weights / jnp.where(total == 0, 1, total)
        out = weights @ v
        return out * jax.nn.sigmoid(extra["gate"]) if "gate" in extra else out

    return run
