"""Mechanisms of the weight family whose parallel form is attention in blocks: the same parameters, memory `O(T K)`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention import Gated, KeyBias, SinkLogit, Weighted, ZeroLogit, causal_mask
from attnlab.attention import gated as gates
from attnlab.attention.base import AttentionOutput, SiteFn, View, no_site, wants
from attnlab.attention.causal import refuse_other_masks
from attnlab.attention.pairwise import Rows, Tokens
from attnlab.config import require
from attnlab.kernels.call import BLOCKS, Blocks
from attnlab.kernels.dispatch import Implementation, attention
from attnlab.kernels.row_catalogue import taken
from attnlab.kernels.row_maps import capped

_PAIRS = "Logits that are no dot products are made for all pairs at once; use Weighted."
_TWICE = "What is made from the finished weights of a row needs more than one pass over its keys; use Weighted."


@dataclass(frozen=True)
class Blockwise(Weighted):
    """A `Weighted` whose map need not be in memory: the same parameters, values and gradients.

    Slots are those of `Weighted`, but `score` and `post` stay empty, `map` has a block form (`kernels.row_maps`: one of
    the catalogue or your own `RowMap`), and `columns` is a logit without a value. Where someone looks at the map (the
    map view, a site `logits`, `weights` or `null` that is read or edited), and with a logit bias, it is what `Weighted`
    makes of the same slots, which builds the map; only that can be differentiated twice.

    Attributes:
      implementation, blocks: see `kernels.attention`; `kernels.which` says what None stands for.
      causal_only: every query sees what came before and nothing else, and the mask is not read. Else its `T U` truth
        values are kept, once for all heads. Another mask is an error, or goes unseen if it is a tracer.
    """

    implementation: Implementation | None = None
    blocks: Blocks = BLOCKS
    causal_only: bool = False

    def __post_init__(self):
        found = taken(self.map)
        for slot, why in (("score", _PAIRS), ("post", _TWICE)):
            require(getattr(self, slot) is None, f"{self.name}.{slot}", getattr(self, slot), "None", why)
        if self.columns is None:
            return
        valueless = isinstance(self.columns, ZeroLogit | SinkLogit) or (
            isinstance(self.columns, KeyBias) and not self.columns.with_value
        )
        require(valueless, f"{self.name}.columns", self.columns, "ZeroLogit(), SinkLogit(), KeyBias() without a value")
        plain = found.row_map.total is not None and found.shift is None and found.divisor is None and self.cap is None
        allowed = "None, or a map with a normaliser that does not count keys, and no cap"
        require(plain, f"{self.name}.columns", self.columns, allowed)

    def mix(self, params, tokens: Tokens, rows: Rows, *, mask, bias, view: View, site) -> AttentionOutput:
        sequence = self._sequence(tokens, mask)
        read = view == "map" or any(wants(site, name) for name in ("logits", "weights", "null"))
        if read or bias is not None:
            mask = causal_mask(tokens.q.shape[-2], tokens.k.shape[-2]) if sequence else mask
            return super().mix(params, tokens, rows, mask=mask, bias=bias, view=view, site=site)
        return AttentionOutput(self.attend(params, tokens, rows, mask))

    def _sequence(self, tokens: Tokens, mask: Any) -> bool:
        """Whether the rows are those of a causal sequence, and no mask is to be read."""
        num, num_keys = tokens.q.shape[-2], tokens.k.shape[-2]
        sequence = self.causal_only and num > 1
        if sequence:
            refuse_other_masks(self.name, mask, num, num_keys)
        return sequence

    def attend(self, params, tokens: Tokens, rows: Rows, mask: Any, **finish: Any) -> Array:
        """The output, `gate` and `finish` as in `kernels.attention`."""
        q, k, v, _ = tokens
        found = taken(self.map)
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        sequence = self._sequence(tokens, mask)
        count = self._count(tokens, rows, mask, sequence)
        sink = None if self.columns is None else self.columns.logits(params, q, scale)[..., 0]
        clock = (None, None) if rows.clock is None else rows.clock
        if found.shift is not None:
            shift = found.shift(count)[..., 0]
            clock = (shift if clock[0] is None else clock[0] + shift, clock[1])
        out = attention(
            q if self.temper is None else self.temper(params, tokens, rows, count) * q,
            k,
            v,
            map=found.row_map if self.cap is None else capped(found.row_map, self.cap),
            implementation=self.implementation,
            scale=scale,
            causal=sequence,
            mask=None if sequence else mask,
            clock=clock if any(part is not None for part in clock) else None,
            sink=sink,
            blocks=self.blocks,
            **finish,
        )
        if found.divisor is not None:
            divisor = found.divisor(count)
            out = out / jnp.where(divisor == 0, 1, divisor)
        return out + params["value_bias"][:, None, :].astype(out.dtype) if self.value_bias else out

    def _count(self, tokens: Tokens, rows: Rows, mask: Any, sequence: bool) -> Array:
        """`n_t`, the number of keys that a row sees, `[*M, T, 1]`."""
        kind = tokens.q.dtype
        if sequence:
            return (rows.at[:, None] + 1).astype(kind)
        if mask is None:
            return jnp.full((tokens.q.shape[-2], 1), tokens.k.shape[-2], kind)
        return jnp.sum(jnp.asarray(mask), axis=-1, keepdims=True).astype(kind)


@dataclass(frozen=True)
class OutputGate:
    """`out f(score)`, or `out + f(score)`."""

    function: Any
    combine: str

    def __call__(self, out: Array, score: Array) -> Array:
        own = self.function(score)
        return out * own if self.combine == "multiply" else out + own


@dataclass(frozen=True)
class GatedBlockwise(Gated):
    """`Gated` on the output of a `Blockwise`, as the last step of its kernel; the same parameters, values, gradients.

    Where someone reads or edits the gate or the map, it is `Gated` of the same base.
    """

    def __post_init__(self):
        super().__post_init__()
        require(isinstance(self.base, Blockwise), "GatedBlockwise.base", self.base, "a Blockwise mechanism")
        fused = self.place == "output" and self.input_dependent and not self.of_itself
        allowed = "place='output', input_dependent=True, of_itself=False"
        given = (self.place, self.input_dependent, self.of_itself)
        hint = "Other gates: Gated(blockwise(...), ...)."
        require(fused, "GatedBlockwise.place, input_dependent, of_itself", given, allowed, hint)
        plain = taken(self.base.map).divisor is None and not self.base.value_bias
        require(plain, "GatedBlockwise.base", self.base, "a map without a divisor that counts keys, and no value bias")

    def apply(
        self, params, q, k, v, *, x=None, mask=None, bias=None, view: View = "parallel", site: SiteFn = no_site
    ) -> AttentionOutput:
        read = view == "map" or any(wants(site, name) for name in ("gate", "logits", "weights", "null"))
        if read or bias is not None:
            return super().apply(params, q, k, v, x=x, mask=mask, bias=bias, view=view, site=site)
        score = jnp.einsum("...td,dhk->...htk", gates.needed(x, self.name), params["gate"].astype(q.dtype))
        tokens, rows = self.base.prepared(params, q, k, v, x)
        finish = OutputGate(self.function, self.combine)
        return AttentionOutput(self.base.attend(params, tokens, rows, mask, gate=score, finish=finish))


def blockwise(mechanism: Any, **options: Any) -> Any:
    """`mechanism` of the catalogue, a `Weighted` or an output gate on one, in blocks.

    Args:
      options: `implementation`, `blocks`, `causal_only` of `Blockwise`.

    Raises:
      ConfigError: it cannot be taken in blocks, and why.
    """
    if isinstance(mechanism, Gated):
        slots = {field.name: getattr(mechanism, field.name) for field in fields(mechanism)}
        return GatedBlockwise(**slots | {"base": blockwise(mechanism.base, **options)})
    require(type(mechanism) is Weighted, "mechanism", mechanism, "a Weighted, or Gated(one)")
    slots = {field.name: getattr(mechanism, field.name) for field in fields(mechanism)}
    return Blockwise(**slots | {"name": f"{mechanism.name}_blockwise"}, **options)
