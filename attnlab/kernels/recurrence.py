"""A Pallas kernel for the recurrences of `attention.scan` with one decay per head and token, or none.

Linear attention, RetNet, Mamba-2's state space, the delta rule and the gated delta rule are cases of one kernel: the
state `[K, W]` of a head stays on the chip while its chunks go by. The way back goes through the chunks in reverse, with
the state that each began with, `T / chunk` of them, and makes everything else anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.attention.scan import Steps, state_dtype
from attnlab.config import require
from attnlab.kernels.blocks import pad_to, rounded_up
from attnlab.kernels.recurrence_chunk import Tokens, advance
from attnlab.kernels.recurrence_grid import Shape, call, loaded, store, through
from attnlab.kernels.targets import PALLAS, Pallas, Target, power_of_two


@dataclass(frozen=True)
class _Plan:
    """What is fixed when a program is compiled."""

    early: bool
    pallas: Pallas


def recurrence(
    steps: Steps,
    v: Float[Array, "*B T W"],
    state: Float[Array, "*C K W"] | None = None,
    *,
    chunk: int = 64,
    pallas: Pallas = PALLAS,
) -> tuple[Float[Array, "*B T W"], Float[Array, "*B K W"]]:
    """What `attention.scan.chunked_core` computes, `S_i = (α_i I + b_i a_i^T) S_{i-1} + k_i v_i^T`, `o_i = q_i^T S_i`.

    Differentiable once, in everything. Products have JAX's default precision (`jax.default_matmul_precision`; that of
    sums of logarithms is always the highest); sums and states are float32, or float64 if `v` is.

    Args:
      steps: what the tokens do; no decays per channel. In the delta rule `k` and `b` are `β k` and `- β k`, `a = k`,
        with the decay in `a` if it comes before the erasure.
      state: to begin with, None = 0.
      chunk: tokens per chunk, a power of 2 and at least 16.
      pallas: for which chip, or interpreted.

    Returns:
      The outputs, in the dtype of `v`; the last state, float32 at least.

    Raises:
      ConfigError: decays per channel, sizes that are not allowed.
    """
    require(not steps.per_channel, "steps.log_decay", "one per channel", "one per head and token, or None")
    check_chunk("chunk", chunk)
    log_decay = None if steps.log_decay is None else steps.log_decay[..., None, :]
    tokens = Tokens(steps.q, steps.k, v, log_decay, steps.a, steps.b)
    if state is None:
        state = jnp.zeros((steps.k.shape[-1], v.shape[-1]), state_dtype(v.dtype))
    arrays = jax.tree.leaves((tokens, state))
    batch = jnp.broadcast_shapes(*(x.shape[:-2] for x in arrays))

    def side_by_side(x: Array) -> Array:
        return jnp.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:])

    kind = state_dtype(v.dtype)
    flat = jax.tree.map(side_by_side, tokens)
    if flat.log_decay is not None:
        flat = flat._replace(log_decay=flat.log_decay.astype(kind))
    size = min(chunk, power_of_two(v.shape[-2]))
    out, last = _recurrence(_Plan(steps.early, pallas), _cut(flat, size), side_by_side(state.astype(kind)))
    out = out.reshape(*batch, -1, v.shape[-1])[..., : v.shape[-2], :]
    out = out if steps.skip is None else out + (steps.skip[..., None] * v).astype(out.dtype)
    return out, last.reshape(*batch, *last.shape[1:])


def check_chunk(field: str, chunk: Any) -> None:
    """Raise ConfigError if it is no size of a chunk."""
    whole = isinstance(chunk, int) and chunk >= 16 and chunk & (chunk - 1) == 0
    require(whole, field, chunk, "a power of 2 that is at least 16")


def delta_rule(
    q: Float[Array, "*B T K"],
    k: Float[Array, "*B T K"],
    v: Float[Array, "*B T W"],
    beta: Float[Array, "*B T"],
    log_decay: Float[Array, "*B T"] | None = None,
    state: Float[Array, "*C K W"] | None = None,
    *,
    chunk: int = 64,
    pallas: Pallas = PALLAS,
) -> tuple[Float[Array, "*B T W"], Float[Array, "*B K W"]]:
    """`S <- α_i S`, `S <- S + β_i k_i (v_i - S^T k_i)^T`, `o_i = q_i^T S`: the (gated) delta rule by `recurrence`.

    DeltaNet (Yang et al., 2406.06484) without decay, else Gated DeltaNet (2412.06464); keys are taken as they are.
    """
    write = beta[..., None] * k
    seen = k if log_decay is None else jnp.exp(log_decay)[..., None].astype(k.dtype) * k
    return recurrence(Steps(q, write, log_decay, a=seen, b=-write), v, state, chunk=chunk, pallas=pallas)


def _cut(tokens: Tokens, size: int) -> Tokens:
    """`[N, T, ..] -> [N, n, C, ..]`, the last chunk filled with tokens that do nothing."""
    total = rounded_up(tokens.v.shape[1], size)

    def cut(x: Array) -> Array:
        return pad_to(x, total, 1).reshape(x.shape[0], -1, size, x.shape[-1])

    rows = tokens.log_decay
    cut_rows = None if rows is None else pad_to(rows, total, 2).reshape(rows.shape[0], -1, 1, size)
    return jax.tree.map(cut, tokens._replace(log_decay=None))._replace(log_decay=cut_rows)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrence(plan: _Plan, tokens: Tokens, state: Array) -> tuple[Array, Array]:
    """`[N, n, C, W], [N, K, W]`."""
    return plan.pallas.run(partial(_forward, plan, False), tokens, state)


def _remember(plan: _Plan, tokens: Tokens, state: Array) -> tuple[Any, Any]:
    out, last, starts = plan.pallas.run(partial(_forward, plan, True), tokens, state)
    return (out, last), (tokens, starts)


def _back(plan: _Plan, kept: tuple[Tokens, Array], pulled: tuple[Array, Array]) -> tuple[Tokens, Array]:
    return plan.pallas.run(partial(_backward, plan), *kept, *pulled)


_recurrence.defvjp(_remember, _back)


def _forward(plan: _Plan, keep: bool, target: Target) -> Callable[..., Any]:
    """Outputs and the last state; with `keep` also the state that each chunk begins with, `[N, n, K, W]`."""

    def one(tokens: Tokens, state: Array) -> tuple[Array, Array]:
        return advance(state, tokens, plan.early)

    def kernel(tokens: Tokens, first: Any, out: Any, last: Any, *starts: Any) -> None:
        def chunk(place: Any, state: Array) -> Array:
            for ref in starts:
                ref[place] = state
            found, state = one(loaded(tokens, place, state.dtype), state)
            store(out, place, found)
            return state

        through(target, tokens, first, last, chunk)

    def run(tokens: Tokens, state: Array) -> Any:
        starts = Shape((*tokens.v.shape[:2], *state.shape[1:]), state.dtype)
        like = (tokens.v, state, *[starts] * keep)
        return call(plan.pallas, target, "recurrence", kernel, (tokens, state), like, one)

    return run


def _backward(plan: _Plan, target: Target) -> Callable[..., Any]:
    """Gradients of tokens and of the state to begin with; `advance` is pulled back as JAX differentiates it."""

    def one(tokens: Tokens, start: Array, g: Array, g_state: Array) -> tuple[Tokens, Array]:
        return jax.vjp(lambda t, s: advance(s, t, plan.early), tokens, start)[1]((g, g_state))

    def kernel(tokens: Tokens, starts: Any, g: Any, g_last: Any, into: Tokens, g_first: Any) -> None:
        def chunk(place: Any, g_state: Array) -> Array:
            kind = g_state.dtype
            found, g_state = one(loaded(tokens, place, kind), starts[place], g[place].astype(kind), g_state)
            jax.tree.map(lambda ref, x: store(ref, place, x), into, found)
            return g_state

        through(target, tokens, g_last, g_first, chunk, reverse=True)

    def run(tokens: Tokens, starts: Array, g: Array, g_last: Array) -> Any:
        args = (tokens, starts, g, g_last)
        return call(plan.pallas, target, "recurrence_backward", kernel, args, (tokens, g_last), one, reverse=True)

    return run
