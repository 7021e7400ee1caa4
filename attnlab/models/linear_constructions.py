"""Circuits of linear self-attention written by hand: see the methods of `LinearAttention` that use them.

Rows of KQ and OV are coordinates of the key token, columns those of the query token and of the token that is written.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.models.prompts import Circuits


def zhang(dim: int, num_outputs: int, scale: Any, theta: Any, read: int) -> Circuits:
    """`KQ = scale Theta Theta^T / |Theta Theta^T|_F` on inputs, `OV = read * scale` on labels, `[D, D]`."""
    theta = jnp.eye(dim) if theta is None else jnp.asarray(theta, float)
    square = theta @ theta.T
    kq = _on_inputs(scale * square / jnp.linalg.norm(square), num_outputs)
    return Circuits(kq, _on_labels(read * jnp.asarray(scale, float), dim, num_outputs))


def gradient_descent(
    dim: int, num_outputs: int, layers: int, eta: Any, gamma: Any, preconditioner: Any, read: int
) -> Circuits:
    """`KQ = A` on inputs, `OV = -gamma` on inputs and `read * eta` on labels, `[L, D, D]`."""
    eta, gamma = (jnp.broadcast_to(jnp.asarray(value, float), (layers,))[:, None, None] for value in (eta, gamma))
    metric = jnp.eye(dim) if preconditioner is None else jnp.asarray(preconditioner, float)
    kq = _on_inputs(jnp.broadcast_to(metric, (layers, dim, dim)), num_outputs)
    return Circuits(kq, _on_inputs(-gamma * jnp.eye(dim), num_outputs) + _on_labels(read * eta, dim, num_outputs))


def _on_inputs(block: Float[Array, "*S d d"], num_outputs: int) -> Float[Array, "*S D D"]:
    return jnp.pad(block, [(0, 0)] * (block.ndim - 2) + [(0, num_outputs)] * 2)


def _on_labels(size: Array, dim: int, num_outputs: int) -> Float[Array, "*S D D"]:
    return size * jnp.diag((jnp.arange(dim + num_outputs) >= dim).astype(float))
