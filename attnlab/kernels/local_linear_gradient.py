"""Local linear attention of one block of queries: the sweeps back, and where their formulas come from.

Write `a_u = c_u . x`, `s_u = p_u (1 + a_u)`, `out = sum_u s_u v_u` for one row, `g` for the gradient of `out`, and
`gamma_u = g . v_u`. From `C x = q - mean` (implicit differentiation), with `h = sum_u p_u gamma_u c_u` the gradient
of `x`, the second solve `y = C^-1 h` gives that of `q - mean` as `y` and that of `C` as `- y x^T`. The mean inside `C`
moves nothing, `sum_u p_u c_u = 0`. With `e_u = c_u . y`, `gamma` the mean of `gamma_u` under `p`, and collecting:

    w_u   = p_u (gamma_u - gamma - e_u)
    d l_u = (1 + a_u) w_u - p_u rho x.y              through p; `sum_u (1 + a_u) w_u = rho x.y`
    d rho = - x.y
    d v_u = s_u g
    d k_u = scale (d l_u) q + w_u x - s_u y
    d q   = scale sum_u (d l_u) k_u + y

An absolute ridge, `rho = ridge / sum_u exp(l_u)`, adds `p_u rho x.y` to `d l_u`: the last term there vanishes. The
published backward pass (2510.01450, its released kernel) is of that form although its forward pass has the relative
ridge, so its gradients are wrong there by some per cent. Where `rho` is the floor, `floor sum_u p_u |k_u - q|^2`, its
gradient goes on to `p`, `k` and `q`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.kernels.blocks import Block, Keys, Queries, sweep
from attnlab.kernels.local_linear_rows import Plan, Saved, solve, weights
from attnlab.kernels.solver import Control


class Pulled(NamedTuple):
    """Gradients of one block of queries: `q[t, K]`, `ridge[t]`."""

    q: Float[Array, "t K"]
    ridge: Float[Array, " t"]


class PulledKeys(NamedTuple):
    """Gradients of the keys and values of a head, in its blocks: `k[n, u, K]`, `v[n, u, E]`."""

    k: Float[Array, "n u K"]
    v: Float[Array, "n u E"]


def pull(
    plan: Plan, control: Control, queries: Queries, keys: Keys, saved: Saved, g: Array, into: PulledKeys
) -> tuple[Pulled, PulledKeys]:
    """Gradients of the block, and `into` with those of keys and values added; `g[t, E]` is that of the output."""
    q, scale, origin = queries.q, plan.scale, keys.origin
    log_total, mean, x, rho, spread, floored, clipped = saved

    def first(carry, block: Block):
        total, h = carry
        along = weights(plan, queries, block, log_total) * (g @ block.v.T)
        return total + jnp.sum(along, axis=-1), h + along @ block.k

    gamma, h = sweep(queries, keys, first, (jnp.zeros_like(rho), jnp.zeros_like(q)))
    y = solve(plan, control, queries, keys, saved, h - gamma[:, None] * mean).x
    xy = jnp.sum(x * y, axis=-1)
    z = q - origin
    shift, y_shift = (jnp.sum(side * mean, axis=-1, keepdims=True) for side in (x, y))
    falls = floored | clipped if plan.penalty == "absolute" else jnp.ones_like(floored)
    fall = jnp.where(falls, rho * xy, 0)[:, None]
    to_spread = jnp.where(floored, -plan.floor * xy, 0)[:, None]

    def second(carry, block: Block):
        dq, into = carry
        k = block.k
        p = weights(plan, queries, block, log_total)
        one = 1 + x @ k.T - shift
        w = p * (g @ block.v.T - gamma[:, None] - (y @ k.T - y_shift))
        s = p * one
        dl = one * w - p * fall
        dk = w.T @ x - s.T @ y
        if plan.floor:
            t = p * to_spread
            distance = jnp.sum(jnp.square(k), axis=-1) - 2 * (z @ k.T) + jnp.sum(jnp.square(z), axis=-1, keepdims=True)
            dl = dl + t * (distance - spread[:, None])
            dk = dk + 2 * (jnp.sum(t, axis=0)[:, None] * k - t.T @ z)
        dk = dk + scale * (dl.T @ q)
        into = PulledKeys(into.k.at[block.number].add(dk), into.v.at[block.number].add(s.T @ g))
        return dq + scale * (dl @ k), into

    # Logits hold `scale q . origin` besides, which matters where they do not sum to 0: under an absolute ridge.
    start = y + 2 * to_spread * (z - mean) + scale * (rho * xy - fall[:, 0])[:, None] * origin
    dq, into = sweep(queries, keys, second, (start, into))
    ratio = rho / queries.ridge if plan.penalty == "absolute" else 1
    return Pulled(dq, jnp.where(floored | clipped, 0, -xy * ratio)), into
