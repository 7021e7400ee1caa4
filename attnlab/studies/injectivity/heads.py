"""How well trained heads tell queries apart: every query is put at the last place of its sequence, before all keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab import analysis
from attnlab.analysis.base import evaluation_batch
from attnlab.attention import causal_mask


def last_rows(mechanism: Any, params: Any, k: Array, q: Array) -> Array:
    """The rows `[*B, N, U]` of the map for queries `[*B, N, K]`, each asked behind all keys `[*B, U, K]`.

    One head: `*B` holds batch and heads, and the mechanism is given one head of its own.
    """
    num = k.shape[-2]
    mask = causal_mask(num)

    def one(query: Array) -> Array:
        everywhere = jnp.broadcast_to(query[..., None, :], k.shape)
        found = mechanism.apply(params, everywhere, k, k, mask=mask, view="map")
        return found.weights[..., -1, :]

    return jnp.moveaxis(jax.vmap(one)(jnp.moveaxis(q, -2, 0)), 0, -2)


@dataclass(frozen=True)
class HeadInjectivity:
    """`probe(model, params) -> {name: [H]}` of layer 0, means over the sequences of one evaluation batch.

    doubled: `|A(2q) - A(q)| / |A(q)|`, the mean over queries; 0 where a query and its double cannot be told apart.
    closest: `min |A(q) - A(q')| / |q - q'|` over pairs of queries.

    Attributes:
      task: what to evaluate on; its last `queries` positions ask.
      batch_size: sequences.
    """

    task: Any
    batch_size: int = 8

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        batch = evaluation_batch(self.task, self.batch_size, 0)
        _, tape = model.apply(params, batch.inputs, tape=("blocks.0.attn.q", "blocks.0.attn.k"))
        q, k = tape["blocks.0.attn.q"][..., -self.task.queries :, :], tape["blocks.0.attn.k"]
        own = params["blocks"]["0"]["attn"].get("mechanism", {})

        def attend(queries: Array) -> Array:
            return last_rows(model.mechanism_of(0), own, k, queries)

        return {
            "doubled": jnp.mean(analysis.collinear_change(attend, q), axis=(0, -1)),
            "closest": jnp.mean(analysis.injectivity(attend, q), axis=0),
        }


def head_injectivity(task: Any, batch_size: int = 8) -> HeadInjectivity:
    """The probe of injectivity on `task`."""
    return HeadInjectivity(task, batch_size)
