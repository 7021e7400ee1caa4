"""Path patching: what one head tells another, and nothing else (2310.08744; Goldowsky-Dill et al. 2304.05969).

For a sender head `s` and a receiver `r` (the query, key or value of a later head, or the logits):

1. the outputs `z` of all heads are read from a clean and from a corrupted run;
2. the clean run is made again with `s` at its corrupted output and *every other head* at its clean one (MLPs answer the
   change, or stay at their clean outputs); what arrives at `r` is kept;
3. the clean run is made a third time with only `r` set to what arrived;
4. the effect is `(score - score_clean) / (score_corrupt - score_clean)`: 0 nothing, 1 all of it.

All pairs are one program: passes are mapped over, and whatever the frozen heads make superfluous is not computed.
Patches hold at all positions unless `at` says otherwise (the published code: at one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from attnlab import tape
from attnlab.analysis.head_effects import Score, attention_layers
from attnlab.config import require
from attnlab.tape import Edit, Tape

Part = Literal["q", "k", "v"]


@dataclass(frozen=True)
class Receiver:
    """The query, key or value of one head."""

    layer: int
    head: int
    part: Part

    def __post_init__(self) -> None:
        require(self.part in get_args(Part), "Receiver.part", self.part, " | ".join(get_args(Part)))


LOGITS = "logits"
"""The receiver at the end: the direct effect of a head."""


@struct.dataclass
class PathEffects:
    """Scores of the runs and of every path.

    Attributes:
      receivers: in the order of the last axis of `patched`; frozen_mlps: whether MLPs stayed at their clean outputs.
      clean, corrupt: the scores of the two runs, numbers. patched: `[L, H, R]`; the clean score where the sender is not
        before the receiver, NaN for layers without attention.
    """

    receivers: tuple[Any, ...] = struct.field(pytree_node=False)
    frozen_mlps: bool = struct.field(pytree_node=False)
    clean: Array
    corrupt: Array
    patched: Array

    @property
    def effect(self) -> Float[Array, "L H R"]:
        """`(patched - clean) / (corrupt - clean)`."""
        return (self.patched - self.clean) / (self.corrupt - self.clean)


def all_receivers(model: Any, parts: Sequence[Part] = ("q", "k", "v")) -> tuple[Receiver, ...]:
    """Every query, key and value that some head stands before."""
    layers = attention_layers(model)
    later = [layer for layer in layers if layer > layers[0]]
    return tuple(Receiver(layer, head, part) for layer in later for head in range(model.num_heads) for part in parts)


def path_effects(
    model: Any,
    params: Any,
    clean: Any,
    corrupt: Any,
    score: Score,
    receivers: Sequence[Receiver | str] = (LOGITS,),
    *,
    freeze_mlps: bool = False,
    at: Bool[Array, "T 1"] | None = None,
    chunk: int | None = None,
) -> PathEffects:
    """The effect of every path from a head to one of `receivers`. Pure; one trace for all senders and all receivers.

    Args:
      clean, corrupt: inputs of the two runs, of one shape. score: `logits -> number`.
      receivers: `LOGITS` or `Receiver`s (`all_receivers(model)`), each by itself. For a set of them at once see
        `patched_score`.
      freeze_mlps: MLPs stay at their clean outputs, so that only the paths through the stream itself count.
      at: positions at which senders are patched; None = all. chunk: senders at a time; None = one by one.
    """
    layers = attention_layers(model)
    chosen = tuple(receivers)
    for receiver in chosen:
        _check(receiver, model, layers)
    logits, cached = model.apply(params, clean, tape=_frozen_sites(model))
    other_logits, other = model.apply(params, corrupt, tape=("blocks.*.attn.head_out",))
    base = score(logits)

    heard = [r for r in chosen if isinstance(r, Receiver)]
    gates = jnp.stack([_gate(r, model) for r in heard]) if heard else None

    def of_sender(sender: Array) -> Array:
        arrived, direct = _arriving(model, params, clean, cached, other, sender, chosen, freeze_mlps, at)

        def of_receiver(gate: Array) -> Array:
            held = [tape.replace(site, value, _opened(gate, site)) for site, value in arrived.items()]
            return score(model.apply(params, clean, edits=held)[0])

        scores = iter(() if gates is None else jax.lax.map(of_receiver, gates))
        return jnp.stack([score(direct) if isinstance(r, str) else next(scores) for r in chosen])

    senders = jnp.eye(len(layers) * model.num_heads).reshape(-1, len(layers), model.num_heads)
    found = jax.lax.map(of_sender, senders, batch_size=chunk).reshape(len(layers), model.num_heads, -1)
    patched = jnp.full((model.num_layers, *found.shape[1:]), jnp.nan).at[jnp.array(layers)].set(found)
    return PathEffects(chosen, freeze_mlps, base, score(other_logits), patched)


def patched_score(
    model: Any, params: Any, inputs: Any, score: Score, receivers: Sequence[Receiver], arrived: Tape
) -> Array:
    """The score of a run in which the receivers, and only they, are set to what `arrived` holds at their sites."""
    held = [tape.replace(site_of(r), arrived[site_of(r)], tape.head_mask(model.num_heads, r.head)) for r in receivers]
    return score(model.apply(params, inputs, edits=held)[0])


def _gate(receiver: Receiver, model: Any) -> Bool[Array, "L 3 H"]:
    """Where a receiver listens: its layer, part and head."""
    gate = jnp.zeros((model.num_layers, len(get_args(Part)), model.num_heads), bool)
    return gate.at[receiver.layer, get_args(Part).index(receiver.part), receiver.head].set(True)


def _opened(gate: Bool[Array, "L 3 H"], site: str) -> Bool[Array, "H 1 1"]:
    """The part of a gate that belongs to a site, as a mask of it."""
    _, layer, _, part = site.split(".")
    return gate[int(layer), get_args(Part).index(part), :, None, None]


def site_of(receiver: Receiver) -> str:
    """`blocks.{layer}.attn.{part}`."""
    return f"blocks.{receiver.layer}.attn.{receiver.part}"


def _frozen_sites(model: Any) -> tuple[str, ...]:
    mlps = len(getattr(model, "no_mlp", ())) < model.num_layers
    return ("blocks.*.attn.head_out", *(("blocks.*.mlp.out",) if mlps else ()))


def _arriving(
    model: Any,
    params: Any,
    inputs: Any,
    cached: Tape,
    other: Tape,
    sender: Float[Array, "A H"],
    receivers: tuple[Any, ...],
    freeze_mlps: bool,
    at: Any,
) -> tuple[Tape, Array]:
    """What arrives at the receivers, and the logits, if all heads are frozen and `sender` has its corrupted output."""
    held: list[Edit] = []
    for row, layer in zip(sender, attention_layers(model), strict=True):
        site = f"blocks.{layer}.attn.head_out"
        chosen = row[:, None, None] if at is None else row[:, None, None] * at
        held.append(tape.replace(site, jnp.where(chosen > 0, other[site], cached[site])))
    if freeze_mlps:
        held += [tape.replace(site, value) for site, value in cached.items() if site.endswith(".mlp.out")]
    sites = tuple(dict.fromkeys(site_of(r) for r in receivers if isinstance(r, Receiver)))
    logits, arrived = model.apply(params, inputs, tape=sites, edits=held)
    return arrived, logits


def _check(receiver: Any, model: Any, layers: tuple[int, ...]) -> None:
    if receiver == LOGITS:
        return
    require(isinstance(receiver, Receiver), "receivers", receiver, "LOGITS or a Receiver(layer, head, part)")
    require(receiver.layer in layers, "receivers", receiver, f"a layer with attention: {layers}")
    require(0 <= receiver.head < model.num_heads, "receivers", receiver, f"a head of 0 to {model.num_heads - 1}")
