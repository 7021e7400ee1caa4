"""What a tiny transformer is made of: norms, position schemes, initial values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from attnlab.attention.narrow import is_narrow, product, wide_product, widen

NormKind = Literal["layernorm", "rmsnorm", "none"]
PositionKind = Literal["learned", "sinusoidal", "rope", "alibi", "none"]
InitKind = Literal["torch", "normal", "scaled"]


def init_norm(kind: NormKind, width: int) -> dict[str, Array]:
    """Gain 1 and, for LayerNorm, shift 0."""
    if kind == "none":
        return {}
    params = {"scale": jnp.ones(width)}
    return params | {"bias": jnp.zeros(width)} if kind == "layernorm" else params


def norm(kind: NormKind, params: dict[str, Array], x: Float[Array, "*B D"], eps: float) -> Float[Array, "*B D"]:
    """`layernorm`: `(x - mean) / sqrt(var + eps) * scale + bias`; `rmsnorm`: `x / sqrt(mean x^2 + eps) * scale`.

    Of a bfloat16 stream it is computed in float32 and rounded at the end.
    """
    if kind == "none":
        return x
    if is_narrow(x):
        return norm(kind, params, widen(x), eps).astype(x.dtype)
    if kind == "rmsnorm":
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * params["scale"]
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centered * centered, axis=-1, keepdims=True)
    return centered * jax.lax.rsqrt(variance + eps) * params["scale"] + params["bias"]


@dataclass(frozen=True)
class Draw:
    """A parameter that is still to be drawn: `scale` times N(0, 1) (`normal`) or U(-1, 1) (`uniform`)."""

    law: Literal["normal", "uniform"]
    shape: tuple[int, ...]
    scale: float


def matrix(kind: InitKind, shape: tuple[int, ...], fan_in: int, std: float) -> Draw:
    """`torch`: U(-1, 1) / sqrt(fan_in), as `torch.nn.Linear`; `normal`: N(0, std^2); `scaled`: N(0, 1 / fan_in)."""
    if kind == "torch":
        return Draw("uniform", shape, fan_in**-0.5)
    return Draw("normal", shape, std if kind == "normal" else fan_in**-0.5)


def draw(key: Key[Array, ""], tree: Any) -> Any:
    """`tree` with every `Draw` in it drawn, other leaves as they are.

    All draws of a law are pieces of one long draw: a random call takes half a second to compile, however short, and a
    transformer of four layers would have thirty of them.
    """
    leaves, structure = jax.tree.flatten(tree)
    for law, law_key in zip(("normal", "uniform"), jax.random.split(key), strict=True):
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Draw) and leaf.law == law]
        sizes = [math.prod(leaves[i].shape) for i in places]
        if not places:
            continue
        total = (sum(sizes),)
        flat = jax.random.normal(law_key, total) if law == "normal" else jax.random.uniform(law_key, total, minval=-1.0)
        for i, piece in zip(places, jnp.split(flat, np.cumsum(sizes)[:-1]), strict=True):
            leaves[i] = leaves[i].scale * piece.reshape(leaves[i].shape)
    return jax.tree.unflatten(structure, leaves)


def linear(x: Float[Array, "*B M"], w: Float[Array, "M N"], *, wide: bool = False) -> Float[Array, "*B N"]:
    """`x @ w`, with the leading axes folded into one.

    On CPU this is worth a fifth of a training step: XLA then contracts the weight gradient over one long axis
    without transposing the activations first. The gradient of a tall matrix is made as its transpose, so that the
    product has the longer of both axes innermost, which is quicker with an MLP. A bfloat16 `x` meets `w`
    rounded to bfloat16; sums are float32, and so is the result if it is to be `wide`.
    """
    if w.shape[0] > w.shape[1]:
        w = jax.lax.optimization_barrier(w.T).T
    if is_narrow(x):
        w = w.astype(x.dtype)
    flat = (wide_product if wide else product)(x.reshape(-1, x.shape[-1]), w)
    return flat.reshape(*x.shape[:-1], w.shape[-1])


def sinusoidal(length: int, width: int) -> Float[np.ndarray, "T D"]:
    """`P[t, 2i] = sin(t / 10000^(2i/D))`, `P[t, 2i+1] = cos(...)` (Vaswani et al., 1706.03762, section 3.5)."""
    rate = 10000.0 ** (-np.arange(0, width, 2) / width)
    angle = np.arange(length)[:, None] * rate
    table = np.zeros((length, width))
    table[:, 0::2] = np.sin(angle)
    table[:, 1::2] = np.cos(angle)[:, : width // 2]
    return table


def rotate(x: Float[Array, "*B T K"], positions: Int[Array, " T"], base: float = 10000.0) -> Float[Array, "*B T K"]:
    """Rotary embedding: pair `(x_i, x_{i+K/2})` turns by `t base^(-2i/K)` (Su et al., 2104.09864)."""
    if is_narrow(x):
        return rotate(widen(x), positions, base).astype(x.dtype)
    half = x.shape[-1] // 2
    angle = positions[:, None] * base ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def alibi_bias(num_heads: int, length: int) -> Float[np.ndarray, "H T U"]:
    """`-2^(-8 (h+1) / H) |t - u|` (Press et al., 2108.12409)."""
    slope = 2.0 ** (-8.0 * np.arange(1, num_heads + 1) / num_heads)
    distance = np.abs(np.arange(length)[:, None] - np.arange(length)[None, :])
    return -slope[:, None, None] * distance
