"""Mesa: the state is read through the inverse of the keys' second moment, which solves ridge regression in context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.attention.gates import matrix, per_head, project
from attnlab.attention.rules import Rule
from attnlab.attention.scan import Steps, state_dtype


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


def solve_positive(matrices: Float[Array, "*B K K"], rhs: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """`M^-1 r`, refined once; its derivatives are those of the solution, not of the sweeps."""

    def times(y: Array) -> Array:
        return jnp.einsum("...ij,...j->...i", matrices, y)

    def solve(_, r: Array) -> Array:
        inverse = inverse_of_positive(matrices)
        y = jnp.einsum("...ij,...j->...i", inverse, r)
        return y + jnp.einsum("...ij,...j->...i", inverse, r - times(y))

    return jax.lax.custom_linear_solve(times, rhs, solve, symmetric=True)


@dataclass(frozen=True)
class Mesa(Rule):
    """`H_i = γ_i H_{i-1} + β_i k_i k_i^T`, `G_i = γ_i G_{i-1} + β_i k_i v_i^T`, `o_i = G_i^T (H_i + diag(λ))^-1 q_i`.

    The minimiser of `sum_j β_j γ_{j+1} .. γ_i |v_j - W k_j|^2 + sum_c λ_c |W_c|^2`, at `q_i` (von Oswald et al.,
    2309.05858, 2506.05233); without gates, ridge regression and, written recursively, recursive least squares.

    `gated`: `γ = sigmoid(x w + b)`, `β = sigmoid(x w + b)` per head, `λ[H, K] = softplus(.) + 0.25`, 1 at the start;
    else `γ = β = 1` and `λ = ridge` for good. `H` is carried, and made for all positions at once in the parallel form.
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
            ridge = (jax.nn.softplus(params["ridge"]) + 0.25)[:, None, :]
        else:
            log_decay, beta = None, jnp.ones(k.shape[:-1], k.dtype)
            ridge = jnp.asarray(self.ridge)
        kept = jnp.ones_like(beta) if log_decay is None else jnp.exp(log_decay)

        def add(moment: Array, token: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            kept, beta, k = token
            moment = kept[..., None, None] * moment + (beta[..., None] * k)[..., None] * k[..., None, :]
            return moment, moment

        first = (jnp.moveaxis(kept, -1, 0), jnp.moveaxis(beta, -1, 0), jnp.moveaxis(k, -2, 0))
        first = jax.tree.map(lambda leaf: leaf.astype(wide), first)
        carry, moments = jax.lax.scan(add, carry, first)
        moments = jnp.moveaxis(moments, 0, -3)
        eye = jnp.eye(k.shape[-1], dtype=wide)
        q = solve_positive(moments + ridge.astype(wide)[..., None] * eye, stream.q.astype(wide))
        return Steps(q.astype(k.dtype), beta[..., None] * k, log_decay), carry
