"""Attention whose map from logits to weights is an argument, and who computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.attention.base import HostOrDevice, WeightMap
from attnlab.attention.rows import WHOLE
from attnlab.config import require
from attnlab.kernels import implementations
from attnlab.kernels.call import BLOCKS, Blocks, Call, checked, sigmoid_gate
from attnlab.kernels.row_catalogue import row_map_of
from attnlab.kernels.row_maps import SOFTMAX, RowMap

Implementation = Literal["map", "scan", "pallas", "interpret", "cudnn", "splash"]


class Choice(NamedTuple):
    """Who computes a call, and why."""

    implementation: Implementation
    why: str


def attention(
    q: Float[Array, "*B H T K"],
    k: Float[Array, "*B G U K"],
    v: Float[Array, "*B G U E"],
    *,
    map: RowMap | WeightMap = SOFTMAX,
    implementation: Implementation | None = None,
    scale: float | None = None,
    causal: bool = True,
    window: int | None = None,
    mask: Bool[HostOrDevice, "*M R W"] | None = None,
    segments: tuple[Int[HostOrDevice, "*P T"], Int[HostOrDevice, "*Q U"]] | None = None,
    at: Int[HostOrDevice, " T"] | None = None,
    clock: tuple[Float[HostOrDevice, ...] | None, Float[HostOrDevice, ...] | None] | None = None,
    sink: Float[HostOrDevice, ...] | float | None = None,
    gate: Float[HostOrDevice, ...] | None = None,
    finish: Callable[[Array, Array], Array] = sigmoid_gate,
    blocks: Blocks = BLOCKS,
) -> Float[Array, "*B H T E"]:
    """`out_t = finish(sum_u A_tu v_u, gate_t)`, `A_tu = weight(l_tu, c_t)` of a `RowMap`.

    `l_tu = scale q_t . k_u + clock_t - clock_u`. Sums are float32 if the inputs are narrower, weights are rounded to
    the inputs' type before they meet values, gradients have the types of what they belong to. Differentiable once, in
    `q, k, v, clock, sink, gate` (`implementation="map"`: as often as one likes). Memory is `O((T + U) (K + E))` per
    head and never `T U`, but for a `mask` of pairs, which is kept as bytes. A row that sees nothing is zeros.

    Args:
      q, k, v: every key head serves `H / G` query heads, those next to each other. Queries are the last positions.
      map: `RowMap`, or a map of the catalogue that has a block form (`row_maps.row_map_of`).
      implementation: `map`, the whole map; `scan`, blocks in loops of plain JAX; `pallas`, blocks in a Pallas kernel
        (TPU, CUDA); `interpret`, the same interpreted, on any machine, slowly; `cudnn` (GPU) and `splash` (TPU), for
        softmax, kernels that others maintain. None: what `which` says.
      scale: of the dot products, `1 / sqrt(K)` if None.
      causal: query `t` sees keys `u <= t`. window: and only those with `u > t - window`.
      mask: True where a query may look besides; `[.., T, U]`, or `[.., 1, U]` (padding), which stays as small as that.
      segments: a query sees keys of its own segment only; numbers >= 0 of queries and keys.
      at: positions of the queries instead of the last ones.
      clock: of queries, broadcastable to `[*B, H, T]`, and keys, to `[*B, G, U]`, or None: ALiBi, forgetting.
      sink: logit of a place without a value in every row, broadcastable to `[*B, H, T]`: 0 is softmax-off-by-one, a
        learned number per head `[H, 1]` a sink logit.
      gate: what `finish` reads besides the output, broadcastable to its shape.
      finish: elementwise `(out, gate) -> out`; by default `out sigmoid(gate)`, the output gate G1.
      blocks: sizes of the blocks.

    Raises:
      ConfigError: arguments that do not fit; a map without a block form; what an implementation cannot do.
    """
    call = _call(
        q,
        k,
        v,
        map=map,
        scale=scale,
        causal=causal,
        window=window,
        mask=mask,
        segments=segments,
        at=at,
        clock=clock,
        sink=sink,
        gate=gate,
        finish=finish,
        blocks=blocks,
    )
    platform = jax.default_backend()
    chosen = _choose(call, platform).implementation if implementation is None else implementation
    require(chosen in get_args(Implementation), "implementation", chosen, " | ".join(get_args(Implementation)))
    match chosen:
        case "map":
            return implementations.whole_map(call)
        case "cudnn":
            _refuse(call, "cudnn", _not_for_cudnn(call))
            return implementations.by_cudnn(call)
        case "splash":
            _refuse(call, "splash", _not_for_splash(call))
            return implementations.by_splash(call)
        case _:
            return implementations.in_blocks(call, chosen)


def which(
    q: Any,
    k: Any,
    v: Any,
    *,
    platform: Literal["cpu", "gpu", "tpu"] | None = None,
    map: RowMap | WeightMap = SOFTMAX,
    causal: bool = True,
    **options: Any,
) -> Choice:
    """Who computes `attention` of these arguments (arrays or their shapes), and why.

    Softmax over all keys, or over all before, goes to the kernel that others maintain for the platform, where it takes
    these shapes and types. What else there is goes to ours; on a CPU to the whole map as long as it is small.

    Args:
      platform: None = the one that JAX runs on. Other arguments as in `attention`.
    """
    allowed = sorted(set(Call.__dataclass_fields__) - {"q", "k", "v", "map", "causal"})
    require(set(options) <= set(allowed), "which", sorted(options), " | ".join(allowed))
    found = []

    def trace(q: Array, k: Array, v: Array) -> None:
        given = _call(q, k, v, map=map, causal=causal, **options)
        found.append(_choose(given, platform or jax.default_backend()))

    jax.eval_shape(trace, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q, k, v)))
    return found[0]


def _call(q: Any, k: Any, v: Any, **options: Any) -> Call:
    absent: dict[str, Any] = dict.fromkeys(("scale", "window", "mask", "segments", "at", "clock", "sink", "gate"))
    given: dict[str, Any] = {**absent, "finish": sigmoid_gate, "blocks": BLOCKS, **options}
    require(isinstance(given["blocks"], Blocks), "blocks", given["blocks"], "Blocks(q, k)")
    if given["scale"] is None:
        given["scale"] = q.shape[-1] ** -0.5
    given["map"] = row_map_of(given["map"])
    return checked(Call(q, k, v, **given))


def _not_for_cudnn(call: Call) -> str:
    """Why not; empty: it can."""
    *_, num, num_keys = call.pairs
    if extras := call.extras():
        return f"{', '.join(extras)} is given"
    if call.q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"it takes bfloat16 and float16, not {call.q.dtype}"
    if call.q.shape[-1] != call.v.shape[-1] or call.q.shape[-1] % 8 or call.q.shape[-1] > 128:
        return "K = E is to be a multiple of 8, at most 128"
    return "" if not call.causal or num == num_keys else "a causal call has as many queries as keys"


def _not_for_splash(call: Call) -> str:
    """Why not; empty: it can."""
    *_, num, num_keys = call.pairs
    if extras := call.extras():
        return f"{', '.join(extras)} is given"
    if num % 128 or num_keys % 128:
        return "T and U are to be multiples of 128"
    return "" if call.q.shape[-1] == call.v.shape[-1] else "K and E are to be equal"


def _refuse(call: Call, name: str, why: str) -> None:
    require(not why, "implementation", name, "map | scan | pallas | interpret for this call", f"{name}: {why}.")


def _choose(call: Call, platform: str) -> Choice:
    if platform == "cpu":
        numbers = 1
        for size in call.pairs:
            numbers *= size
        if numbers <= WHOLE:
            return Choice("map", f"a CPU, and the whole map is small: {numbers} weights, at most {WHOLE}")
        return Choice("scan", f"a CPU, and the whole map is large: {numbers} weights, more than {WHOLE}")
    name, why = ("splash", _not_for_splash(call)) if platform == "tpu" else ("cudnn", _not_for_cudnn(call))
    if not why:
        return Choice(name, f"{platform}, softmax: a maintained kernel")
    return Choice("pallas", f"{platform}, not {name}: {why}")
