"""Mesa: the state is read through the inverse of the keys' second moment, which solves ridge regression in context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from attnlab.attention.gates import matrix, per_head, project
from attnlab.attention.pieces import pieces
from attnlab.attention.rules import Rule
from attnlab.attention.scan import Steps, state_dtype

# Numbers in all second moments up to which they are made at once, and how many are held at a time else: in the cache.
WHOLE, BLOCK = 2**20, 2**18
# What is kept for the gradient where the rest of a block is made again.
SOLUTION = "solution"


def inverse_of_positive(matrices: Float[Array, "*B K K"]) -> Float[Array, "*B K K"]:
    """Inverse of symmetric positive definite matrices, by Gauss-Jordan sweeps, which need no pivoting on these.

    Only products and divisions, batched over all matrices: `K` steps of rank one.
    """
    size = matrices.shape[-1]

    def sweep(m: Array, place: Array) -> tuple[Array, None]:
        here = jnp.arange(size) == place
        row, column = m[..., place, :], m[..., :, place]
        row = jnp.where(here, 1, row) / row[..., place][..., None]
        others = jnp.where(here, 0, m) - column[..., :, None] * row[..., None, :]
        return jnp.where(here[:, None], row[..., None, :], others), None

    return jax.lax.scan(sweep, matrices, jnp.arange(size))[0]


def _solve(matrices: Float[Array, "*B K K"], rhs: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    def times(y: Array) -> Array:
        return jnp.einsum("...ij,...j->...i", matrices, y)

    def solve(_, r: Array) -> Array:
        inverse = inverse_of_positive(matrices)
        y = jnp.einsum("...ij,...j->...i", inverse, r)
        return y + jnp.einsum("...ij,...j->...i", inverse, r - times(y))

    return jax.lax.custom_linear_solve(times, rhs, solve, symmetric=True)


@jax.custom_jvp
def solve_positive(matrices: Float[Array, "*B K K"], rhs: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """`M^-1 r`, refined once; its derivatives are those of the solution, not of the sweeps."""
    return _solve(matrices, rhs)


@solve_positive.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    matrices, rhs = primals
    y = checkpoint_name(solve_positive(matrices, rhs), SOLUTION)
    return y, _solve(matrices, tangents[1] - jnp.einsum("...ij,...j->...i", tangents[0], y))


@dataclass(frozen=True)
class Mesa(Rule):
    """`H_i = γ_i H_{i-1} + β_i k_i k_i^T`, `G_i = γ_i G_{i-1} + β_i k_i v_i^T`, `o_i = G_i^T (H_i + diag(λ))^-1 q_i`.

    The minimiser of `sum_j β_j γ_{j+1} .. γ_i |v_j - W k_j|^2 + sum_c λ_c |W_c|^2`, at `q_i` (von Oswald et al.,
    2309.05858, 2506.05233); without gates, ridge regression and, written recursively, recursive least squares.

    `gated`: `γ = sigmoid(x w + b)`, `β = sigmoid(x w + b)` per head, `λ[H, K] = softplus(.) + 0.25`, 1 at the start;
    else `γ = β = 1` and `λ = ridge` for good. `H` is carried; the parallel form makes it for some positions at a time.
    """

    gated: bool = True
    ridge: float = 1.0
    no_decay: ClassVar[tuple[str, ...]] = ("ridge",)

    def init(self, key, dims):
        if not self.gated:
            return {}
        forget_key, write_key = jax.random.split(key)
        zero = jnp.zeros(dims.num_heads)
        return {
            "forget_gate": matrix(forget_key, dims.width, dims.num_heads),
            "forget_bias": zero,
            "beta_gate": matrix(write_key, dims.width, dims.num_heads),
            "beta_bias": zero,
            "ridge": jnp.full((dims.num_heads, dims.head_dim), jnp.log(jnp.expm1(0.75))),
        }

    def start(self, stream):
        width = stream.k.shape[-1]
        return jnp.zeros((*stream.k.shape[:-2], width, width), state_dtype(stream.k.dtype))

    def __call__(self, params, stream, carry):
        wide = carry.dtype
        k = stream.k
        if self.gated:
            gates = project(stream, jnp.stack([params["forget_gate"], params["beta_gate"]], axis=-1))
            bias = jnp.stack([params["forget_bias"], params["beta_bias"]], axis=-1)
            forget, write = jnp.moveaxis(gates + per_head(bias, gates), -1, 0)
            log_decay, beta = jax.nn.log_sigmoid(forget), jax.nn.sigmoid(write)
            ridge = jax.nn.softplus(params["ridge"]) + 0.25
        else:
            log_decay, beta = None, jnp.ones(k.shape[:-1], k.dtype)
            ridge = jnp.asarray(self.ridge)
        kept = jnp.ones_like(beta) if log_decay is None else jnp.exp(log_decay)
        shift = ridge.astype(wide)[..., None] * jnp.eye(k.shape[-1], dtype=wide)
        q, carry = _read(shift, carry, kept.astype(wide), beta.astype(wide), k.astype(wide), stream.q.astype(wide))
        return Steps(q.astype(k.dtype), beta[..., None] * k, log_decay), carry


def _read(shift: Array, moment: Array, kept: Array, beta: Array, k: Array, q: Array) -> tuple[Array, Array]:
    """`(H_i + shift)^-1 q_i` and the last `H`, for some tokens at a time."""
    num = k.shape[-2]
    size = num if num * moment.size <= WHOLE else min(max(BLOCK // moment.size, 1), num)

    def add(moment: Array, token: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        kept, beta, k = token
        moment = kept[..., None, None] * moment + (beta[..., None] * k)[..., None] * k[..., None, :]
        return moment, moment

    def some(moment: Array, tokens: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        kept, beta, k, q = tokens
        moment, moments = jax.lax.scan(add, moment, (kept, beta, k))
        return moment, solve_positive(moments + shift, q)

    def split(x: Array, axis: int, fill: float = 0.0) -> Array:
        """`[n, size, ..]`, tokens first."""
        return pieces(jnp.moveaxis(x, axis, 0), -x.ndim, size, fill)

    # Tokens that fill the last block keep all and add nothing. Moments are made again for the gradient, solutions not.
    blocks = (split(kept, -1, 1.0), split(beta, -1), split(k, -2), split(q, -2))
    keep = jax.checkpoint_policies.save_only_these_names(SOLUTION)
    body = some if size == num else jax.checkpoint(some, prevent_cse=False, policy=keep)
    moment, found = jax.lax.scan(body, moment, blocks)
    return jnp.moveaxis(found.reshape(-1, *found.shape[2:])[:num], 0, -2), moment
