"""A product of two thin matrices, kept as two thin matrices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class Factored:
    """`left @ right` with `left[*S, M, r]`, `right[*S, r, N]`; never multiplied out except by `dense`."""

    left: jax.Array
    right: jax.Array

    @classmethod
    def whole(cls, dense: Float[Array, "*S M N"]) -> Factored:
        """A matrix as its product with the identity."""
        size = dense.shape[-1]
        return cls(dense, jnp.broadcast_to(jnp.eye(size, dtype=dense.dtype), (*dense.shape[:-2], size, size)))

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.left.shape[:-1], self.right.shape[-1])

    @property
    def rank_bound(self) -> int:
        return self.left.shape[-1]

    @property
    def T(self) -> Factored:
        """The transpose."""
        return Factored(jnp.swapaxes(self.right, -1, -2), jnp.swapaxes(self.left, -1, -2))

    def dense(self) -> Float[Array, "*S M N"]:
        """The product, multiplied out."""
        return self.left @ self.right

    def conjugate(self, left: Array, right: Array) -> Factored:
        """`left @ self @ right^T`, still factored: a map between residual directions read between other vectors."""
        return Factored(left @ self.left, self.right @ jnp.swapaxes(right, -1, -2))

    def singular_values(self) -> Float[Array, "*S r"]:
        """Singular values, largest first, by two thin QR factorisations."""
        r_left = jnp.linalg.qr(self.left, mode="r")
        r_right = jnp.linalg.qr(jnp.swapaxes(self.right, -1, -2), mode="r")
        return jnp.linalg.svd(r_left @ jnp.swapaxes(r_right, -1, -2), compute_uv=False)

    def eigenvalues(self) -> Array:
        """The `r` eigenvalues that can be non-zero (square products only): those of `right @ left`."""
        if self.shape[-1] != self.shape[-2]:
            raise ValueError(f"eigenvalues: got a product of shape {self.shape}; allowed is a square one.")
        return jnp.linalg.eigvals(self.right @ self.left)

    def trace(self) -> Float[Array, "*S"]:
        return jnp.einsum("...ir,...ri->...", self.left, self.right)

    def norm(self) -> Float[Array, "*S"]:
        """Frobenius norm."""
        gram_left = jnp.swapaxes(self.left, -1, -2) @ self.left
        gram_right = self.right @ jnp.swapaxes(self.right, -1, -2)
        return jnp.sqrt(jnp.maximum(jnp.einsum("...ij,...ji->...", gram_left, gram_right), 0))
