"""The probe of mixing: what every layer and head does with its rows, over all, active and dormant queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Bool

from attnlab.analysis import mixing_terms
from attnlab.analysis.base import Dims, check_task, evaluation_batch, sites_of
from attnlab.attention import causal_mask
from attnlab.config import require
from toy_tasks.base import Batch

Part = Literal["mass", "sink", "spread", "local", "order", "map", "values", "stream"]
PARTS: tuple[Part, ...] = get_args(Part)
CHEAP: tuple[Part, ...] = tuple(part for part in PARTS if part != "order")
_OF_LAYER = ("head_diversity", "stream_peak", "stream_ratio")
_SITES = ("attn.weights", "attn.null", "attn.gate", "attn.logits", "attn.v", "out")


@dataclass(frozen=True)
class Mixing:
    """`probe(model, params) -> {name: array}`: what the mixing matrices of a model do, on one evaluation batch.

    It asks nothing of a mechanism but its map (`blocks.*.attn.weights`), whose entries may be signed and need not sum
    to one. Axes are `[L, H]` unless said; the first token is called bos, whatever it is; registers are keys but
    no queries.

    A row figure `name` is averaged over three classes of queries, those before `start` left out of each: all (`name`),
    the class `active` of the task (`name_active`), and those that are neither active nor bos (`name_dormant`); a task
    without the class has the first only. Queries for which a figure says nothing are left out (a row without mass has
    no shares; of a row that sees one key there is no evenness): `dead` says how many have no mass.

    parts -> outputs:
      mass: mass (`Σ A`), absolute_mass (`Σ |A|`), dead; with null columns null_share, null_mass; with registers
        register_share, register_mass; with a gate gate (mean over its channels).
      sink: bos_share, bos_mass. Read them together: without much mass a share means nothing. The thresholded metric of
        Gu et al. is in the probe `sinks`.
      Where a gate multiplies the output there are bos_gated_mass, null_gated_mass, register_gated_mass too: all other
        figures are of the map before it. A gate that multiplies the values gives the first.
      spread: entropy, evenness (`H / ln n_i`), spikiness, support.
      local: local_share, local_mass `[L, H, num_offsets]` at distance 0, 1, ...; previous_share, previous_mass, at
        distance 1; window_share, window_mass, over all of these distances.
      order: monotonicity, the rank correlation of weights and logits, for mechanisms that have logits. It sorts every
        row, which takes several times as long as all the rest, and is measured only if asked for.
      map: frobenius; head_diversity `[L]`. Over whole maps, `start` or not.
      values: value_drain.
      stream: stream_peak, stream_ratio `[L]`, of the residual stream after the block.
    Definitions: `attnlab.analysis.{map_rows, map_places, ranks, drains}`. What no layer has the activation for is
    absent; a layer without an activation that another one has is NaN.

    Attributes:
      task: what to evaluate on.
      batch_size, seed: of the evaluation batch, the same for every step and trained seed.
      parts: which groups to measure; all but `order` by default.
      active: the position class of the task whose queries need the context.
      start: the first query that counts. Query 0 sees nothing but itself.
      num_offsets: how many distances `local` looks at, 0 included.
      causal: whether a query sees no key behind it (and within `model.window`, or below `model.prefix`, if the model
        has these); False: every query sees every key.
    """

    task: Any
    batch_size: int = 64
    seed: int = 0
    parts: tuple[Part, ...] = CHEAP
    active: str = "trigger"
    start: int = 1
    num_offsets: int = 4
    causal: bool = True

    def __post_init__(self) -> None:
        check_task(self.task, self.batch_size, self.seed)
        object.__setattr__(self, "parts", (self.parts,) if isinstance(self.parts, str) else tuple(self.parts))
        require(len(self.parts) > 0, "parts", self.parts, ", ".join(PARTS))
        for part in self.parts:
            require(part in PARTS, "parts", part, ", ".join(PARTS))
        length = getattr(self.task, "length", None)
        limit = f"to the task's length={length}"
        require(self.start >= 0 and (length is None or self.start < length), "start", self.start, f"0 {limit} - 1")
        fits = length is None or self.num_offsets <= length
        require(self.num_offsets >= 2 and fits, "num_offsets", self.num_offsets, f"2 {limit}")

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        batch = evaluation_batch(self.task, self.batch_size, self.seed)
        known = sites_of(model, params, batch.inputs)
        layers = range(model.num_layers)
        names = [f"blocks.{layer}.{site}" for layer in layers for site in _SITES if self._reads(site)]
        _, tape = model.apply(params, batch.inputs, tape=tuple(name for name in names if name in known))
        return _stack([self._layer(layer, model, tape, batch) for layer in layers])

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        dims: Dims = {}
        for name in names:
            end = ("offset",) if name.startswith("local_") else ()
            dims[name] = ("layer",) if name in _OF_LAYER else ("layer", "head", *end)
        return dims

    def _reads(self, site: str) -> bool:
        needs = {"attn.logits": {"order"}, "attn.v": {"values"}, "out": {"stream"}}
        needs |= {"attn.null": {"mass"}, "attn.gate": {"mass", "sink"}}
        return bool(set(self.parts) & needs.get(site, set(PARTS) - {"values", "stream"}))

    def _layer(self, layer: int, model: Any, tape: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
        at = {site: tape.get(f"blocks.{layer}.{site}") for site in _SITES}
        start = getattr(model, "registers", 0)
        found: dict[str, Array] = {}
        if (whole := at["attn.weights"]) is not None:
            weights, visible = whole[..., start:, :], self._visible(model, whole)[start:]
            gate = at["attn.gate"]
            if gate is not None:
                of_layer = getattr(model, "mechanism_of", lambda _: None)(layer)
                gate = mixing_terms.read_gate(gate, whole.shape[:-1], of_layer, start)
            null, scores = at["attn.null"], at["attn.logits"]
            null = None if null is None else null[..., start:]
            rows = self._rows(weights, visible, null, gate, start)
            if scores is not None:
                rows |= mixing_terms.order_terms(weights, scores[..., start:, :], visible)
            found |= mixing_terms.averaged(rows, self._classes(weights, batch))
            if "map" in self.parts:
                found |= mixing_terms.map_terms(weights, visible)
        if (values := at["attn.v"]) is not None:
            found |= mixing_terms.value_terms(values[..., start:, :])
        if (stream := at["out"]) is not None:
            found |= mixing_terms.stream_terms(stream[..., start:, :])
        return found

    def _rows(self, weights: Array, visible: Array, null: Array | None, gate: Any, registers: int) -> dict[str, Array]:
        rows: dict[str, Array] = {}
        if "mass" in self.parts:
            rows |= mixing_terms.mass_terms(weights, null, gate, registers)
        if "sink" in self.parts:
            rows |= mixing_terms.sink_rows(weights, gate, registers)
        if "spread" in self.parts:
            rows |= mixing_terms.spread_terms(weights, visible)
        if "local" in self.parts:
            rows |= mixing_terms.local_terms(weights, self.num_offsets)
        return rows

    def _visible(self, model: Any, weights: Array) -> Bool[Array, "T U"]:
        if not self.causal:
            return jnp.ones(weights.shape[-2:], bool)
        window, prefix = getattr(model, "window", None), getattr(model, "prefix", 0)
        kept = getattr(model, "registers", 0) + prefix if prefix or window else 0
        return causal_mask(*weights.shape[-2:], window=window, prefix=kept)

    def _classes(self, weights: Array, batch: Batch) -> dict[str, Array]:
        """Suffix -> `Bool[B, T]`."""
        num_batch, num_queries = weights.shape[0], weights.shape[-2]
        # A lone query stands behind all of its keys; else queries are numbered from the first token.
        late = jnp.arange(num_queries) >= (self.start if num_queries > 1 else 0)
        counted = jnp.broadcast_to(late, (num_batch, num_queries))
        active = batch.positions.get(self.active)
        required = active is not None or self.active == "trigger"
        require(required, "active", self.active, f"a position class of the task: {', '.join(batch.positions)}")
        if active is None or active.shape != counted.shape:
            return {"": counted}
        bos = batch.positions.get("bos", jnp.zeros(counted.shape, bool))
        return {"": counted, "_active": counted & active, "_dormant": counted & ~active & ~bos}


def _stack(layers: list[dict[str, Array]]) -> dict[str, Array]:
    """One array per name, layers first; NaN for a layer that has no such figure."""
    shapes = {name: value for layer in layers for name, value in layer.items()}
    return {
        name: jnp.stack([layer.get(name, jnp.full_like(like, jnp.nan)) for layer in layers])
        for name, like in shapes.items()
    }


def mixing(task: Any, batch_size: int = 64, seed: int = 0, **options: Any) -> Mixing:
    """The probe of mixing on `task`; see `Mixing` for its outputs and options.

    Example:
      record = {"mixing": log_spaced(200, of=mixing(task))}
    """
    return Mixing(task, batch_size, seed, **options)
