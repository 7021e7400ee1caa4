"""What happens to what a recurrence reads: division by the row sum, a factor per token, the last values besides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from attnlab.attention.base import Dims, Params
from attnlab.attention.gates import Stream, matrix, per_head, project


@dataclass(frozen=True)
class RowSum:
    """`out / (total + eps)`, `total` the sum of the row of the mixing matrix: rows of weights >= 0 then sum to 1.

    `eps`: 1e-12 LoLCATs, 1e-10 flash-linear-attention, 1e-8 Gu et al. (2410.10781), 1e-6 Based.
    """

    eps: float = 1e-8

    def __call__(self, out: Float[Array, "*B T W"], total: Float[Array, "*B T 1"]) -> Float[Array, "*B T W"]:
        return out / (total + self.eps)


@dataclass(frozen=True)
class RowSumAtLeast:
    """`out / max(|total|, floor)`, for weights of either sign (2410.10781)."""

    floor: float = 1.0

    def __call__(self, out: Float[Array, "*B T W"], total: Float[Array, "*B T 1"]) -> Float[Array, "*B T W"]:
        return out / jnp.maximum(jnp.abs(total), self.floor)


class ReadScale(Protocol):
    """A factor of each token's output, `[*B, H, T]`."""

    def init(self, key: Key[Array, ""], dims: Dims) -> Params: ...

    def __call__(self, params: Params, stream: Stream) -> Array: ...


@dataclass(frozen=True)
class OverCount:
    """`1 / n_i`, `n_i` the number of tokens so far."""

    def init(self, key, dims):
        return {}

    def __call__(self, params, stream):
        return jnp.broadcast_to(1 / (stream.at + 1).astype(stream.q.dtype), stream.q.shape[:-1])


def unchanged(x: Array) -> Array:
    """`x`."""
    return x


def softplus(x: Array) -> Array:
    """`log(1 + exp(x))`."""
    return jax.nn.softplus(x)


def log_spaced_offsets(num_heads: int) -> np.ndarray:
    """From 8 to 14, evenly in the logarithm."""
    return np.geomspace(8.0, 14.0, num_heads)


def even_offsets(num_heads: int) -> np.ndarray:
    """From 4 to 9, evenly."""
    return np.linspace(4.0, 9.0, num_heads)


@dataclass(frozen=True)
class ExpGate:
    """`exp(-g(n_i + o))`, `n_i = x_i w + b`, one per head: the normaliser of normalised attention (2405.15731).

    There `g` is the identity and `o = 0`. Later work of the authors (2510.09379) has `exp`, `elu`, `softplus` (then the
    factor is `sigmoid(-(n + o))`) or `sigmoid` for `g`, and learned offsets `o[H]`.
    """

    g: Callable[[Array], Array] = unchanged
    offsets: Callable[[int], np.ndarray] | None = None
    no_decay: ClassVar[tuple[str, ...]] = ("read_offset",)

    def init(self, key, dims):
        params = {
            "read_gate": matrix(key, dims.width, dims.num_heads),
            "read_bias": jnp.zeros(dims.num_heads),
        }
        if self.offsets is not None:
            params["read_offset"] = jnp.asarray(self.offsets(dims.num_heads), jnp.float32)
        return params

    def __call__(self, params, stream):
        n = project(stream, params["read_gate"])
        n = n + per_head(params["read_bias"], n)
        if self.offsets is not None:
            n = n + per_head(params["read_offset"], n)
        return jnp.exp(-self.g(n))


@dataclass(frozen=True)
class LocalTaps:
    """`sum_{m < size} r_m v_{i-m}`, learned `r[H, size]`, 0 at the start: bands of the mixing matrix.

    The causal form of InLine's local residual (2412.06590), static and with one number per head instead of one per
    channel, so that a head still has one mixing matrix.
    """

    size: int = 3

    def init(self, key, dims):
        return {"taps": jnp.zeros((dims.num_heads, self.size))}

    def __call__(self, params: Params, v: Float[Array, "*B T W"], past: Any) -> tuple[Array, Array]:
        """What is added to the output, and the last `size - 1` values."""
        if past is None:
            past = jnp.zeros((*v.shape[:-2], self.size - 1, v.shape[-1]), v.dtype)
        longer = jnp.concatenate([past, v], axis=-2)
        num = v.shape[-2]
        shifted = [longer[..., self.size - 1 - m :, :][..., :num, :] for m in range(self.size)]
        taps = params["taps"].astype(v.dtype)
        added = sum((taps[:, m, None, None] * values for m, values in enumerate(shifted)), jnp.zeros_like(v))
        return added, longer[..., num:, :]
