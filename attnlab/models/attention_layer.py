"""The attention layer of a tiny transformer: projections, convolution, positions, mixing, norm per head, output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.attention import Dims, Mechanism
from attnlab.attention.base import HostOrDevice, SiteFn, no_site
from attnlab.attention.narrow import is_narrow, widen
from attnlab.config import require
from attnlab.models.layers import (
    InitKind,
    NormKind,
    PositionKind,
    alibi_bias,
    init_norm,
    linear,
    matrix,
    norm,
    rotate,
)
from attnlab.tape import rematerialised


@dataclass(frozen=True)
class AttentionOptions:
    """What an attention layer does besides mixing.

    Attributes:
      positions: `rope` rotates queries and keys, `alibi` biases logits; other kinds are not the layer's business.
      short_conv: width of a causal depthwise convolution with SiLU on q, k and v, before the positions; None = none.
      qk_norm: norm of each query and key, before the positions (Henry et al. 2010.04245; one gain for all heads).
      head_norm: norm of what each head reads out, before the output matrix (as in RetNet and DeltaNet).
      norm_eps: epsilon of both.
    """

    positions: PositionKind = "none"
    short_conv: int | None = None
    qk_norm: NormKind = "none"
    head_norm: NormKind = "none"
    norm_eps: float = 1e-5

    def __post_init__(self):
        for name, choices in (("positions", PositionKind), ("qk_norm", NormKind), ("head_norm", NormKind)):
            allowed, value = get_args(choices), getattr(self, name)
            require(value in allowed, f"AttentionOptions.{name}", value, " | ".join(allowed))
        taps = self.short_conv
        whole = isinstance(taps, int) and not isinstance(taps, bool) and taps >= 1
        require(taps is None or whole, "AttentionOptions.short_conv", taps, "an integer >= 1, or None")


PLAIN = AttentionOptions()


def init_attention(
    dims: Dims, kind: InitKind = "torch", std: float = 0.02, options: AttentionOptions = PLAIN
) -> dict[str, Any]:
    """The parameters of an attention layer, matrices to be drawn.

    `query, key, value [D, H, K]`, `output [H, K, D]`; where asked for `conv {query, key, value} [W, H, K]`,
    `query_norm`, `key_norm`, `head_norm` (gain `[K]`).
    """
    heads, head_dim, width = dims
    params: dict[str, Any] = {
        name: matrix(kind, (width, heads, head_dim), width, std) for name in ("query", "key", "value")
    }
    params["output"] = matrix(kind, (heads, head_dim, width), heads * head_dim, std)
    if (taps := options.short_conv) is not None:
        shape = (taps, heads, head_dim)
        params["conv"] = {name: matrix(kind, shape, taps, std) for name in ("query", "key", "value")}
    for name in ("query_norm", "key_norm") if options.qk_norm != "none" else ():
        params[name] = init_norm(options.qk_norm, head_dim)
    if options.head_norm != "none":
        params["head_norm"] = init_norm(options.head_norm, head_dim)
    return params


def causal_conv(x: Float[Array, "*B H T K"], taps: Float[Array, "W H K"]) -> Float[Array, "*B H T K"]:
    """`y_t = silu(sum_m taps_m x_{t-m})`, each channel by itself, `x` zero before the first position."""
    num = x.shape[-2]
    total = jnp.zeros_like(x)
    for back in range(min(taps.shape[0], num)):
        moved = jnp.pad(x[..., : num - back, :], [(0, 0)] * (x.ndim - 2) + [(back, 0), (0, 0)])
        total = total + taps[back][:, None, :] * moved
    return jax.nn.silu(total).astype(x.dtype)


def attend(
    mechanism: Mechanism,
    params: dict[str, Any],
    x: Float[Array, "*B T D"],
    *,
    mask: Bool[HostOrDevice, "*M T U"] | None,
    options: AttentionOptions = PLAIN,
    qk_from: Float[Array, "*C T D"] | None = None,
    site: SiteFn = no_site,
    remat: bool = False,
) -> Float[Array, "*B T D"]:
    """A whole attention layer: project, convolve, rotate or bias by position, mix by `mechanism`, join the heads.

    Queries and keys are read from `qk_from` if given (another stream, with or without batch axes), else from `x`.
    With `remat` the gradient keeps `q, k, v` and what the heads read out, and makes the map again (`site` must then be
    a `tape.Place`). Of a bfloat16 stream, mechanisms that do not say `reads_narrow` are computed in float32.
    Sites: `in`, `q`, `k`, `v`, those of the mechanism, `head_out`, `out`.
    """
    x = site("in", x)
    if qk_from is None:
        q, k, v = _project(params, ("query", "key", "value"), x)
    else:
        q, k = _project(params, ("query", "key"), qk_from)
        (v,) = _project(params, ("value",), x)
        q, k = (jnp.broadcast_to(widen(y), v.shape).astype(v.dtype) for y in (q, k))  # its gradient adds in float32
    if options.short_conv is not None:
        q, k, v = (causal_conv(y, params["conv"][n]) for y, n in ((q, "query"), (k, "key"), (v, "value")))
    if options.qk_norm != "none":
        q, k = (
            norm(options.qk_norm, params[f"{name}_norm"], y, options.norm_eps) for y, name in ((q, "query"), (k, "key"))
        )
    num, bias = x.shape[-2], None
    if options.positions == "rope":
        q, k = rotate(q, jnp.arange(num)), rotate(k, jnp.arange(num))
    elif options.positions == "alibi":
        bias = jnp.asarray(alibi_bias(q.shape[-3], num), jnp.promote_types(x.dtype, jnp.float32))
    q, k, v = site("q", q), site("k", k), site("v", v)
    # A snapshot read from disk has no entry for a mechanism without parameters.
    own = params.get("mechanism", {})
    read = (q, k, v, x)
    if is_narrow(x) and not getattr(mechanism, "reads_narrow", False):
        read = tuple(map(widen, read))

    def mix(site: SiteFn, own: Any, q: Array, k: Array, v: Array, x: Array) -> Array:
        return mechanism.apply(own, q, k, v, x=x, mask=mask, bias=bias, site=site).out

    head_out = rematerialised(site, mix, own, *read) if remat else mix(site, own, *read)
    head_out = head_out.astype(x.dtype)
    if options.head_norm != "none":
        head_out = norm(options.head_norm, params["head_norm"], head_out, options.norm_eps)
    head_out = site("head_out", head_out)
    joined = jnp.swapaxes(head_out, -2, -3).reshape(*x.shape[:-1], -1)
    out = linear(joined, params["output"].reshape(joined.shape[-1], -1))
    finish = getattr(mechanism, "finish", None)  # a gate behind the output matrix
    return site("out", out if finish is None else finish(own, out, x, site=site).astype(x.dtype))


def _project(params: dict[str, Any], names: tuple[str, ...], x: Array) -> list[Array]:
    """`x W` for each name, `[*B, H, T, K]`, by one matrix product."""
    width, heads, head_dim = params[names[0]].shape
    merged = jnp.concatenate([params[n].reshape(width, -1) for n in names], axis=-1)
    parts = jnp.split(linear(x, merged), len(names), axis=-1)
    return [jnp.swapaxes(p.reshape(*x.shape[:-1], heads, head_dim), -2, -3) for p in parts]


def init_gated_mlp(dims: Dims, kind: InitKind = "torch", std: float = 0.02) -> dict[str, Any]:
    """`gate, up [D, m]`, `down [m, D]`, with as many weights as `query, key, value, output` have."""
    heads, head_dim, width = dims
    hidden = max(1, round(4 * heads * head_dim / 3))
    inner = {name: matrix(kind, (width, hidden), width, std) for name in ("gate", "up")}
    return inner | {"down": matrix(kind, (hidden, width), hidden, std)}


def gated_mlp(params: dict[str, Any], x: Float[Array, "*B T D"], site: SiteFn = no_site) -> Float[Array, "*B T D"]:
    """`(silu(x W_gate) * x W_up) W_down`: a layer that mixes no tokens, in the place of attention (2510.11602)."""
    x = site("in", x)
    hidden = site("hidden", jax.nn.silu(linear(x, params["gate"])) * linear(x, params["up"]))
    return site("out", linear(hidden, params["down"]))
