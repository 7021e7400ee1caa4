"""Differential attention: the difference of two maps, in which what both attend to cancels."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import jax
import jax.numpy as jnp

from attnlab.attention.base import AttentionOutput, Dims, Params, WeightMap
from attnlab.attention.maps import SOFTMAX
from attnlab.attention.pairwise import Pairwise, Rows, Tokens
from attnlab.config import require


def initial_lambda(layer: int) -> float:
    """`0.8 - 0.6 exp(-0.3 layer)`, layers from 0 (Ye et al., 2410.05258)."""
    return 0.8 - 0.6 * exp(-0.3 * layer)


@dataclass(frozen=True)
class Differential(Pairwise):
    """`A = map(s q_1 k_1^T) - lambda map(s q_2 k_2^T)`, `s = 1 / sqrt(K / 2)`: halves of the head width (2410.05258).

    `lambda = exp(a_1 . b_1) - exp(a_2 . b_2) + initial`, one for the layer, as in the authors' code; `a, b [2, K / 2]`
    are N(0, 0.1^2). Rows sum to `1 - lambda`; weights may be negative. The paper's layer then normalises each head:
    `wrappers.HeadNorm` with `factor = 1 - initial`.

    Sites: `logits`, `logits_minus` (of the second map), `weights` (the difference).
    """

    name: str
    map: WeightMap = SOFTMAX
    initial: float = initial_lambda(0)

    @property
    def rows_apart(self) -> bool:
        return True

    def init(self, key, dims: Dims) -> Params:
        require(dims.head_dim % 2 == 0, f"{self.name}: head_dim", dims.head_dim, "even: two halves of it attend")
        a, b = 0.1 * jax.random.normal(key, (2, 2, dims.head_dim // 2))
        return {"lambda_query": a, "lambda_key": b}

    def amount(self, params: Params):
        """The factor `lambda` of the second map."""
        first, second = jnp.exp(jnp.sum(params["lambda_query"] * params["lambda_key"], axis=-1))
        return first - second + self.initial

    def mix(self, params, tokens: Tokens, rows: Rows, *, mask, bias, view, site) -> AttentionOutput:
        q, k, v, _ = tokens
        visible = jnp.ones((q.shape[-2], k.shape[-2]), bool) if mask is None else jnp.asarray(mask)
        half = q.shape[-1] // 2
        maps = []
        for name, part in (("logits", slice(half)), ("logits_minus", slice(half, 2 * half))):
            logits = (half**-0.5 * q[..., part]) @ jnp.swapaxes(k[..., part], -1, -2)
            logits = site(name, logits if bias is None else logits + bias)
            maps.append(self.map(logits, visible))
        weights = site("weights", maps[0] - self.amount(params).astype(q.dtype) * maps[1])
        return AttentionOutput(weights @ v, weights if view == "map" else None)
