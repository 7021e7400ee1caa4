"""Local linear attention of one block of queries of one head: the sweeps forward.

With `p_tu` the softmax weights of row `t`, `mean_t = sum_u p_tu k_u`, `c_tu = k_u - mean_t`:

1. `log_total_t = log sum_u exp(l_tu)`, `mean_t`, by a running maximum;
2. `x_t = C_t^-1 (q_t - mean_t)`, `C_t = sum_u p_tu c_tu c_tu^T + rho_t I`;
3. `out_t = sum_u p_tu (1 + c_tu . x_t) v_u`.

`C_t` is positive definite and nothing small is divided by. Weights are made anew in every sweep. Keys and queries are
read as differences from the mean key of the head, which changes logits by a constant of the row and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.kernels.blocks import Block, Keys, Queries, sweep
from attnlab.kernels.conjugate_gradient import Solved, conjugate_gradient
from attnlab.kernels.solver import Control

Penalty = Literal["relative", "absolute"]


@dataclass(frozen=True)
class Plan:
    """What is fixed when a program is compiled; see `local_linear.local_linear_attention` and `Solver`."""

    scale: float
    penalty: Penalty
    floor: float
    exact: bool
    block_q: int
    block_k: int
    heads_at_once: int | None


class Saved(NamedTuple):
    """What the way back needs of each row: `O(K)` numbers.

    Attributes:
      log_total: `log sum_u exp(l_tu)`, `[t]`, of logits of keys less their mean; 0 in a row that sees nothing.
      mean: `[t, K]`, `mean_t` (less the mean key of the head).
      x: `[t, K]`, `C_t^-1 (q_t - mean_t)`.
      rho: `[t]`, the ridge as it counts.
      spread: `[t]`, `sum_u p_tu |k_u - q_t|^2`, or zeros if no floor asks for it.
      floored, clipped: `[t]`, whether `rho` is the floor; whether it is absolute and as large as it may get.
    """

    log_total: Array
    mean: Array
    x: Array
    rho: Array
    spread: Array
    floored: Array
    clipped: Array


def logits(plan: Plan, queries: Queries, block: Block) -> Float[Array, "t u"]:
    """`l_tu` but for the constant `scale q_t . origin`; of what is not seen as well."""
    return plan.scale * (queries.q @ block.k.T)


def weights(plan: Plan, queries: Queries, block: Block, log_total: Array) -> Float[Array, "t u"]:
    """`p_tu`, of known `log_total`."""
    return jnp.where(block.seen, jnp.exp(logits(plan, queries, block) - log_total[:, None]), 0)


def moments(plan: Plan, queries: Queries, keys: Keys) -> tuple[Array, Array, Array, Array]:
    """`log_total[t]`, `mean[t, K]`, mean of `|k|^2` `[t]` (zeros without a floor), which rows see a key; one sweep."""
    q = queries.q
    least = jnp.finfo(q.dtype).min

    def add(carry, block: Block):
        top, total, mean, square = carry
        now = jnp.where(block.seen, logits(plan, queries, block), least)
        new = jnp.maximum(top, jnp.max(now, axis=-1))
        w = jnp.where(block.seen, jnp.exp(now - new[:, None]), 0)
        kept = jnp.exp(top - new)
        total = kept * total + jnp.sum(w, axis=-1)
        mean = kept[:, None] * mean + w @ block.k
        if plan.floor:
            square = kept * square + jnp.sum(w * jnp.sum(jnp.square(block.k), axis=-1), axis=-1)
        return new, total, mean, square

    zero = jnp.zeros(q.shape[0], q.dtype)
    top, total, mean, square = sweep(queries, keys, add, (zero + least, zero, jnp.zeros_like(q), zero))
    sees = total > 0
    safe = jnp.where(sees, total, 1)
    return jnp.where(sees, top + jnp.log(safe), 0), mean / safe[:, None], square / safe, sees


def effective_ridge(plan: Plan, queries: Queries, log_total: Array, spread: Array) -> tuple[Array, Array, Array]:
    """`rho[t]` as it counts, whether it is the floor, whether it was clipped.

    `relative`: the ridge itself; `absolute`: over `exp(log_total)`, at most the root of the largest number. At least
    `floor` times the spread, and the root of the smallest.
    """
    kind = jnp.finfo(queries.q.dtype)
    rho, clipped = queries.ridge, jnp.zeros(spread.shape, bool)
    if plan.penalty == "absolute":
        exponent = jnp.log(rho) - log_total
        limit = 0.5 * log(float(kind.max))
        rho, clipped = jnp.exp(jnp.minimum(exponent, limit)), exponent > limit
    least = plan.floor * spread + float(kind.tiny) ** 0.5
    return jnp.maximum(rho, least), rho < least, clipped


def solve(plan: Plan, control: Control, queries: Queries, keys: Keys, saved: Saved, b: Array) -> Solved:
    """`C_t^-1 b_t`. `exact` holds the matrices of this block, `[t, K, K]`, and a block of centred keys `[t, u, K]`."""
    log_total, mean, rho = saved.log_total, saved.mean, saved.rho

    def times(y: Array) -> Array:
        shift = jnp.sum(y * mean, axis=-1, keepdims=True)

        def add(carry, block: Block):
            image, total = carry
            along = weights(plan, queries, block, log_total) * (y @ block.k.T - shift)
            return image + along @ block.k, total + jnp.sum(along, axis=-1)

        image, total = sweep(queries, keys, add, (rho[:, None] * y, jnp.zeros_like(rho)))
        return image - total[:, None] * mean

    if not plan.exact:
        return conjugate_gradient(times, b, control.tol, control.max_iters)

    def add(carry, block: Block):
        centred = block.k - mean[:, None, :]
        p = weights(plan, queries, block, log_total)
        return carry + jnp.einsum("tui,tuj->tij", p[..., None] * centred, centred)

    eye = jnp.eye(b.shape[-1], dtype=b.dtype)
    matrices = sweep(queries, keys, add, rho[:, None, None] * eye)
    x = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(matrices), True), b[..., None])[..., 0]
    return Solved(x, jnp.zeros(b.shape[0], jnp.int32), jnp.zeros_like(rho))


def attend(plan: Plan, control: Control, queries: Queries, keys: Keys) -> tuple[Array, Saved, Solved]:
    """`out[t, E]`, what the way back needs, and how the solution went."""
    z = queries.q - keys.origin
    log_total, mean, square, sees = moments(plan, queries, keys)
    spread = square
    if plan.floor:
        spread = jnp.maximum(square - jnp.sum(z * (2 * mean - z), axis=-1), 0)
    rho, floored, clipped = effective_ridge(
        plan, queries, log_total + plan.scale * jnp.sum(queries.q * keys.origin, axis=-1), spread
    )
    saved = Saved(log_total, mean, mean, rho, spread, floored, clipped)
    solved = solve(plan, control, queries, keys, saved, jnp.where(sees[:, None], z - mean, 0))
    x = solved.x
    shift = 1 - jnp.sum(x * mean, axis=-1, keepdims=True)

    def add(out, block: Block):
        p = weights(plan, queries, block, log_total)
        return out + (p * (x @ block.k.T + shift)) @ block.v

    out = sweep(queries, keys, add, jnp.zeros((z.shape[0], keys.v.shape[-1]), z.dtype))
    return out, saved._replace(x=x), solved
