"""What feature maps do to random queries and keys, untrained: evenness, order, distance from softmax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import analysis
from attnlab.attention import features
from attnlab.attention.base import Dims

WIDTH, KEYS, DRAWS = 16, 128, 24
FLOOR = 1e-12  # of a weight inside the logarithm: ReLU gives exact zeros

MAPS: dict[str, Any] = {
    "elu": features.Each(features.elu_plus_one),
    "relu": features.Each(features.relu),
    "performer": features.Favor(256),
    "taylor": features.TruncatedExp(2),
    "exp": features.Each(features.Exp(1.0)),
    "exp_2": features.Each(features.Exp(2.0)),
    "hedgehog": features.Hedgehog(),
}


def shares(name: str, q: Any, k: Any) -> Any:
    """Weights `[B, T, U]` of every query over all keys, each row summing to 1, for `q, k [B, T, K]`."""
    if name == "softmax":
        return jax.nn.softmax(q @ k.mT * WIDTH**-0.5, axis=-1)
    if name == "square":
        raw = jnp.square(q @ k.mT)
    else:
        feature = MAPS[name]
        params = feature.init(jax.random.key(1), Dims(1, WIDTH, WIDTH))
        left, right = feature(params, q[:, None], k[:, None], jnp.arange(KEYS))
        raw = (left @ right.mT)[:, 0]
    return raw / jnp.sum(raw, axis=-1, keepdims=True)


def kernel_metrics(lab: Any = None) -> dict[str, np.ndarray]:
    """`{map}.evenness`, `{map}.order`, `{map}.kl`, each `[DRAWS]`: means over the 128 queries of a draw.

    Queries and keys are N(0, I) of width 16 and every query sees all 128 keys. `order` is the rank correlation of the
    weights with `q . k`, `kl` the divergence of softmax from the map.
    """
    q, k = jax.random.normal(jax.random.key(0), (2, DRAWS, KEYS, WIDTH))
    scores = q @ k.mT
    teacher = shares("softmax", q, k)
    found = {}
    for name in ("softmax", "square", *MAPS):
        weights = shares(name, q, k)
        rows = {
            "evenness": analysis.evenness(weights),
            "order": analysis.monotonicity(weights, scores),
            "kl": analysis.kl_to_teacher(weights, teacher, floor=FLOOR),
        }
        found |= {f"{name}.{what}": np.asarray(jnp.mean(row, axis=-1)) for what, row in rows.items()}
    return found
