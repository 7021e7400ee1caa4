"""What one layer says about sinks: from its attention map, its logits, its values, its residual stream.

Every function takes the activations of one layer on an evaluation batch and returns a flat dict; the probe `sinks`
stacks them over layers. Definitions: Guo et al. (2410.13835) and their code; Gu et al. (2410.10781) for the sink
metric. Position 0 is called bos throughout: it holds `<s>` if the task has one, else an ordinary token.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis import sink_metric
from attnlab.analysis.base import Places, mean_by_token, mean_over


def attention_terms(
    weights: Float[Array, "B H T T"], null: Float[Array, "B H T"] | None, at: Places
) -> dict[str, Float[Array, " H"]]:
    """Where the mass of the rows goes.

    Returns, each `[H]`:
      bos_attention: `A[i, 0]` over non-trigger positions, position 0 (where it is 1 under softmax) included.
      bos_attention_later: the same without position 0, which sees nothing but itself. They differ where weights are
        not bounded: under ReLU the one weight `A[0, 0]` can be 10 and more, while no other query looks at bos.
      previous_attention: `A[i, i-1]` over trigger positions.
      row_sum: `Σ_u A[i, u]` over all positions.
      null_mass: mass on null columns (K bias, softmax-off-by-one) over all positions; 0 if there are none.
      dormant_mass_tokens: `Σ_u A[i, u]` over non-trigger positions; dormant_mass_triggers, dormant_mass_newline: the
        part of it on keys that are triggers, or newlines.
    """
    classes = [jnp.ones(at.inputs.shape, bool), at.trigger, at.newline]
    keys = jnp.stack(classes, axis=-1).astype(weights.dtype)[:, None]  # [B, 1, U, 3]
    mass = weights @ keys
    dormant = ~at.trigger
    before = jnp.pad(jnp.diagonal(weights, offset=-1, axis1=-2, axis2=-1), ((0, 0), (0, 0), (1, 0)))
    heads = weights.shape[1]
    return {
        "bos_attention": mean_over(weights[..., 0], dormant),
        "bos_attention_later": mean_over(weights[..., 0], dormant & (jnp.arange(weights.shape[-2]) > 0)),
        "previous_attention": mean_over(before, at.trigger),
        "row_sum": jnp.mean(mass[..., 0], axis=(0, 2)),
        "null_mass": jnp.zeros(heads) if null is None else jnp.mean(null, axis=(0, 2)),
        "dormant_mass_tokens": mean_over(mass[..., 0], dormant),
        "dormant_mass_triggers": mean_over(mass[..., 1], dormant),
        "dormant_mass_newline": mean_over(mass[..., 2], dormant),
    }


def sink_terms(weights: Float[Array, "B H T T"], num_keys: int, eps: float) -> dict[str, Float[Array, "H N"]]:
    """The sink metric for the first `num_keys` keys `k`, raw and by proxy (`attnlab.analysis.sink_metric`).

    Returns, each `[H, num_keys]`: sink_mass, sink_mass_proxy: `α_k` averaged over sequences; sink_rate,
    sink_rate_proxy: share of sequences with `α_k > eps`.
    """
    found = {}
    for name, maps in (("", weights), ("_proxy", sink_metric.proxy(weights))):
        mass = sink_metric.sink_mass(maps, num_keys)
        found |= {f"sink_mass{name}": jnp.mean(mass, axis=0), f"sink_rate{name}": sink_metric.rate(mass, eps)}
    return found


def logit_terms(
    logits: Float[Array, "B H T T"], at: Places, plain: Bool[Array, " V"], min_count: int
) -> dict[str, Array]:
    """`Δlogit_i = logit(i, 0) - mean_{1 <= j <= i-1} logit(i, j)` for `i > 1`: bos and self are left out.

    Averaged over the positions that hold token `v` first, then over tokens. A constant added to all logits of a row
    changes nothing.

    Returns:
      sink_logit_by_token: `[H, V]`, NaN for tokens seen fewer than `min_count` times.
      sink_logit, sink_logit_sd, sink_logit_q10, sink_logit_q90: `[H]`, over tokens that are neither trigger nor bos.
      sink_logit_trigger: `[H]`, mean over triggers.
    """
    length = logits.shape[-1]
    row, key = jnp.arange(length)[:, None], jnp.arange(length)
    between = ((key >= 1) & (key < row)).astype(logits.dtype)
    weight = between / jnp.maximum(jnp.arange(length) - 1, 1)[:, None]
    delta = logits[..., 0] - jnp.einsum("bhtu,tu->bht", logits, weight)
    late = jnp.broadcast_to(jnp.arange(length) > 1, at.inputs.shape)
    by_token = mean_by_token(delta, at.token, late, min_count)
    ours = jnp.where(plain, by_token, jnp.nan)
    low, high = jnp.nanquantile(ours, jnp.array([0.1, 0.9]), axis=-1)
    return {
        "sink_logit": jnp.nanmean(ours, axis=-1),
        "sink_logit_sd": jnp.nanstd(ours, axis=-1),
        "sink_logit_q10": low,
        "sink_logit_q90": high,
        "sink_logit_trigger": mean_over(delta, at.trigger & late),
        "sink_logit_by_token": by_token,
    }


def value_terms(
    values: Float[Array, "B H T K"],
    output: Float[Array, "H K D"] | None,
    at: Places,
    plain: Bool[Array, " V"],
    min_count: int,
) -> dict[str, Array]:
    """Norms of what a position gives to those who attend to it: `‖W_O W_V LN(h)‖`, per head.

    Args:
      values: `W_V LN(h)`.
      output: `W_O` by head; None if the values are in the stream's space already.

    Returns:
      value_norm_bos: `[H]` at position 0; value_norm_bos_raw: the same without `W_O`, as the authors' batch summary.
      value_norm_ordinary, value_norm_trigger, value_norm_newline: `[H]`, means over positions of the class (ordinary =
        neither trigger nor bos).
      value_norm_ordinary_median: `[H]`, median over ordinary tokens of the token's mean.
      value_ratio: `[H]`, value_norm_bos / value_norm_ordinary; below one is value-state drain.
      value_norm_by_token: `[H, V]`.
    """
    written = values if output is None else jnp.einsum("bhtk,hkd->bhtd", values, output)
    norms = jnp.sqrt(jnp.sum(written * written, axis=-1))
    by_token = mean_by_token(norms, at.token, None, min_count)
    bos, ordinary = jnp.mean(norms[..., 0], axis=0), mean_over(norms, at.plain)
    return {
        "value_norm_bos": bos,
        "value_norm_bos_raw": jnp.mean(jnp.sqrt(jnp.sum(values[..., 0, :] ** 2, axis=-1)), axis=0),
        "value_norm_ordinary": ordinary,
        "value_norm_ordinary_median": jnp.nanmedian(jnp.where(plain, by_token, jnp.nan), axis=-1),
        "value_norm_trigger": mean_over(norms, at.trigger),
        "value_norm_newline": mean_over(norms, at.newline),
        "value_ratio": bos / ordinary,
        "value_norm_by_token": by_token,
    }


def residual_terms(stream: Float[Array, "B T D"], at: Places, min_count: int) -> dict[str, Array]:
    """Norms of the residual stream after a block.

    Returns:
      residual_norm_bos: at position 0; residual_norm_other: mean over all other positions.
      residual_peak: the excess, residual_norm_bos - residual_norm_other.
      residual_norm_by_token: `[V]`.
    """
    norms = jnp.sqrt(jnp.sum(stream * stream, axis=-1))
    bos, other = jnp.mean(norms[:, 0]), jnp.mean(norms[:, 1:])
    return {
        "residual_norm_bos": bos,
        "residual_norm_other": other,
        "residual_peak": bos - other,
        "residual_norm_by_token": mean_by_token(norms, at.token, None, min_count),
    }
