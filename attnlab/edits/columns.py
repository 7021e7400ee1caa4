"""Logit biases on chosen keys: tuning the first token, boosting a segment, steering, gaze, role masks.

All are biases of logits but `restrict(place="post")`; `mask` picks heads and rows (`attnlab.tape.head_mask`,
`edits.rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.config import require
from attnlab.edits.algebra import Amount, column_weights, logit_bias, within
from attnlab.tape import Edit

Boost = Literal["log", "centred", "paint"]
Place = Literal["post", "logit"]
NEVER = -1e30  # a logit that no key survives; finite, so that gradients stay finite


def columns(num_keys: int, chosen: Sequence[int] | int) -> Bool[Array, " U"]:
    """The mask of some keys.

    Raises:
      ConfigError: a key outside `0 .. U - 1`, or none.
    """
    wanted = (chosen,) if isinstance(chosen, int) else tuple(chosen)
    require(bool(wanted), "columns", wanted, "one key or more")
    for key in wanted:
        require(0 <= key < num_keys, "columns", key, f"0 to {num_keys - 1}")
    return jnp.zeros(num_keys, bool).at[jnp.array(wanted)].set(True)


def tune_first(layer: int, gamma: Amount, mask: Any = None, key: int = 0) -> Edit:
    """ZeroTuning (2505.11739): the weight of the first token times `gamma`, rows renormalised, as a bias `log gamma`.

    With `a = A_t0` and `D = 1 + (gamma - 1) a`: `a' = gamma a / D`, every other weight `A_tu / D`. What the row says
    among the other keys is untouched, so its entropy there, `H`, is constant; the entropy of the whole row is largest
    at `a = 1 / (1 + e^H)` and falls to both sides: the control is not monotone (the first version of the paper said so,
    the third does not).
    """
    return Edit(f"blocks.{layer}.attn.logits", _add_to_column, (jnp.log(jnp.asarray(gamma)), jnp.asarray(key)), mask)


def _add_to_column(logits, value, inputs):
    bias, key = value
    return logits + jnp.where(jnp.arange(logits.shape[-1]) == key, bias, 0).astype(logits.dtype)


def boost(layer: int, keys: Array, strength: Amount, kind: Boost = "log", mask: Any = None) -> Edit:
    """More attention to `keys` (weights in `[0, 1]`, broadcast to `[*B, H, T, U]`).

    Kinds, with `a` the strength:
      log      `s + keys log a`: the weight times `a`; the default.
      centred  `s + keys a |s - mean of the row|`, the mean over the keys seen (causal): a shifted row changes nothing.
      paint    `s + keys a |s|`: PAI and PAINT (2501.12206), as published. **Not well defined**: softmax does not see a
               number added to a whole row of logits, this edit does. A key bias that changes no output then changes
               what it does (`gauge.paint` of the study `grounding` says by how much).

    Raises:
      ConfigError: an unknown kind; a strength that is not positive (`log`).
    """
    require(kind in get_args(Boost), "kind", kind, " | ".join(get_args(Boost)))
    if kind == "log":
        require(within(strength, 0, open_below=True), "strength", strength, "> 0: weights are multiplied by it")
        return logit_bias(layer, jnp.log(strength) * jnp.asarray(keys), mask)
    edit = _by_size if kind == "paint" else _by_distance
    return Edit(f"blocks.{layer}.attn.logits", edit, strength * jnp.asarray(keys), mask)


def _by_size(logits, strength, inputs):
    return logits + strength * jnp.abs(logits)


def _by_distance(logits, strength, inputs):
    queries, keys = logits.shape[-2:]
    seen = jnp.tri(queries, keys, keys - queries, dtype=bool)
    mean = jnp.mean(logits, axis=-1, keepdims=True, where=seen)
    return logits + strength * jnp.abs(logits - mean)


def steer_to(layer: int, span: Array, alpha: float, mask: Any = None) -> Edit:
    """PASTA as used by 2411.02688 (`exclude`): everything *outside* the span gets the bias `log alpha`, `0 < alpha <=
    1`.
    """
    require(0 < alpha <= 1, "alpha", alpha, "in (0, 1]: the factor of what is outside the span")
    return logit_bias(layer, jnp.where(span, 0.0, jnp.log(alpha)), mask)


def follow_gaze(
    layer: int,
    saliency: Float[Array, "*B U"],
    query: Bool[Array, " U"],
    strength: float,
    query_strength: float | None = None,
    mask: Any = None,
) -> Edit:
    """GIFT (2510.22067): bias `log(1 + strength S_u)` on what was looked at (`analysis.gaze_shift`), and on the tokens
    of the `query` `log(1 + query_strength)`, by default `strength` over their number: as much raised weight, a unit of
    saliency here, spread evenly there. (The paper's own balance is not known to us; this reading is ours.)
    """
    if query_strength is None:
        query_strength = strength / max(int(jnp.sum(query)), 1)
    bias = jnp.log1p(strength * saliency) + jnp.where(query, jnp.log1p(query_strength), 0.0)
    return logit_bias(layer, bias[..., None, None, :], mask)


def restrict(layer: int, allowed: Array, place: Place = "logit", mask: Any = None) -> Edit:
    """Keys that are not `allowed` are taken out, as for roles of prompts (R-TCPA, 2505.02406).

    Args:
      place: `logit` before the map, so that rows still sum to 1; `post` the weights are set to 0 and **not**
        renormalised (as the published code does: the mass vanishes). A row without an allowed key is spread evenly by
        `logit`.
    """
    require(place in get_args(Place), "place", place, " | ".join(get_args(Place)))
    if place == "post":
        return column_weights(layer, jnp.asarray(allowed, jnp.float32), None, mask)
    return Edit(f"blocks.{layer}.attn.logits", _never, jnp.asarray(allowed), mask)


def _never(logits, allowed, inputs):
    return jnp.where(allowed, logits, NEVER)
