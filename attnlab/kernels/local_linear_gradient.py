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


class Turned(NamedTuple):
    """What the second solve gives of each row: `y[t, K]`; the mean `gamma[t]` of `gamma_u`; `xy[t]`, `x . y`."""

    y: Array
    gamma: Array
    xy: Array


class Pair(NamedTuple):
    """Of each row and key, `[t, u]`: `w_u`, `s_u`, `d l_u`, and `d spread . p_u` (None without a floor)."""

    w: Array
    s: Array
    dl: Array
    to_spread: Array | None


def turn(plan: Plan, control: Control, queries: Queries, keys: Keys, saved: Saved, g: Array) -> Turned:
    """The second solve; `g[t, E]` is the gradient of the output."""

    def add(carry, block: Block):
        total, h = carry
        along = weights(plan, queries, block, saved.log_total) * (g @ block.v.T)
        return total + jnp.sum(along, axis=-1), h + along @ block.k

    gamma, h = sweep(queries, keys, add, (jnp.zeros_like(saved.rho), jnp.zeros_like(queries.q)))
    y = solve(plan, control, queries, keys, saved, h - gamma[:, None] * saved.mean).x
    return Turned(y, gamma, jnp.sum(saved.x * y, axis=-1))


def _fall(plan: Plan, saved: Saved, turned: Turned) -> Array:
    """`rho x.y` of the rows whose weights it goes to: all but those of an absolute ridge that counts."""
    if plan.penalty == "relative":
        return saved.rho * turned.xy
    return jnp.where(saved.floored | saved.clipped, saved.rho * turned.xy, 0)


def _to_spread(plan: Plan, saved: Saved, turned: Turned) -> Array:
    """The gradient of `sum_u p_u |k_u - q|^2`."""
    return jnp.where(saved.floored, -plan.floor * turned.xy, 0)


def pair(plan: Plan, queries: Queries, origin: Array, saved: Saved, turned: Turned, g: Array, block: Block) -> Pair:
    """The formulas above, of all pairs of a block of queries and one of keys."""
    k = block.k
    p = weights(plan, queries, block, saved.log_total)
    shift, y_shift = (jnp.sum(side * saved.mean, axis=-1, keepdims=True) for side in (saved.x, turned.y))
    one = 1 + saved.x @ k.T - shift
    w = p * (g @ block.v.T - turned.gamma[:, None] - (turned.y @ k.T - y_shift))
    dl = one * w - p * _fall(plan, saved, turned)[:, None]
    if not plan.floor:
        return Pair(w, p * one, dl, None)
    z = queries.q - origin
    distance = jnp.sum(jnp.square(k), axis=-1) - 2 * (z @ k.T) + jnp.sum(jnp.square(z), axis=-1, keepdims=True)
    to_spread = p * _to_spread(plan, saved, turned)[:, None]
    return Pair(w, p * one, dl + to_spread * (distance - saved.spread[:, None]), to_spread)


def onto_keys(
    plan: Plan, queries: Queries, origin: Array, saved: Saved, turned: Turned, g: Array, block: Block, of: Pair
) -> tuple[Float[Array, "u K"], Float[Array, "u E"]]:
    """What the block of queries adds to the gradients of the block of keys and of its values."""
    dk = of.w.T @ saved.x - of.s.T @ turned.y + plan.scale * (of.dl.T @ queries.q)
    if of.to_spread is not None:
        dk = dk + 2 * (jnp.sum(of.to_spread, axis=0)[:, None] * block.k - of.to_spread.T @ (queries.q - origin))
    return dk, of.s.T @ g


def besides_pairs(plan: Plan, queries: Queries, origin: Array, saved: Saved, turned: Turned) -> Pulled:
    """Gradients of the rows without `scale sum_u (d l_u) k_u`, which the pairs add to that of `q`."""
    rho, floored, clipped = saved.rho, saved.floored, saved.clipped
    # Logits hold `scale q . origin` besides, which matters where they do not sum to 0: under an absolute ridge.
    left = plan.scale * (rho * turned.xy - _fall(plan, saved, turned))[:, None] * origin
    dq = turned.y + 2 * _to_spread(plan, saved, turned)[:, None] * (queries.q - origin - saved.mean) + left
    ratio = rho / queries.ridge if plan.penalty == "absolute" else 1
    return Pulled(dq, jnp.where(floored | clipped, 0, -turned.xy * ratio))


def pull(
    plan: Plan, control: Control, queries: Queries, keys: Keys, saved: Saved, g: Array, into: PulledKeys
) -> tuple[Pulled, PulledKeys]:
    """Gradients of the block, and `into` with those of keys and values added; `g[t, E]` is that of the output."""
    turned = turn(plan, control, queries, keys, saved, g)
    rows = (queries, keys.origin, saved, turned)

    def add(carry, block: Block):
        dq, into = carry
        of = pair(plan, *rows, g, block)
        dk, dv = onto_keys(plan, *rows, g, block, of)
        into = PulledKeys(into.k.at[block.number].add(dk), into.v.at[block.number].add(dv))
        return dq + plan.scale * (of.dl @ block.k), into

    pulled = besides_pairs(plan, *rows)
    dq, into = sweep(queries, keys, add, (pulled.q, into))
    return pulled._replace(q=dq), into
