"""Mechanisms of the catalogue whose parallel form is one of the fast forms here."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from attnlab.attention import LocalLinear, Softmax, Weighted, causal_mask
from attnlab.attention.base import AttentionOutput, View, wants
from attnlab.attention.causal import refuse_other_masks
from attnlab.attention.pairwise import Rows, Tokens
from attnlab.config import require
from attnlab.kernels.local_linear import local_linear_attention
from attnlab.kernels.solver import CG, Solver
from attnlab.kernels.targets import Pallas


@dataclass(frozen=True)
class LocalLinearBlockwise(Weighted):
    """`attention.lla` in memory linear in the length: the same parameters, values and gradients (to `solver.tol`).

    Where someone looks at the map (the map view, a site `logits` or `weights` that is read or edited), and with a logit
    bias, it is what `Weighted` makes of the same slots, which builds the map; only that can be differentiated twice.
    In a model: `Transformer(..., mechanism=attnlab.kernels.lla_blockwise)`.

    Attributes:
      post: the regression. Slots other than this, `tokens` and `scale` stay empty.
      solver: how it is solved.
      causal_only: every query sees what came before and nothing else, and the mask is not read. Else its `T U` truth
        values are kept, once for all heads. Another mask is an error, or goes unseen if it is a tracer.
      pallas: by Pallas kernels for this chip; None = by loops, on any platform. A decode step is by loops always.
    """

    solver: Solver = CG
    causal_only: bool = False
    pallas: Pallas | None = None

    def __post_init__(self):
        require(isinstance(self.map, Softmax), f"{self.name}.map", self.map, "Softmax()")
        require(isinstance(self.post, LocalLinear), f"{self.name}.post", self.post, "LocalLinear(ridge)")
        for slot in ("columns", "score", "temper", "cap"):
            require(getattr(self, slot) is None, f"{self.name}.{slot}", getattr(self, slot), "None")
        require(not self.value_bias, f"{self.name}.value_bias", self.value_bias, "False")

    def mix(self, params, tokens: Tokens, rows: Rows, *, mask, bias, view: View, site) -> AttentionOutput:
        q, k, v, _ = tokens
        sequence = self.causal_only and q.shape[-2] > 1
        if sequence:
            refuse_other_masks(self.name, mask, q.shape[-2], k.shape[-2])
        read = view == "map" or wants(site, "logits") or wants(site, "weights")
        if read or bias is not None or rows.clock is not None:
            mask = causal_mask(q.shape[-2], k.shape[-2]) if sequence else mask
            return super().mix(params, tokens, rows, mask=mask, bias=bias, view=view, site=site)
        assert isinstance(self.post, LocalLinear)  # see __post_init__
        out = local_linear_attention(
            q,
            k,
            v,
            jnp.exp(params["log_ridge"]),
            scale=self.scale,
            causal=self.causal_only,
            mask=None if sequence else mask,
            at=rows.at,
            penalty=self.post.penalty,
            floor=float(jnp.finfo(jnp.promote_types(q.dtype, jnp.float32)).eps) ** 0.5,
            solver=self.solver,
            pallas=self.pallas if q.shape[-2] > 1 else None,
        )
        return AttentionOutput(out)


lla_blockwise = LocalLinearBlockwise("lla_blockwise", post=LocalLinear())
