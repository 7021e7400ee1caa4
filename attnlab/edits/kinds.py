"""Ablation of a head, by kind: every kind has a name, and every result says which it was.

What a head's output `z_t = sum_u A_tu v_u` becomes at the chosen queries:

    zero       0                            the head writes nothing
    mean       a given mean of z            over the positions and sequences of a reference batch (`mean_outputs`)
    resample   z of another run             the same place in it: activation patching
    uniform    (1 / (t + 1)) sum_{u<=t} v_u     "masking a retrieval head" (2404.15574): its query is set to 0
    bos        v_0                          knocked out to the first token
    identity   v_t                          perturbed attention guidance (2506.10978)

The last three are pattern mixes written on the output (`z = M v`), so they need no map; they are what a map of the kind
would give where `z = A v` (no gate behind the mix, no value of a null column). All take an amount `m` in `[0, 1]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.config import require
from attnlab.edits.algebra import Amount, output_mix
from attnlab.tape import Edit, head_mask

Kind = Literal["zero", "mean", "resample", "uniform", "bos", "identity"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GIVEN = ("mean", "resample")  # kinds that need a source


def ablate(layer: int, kind: Kind, amount: Amount = 1.0, source: Any = None, mask: Any = None) -> Edit:
    """`z' = (1 - m) z + m z_kind` in block `layer`; `m` broadcast to `[*B, H, T, K]` (`[H, 1, 1]` for one per head).

    Args:
      source: for `mean` (`[H, 1, K]` or `[H, T, K]`) and `resample` (`[*B, H, T, K]`); no other kind takes one.

    Raises:
      ConfigError: an unknown kind, a source that lacks or is not wanted.
    """
    require(kind in KINDS, "kind", kind, " | ".join(KINDS))
    require((source is not None) == (kind in GIVEN), "source", "None" if source is None else "given", _wanted(kind))
    if kind == "zero":
        return output_mix(layer, amount, 0.0, mask=mask)
    if kind in GIVEN:
        return output_mix(layer, amount, source, mask=mask)
    transform = {"uniform": _to_running_mean, "bos": _to_first, "identity": _to_own}[kind]
    return Edit(f"blocks.{layer}.attn.head_out", transform, jnp.asarray(amount), mask, reads="v")


def _wanted(kind: str) -> str:
    return "the head outputs to put there" if kind in GIVEN else f"None for kind {kind!r}"


def ablate_heads(
    layer: int, heads: Sequence[int] | int, num_heads: int, kind: Kind = "zero", source: Any = None, at: Any = None
) -> Edit:
    """The given heads of block `layer` ablated; `at` picks queries (`edits.rows`), None = all."""
    mask = head_mask(num_heads, heads)
    return ablate(layer, kind, 1.0, source, mask if at is None else mask & at)


def mean_outputs(outputs: Float[Array, "B H T K"], per_position: bool = False) -> Float[Array, "H _ K"]:
    """The source of `mean`: over sequences and positions (`[H, 1, K]`), or over sequences alone (`[H, T, K]`)."""
    return jnp.mean(outputs, axis=0) if per_position else jnp.mean(outputs, axis=(0, 2))[:, None, :]


def _to_running_mean(z, amount, values):
    count = jnp.arange(1, values.shape[-2] + 1, dtype=values.dtype)[:, None]
    return (1 - amount) * z + amount * (jnp.cumsum(values, axis=-2) / count)


def _to_first(z, amount, values):
    return (1 - amount) * z + amount * values[..., :1, :]


def _to_own(z, amount, values):
    return (1 - amount) * z + amount * values
