"""Calibrations of a map by what it itself shows: mass taken from sinks goes to other keys, row by row.

Both are pattern edits that depend on the pattern; both are also logit biases that depend on it (`act_bias`,
`var_bias`), and tests hold the two forms together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.config import require
from attnlab.edits.algebra import Amount, within
from attnlab.tape import Edit


def _mass(weights, keys):
    return jnp.sum(jnp.where(keys, weights, 0), axis=-1, keepdims=True)


# ---- ACT, attention calibration (2406.15765)


def flagged(
    weights: Float[Array, "*B T U"], threshold: float = 0.1, relative: bool = False, spare_first: bool = True
) -> Bool[Array, "*B 1 U"]:
    """Keys whose mean over the queries that see them exceeds the threshold: `c_u = sum_t A_tu / (T - u) > threshold`.

    Args:
      relative: compare with `threshold / T`: an absolute threshold flags fewer keys the longer the sequence is.
      spare_first: the first flagged key is left out, as published (it is taken to be the first token).
    """
    num = weights.shape[-1]
    mean = jnp.sum(weights, axis=-2, keepdims=True) / (num - jnp.arange(num))
    found = mean > (threshold / num if relative else threshold)
    return found & (jnp.cumsum(found, axis=-1) > 1) if spare_first else found


def act(layer: int, keys: Array | None = None, beta: Amount = 0.4, mask: Any = None) -> Edit:
    """The weights of the keys `S` times `beta`; the mass set free goes to the others in proportion to their weights.

    With `m = sum_{u in S} A_tu`: `A'_tu = beta A_tu` in S, `A_tu (1 + (1 - beta) m / (1 - m))` elsewhere. Rows keep
    their sum; a row that looks at S alone stays as it is. The published code also forces `A_00 = 1`, which is harmless
    on whole sequences and wrong with a cache of keys (a single query's row no longer sums to 1): here it is not done.

    Args:
      keys: S, broadcast to `[*B, H, T, U]`; None = `flagged` of the map itself, which looks at whole columns: later
        queries then decide what happens to earlier ones.
    """
    require(within(beta, 0, 1), "beta", beta, "0 to 1")
    return Edit(f"blocks.{layer}.attn.weights", _act, (keys, jnp.asarray(beta)), mask)


def _act(weights, value, inputs):
    keys, beta = value
    keys = flagged(weights) if keys is None else keys
    inside, others = _mass(weights, keys), _mass(weights, ~keys)
    rest = jnp.where(others > 0, others, 1)
    grown = jnp.where(keys, beta * weights, weights * (1 + (1 - beta) * inside / rest))
    return jnp.where(others > 0, grown, weights)


def act_bias(weights: Float[Array, "*B T U"], keys: Array, beta: float) -> Float[Array, "*B T U"]:
    """ACT as a logit bias of a map with rows of sum 1: `log beta + log(1 - m) - log(1 - beta m)` on S, 0 off it."""
    inside, others = _mass(weights, keys), _mass(weights, ~keys)
    return jnp.where(keys, jnp.log(beta) + jnp.log(others) - jnp.log1p(-beta * inside), 0.0)


# ---- VAR, visual attention redistribution (2503.03321)


@dataclass(frozen=True)
class VarRule:
    """Which rows visual attention redistribution changes, with the published constants.

    Attributes:
      most_on_sinks: rows whose share of visual mass on visual sinks is at most this ...
      least_visual: ... and whose visual mass is at least this: heads that look at the image.
    """

    most_on_sinks: float = 0.5
    least_visual: float = 0.2


def var(
    layer: int,
    visual: Array,
    sinks: Array,
    keep: Amount = 0.6,
    rule: VarRule = VarRule(),
    mask: Any = None,
) -> Edit:
    """Weights on sinks, visual and textual, times `p`; what is set free goes to visual keys that are none, in
    proportion.

    With masses of a row on visual sinks `m_vs`, text sinks `m_ts`, visual others `m_vn`: sinks `p A`, visual others
    `A (1 + (1 - p) (m_vs + m_ts) / m_vn)`, text others unchanged. Rows keep their sum. `visual`, `sinks`: masks of
    keys, broadcast to `[*B, H, T, U]`; `keep` is `p`. Published for rows behind the image: give them by `mask`.
    """
    require(within(keep, 0, 1), "keep", keep, "0 to 1")
    return Edit(f"blocks.{layer}.attn.weights", _Var(rule), (visual, sinks, jnp.asarray(keep)), mask)


@dataclass(frozen=True)
class _Var:
    rule: VarRule

    def __call__(self, weights, value, inputs):
        visual, sinks, keep = value
        return var_weights(weights, visual, sinks, keep, self.rule)


def looks_at_image(
    weights: Float[Array, "*B T U"], visual: Array, sinks: Array, rule: VarRule = VarRule()
) -> Bool[Array, "*B T 1"]:
    """Rows that the rule selects: `m_vs <= rho m_v` and `m_v >= least`."""
    on_visual, on_sinks = _mass(weights, visual), _mass(weights, visual & sinks)
    return (on_sinks <= rule.most_on_sinks * on_visual) & (on_visual >= rule.least_visual)


def var_weights(weights, visual, sinks, keep: Amount = 0.6, rule: VarRule = VarRule()) -> Float[Array, "*B T U"]:
    """What `var` makes of a map."""
    factors, chosen = _var_factors(weights, visual, sinks, keep, rule)
    return jnp.where(chosen, weights * factors, weights)


def var_bias(weights, visual, sinks, keep: Amount = 0.6, rule: VarRule = VarRule()) -> Float[Array, "*B T U"]:
    """VAR as a logit bias of a map with rows of sum 1: `log p` on sinks, `log(1 + (1 - p)(m_vs + m_ts) / m_vn)` on the
    visual others, 0 on the rest."""
    factors, chosen = _var_factors(weights, visual, sinks, keep, rule)
    return jnp.where(chosen, jnp.log(factors), 0.0)


def _var_factors(weights, visual, sinks, keep: Amount, rule: VarRule):
    freed = (1 - keep) * _mass(weights, sinks)
    receiving = _mass(weights, visual & ~sinks)
    grown = 1 + freed / jnp.where(receiving > 0, receiving, 1)
    factors = jnp.where(sinks, keep, jnp.where(visual, grown, 1.0))
    return factors, looks_at_image(weights, visual, sinks, rule) & (receiving > 0)


def massive_tokens(
    stream: Float[Array, "*B T D"], dims: Bool[Array, " D"], threshold: float = 20.0
) -> Bool[Array, "*B T"]:
    """VAR's sinks: tokens whose largest `|x_d| / rms(x)` over the sink dimensions (a mask) exceeds the threshold.

    No coordinate exceeds `sqrt(D)`, so that the published 20 is out of reach below a width of 400.
    """
    return jnp.max(jnp.where(dims, _relative_size(stream), 0.0), axis=-1) > threshold


def _relative_size(stream: Float[Array, "*B T D"]) -> Float[Array, "*B T D"]:
    """`|x_d| / rms(x)`."""
    return jnp.abs(stream) / jnp.sqrt(jnp.mean(jnp.square(stream), axis=-1, keepdims=True))


def sink_dimensions(
    stream: Float[Array, "*B T D"], attended: Float[Array, "*B T"], deviations: float = 6.0
) -> Bool[Array, " D"]:
    """Dimensions in which the top-attended token stands out: `|x_d| / rms` there, mean over sequences, exceeds the
    median over all tokens by so many median absolute deviations. (VAR hard-codes them per model; this finds them.)"""
    size = _relative_size(stream)
    size = size.reshape(-1, *size.shape[-2:])
    top = jnp.argmax(attended.reshape(-1, attended.shape[-1]), axis=-1)
    there = jnp.mean(jnp.take_along_axis(size, top[:, None, None], axis=1)[:, 0], axis=0)
    flat = size.reshape(-1, size.shape[-1])
    median = jnp.median(flat, axis=0)
    spread = jnp.median(jnp.abs(flat - median), axis=0)
    return there > median + deviations * spread
