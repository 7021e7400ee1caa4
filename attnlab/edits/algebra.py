"""The four affine edits that nearly every published intervention on attention is one of.

    E1  logit bias      s' = s + b                                at `attn.logits`
    E2  pattern mix     A' = (1 - m) A + m M                      at `attn.weights`
    E3  output mix      z' = a ((1 - m) z + m z_src)              at `attn.head_out`, per head, before `W_O`
    E4  stream mix      x' = (1 - m) x + m x_src + d              at `blocks.{l}.out`, `embed`, `attn.out`, `mlp.out`

All numbers are arrays: new values do not retrace, `vmap` over them is the loop, gradients reach them (at `m = 0` that
is the first-order effect), and they serve inside the training step. At `m = 0`, `b = 0`, `a = 1`, `d = 0` no bit
changes; at `m = 1` what comes out is the source, exactly. Edits of one site apply in the order given; across sites in
the order of the forward pass.

Multiplying the columns of a softmax map by `w > 0` and renormalising its rows is the logit bias `log w`. E1 and E2 need
a map; E3 and E4 work with any mechanism. A mechanism without the site says so (`SiteError`).
"""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from attnlab.config import require
from attnlab.tape import Edit, add, mix

Normalise = Literal["mass", "row"]
Amount = float | Array


def logit_bias(layer: int, bias: Amount, mask: Any = None) -> Edit:
    """E1: `s + b`, `b` broadcast to `[*B, H, T, U]`. Adding one number to a whole row changes nothing under softmax."""
    return add(f"blocks.{layer}.attn.logits", bias, mask)


def pattern_mix(layer: int, amount: Amount, to: Array, mask: Any = None) -> Edit:
    """E2: `(1 - m) A + m M`. `m` per head or row (`[H, 1, 1]`, `[H, T, 1]`); `M` with rows as `A` has (sums are
    mixed).
    """
    return mix(f"blocks.{layer}.attn.weights", to, amount, mask)


def pattern_add(layer: int, change: Array, mask: Any = None) -> Edit:
    """`A + D`, not renormalised: for gradients in the pattern (`jax.grad` in `D` at 0 is `dL / dA`)."""
    return add(f"blocks.{layer}.attn.weights", change, mask)


def output_mix(layer: int, amount: Amount, to: Any, scale: Amount = 1.0, mask: Any = None) -> Edit:
    """E3: `a ((1 - m) z + m z_src)`, per head before `W_O`; `m, a` per head, row or number, `z_src [*B, H, T, K]`."""
    value = tuple(jnp.asarray(x) for x in (to, amount, scale))
    return Edit(f"blocks.{layer}.attn.head_out", _scaled_mix, value, mask)


def stream_mix(site: str, amount: Amount, to: Any, change: Any = 0.0, mask: Any = None) -> Edit:
    """E4: `(1 - m) x + m x_src + d` at a site of width `D` (`embed`, `blocks.0.out`, `blocks.0.mlp.out`, ...)."""
    value = tuple(jnp.asarray(x) for x in (to, amount, change))
    return Edit(site, _shifted_mix, value, mask)


def within(number: Amount, low: float, high: float = float("inf"), open_below: bool = False) -> bool:
    """Whether `low <= number <= high` (`<` at the low end). True of a traced number, of which nothing is known yet."""
    if isinstance(number, Tracer):
        return True
    value = np.asarray(number)
    return bool(np.all((value > low if open_below else value >= low) & (value <= high)))


def _scaled_mix(z, value, inputs):
    to, amount, scale = value
    return scale * ((1 - amount) * z + amount * to)


def _shifted_mix(x, value, inputs):
    to, amount, change = value
    return (1 - amount) * x + amount * to + change


def column_weights(layer: int, factors: Array, normalise: Normalise | None = "mass", mask: Any = None) -> Edit:
    """The map's columns times `w >= 0`, broadcast to `[*B, H, T, U]`.

    Args:
      normalise: `mass` keeps each row's sum (as a logit bias `log w` does under softmax), `row` makes it 1, None leaves
        it: for maps whose rows need not sum to 1 (sigmoid, gates) only None is a plain edit.
    """
    require(normalise in ("mass", "row", None), "normalise", normalise, "mass | row | None")
    edit = {"mass": _keeping_mass, "row": _row_of_one, None: _times}[normalise]
    return Edit(f"blocks.{layer}.attn.weights", edit, jnp.asarray(factors), mask)


def _times(weights, factors, inputs):
    return weights * factors


def _row_of_one(weights, factors, inputs):
    return _normal(weights * factors)


def _keeping_mass(weights, factors, inputs):
    return _normal(weights * factors) * jnp.sum(weights, axis=-1, keepdims=True)


def _normal(weights: Float[Array, "*B T U"]) -> Float[Array, "*B T U"]:
    """Rows of sum 1; rows of zeros stay."""
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total == 0, 1, total)


def rows(num_queries: int, chosen: Any) -> Bool[Array, "T 1"]:
    """The mask that selects some queries, to be joined with `head_mask` by `&`.

    Raises:
      ConfigError: a row outside `-T .. T - 1`, or none.
    """
    wanted = (chosen,) if isinstance(chosen, int) else tuple(chosen)
    require(bool(wanted), "rows", wanted, "one query or more")
    for row in wanted:
        require(-num_queries <= row < num_queries, "rows", row, f"{-num_queries} to {num_queries - 1}")
    return jnp.zeros(num_queries, bool).at[jnp.array(wanted)].set(True)[:, None]
