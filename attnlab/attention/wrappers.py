"""Mechanisms around a mechanism, of either family: what they share, and the norm of head outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention.base import AttentionOutput, Dims, Params, SiteFn, no_site


@dataclass(frozen=True)
class Wrapper:
    """Hands everything on to `base`; `label` is the whole name, or None for one made of the base's."""

    base: Any
    label: str | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        return self.label or f"{self.base.name}+{self.addition}"

    @property
    def addition(self) -> str:
        return type(self).__name__.lower()

    @property
    def causal_only(self) -> bool:
        return getattr(self.base, "causal_only", False)

    def init(self, key, dims: Dims) -> Params:
        return self.base.init(key, dims)

    def start(self, params: Params, batch: tuple[int, ...], length: int, dims: Dims, dtype=jnp.float32) -> Any:
        return self.base.start(params, batch, length, dims, dtype)

    def finish(self, params: Params, y: Array, x: Array | None, *, site=no_site) -> Array:
        """What happens to the layer's output `y[*B, T, D]`, after the output matrix."""
        inner = getattr(self.base, "finish", None)
        return y if inner is None else inner(params, y, x, site=site)


@dataclass(frozen=True)
class HeadNorm(Wrapper):
    """`out_t -> factor out_t / sqrt(mean out_t^2 + eps)`, per head and position (RMSNorm without a gain).

    A gain per channel before the output matrix only scales the rows of that matrix. The map it returns contains the
    factor: `out = A @ v` still holds. Any positive normaliser of rows of `A` cancels (to `eps`).
    """

    factor: float = 1.0
    eps: float = 1e-5

    @property
    def addition(self) -> str:
        return "head_norm"

    def _size(self, out: Array) -> Array:
        return self.factor * jax.lax.rsqrt(jnp.mean(jnp.square(out), axis=-1, keepdims=True) + self.eps)

    def apply(self, params, q, k, v, *, site: SiteFn = no_site, **options) -> AttentionOutput:
        out, weights, null = self.base.apply(params, q, k, v, site=site, **options)
        size = self._size(out)
        weights = None if weights is None else size * weights
        return AttentionOutput(size * out, weights, None if null is None else size[..., 0] * null)

    def step(self, params, state, q, k, v, **options):
        out, state = self.base.step(params, state, q, k, v, **options)
        return self._size(out) * out, state
