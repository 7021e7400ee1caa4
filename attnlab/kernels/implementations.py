"""The ways to compute one call of attention: the whole map, blocks (ours), and kernels that others maintain."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.kernels.blocks import pad_to
from attnlab.kernels.call import Call
from attnlab.kernels.head_rows import apart, masks_of, together
from attnlab.kernels.row_gradient import Setting, attention
from attnlab.kernels.row_operands import Fixed, Heads
from attnlab.kernels.row_plan import Plan
from attnlab.kernels.row_runs import Engine
from attnlab.kernels.targets import power_of_two


def positions(call: Call) -> Array:
    """Of the queries, `[T]`."""
    num, num_keys = call.pairs[-2:]
    return jnp.arange(num_keys - num, num_keys) if call.at is None else jnp.asarray(call.at)


def whole_map(call: Call) -> Array:
    """With all `T U` weights in memory, differentiated by JAX as often as one likes."""
    share = call.q.shape[-3] // call.num_groups
    k, v = (jnp.repeat(x, share, axis=-3) for x in (call.k, call.v))
    kind = jnp.promote_types(call.q.dtype, jnp.float32)
    logits = call.scale * jnp.einsum("...tk,...uk->...tu", call.q, k, preferred_element_type=kind)
    if call.clock is not None:
        rows, keys = call.clock
        logits = logits if rows is None else logits + rows[..., :, None]
        logits = logits if keys is None else logits - jnp.repeat(keys, share, axis=-2)[..., None, :]
    t, u = positions(call)[:, None], jnp.arange(call.pairs[-1])[None, :]
    seen = jnp.ones(call.pairs[-2:], bool)
    if call.causal:
        seen &= u <= t
    if call.window is not None:
        seen &= u > t - call.window
    if call.mask is not None:
        seen = seen & call.mask
    if call.segments is not None:
        rows, keys = call.segments
        seen = seen & (rows[..., None, :, None] == keys[..., None, None, :])
    if call.sink is not None:
        logits = jnp.concatenate([logits, call.sink[..., None]], axis=-1)
        seen = jnp.concatenate([seen, jnp.ones((*seen.shape[:-1], 1), bool)], axis=-1)
    weights = call.map(logits, seen)[..., : call.pairs[-1]]
    out = jnp.einsum("...tu,...ue->...te", weights.astype(v.dtype), v, preferred_element_type=kind)
    return (out if call.gate is None else call.finish(out, call.gate)).astype(call.v.dtype)


def in_blocks(call: Call, engine: Engine) -> Array:
    """Block by block, as `engine` does it."""
    heads, num, _ = call.q.shape[-3:]
    groups, num_keys = call.num_groups, call.pairs[-1]
    share, rows = heads // groups, num * heads // groups
    block_q, block_k = min(call.blocks.q, power_of_two(rows)), min(call.blocks.k, power_of_two(num_keys))
    plan = Plan(
        map=call.map,
        finish=None if call.gate is None else call.finish,
        scale=call.scale,
        causal=call.causal,
        window=call.window,
        num_keys=num_keys,
        offset=num_keys - num if call.at is None else None,
        share=share,
        block_q=block_q,
        block_k=block_k,
        num_q=-(-rows // block_q),
        num_k=-(-num_keys // block_k),
    )

    def row(x: Array | None) -> Array | None:
        return None if x is None else together(x[..., None], groups)[..., 0]

    clock = (None, None) if call.clock is None else call.clock

    def wide(x: Array) -> Array:
        return x if engine == "scan" else pad_to(x, power_of_two(x.shape[-1]), -1)

    inputs = Heads(
        q=wide(together(call.q, groups)),
        k=wide(call.k.reshape(-1, num_keys, call.k.shape[-1])),
        v=wide(call.v.reshape(-1, num_keys, call.v.shape[-1])),
        row_shift=row(clock[0]),
        key_shift=None if clock[1] is None else -clock[1].reshape(-1, num_keys),
        null=row(call.sink),
        score=None if call.gate is None else wide(together(call.gate, groups)),
    )
    out = attention(Setting(plan, engine), inputs, _fixed(call))
    return apart(out[..., : call.v.shape[-1]], call.q.shape)


def _fixed(call: Call) -> Fixed:
    *batch, heads, num, _ = call.q.shape
    groups, num_keys = call.num_groups, call.pairs[-1]
    share = heads // groups
    at = jnp.repeat(positions(call), share).astype(jnp.int32)
    pairs, keys = (None, None) if call.mask is None else masks_of(call.mask, call.pairs, groups)
    row_segment = key_segment = None
    if call.segments is not None:
        rows, columns = (x[..., None, :] for x in call.segments)
        row_segment = jnp.broadcast_to(jnp.repeat(rows, share, axis=-1), (*batch, groups, num * share))
        row_segment = row_segment.reshape(-1, num * share)
        key_segment = jnp.broadcast_to(columns, (*batch, groups, num_keys)).reshape(-1, num_keys)
    if keys is not None:
        row_segment = jnp.zeros((1, num * share), jnp.int32) if row_segment is None else row_segment
        key_segment = jnp.where(keys, 0 if key_segment is None else key_segment, -1).astype(jnp.int32)
    return Fixed(at, row_segment, key_segment, pairs)


def by_cudnn(call: Call) -> Array:
    """`jax.nn.dot_product_attention` with cuDNN."""
    q, k, v = (jnp.swapaxes(x.reshape(-1, *x.shape[-3:]), -2, -3) for x in (call.q, call.k, call.v))
    out = jax.nn.dot_product_attention(q, k, v, scale=call.scale, is_causal=call.causal, implementation="cudnn")
    out = jnp.swapaxes(out, -2, -3).reshape(*call.q.shape[:-1], call.v.shape[-1])
    return out if call.gate is None else call.finish(out, call.gate).astype(call.v.dtype)


def by_splash(call: Call, interpret: bool = False) -> Array:
    """The splash attention that comes with JAX, for TPU."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    heads, (num, num_keys) = call.q.shape[-3], call.pairs[-2:]
    one = masks.CausalMask((num, num_keys), num_keys - num) if call.causal else masks.FullMask((num, num_keys))
    made = kernel.make_splash_mha(
        masks.MultiHeadMask([one] * heads), head_shards=1, q_seq_shards=1, interpret=interpret
    )
    q, k, v = (x.reshape(-1, *x.shape[-3:]) for x in (call.scale * call.q, call.k, call.v))
    out: Any = jax.vmap(made)(q, k, v)
    out = out.reshape(*call.q.shape[:-1], call.v.shape[-1])
    return out if call.gate is None else call.finish(out, call.gate).astype(call.v.dtype)
