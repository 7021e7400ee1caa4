"""What holds of the variants before any training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import attention
from attnlab.models import RandomStream, StaticEmbedding, Transformer
from attnlab.studies.deconstructing.orders import approximate_apart

SIZE: dict[str, Any] = {"length": 6, "width": 8, "num_heads": 2, "num_layers": 2}
VECTORS: dict[str, Any] = {"input_dim": 3, "output_dim": 2}


def mlp_jacobian(lab: Any) -> dict[str, float]:
    """Largest `|d output_t / d input_u|` at `t = u` (`own`) and elsewhere (`other`), with gated MLPs for attention."""
    model = Transformer(**SIZE, **VECTORS, mlp_mixer=(0, 1))
    params, inputs = model.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (6, 3))
    jacobian = np.abs(jax.jacrev(lambda x: model.apply(params, x)[0])(inputs)).max(axis=(1, 3))
    same = np.eye(len(jacobian), dtype=bool)
    return {"own": jacobian[same].max(), "other": jacobian[~same].max()}


def map_gradient(lab: Any) -> dict[str, float]:
    """Largest `|d A / d input|` of the second layer: queries and keys from fixed noise (`random_qk`), or `standard`."""
    found = {}
    for name, source in (("random_qk", RandomStream()), ("standard", None)):
        model = Transformer(**SIZE, **VECTORS, qk_source=source)
        params, inputs = model.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (6, 3))
        site = "blocks.1.attn.weights"

        def weights(x: Any, model: Any = model, params: Any = params, site: str = site) -> Any:
            return model.apply(params, x, tape=(site,))[1][site]

        found[name] = float(np.abs(jax.jacrev(weights)(inputs)).max())
    return found


def static_embedding(lab: Any) -> dict[str, float]:
    """Largest difference of logits from standard attention with the same weights: StaticEmbQK in layer 0, in 1."""
    tokens = jax.random.randint(jax.random.key(1), (4, 6), 0, 7)
    plain = Transformer(7, **SIZE)
    params = plain.init(jax.random.key(0))
    wanted = plain.apply(params, tokens)[0]
    found = {}
    for name, sources in (("first", (StaticEmbedding(), None)), ("second", (None, StaticEmbedding()))):
        other = Transformer(7, **SIZE, qk_source=sources).apply(params, tokens)[0]
        found[name] = float(jnp.max(jnp.abs(other - wanted)))
    return found


def pooling(lab: Any) -> float:
    """Largest relative gap between Non-approximate attention and its two running sums, in float64 loops."""
    q, k, v = np.random.default_rng(0).normal(size=(3, 24, 16)).astype(np.float32)
    given = (jnp.asarray(x)[None] for x in (q, k, v))
    found = np.asarray(attention.non_approximate.apply({}, *given, mask=attention.causal_mask(24)).out)[0]
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    total, number, gap = np.zeros(16), 0.0, 0.0
    for t in range(24):
        score = np.exp((q[t] / (1 + np.exp(-q[t]))) @ k[t] / 4.0)
        total, number = total + score * v[t], number + score
        gap = max(gap, float(np.max(np.abs(total / number - found[t])) / np.max(np.abs(total / number))))
    return gap


def orders(lab: Any) -> dict[str, float]:
    """Taylor attention of order 2 with one normaliser (`together`, Based) and with one per order (`apart`, appendix).

    Means of row sums, and the largest `|A|`, over 64 heads of 64 tokens with Gaussian queries and keys.
    """
    q, k = np.random.default_rng(1).normal(size=(2, 64, 64, 16)).astype(np.float32)
    found = {}
    for name, mechanism in (("together", attention.approximate), ("apart", approximate_apart)):
        out = mechanism.apply({}, jnp.asarray(q), jnp.asarray(k), jnp.asarray(k), mask=None, view="map")
        rows = np.asarray(out.weights, np.float64)
        # The sum of a row whose entries are thousands is a difference of large numbers: the median row speaks.
        found |= {f"{name}_sum": np.median(rows.sum(axis=-1)), f"{name}_largest": np.abs(rows).max()}
    return found | {"blow_up": found["apart_largest"] / found["together_largest"]}


THEORY = {
    "mlp_jacobian": mlp_jacobian,
    "map_gradient": map_gradient,
    "static_embedding": static_embedding,
    "pooling": pooling,
    "orders": orders,
}
