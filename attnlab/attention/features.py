"""Feature maps of linear attention: `φ` with weights `φ(q_t) · φ(k_u)` in place of `exp(q_t · k_u / sqrt(K))`.

A map takes prepared queries and keys `[*B, H, T, K]` at positions `at[T]` and returns `[*B, H, T, K']`. Those without
parameters are functions of one array, used through `Each`. `K` is the width that the map is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from attnlab.attention.base import Dims, Params

Vectors = Float[Array, "*B T K"]


class Feature(Protocol):
    """`init` makes the parameters; the call maps queries and keys."""

    def init(self, key: Key[Array, ""], dims: Dims) -> Params: ...

    def __call__(
        self, params: Params, q: Float[Array, "*B T K"], k: Float[Array, "*B T K"], at: Int[Array, " T"]
    ) -> tuple[Float[Array, "*B T M"], Float[Array, "*B T M"]]: ...


@dataclass(frozen=True)
class Each:
    """The same function of one array, without parameters, for queries and keys."""

    function: Callable[[Array], Array]

    def init(self, key, dims):
        return {}

    def __call__(self, params, q, k, at):
        return self.function(q), self.function(k)


def elu_plus_one(x: Vectors) -> Vectors:
    """`elu(x) + 1`: `x + 1` above 0, `exp(x)` below (Katharopoulos et al., 2006.16236)."""
    return jax.nn.elu(x) + 1


def relu(x: Vectors) -> Vectors:
    """`max(x, 0)`."""
    return jax.nn.relu(x)


def silu(x: Vectors) -> Vectors:
    """`x sigmoid(x)`."""
    return jax.nn.silu(x)


def l2(x: Vectors, eps: float = 1e-6) -> Vectors:
    """`x / sqrt(|x|^2 + eps)`."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + eps)


def l2_silu(x: Vectors) -> Vectors:
    """`silu`, then norm 1: with it the delta rule has eigenvalues `1 - β` (Yang et al., 2406.06484)."""
    return l2(jax.nn.silu(x))


@dataclass(frozen=True)
class Exp:
    """`exp(t x)` of each number: as spiky as softmax, but not monotone in `q · k` (2402.04347)."""

    t: float = 1.0

    def __call__(self, x: Vectors) -> Vectors:
        return jnp.exp(self.t * x)


@dataclass(frozen=True)
class Dpfp:
    """`⊕_{j=1..order} r ⊙ roll(r, j)` with `r = [relu(x), relu(-x)]`, `2 K order` numbers (Schlag et al., 2102.11174).

    Some implementations write `[relu(x), -relu(x)]`: the paper's sign, taken here, keeps every feature >= 0.
    """

    order: int = 1

    def __call__(self, x: Float[Array, "*B T K"]) -> Float[Array, "*B T M"]:
        both = jnp.concatenate([jax.nn.relu(x), jax.nn.relu(-x)], axis=-1)
        return jnp.concatenate([both * jnp.roll(both, j, axis=-1) for j in range(1, self.order + 1)], axis=-1)


@dataclass(frozen=True)
class CosFormer:
    """`[relu(x) sin(π t / 2 M), relu(x) cos(π t / 2 M)]`, `M = length`: weights times `cos(π (t - u) / 2 M)`.

    Qin et al., 2202.08791. `length` is the longest sequence: further apart weights are negative.
    """

    length: int = 1024

    def init(self, key, dims):
        return {}

    def __call__(self, params, q, k, at):
        angle = (jnp.pi / (2 * self.length) * at)[:, None]
        sin, cos = jnp.sin(angle).astype(q.dtype), jnp.cos(angle).astype(q.dtype)

        def turned(x):
            return jnp.concatenate([jax.nn.relu(x) * sin, jax.nn.relu(x) * cos], axis=-1)

        return turned(q), turned(k)


