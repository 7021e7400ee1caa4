"""TTT-linear as a loop over its definition, in float64: the inner loss is written down and differentiated by jax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def inner_model(model: Any, k: Any, norm: Any, residual: bool) -> Any:
    """`f(k; W, c)`, with `norm = (gain, shift)` or None."""
    said = k @ model[0] + model[1]
    if norm is not None:
        said = (said - jnp.mean(said)) / jnp.sqrt(jnp.var(said) + 1e-6) * norm[0] + norm[1]
    return k + said if residual else said


def inner_loss(model: Any, k: Any, v: Any, norm: Any, residual: bool) -> Any:
    return jnp.sum((inner_model(model, k, norm, residual) - v) ** 2) / 2


gradient_of = jax.jit(jax.grad(inner_loss), static_argnames="residual")


def loop(q, k, v, betas, rates, start, *, norm=None, residual=True, bias=True) -> np.ndarray:
    """One head, `q, k, v [T, K]`, `betas [T]`; `rates` of the places in a mini-batch; `start = (W, c)`."""
    with jax.enable_x64(True):
        model, out = start, []
        for t in range(len(q)):
            place = t % len(rates)
            if place == 0:
                first, total = model, (np.zeros_like(start[0]), np.zeros_like(start[1]))
            gradient = gradient_of(first, k[t], v[t], norm, residual)
            total = tuple(np.asarray(s + betas[t] * g) for s, g in zip(total, gradient, strict=True))
            model = (first[0] - rates[place] * total[0], first[1] - rates[place] * total[1] * bias)
            out.append(np.asarray(inner_model(model, q[t], norm, residual)))
        return np.array(out)


def ttt_linear(head: Any) -> np.ndarray:
    """A head of `recurrent_reference`, with all parameters."""
    betas = [1 / (1 + np.exp(-(head.gate("strength_gate", t) + head.own("strength_bias")))) for t in head.tokens]
    place = head.params["place"]
    rates = [max(1 / (n + 1) + p, 0) / head.q.shape[1] for n, p in enumerate(place)]
    norm = (head.own("inner_scale"), head.own("inner_shift"))
    return loop(head.q, head.k, head.v, betas, rates, (head.own("start"), head.own("start_bias")), norm=norm)
