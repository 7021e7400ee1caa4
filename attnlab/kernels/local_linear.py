"""Local linear attention (LLA, 2510.01450) in memory linear in the length, with its whole gradient.

What is computed row by row stands in `local_linear_rows`, the way back in `local_linear_gradient`, the loops in
`local_linear_heads`. The definition that all is held to is `attention.posts.LocalLinear`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from attnlab.attention.base import HostOrDevice
from attnlab.config import require
from attnlab.kernels.blocks import rounded_up
from attnlab.kernels.head_rows import apart, masks_of, span_of, together
from attnlab.kernels.local_linear_calls import Calls
from attnlab.kernels.local_linear_calls import attention as kernel_attention
from attnlab.kernels.local_linear_heads import Fixed, Heads, attention, forward
from attnlab.kernels.local_linear_rows import Penalty, Plan
from attnlab.kernels.solver import CG, Solver
from attnlab.kernels.targets import Pallas, power_of_two


def local_linear_attention(
    q: Float[Array, "*B H T K"],
    k: Float[Array, "*B G U K"],
    v: Float[Array, "*B G U E"],
    ridge: Float[HostOrDevice, "*R"] | float,
    *,
    scale: float | None = None,
    causal: bool = True,
    window: int | None = None,
    mask: Bool[HostOrDevice, "*M R W"] | None = None,
    at: Int[HostOrDevice, " T"] | None = None,
    penalty: Penalty = "relative",
    floor: float | None = None,
    solver: Solver = CG,
    pallas: Pallas | None = None,
) -> Float[Array, "*B H T E"]:
    """The local linear regression of values on keys, read at the query; see `attention.posts.LocalLinear`.

    `out_t = b` of `min_{b, W} sum_u p_tu |v_u - b - W (k_u - q_t)|^2 + rho_t |W|^2`, `p_t = softmax(scale q_t . k_u)`.
    Solved in its centred form, with a positive definite matrix and nothing small to divide by:

        out_t = sum_u p_tu (1 + (k_u - mean_t) . x_t) v_u,    mean_t = sum_u p_tu k_u,
        x_t = C_t^-1 (q_t - mean_t),    C_t = sum_u p_tu (k_u - mean_t) (k_u - mean_t)^T + rho_t I

    Queries and keys are taken in blocks, and weights are made anew in every sweep over the keys: forward and backward
    keep `O(T + U)` numbers per head and channel, and no `[T, U]` or `[T, K, K]`. Time is `O(T U K)` per sweep, of which
    there are two, and one for each step of conjugate gradients (the exact solver: one of `O(T U K^2)`); on the way back
    the same again. Differentiable once, in `q, k, v` and `ridge`, by a second solve with the same solver.

    `rho_t -> inf` is softmax attention, `scale = 0` ridge regression with an intercept. The first token returns its
    value, a row that sees nothing zeros.

    Args:
      q, k, v: every key head serves `H / G` query heads, those next to each other. Queries are the last positions.
      ridge: `[H]`, or whatever broadcasts to `[*B, H]`; at least 0.
      scale: of the logits, `1 / sqrt(K)` if None.
      causal: query `t` sees keys `u <= t`. window: and only those with `u > t - window`.
      mask: True where a query may look besides; `[.., T, U]`, or `[.., 1, U]` (padding), which stays as small as that.
      at: positions of the queries instead of the last ones, `[filled]` for a decode step on a cache of any length.
      penalty: `relative`, `rho = ridge` over normalised weights: what the paper's released kernel does (`lambda
        sum_u exp(l_tu)` over its weights). `absolute`, `rho_t = ridge / sum_u exp(l_tu)`: what its text says and
        `attention.lla` has; then a row's ridge fades as it sees more keys.
      floor: `rho_t` counts as at least `floor sum_u p_tu |k_u - q_t|^2`; None = 16 times the rounding of the dtype,
        below which matrices of fewer keys than channels are no longer positive.
      solver: `CG`, `EXACT`, or a `Solver(...)` with a tolerance and sizes of blocks of your own.

    Returns:
      In the dtype of `v`; computed in float32 at least.

    Raises:
      ConfigError: sizes, solver or penalty are not allowed.
    """
    share = max(q.shape[-3] // k.shape[-3], 1)
    sizes = None if pallas is None else _sizes_for_kernels(solver, q.shape[-2] * share, k.shape[-2])
    plan, heads, fixed = _prepared(q, k, v, ridge, scale, causal, window, mask, at, penalty, floor, solver, sizes)
    if pallas is None:
        return apart(attention(plan, heads, fixed), q.shape).astype(v.dtype)
    calls = Calls(plan, pallas, _visited(plan, heads, causal, window, at, share))
    return apart(kernel_attention(calls, heads, fixed), q.shape).astype(v.dtype)


def _sizes_for_kernels(solver: Solver, num: int, num_keys: int) -> tuple[int, int]:
    require(isinstance(solver, Solver) and solver.kind == "cg", "solver", solver, "CG, or a Solver(...) of that kind")
    sizes = solver.block_q or 128, solver.block_k or 128
    for name, size in zip(("block_q", "block_k"), sizes, strict=True):
        require(size == power_of_two(size), f"solver.{name}", size, "a power of 2 that is at least 16, for kernels")
    return min(sizes[0], power_of_two(num)), min(sizes[1], power_of_two(num_keys))


def _visited(plan: Plan, heads: Heads, causal: bool, window: int | None, at: Any, share: int) -> int:
    """Pairs of blocks that a head has to go through; all if the positions of the queries are not the last ones."""
    num, num_keys = heads.q.shape[1], heads.k.shape[1]
    rows = np.arange(rounded_up(num, plan.block_q)).reshape(-1, plan.block_q)
    t = np.minimum(rows, num - 1) // share + num_keys - num // share
    last = t.max(axis=1) if causal and at is None else np.full(len(t), num_keys - 1)
    first = 0 * last if window is None or at is not None else np.maximum(t.min(axis=1) - window + 1, 0)
    return int(np.sum(last // plan.block_k + 1 - first // plan.block_k))


class Report(NamedTuple):
    """How the solution went, row by row, `[*B, H, T]` each.

    Attributes:
      iterations: products with the matrix until the row rested; 0 if the solver is exact, or the query the mean key.
      residual: `|q - mean - C x| / |q - mean|`, as the recursion of conjugate gradients has it; 0 if exact.
      ridge: `rho`, as it counted.
    """

    iterations: Int[Array, "*B H T"]
    residual: Float[Array, "*B H T"]
    ridge: Float[Array, "*B H T"]


def solve_report(
    q: Float[Array, "*B H T K"],
    k: Float[Array, "*B G U K"],
    ridge: Float[HostOrDevice, "*R"] | float,
    *,
    scale: float | None = None,
    causal: bool = True,
    window: int | None = None,
    mask: Bool[HostOrDevice, "*M R W"] | None = None,
    at: Int[HostOrDevice, " T"] | None = None,
    penalty: Penalty = "relative",
    floor: float | None = None,
    solver: Solver = CG,
) -> Report:
    """What `local_linear_attention` with these arguments does to find `x`: how many steps, how well, which ridge."""
    plan, heads, fixed = _prepared(q, k, k, ridge, scale, causal, window, mask, at, penalty, floor, solver)
    _, saved, solved = forward(plan, heads, fixed)
    rows = Report(solved.iterations, solved.residual, saved.rho)
    return jax.tree.map(lambda x: apart(x[:, : heads.q.shape[1]], q.shape), rows)


def _prepared(
    q,
    k,
    v,
    ridge,
    scale,
    causal,
    window,
    mask,
    at,
    penalty: Penalty,
    floor,
    solver: Solver,
    sizes: tuple[int, int] | None = None,
) -> tuple[Plan, Heads, Fixed]:
    *batch, heads, num, width = q.shape
    groups, num_keys = k.shape[-3:-1]
    require(heads % groups == 0, "k", f"{groups} heads", f"a divisor of the {heads} heads of q")
    require(penalty in ("relative", "absolute"), "penalty", penalty, "relative | absolute")
    require(isinstance(solver, Solver), "solver", solver, "CG, EXACT or a Solver(...) of attnlab.kernels")
    require(window is None or window >= 1, "window", window, "an integer >= 1, or None")
    kind = jnp.promote_types(jnp.result_type(q, k, v), jnp.float32)
    scale = width**-0.5 if scale is None else float(scale)
    floor = 16 * float(jnp.finfo(kind).eps) if floor is None else float(floor)
    sizes = solver.blocks(num * heads // groups, num_keys) if sizes is None else sizes
    plan = Plan(scale, penalty, floor, solver.kind == "exact", *sizes, solver.heads_at_once)
    ridge = jnp.broadcast_to(jnp.asarray(ridge, kind)[..., None, None], (*batch, heads, num, 1))
    mask, seen = (None, None) if mask is None else masks_of(jnp.asarray(mask), (*batch, heads, num, num_keys), groups)
    queries = together(q.astype(kind), groups), together(ridge, groups)[..., 0]
    keys = (x.astype(kind).reshape(-1, num_keys, x.shape[-1]) for x in (k, v))
    span = span_of(num, num_keys, causal, window, at, heads // groups)
    return plan, Heads(*queries, *keys), Fixed(span, mask, seen, solver.control(width, kind))
