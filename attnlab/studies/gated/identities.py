"""A null column without a value is a gate per head (derived): measured on trained models, inside their forward pass.

With `l` the logits of a row, `b` the logit of its null column and `lse = log sum exp l`,

    A = sigmoid(lse - b) softmax(l),    out = sigmoid(lse - b) softmax(l) v.

A sink logit has a learned `b` per head; a key bias has `b = q . k* / sqrt(K)`, a gate that depends on the query.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab import keys
from attnlab.analysis import evaluation_batch, gate_split
from attnlab.attention import causal_mask
from attnlab.attention.catalogue import key_bias, sink_logit, softmax_off_by_one
from attnlab.attention.weighted import Weighted
from attnlab.studies.sinks_by_mechanism.measures import MAPS

_ATTN = "blocks.0.attn"


def implied_gate(
    mechanism: Weighted, own: Any, q: Float[Array, "*B H T K"], logits: Float[Array, "*B H T T"]
) -> Float[Array, "*B H T"]:
    """`sigmoid(lse - b)` of a mechanism with one null column; `own` are its parameters."""
    assert mechanism.columns is not None
    column = mechanism.columns.logits(own, q, q.shape[-1] ** -0.5)[..., 0]
    seen = jnp.where(causal_mask(logits.shape[-1]), logits, -jnp.inf)
    return jax.nn.sigmoid(jax.nn.logsumexp(seen, axis=-1) - column)


def as_gate(model: Any, params: Any, task: Any, batch_size: int) -> dict[str, Array]:
    """How far the layer is from softmax times its implied gate, and what that gate does.

    Returns:
      weights, out: largest absolute difference of weights and of head outputs. rise: gate of active queries less that
      of dormant ones. active, dormant: the two means. `[]` each.
    """
    batch = evaluation_batch(task, batch_size)
    names = ("q", "v", "logits", "weights", "head_out")
    _, tape = model.apply(params, batch.inputs, tape=tuple(f"{_ATTN}.{name}" for name in names))
    q, v, logits, weights, out = (tape[f"{_ATTN}.{name}"] for name in names)
    own = params["blocks"]["0"]["attn"]["mechanism"]
    gate = implied_gate(model.mechanism_of(0), own, q, logits)
    plain = jax.nn.softmax(jnp.where(causal_mask(logits.shape[-1]), logits, -jnp.inf), axis=-1)
    late = jnp.arange(logits.shape[-1]) >= MAPS["start"]
    active, bos = batch.positions["trigger"], batch.positions["bos"]
    split = gate_split(jnp.mean(gate, axis=1), active & late, ~active & ~bos & late)
    return {
        "weights": jnp.max(jnp.abs(gate[..., None] * plain - weights)),
        "out": jnp.max(jnp.abs(gate[..., None] * (plain @ v) - out)),
        "rise": split.difference,
        "active": split.active,
        "dormant": split.dormant,
    }


def measured(lab: Any, name: str) -> dict[str, np.ndarray]:
    """`as_gate` of every seed of a trained run, `[S]` each."""
    task = lab.experiments[name].task
    return lab.probe(name, lambda model, params: as_gate(model, params, task, 64), label="as_gate")


def identities(lab: Any) -> dict[str, float]:
    """Off-by-one, a sink logit of 0 and a key bias of 0 are one mechanism: largest difference of their weights."""
    heads, width, length = 2, 16, 32
    root = keys.root(0)
    q, k, v = (jax.random.normal(keys.stream(root, n), (heads, length, width)) for n in ("q", "k", "v"))
    mask = causal_mask(length)
    own = {"sink_logit": {"sink": jnp.zeros(heads)}, "key_bias": {"key": jnp.zeros((heads, width))}}

    def weights(mechanism: Weighted, params: Any) -> np.ndarray:
        return np.asarray(mechanism.apply(params, q, k, v, mask=mask, view="map").weights)

    first = weights(softmax_off_by_one, {})
    return {m.name: float(np.max(np.abs(first - weights(m, own[m.name])))) for m in (sink_logit, key_bias)}


def start(lab: Any) -> dict[str, np.ndarray]:
    """Mean gate before training, by run."""
    return {
        name: lab.run(name).trajectory["mixing"]["gate"].isel(step=0).to_numpy().reshape(lab.seeds, -1).mean(axis=1)
        for name in lab.experiments
        if "gate" in lab.run(name).trajectory["mixing"]
    }
