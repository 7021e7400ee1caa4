"""Gates around any mechanism: on its output, its values, keys or queries, or after the output matrix.

Qiu et al., 2505.06708, call these places G1 (output), G2 (value), G3 (key), G4 (query), G5 (dense). Two other things
that are called gated attention are not this: gated linear attention, whose gates are decays of a linear state, and the
gated attention unit, which gates a whole block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention.base import AttentionOutput, Dims, Params, SiteFn, View, no_site
from attnlab.attention.projections import needed
from attnlab.attention.wrappers import Wrapper
from attnlab.config import require


def sigmoid(score: Array) -> Array:
    """In (0, 1)."""
    return jax.nn.sigmoid(score)


def silu(score: Array) -> Array:
    """`s sigmoid(s)`."""
    return jax.nn.silu(score)


def ns_sigmoid(score: Array) -> Array:
    """`1/2 + sigmoid(s) / 2`, in (1/2, 1): a gate that cannot close, the control for sparse gates.

    NS-sigmoid of the paper (2505.06708). The formula is not from its text but as public notes on it and several
    re-implementations quote it; the range is the paper's.
    """
    return 0.5 + 0.5 * jax.nn.sigmoid(score)


def identity(score: Array) -> Array:
    """`s` itself."""
    return score


_PLACES = ("output", "value", "key", "query", "dense")


@dataclass(frozen=True)
class Gated(Wrapper):
    """`y -> y * f(x W)` (or `y + f(x W)`) at one place of a mechanism; `x` is what the layer reads at the same token.

    Attributes:
      base: the mechanism.
      place: what `y` is. Queries and keys are gated as the layer hands them over, after a rotary embedding.
      per: a gate for each `element` of `y`, or one for the whole `head`.
      shared: all heads have the same gate.
      combine: `multiply` or `add`.
      function: `f`.
      input_dependent: False: the score is a learned constant instead of `x W`, 0 at first.
      of_itself: the score is `y`: no parameters. With `silu`-like products: `y * sigmoid(y)` is `silu(y)`.

    `W` is N(0, 1 / D), without more ado: a sigmoid gate begins near 1/2.

    Site `gate`: `[*B, H, T, K]` or `[*B, H, T, 1]`; `[*B, T, D]` if `place="dense"`. The map returned holds the gate
    wherever one matrix can (one multiplying gate per head, on output or values); else it is that of the base, before
    an output gate and of gated values.
    """

    place: Literal["output", "value", "key", "query", "dense"] = "output"
    per: Literal["element", "head"] = "element"
    shared: bool = False
    combine: Literal["multiply", "add"] = "multiply"
    function: Callable[[Array], Array] = sigmoid
    input_dependent: bool = True
    of_itself: bool = False

    def __post_init__(self):
        for name, allowed in (("place", _PLACES), ("per", ("element", "head")), ("combine", ("multiply", "add"))):
            require(getattr(self, name) in allowed, f"Gated.{name}", getattr(self, name), " | ".join(allowed))
        if self.place == "dense":
            plain = self.per == "element" and not self.shared
            require(plain, "Gated.per, shared", (self.per, self.shared), "('element', False): no heads are left there")
        if self.of_itself:
            plain = self.per == "element" and not self.shared and self.input_dependent
            require(plain, "Gated.of_itself", True, "with per='element', shared=False, input_dependent=True")

    @property
    def addition(self) -> str:
        words = (
            "constant" * (not self.input_dependent),
            "self" * self.of_itself,
            "added" * (self.combine == "add"),
            "shared" * self.shared,
            "" if self.function is sigmoid else self.function.__name__,
            "" if self.place == "output" else self.place,
            "head" * (self.per == "head"),
            "gate",
        )
        return "_".join(word for word in words if word)

    def init(self, key, dims: Dims) -> Params:
        base_key, gate_key = jax.random.split(key)
        params = self.base.init(base_key, dims)
        if self.of_itself:
            return params
        require("gate" not in params, self.name, "gate", "a base whose parameters have no such name")
        heads = (1 if self.shared else dims.num_heads, dims.head_dim if self.per == "element" else 1)
        shape = (dims.width,) if self.place == "dense" else heads
        if not self.input_dependent:
            return params | {"gate": jnp.zeros(shape)}
        return params | {"gate": dims.width**-0.5 * jax.random.normal(gate_key, (dims.width, *shape))}

    def _gate(self, params: Params, y: Array, x: Array | None) -> Array:
        """`[*B, H, T, K or 1]` for `y[*B, H, T, K]`; for a dense gate `[*B, T, D]`."""
        if self.of_itself:
            return self.function(y)
        w = params["gate"].astype(y.dtype)
        dense = self.place == "dense"
        if not self.input_dependent:
            score = w if dense else w[:, None, :]
        elif dense:
            score = needed(x, self.name) @ w
        else:
            score = jnp.einsum("...td,dhk->...htk", needed(x, self.name), w)
        return jnp.broadcast_to(self.function(score), (*y.shape[:-1], score.shape[-1]))

    def _apply_gate(self, y: Array, gate: Array) -> Array:
        return y * gate if self.combine == "multiply" else y + gate

    def _gated_tokens(self, params, q, k, v, x, site):
        """The tokens with the gate on them, and the gate if it is on the values."""
        if self.place not in ("value", "key", "query"):
            return q, k, v, None
        tokens = {"query": q, "key": k, "value": v}
        gate = site("gate", self._gate(params, tokens[self.place], x))
        tokens[self.place] = self._apply_gate(tokens[self.place], gate)
        return tokens["query"], tokens["key"], tokens["value"], gate if self.place == "value" else None

    def apply(
        self, params, q, k, v, *, x=None, mask=None, bias=None, view: View = "parallel", site: SiteFn = no_site
    ) -> AttentionOutput:
        q, k, v, on_values = self._gated_tokens(params, q, k, v, x, site)
        result = self.base.apply(params, q, k, v, x=x, mask=mask, bias=bias, view=view, site=site)
        out, weights, null = result
        one_factor = self.per == "head" and self.combine == "multiply"
        if on_values is not None and one_factor and weights is not None:
            weights = weights * jnp.swapaxes(on_values, -1, -2)
        if self.place == "output":
            gate = site("gate", self._gate(params, out, x))
            out = self._apply_gate(out, gate)
            if one_factor:
                weights = None if weights is None else gate * weights
                null = None if null is None else gate[..., 0] * null
        return AttentionOutput(out, weights, null)

    def step(self, params, state, q, k, v, *, x=None, **options):
        row_x = None if x is None else x[..., None, :]
        q, k, v = (y[..., None, :] for y in (q, k, v))
        q, k, v, _ = self._gated_tokens(params, q, k, v, row_x, no_site)
        out, state = self.base.step(params, state, q[..., 0, :], k[..., 0, :], v[..., 0, :], x=x, **options)
        if self.place == "output":
            row = out[..., None, :]
            out = self._apply_gate(row, self._gate(params, row, row_x))[..., 0, :]
        return out, state

    def finish(self, params, y, x, *, site=no_site):
        y = super().finish(params, y, x, site=site)
        return self._apply_gate(y, site("gate", self._gate(params, y, x))) if self.place == "dense" else y
