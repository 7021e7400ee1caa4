"""Spectra and subspaces of circuits: effective rank, angles between column spaces, distance to a target or a multiple.

Every function takes a matrix `[*S, M, N]` or a `Factored` product of that shape, which is never multiplied out; leading
axes (seeds, heads) stay. What is `0 / 0` for a zero matrix is 0.

References: entropy rank: Roy, Vetterli, The Effective Rank, EUSIPCO 2007. Principal angles: Björck, Golub, Math. Comp.
27 (1973). The bound on commutators: Böttcher, Wenzel, Linear Algebra Appl. 429 (2008).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.analysis.head_terms import ratio
from attnlab.config import require
from attnlab.models import Factored

Matrix = Array | Factored


def singular_values(matrix: Matrix) -> Float[Array, "*S r"]:
    """Largest first; of a product those that can be non-zero."""
    if isinstance(matrix, Factored):
        return matrix.singular_values()
    return jnp.linalg.svd(matrix, compute_uv=False)


def entropy_rank(matrix: Matrix) -> Float[Array, "*S"]:
    """`exp(-sum_i p_i ln p_i)`, `p = sigma / sum sigma`: `r` for `r` equal singular values, between 1 and the rank."""
    values = singular_values(matrix)
    share = ratio(values, jnp.sum(values, axis=-1, keepdims=True))
    entropy = -jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1)), axis=-1)
    return jnp.where(values[..., 0] > 0, jnp.exp(entropy), 0)


def stable_rank(matrix: Matrix) -> Float[Array, "*S"]:
    """`|A|_F^2 / sigma_1^2`, between 1 and the rank; small singular values hardly count."""
    values = singular_values(matrix)
    scaled = ratio(values, values[..., :1])
    return jnp.sum(scaled * scaled, axis=-1)


def principal_cosines(first: Matrix, second: Matrix, tol: float = 1e-5) -> Float[Array, "*S r"]:
    """Cosines of the principal angles between two column spaces, largest first; 1 = a direction in common.

    Singular values up to `tol` times the largest count as 0. `r` is the smaller of the greatest ranks that the shapes
    allow; where the true ranks are smaller, the cosines end with zeros.
    """
    left, right = _columns(first, tol), _columns(second, tol)
    require(left.shape[-2] == right.shape[-2], "second", right.shape, f"{left.shape[-2]} rows, as the first")
    cosines = jnp.linalg.svd(jnp.swapaxes(left, -1, -2) @ right, compute_uv=False)
    return jnp.clip(cosines, 0, 1)


def subspace_overlap(first: Matrix, second: Matrix, tol: float = 1e-5) -> Float[Array, "*S"]:
    """Mean of the squared principal cosines over the smaller of the two ranks: 1 = one column space holds the other.

    Two independent random spaces of rank `r` and `s` in `M` dimensions have `max(r, s) / M` in the mean.
    """
    cosines = principal_cosines(first, second, tol)
    ranks = [jnp.sum(_columns(m, tol) ** 2, axis=(-1, -2)) for m in (first, second)]
    return ratio(jnp.sum(cosines * cosines, axis=-1), jnp.round(jnp.minimum(*ranks)))


def commutator(first: Float[Array, "*S M M"], second: Float[Array, "*S M M"]) -> Float[Array, "*S"]:
    """`|A B - B A|_F / (sqrt(2) |A|_F |B|_F)`, from 0 (they commute) to 1, the largest value there is."""
    gap = first @ second - second @ first
    return ratio(_norm(gap), 2**0.5 * _norm(first) * _norm(second))


def relative_distance(matrix: Float[Array, "*S M N"], target: Float[Array, "*T M N"]) -> Float[Array, "*U"]:
    """`|A - target|_F / |target|_F`; infinite for a target of 0, unless both are."""
    return ratio(_norm(matrix - target), _norm(jnp.broadcast_to(target, jnp.shape(matrix - target))))


def best_multiple(
    matrix: Float[Array, "*S M N"], direction: Float[Array, "*T M N"] | None = None
) -> tuple[Float[Array, "*U"], Float[Array, "*U"]]:
    """The `c` that brings `c direction` nearest to the matrix, and what is left, `|A - c direction|_F / |A|_F`.

    The rest is the sine of the angle between the two: 0 for a multiple, 1 for a matrix orthogonal to all multiples.

    Args:
      direction: default: the identity, for which `c` is the mean of the diagonal.
    """
    if direction is None:
        require(matrix.shape[-1] == matrix.shape[-2], "matrix", matrix.shape, "a square one, or give a direction")
        direction = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    factor = ratio(_inner(matrix, direction), _inner(direction, direction))
    rest = _norm(matrix - factor[..., None, None] * direction)
    return factor, ratio(rest, jnp.broadcast_to(_norm(matrix), rest.shape))


def symmetric_share(matrix: Matrix) -> Float[Array, "*S"]:
    """`|(A + A^T) / 2|_F^2 / |A|_F^2 = (1 + tr(A A) / |A|_F^2) / 2`: 1 symmetric, 0 antisymmetric, 1/2 neither.

    The antisymmetric part has the rest. A matrix of 0 gets 1/2.
    """
    if isinstance(matrix, Factored):
        inner = matrix.right @ matrix.left
        square, twice = matrix.norm() ** 2, jnp.einsum("...ij,...ji->...", inner, inner)
    else:
        square, twice = _inner(matrix, matrix), jnp.einsum("...ij,...ji->...", matrix, matrix)
    return (1 + jnp.clip(ratio(twice, square), -1, 1)) / 2


def _columns(matrix: Matrix, tol: float) -> Array:
    """An orthonormal basis of the column space, `[*S, M, r]`; columns past the rank are 0."""
    if isinstance(matrix, Factored):
        outer, inner = jnp.linalg.qr(matrix.left)
        other = jnp.linalg.qr(jnp.swapaxes(matrix.right, -1, -2), mode="r")
        basis, values, _ = jnp.linalg.svd(inner @ jnp.swapaxes(other, -1, -2), full_matrices=False)
        basis = outer @ basis
    else:
        basis, values, _ = jnp.linalg.svd(matrix, full_matrices=False)
    return basis * (values > tol * values[..., :1])[..., None, :]


def _inner(first: Array, second: Array) -> Array:
    return jnp.einsum("...ij,...ij->...", first, second)


def _norm(matrix: Array) -> Array:
    return jnp.sqrt(jnp.sum(jax.lax.square(matrix), axis=(-1, -2)))
