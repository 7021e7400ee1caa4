"""What one layer says about mixing: row by row, and of the layer as a whole. The probe `mixing` averages it.

Row figures are `[B, H, T]` (those of offsets `[B, H, T, N]`), NaN where a row has none (`attnlab.analysis.map_rows`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis import drains, map_places, map_rows, ranks
from attnlab.attention import Gated

Rows = dict[str, Array]
Weights = Float[Array, "B H T U"]
Visible = Bool[Array, "T U"]


class Gate(NamedTuple):
    """What a gate says of each row, each `Float[B, H, T]`.

    Attributes:
      size: the gate, mean over its channels.
      rows: what it multiplies a row's output with; None if it does not (it is on values, keys or queries, or added).
      bos: what it multiplies the first key's part of a row with; None as above, but for a gate of values.
    """

    size: Array
    rows: Array | None
    bos: Array | None


def read_gate(gate: Array, rows: tuple[int, ...], mechanism: Any, registers: int = 0) -> Gate:
    """The gate at site `gate` of a layer whose map has rows `(B, H, R + T)`, without those of registers.

    Args:
      mechanism: the layer's, in which the `Gated` is looked up; without one the gate is taken to multiply the output.
    """
    while mechanism is not None and not isinstance(mechanism, Gated):
        mechanism = getattr(mechanism, "base", None)
    whole = drains.gate_size(gate, rows)
    size = whole[..., registers:]
    place, combine = ("output", "multiply") if mechanism is None else (mechanism.place, mechanism.combine)
    if combine != "multiply" or place in ("key", "query"):
        return Gate(size, None, None)
    if place == "value":
        return Gate(size, None, jnp.broadcast_to(whole[..., registers, None], size.shape))
    return Gate(size, size, size)


def mass_terms(weights: Weights, null: Float[Array, "B H T"] | None, gate: Gate | None, registers: int = 0) -> Rows:
    """`mass`, `absolute_mass`, `dead`; `gate`; `null_` and `register_` `share`, `mass`, `gated_mass`, if there are."""
    mass = map_rows.row_mass(weights)
    found = {"mass": mass.signed, "absolute_mass": mass.absolute, "dead": (mass.absolute == 0).astype(weights.dtype)}
    factor = None
    if gate is not None:
        found, factor = found | {"gate": gate.size}, gate.rows
    if null is not None:
        found |= _sink_figures("null", jnp.stack([null, mass.absolute], axis=-1), 0, factor)
    if registers:
        size = jnp.sum(jnp.abs(weights[..., :registers]), axis=-1)
        found |= _sink_figures("register", jnp.stack([size, mass.absolute - size], axis=-1), 0, factor)
    return found


def sink_rows(weights: Weights, gate: Gate | None, registers: int = 0) -> Rows:
    """`bos_share`, `bos_mass` and, if a gate acts on it, `bos_gated_mass`."""
    return _sink_figures("bos", weights, registers, None if gate is None else gate.bos)


def _sink_figures(name: str, weights: Array, key: int, factor: Array | None) -> Rows:
    on = map_places.on_key(weights, key, gate=factor)
    found = {f"{name}_share": on.share, f"{name}_mass": on.mass}
    return found if on.gated is None else found | {f"{name}_gated_mass": on.gated}


def spread_terms(weights: Weights, visible: Visible) -> Rows:
    """`entropy`, `evenness`, `spikiness`, `support`."""
    return {
        "entropy": map_rows.map_entropy(weights, visible),
        "evenness": map_rows.evenness(weights, visible),
        "spikiness": map_rows.spikiness(weights, visible),
        "support": map_rows.support_size(weights, visible),
    }


def local_terms(weights: Weights, offsets: int) -> Rows:
    """`local_share`, `local_mass` at the distances `0 .. offsets - 1`, of sizes `|A|`; `previous_share`,
    `previous_mass` at distance 1; `window_share`, `window_mass`, their sum."""
    share = map_rows.row_shares(weights)
    share = jnp.where(jnp.all(share == 0, axis=-1, keepdims=True), jnp.nan, share)
    found: Rows = {}
    for name, sizes in (("share", share), ("mass", jnp.abs(weights))):
        each = [map_places.local_focus(sizes, offset) for offset in range(offsets)]
        found |= {f"local_{name}": jnp.stack(each, axis=-1), f"previous_{name}": each[1]}
        found[f"window_{name}"] = map_places.window_mass(sizes, offsets)
    return found


def order_terms(weights: Weights, scores: Weights, visible: Visible) -> Rows:
    """`monotonicity`."""
    return {"monotonicity": ranks.monotonicity(weights, scores, visible)}


def map_terms(weights: Weights, visible: Visible) -> Rows:
    """Of whole maps: `frobenius` `[H]` and, of a layer, `head_diversity` `[]`, means over the batch."""
    return {
        "frobenius": jnp.mean(map_rows.frobenius(weights, visible), axis=0),
        "head_diversity": jnp.mean(map_places.head_diversity(weights, visible)),
    }


def value_terms(values: Float[Array, "B H T K"]) -> Rows:
    """`value_drain` `[H]`, mean over the batch."""
    return {"value_drain": jnp.mean(drains.value_drain(values), axis=0)}


def stream_terms(stream: Float[Array, "B T D"]) -> Rows:
    """`stream_peak` (the largest of the batch) and `stream_ratio` (mean over it), `[]` each."""
    massive = drains.massive_activation(stream)
    return {"stream_peak": jnp.max(massive.peak), "stream_ratio": jnp.mean(massive.ratio)}


def averaged(rows: Mapping[str, Array], classes: Mapping[str, Bool[Array, "B T"]]) -> Rows:
    """Every row figure over every class of queries, `[H]` or `[H, N]`, by name and suffix of the class.

    A mean is over the queries whose figure is not NaN, and NaN if there is none. All figures are one reduction.
    """
    widths = [1 if value.ndim == 3 else value.shape[-1] for value in rows.values()]
    values = jnp.concatenate([v[..., None] if v.ndim == 3 else v for v in rows.values()], axis=-1)
    known = jnp.stack(list(classes.values()))[:, :, None, :, None] & ~jnp.isnan(values)  # [classes, B, H, T, figures]
    count = jnp.sum(known, axis=(1, 3))
    total = jnp.sum(jnp.where(known, values, 0), axis=(1, 3))
    means = jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)
    found: Rows = {}
    for suffix, mean in zip(classes, means, strict=True):
        parts = jnp.split(mean, list(itertools.accumulate(widths))[:-1], axis=-1)
        for (name, value), part in zip(rows.items(), parts, strict=True):
            found[f"{name}{suffix}"] = part[..., 0] if value.ndim == 3 else part
    return found