def orthogonal_gaussian(key: Key[Array, ""], num: int, width: int) -> Float[Array, "M K"]:
    """`num` rows N(0, I), orthogonal within each block of `width`: directions of a QR, lengths of Gaussian vectors."""
    directions_key, lengths_key = jax.random.split(key)
    blocks = -(-num // width)
    q, r = jnp.linalg.qr(jax.random.normal(directions_key, (blocks, width, width)))
    q = q * jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    lengths = jnp.linalg.norm(jax.random.normal(lengths_key, (num, width)), axis=-1)
    return q.mT.reshape(-1, width)[:num] * lengths[:, None]


@dataclass(frozen=True)
class Favor:
    """`M^(-1/2) exp(ω_m · y - |y|^2 / 2)`, `y = x / K^(1/4)`: `E φ(q) · φ(k) = exp(q · k / sqrt(K))`.

    FAVOR+ of Choromanski et al. (2009.14794): `omega[M, K]` is drawn once (orthogonal blocks) and has no gradient;
    weight decay leaves it alone. `num=None`: `M = K`. The maximum is not subtracted: of keys it
    would have to be the maximum over all positions, later ones too.
    """

    num: int | None = None
    no_decay: ClassVar[tuple[str, ...]] = ("omega",)

    def init(self, key, dims):
        return {"omega": orthogonal_gaussian(key, self.num or dims.head_dim, dims.head_dim)}

    def __call__(self, params, q, k, at):
        omega = jax.lax.stop_gradient(params["omega"]).astype(q.dtype)

        def positive(x):
            y = x * x.shape[-1] ** -0.25
            exponent = y @ omega.T - 0.5 * jnp.sum(y * y, axis=-1, keepdims=True)
            return jnp.exp(exponent) * omega.shape[0] ** -0.5

        return positive(q), positive(k)


def monomials(x: Float[Array, "*B T K"], order: int, dense: bool = False) -> Float[Array, "*B T M"]:
    """Features of `(q · k)^order / order!`: `x^α / sqrt(α!)` of all `α` of this degree; `dense`: the whole tensor."""
    if order == 0:
        return jnp.ones_like(x[..., :1])
    width = x.shape[-1]
    found = product(range(width), repeat=order) if dense else combinations_with_replacement(range(width), order)
    index = np.array(list(found))
    counts = np.stack([(index == c).sum(-1) for c in range(width)], -1)
    factorials = np.array([math.factorial(n) for n in range(order + 1)], float)
    size = np.full(len(index), factorials[order]) if dense else factorials[counts].prod(-1)
    value = x[..., index[:, 0]]
    for place in range(1, order):
        value = value * x[..., index[:, place]]
    return value * jnp.asarray(size**-0.5, x.dtype)


@dataclass(frozen=True)
class TruncatedExp:
    """Features of `sum_{n <= order} s^n / n!`, `s = q · k / sqrt(K)`: softmax's exponential cut off (2405.15731).

    `order=2` is `1 + s + s^2 / 2 >= 1/2`, the Taylor map of Based (2402.18668), with `1 + K + K (K + 1) / 2` features,
    `1 + K + K^2` if `dense`. `project=K'` maps queries and keys to `K'` numbers first (two matrices per head,
    N(0, 1/K)); `K` is then `K'`.
    """

    order: int = 2
    dense: bool = False
    project: int | None = None

    def init(self, key, dims):
        if self.project is None:
            return {}
        shape, keys = (dims.num_heads, dims.head_dim, self.project), jax.random.split(key)
        names = ("feature_query", "feature_key")
        return {n: dims.head_dim**-0.5 * jax.random.normal(s, shape) for n, s in zip(names, keys, strict=True)}

    def __call__(self, params, q, k, at):
        if self.project is not None:
            q, k = q @ params["feature_query"].astype(q.dtype), k @ params["feature_key"].astype(k.dtype)

        def powers(x):
            y = x * x.shape[-1] ** -0.25
            return jnp.concatenate([monomials(y, n, self.dense) for n in range(self.order + 1)], axis=-1)

        return powers(q), powers(k)


@dataclass(frozen=True)
class Rebased:
    """Features of `(y_q · y_k)^2 / K`, `y = γ LayerNorm(x) + β`, `γ, β [H, K]` (Aksenov et al., 2402.10644).

    No constant and no linear term: the affine map learns where the parabola lies.
    """

    eps: float = 1e-5

    def init(self, key, dims):
        shape = (dims.num_heads, dims.head_dim)
        return {"feature_scale": jnp.ones(shape), "feature_shift": jnp.zeros(shape)}

    def __call__(self, params, q, k, at):
        scale, shift = (params[name][:, None, :].astype(q.dtype) for name in ("feature_scale", "feature_shift"))

        def squares(x):
            centered = x - jnp.mean(x, axis=-1, keepdims=True)
            y = centered * jax.lax.rsqrt(jnp.mean(centered**2, axis=-1, keepdims=True) + self.eps) * scale + shift
            return monomials(y, 2) * (2 / y.shape[-1]) ** 0.5

        return squares(q), squares(k)


@dataclass(frozen=True)
class ReluAffine:
    """`relu(x W + b)`, one `W[H, K, M]` for queries and keys, N(0, 1/K), `b = 0` (T2R, Kasai et al., 2103.13076)."""

    num: int | None = None

    def init(self, key, dims):
        shape = (dims.num_heads, dims.head_dim, self.num or dims.head_dim)
        weight = dims.head_dim**-0.5 * jax.random.normal(key, shape)
        return {"feature_weight": weight, "feature_shift": jnp.zeros((shape[0], shape[2]))}

    def __call__(self, params, q, k, at):
        weight, shift = params["feature_weight"].astype(q.dtype), params["feature_shift"][:, None, :].astype(q.dtype)
        return jax.nn.relu(q @ weight + shift), jax.nn.relu(k @ weight + shift)


@dataclass(frozen=True)
class Hadamard:
    """`(x W_1) ⊙ (x W_2)`, `W [H, K, K]` N(0, 1/K), others for queries than for keys."""

    def init(self, key, dims):
        shape = (2, dims.num_heads, dims.head_dim, dims.head_dim)
        query, keys = (dims.head_dim**-0.5 * jax.random.normal(s, shape) for s in jax.random.split(key))
        return {"feature_query": query, "feature_key": keys}

    def __call__(self, params, q, k, at):
        (q_1, q_2), (k_1, k_2) = (params[name].astype(q.dtype) for name in ("feature_query", "feature_key"))
        return (q @ q_1) * (q @ q_2), (k @ k_1) * (k @ k_2)


@dataclass(frozen=True)
class MlpKernel:
    """`relu(x W_1) W_2`, `W [K, K]` shared by heads, queries and keys, N(0, 1/K), no bias (Gu et al., 2410.10781)."""

    def init(self, key, dims):
        up, down = dims.head_dim**-0.5 * jax.random.normal(key, (2, dims.head_dim, dims.head_dim))
        return {"feature_up": up, "feature_down": down}

    def __call__(self, params, q, k, at):
        up, down = params["feature_up"].astype(q.dtype), params["feature_down"].astype(q.dtype)
        return jax.nn.relu(q @ up) @ down, jax.nn.relu(k @ up) @ down


def joint(y: Float[Array, "*B T M"]) -> Float[Array, "*B T N"]:
    """One softmax over `[y, -y]`."""
    return jax.nn.softmax(jnp.concatenate([y, -y], axis=-1), axis=-1)


def split(y: Float[Array, "*B T M"]) -> Float[Array, "*B T N"]:
    """`[softmax(y), softmax(-y)]`, two softmaxes (LoLCATs, 2410.10254)."""
    return jnp.concatenate([jax.nn.softmax(y, axis=-1), jax.nn.softmax(-y, axis=-1)], axis=-1)


def plain(y: Float[Array, "*B T M"]) -> Float[Array, "*B T N"]:
    """`[exp(y), exp(-y)]`, the formula of Hedgehog's paper."""
    return jnp.concatenate([jnp.exp(y), jnp.exp(-y)], axis=-1)


@dataclass(frozen=True)
class Hedgehog:
    """`form(scale (x W + b))`, `W [H, K, M]` the identity and `b = 0` at the start, others for queries than for keys.

    Zhang et al., 2402.04347. `form=joint, scale=2` is flash-linear-attention's; `split` with `scale=1, bias=False` that
    of LoLCATs; `plain` with `scale=1` the paper's formula. Trained to the weights of softmax by
    `attention.distillation_loss`.
    """

    form: Callable[[Array], Array] = joint
    scale: float = 2.0
    bias: bool = True

    def init(self, key, dims):
        eye = jnp.broadcast_to(jnp.eye(dims.head_dim), (dims.num_heads, dims.head_dim, dims.head_dim))
        params = {"feature_query": eye, "feature_key": eye}
        if self.bias:
            zero = jnp.zeros((dims.num_heads, dims.head_dim))
            params |= {"feature_query_shift": zero, "feature_key_shift": zero}
        return params

    def __call__(self, params, q, k, at):
        def one(x, name):
            y = x @ params[name].astype(x.dtype)
            if self.bias:
                y = y + params[f"{name}_shift"][:, None, :].astype(x.dtype)
            return self.form(self.scale * y)

        return one(q, "feature_query"), one(k, "feature_key")
