"""Edits of what heads write: reinforcement, guidance, injection. Each is a line on the output mix, so any mechanism
will do.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Float

from attnlab.edits.algebra import Amount, output_mix, pattern_mix, stream_mix
from attnlab.edits.kinds import ablate
from attnlab.tape import Edit, scale


def reinforce(layer: int, factor: Amount, mask: Any = None) -> Edit:
    """Head outputs times `factor` (`[H, 1, 1]`, or a number with `mask`): vision-aware head reinforcement (2412.13949).

    That this turns the sum of heads towards the head is true of any vector (`cos(Z + t Z_h, Z_h)` grows with `t > 0`),
    so
    it is no evidence of grounding by itself: compare with the same factor on other heads.
    """
    return scale(f"blocks.{layer}.attn.head_out", factor, mask)


def soften(layer: int, amount: Amount, mask: Any = None) -> Edit:
    """SoftPAG (2506.10978): `A' = (1 - u) A + u I`, which on the output is `z' = (1 - u) z + u v` and needs no map.

    `u = 1` on all heads is perturbed attention guidance's weak model; `guided` makes a prediction of the two.
    """
    return ablate(layer, "identity", amount, mask=mask)


def guided(logits: Float[Array, "*B V"], weak: Float[Array, "*B V"], weight: float) -> Float[Array, "*B V"]:
    """`l + w (l - l_weak)`: away from what the perturbed model says."""
    return logits + weight * (logits - weak)


def inject(layer: int, task_vector: Float[Array, "H 1 K"], amount: Float[Array, "H 1 1"], mask: Any = None) -> Edit:
    """SITE (2507.20906): `z' = (1 - a) z + a t` per head; `t` the mean head output at the last token of prompts with
    demonstrations, `a` learned by gradient descent (`jax.nn.sigmoid` of free numbers that begin at 0), `mask` the last
    row (`edits.rows(T, -1)`). The published code keeps the last step and not the best one: its best loss is never
    updated.
    """
    return output_mix(layer, amount, task_vector, mask=mask)


def set_rows(layer: int, rows: Float[Array, "*B T U"], mask: Any) -> Edit:
    """The chosen heads and queries look where `rows` say: circuit repair (2310.08744)."""
    return pattern_mix(layer, 1.0, rows, mask)


def steer(site: str, direction: Float[Array, " D"], strength: Amount = 1.0, mask: Any = None) -> Edit:
    """`x + strength * direction` at a site of the stream."""
    return stream_mix(site, 0.0, 0.0, strength * direction, mask)
