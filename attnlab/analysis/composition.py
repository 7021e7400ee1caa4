"""How much a head reads of what an earlier head writes (Elhage et al., A Mathematical Framework, 2021).

    Q  ‖W_OV^1 W_Q^2 W_K^2^T‖ / (‖W_OV^1‖ ‖W_QK^2‖)      K  ‖W_OV^1 W_K^2 W_Q^2^T‖ / ...      V  ‖W_OV^1 W_OV^2‖ / ...

Frobenius norms; row vectors, so that what head 1 writes is `x W_OV^1`. Two random matrices of rank `K` in width `D`
have a score near `1 / sqrt(D)` (`chance`, measured by drawing), which is what to compare with.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from attnlab.analysis.head_effects import attention_layers
from attnlab.models.factored import Factored


def composed(first: Factored, second: Factored) -> Float[Array, ""]:
    """`‖A B‖ / (‖A‖ ‖B‖)`, never multiplied out."""
    inner = Factored(first.left @ (first.right @ second.left), second.right)
    return inner.norm() / (first.norm() * second.norm())


def composition_scores(model: Any, params: Any) -> dict[str, Float[Array, "L H M H"]]:
    """`q, k, v`, each `[L, H, L, H]`: from the first head to the second; NaN where the first is not in an earlier
    layer.
    """
    layers = attention_layers(model)
    heads = range(model.num_heads)
    writes = {(layer, head): model.ov(params, layer, head) for layer in layers for head in heads}
    couples = {(layer, head): model.kq(params, layer, head) for layer in layers for head in heads}  # W_K W_Q^T
    shape = (model.num_layers, model.num_heads) * 2
    found = {part: jnp.full(shape, jnp.nan) for part in ("q", "k", "v")}
    for one in writes:
        for two in writes:
            if one[0] >= two[0]:
                continue
            reads = {"q": couples[two].T, "k": couples[two], "v": writes[two]}
            for part, second in reads.items():
                found[part] = found[part].at[(*one, *two)].set(composed(writes[one], second))
    return found


def chance(model: Any, key: Key[Array, ""], draws: int = 64) -> Float[Array, " draws"]:
    """Scores of random factors of the model's width and head width."""
    width, rank = model.dims.width, model.dims.head_dim

    def one(key: Array) -> Array:
        parts = [jax.random.normal(k, (width, rank)) for k in jax.random.split(key, 4)]
        return composed(Factored(parts[0], parts[1].T), Factored(parts[2], parts[3].T))

    return jax.lax.map(one, jax.random.split(key, draws))
