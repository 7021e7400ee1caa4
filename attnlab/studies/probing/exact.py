"""What holds whatever the parameters: no order, one query is one head, full attention is efficient probing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab.models import AttentionProbe, EfficientProbe, MeanProbe

D, C, BAGS, TOKENS = 32, 8, 64, 49


def exact(lab: Any) -> dict[str, float]:
    """Largest errors in float64, of parameters drawn N(0, 1) over the square root of the fan-in; sizes."""
    with jax.enable_x64(True):
        bags = jnp.asarray(np.random.default_rng(0).normal(size=(BAGS, TOKENS, D)))
        turned = bags[:, np.random.default_rng(1).permutation(TOKENS)]
        probes = MeanProbe(D, C), EfficientProbe(D, C, queries=4), AttentionProbe(D, C)
        given = [_params(probe) for probe in probes]
        order = [_gap(p.apply(x, bags)[0], p.apply(x, turned)[0]) for p, x in zip(probes, given, strict=True)]
        folded, fixed = probes[2].folded(given[2], bags)
        other, same = folded.as_efficient(fixed)
        return {
            "order": max(order),
            "one": _one_head(bags),
            "class": _gap(probes[2].apply(given[2], bags)[0], other.apply(same, bags)[0]),
            "share": EfficientProbe(D, C, queries=8).size / probes[2].size,
        }


def _params(probe: Any) -> Any:
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(probe.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / leaf.shape[0] ** 0.5), shapes)


def _one_head(bags: Any) -> float:
    """`Q = 1` against one head whose key, query and output matrices are the identity."""
    one, full = EfficientProbe(D, C), replace(AttentionProbe(D, C), num_heads=1)
    params, eye = _params(one), jnp.eye(D)
    same = {name: eye for name in ("query", "key", "output")} | {"seed": params["query"][0]}
    same |= {name: params[name] for name in ("value", "classifier", "bias")}
    return _gap(one.apply(params, bags)[0], full.apply(same, bags)[0])


def _gap(a: Any, b: Any) -> float:
    return float(jnp.max(jnp.abs(a - b)))
