"""Heads that copy: which look at the token before, at an earlier copy of their own token, or at what followed it.

With `E_tu = [x_u = x_t, u < t]`, the earlier places of a query's own token,

    previous    A_{t, t-1}                                   mean over t >= 1, or over the carriers among them
    duplicate   Σ_u E_tu A_tu                                mean over the queries that have an earlier copy
    induction   Σ_u E_tu A_{t, u+1},    u + 1 < t            the same queries

of the map `A` of every head, as shares `|A_tu| / Σ |A_tm|` (`share=True`, the default) or as signed masses. `chance` is
what a row spread evenly over itself and all before it would score as `induction`: the least that means something.

A first layer's previous-token head and a second layer's induction head together answer a recall query `k` with what
stood behind `k` (Olsson et al., 2209.11895); behind a convolution that brings key and value together one layer does it,
and its head scores as `duplicate` where the key's own place holds both, else as `induction`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.analysis.base import Dims, check_task, evaluation_batch, mean_over, sites_of
from attnlab.analysis.map_places import local_focus
from attnlab.analysis.map_rows import row_shares
from attnlab.config import require
from toy_tasks.base import Batch


def earlier_copies(tokens: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
    """`E[b, t, u]`: token `u` is the token of query `t`, and stands before it."""
    length = tokens.shape[-1]
    return (tokens[:, :, None] == tokens[:, None, :]) & jnp.tri(length, k=-1, dtype=bool)


def copying_scores(
    weights: Float[Array, "B H T T"],
    tokens: Int[Array, "B T"],
    where: Bool[Array, "B T"] | None = None,
    carriers: Bool[Array, "B T"] | None = None,
) -> dict[str, Float[Array, " H"]]:
    """`previous`, `duplicate`, `induction`, and `chance` of the last (the same for every head), of one layer's maps.

    Args:
      where: the queries that count for `duplicate` and `induction`; those without an earlier copy never do. None = all.
      carriers: the queries that count for `previous`: those that must know the token before them. None = all.
    """
    copies = earlier_copies(tokens)
    behind = jnp.pad(copies, ((0, 0), (0, 0), (1, 0)))[..., :-1]  # what followed the copy
    behind &= jnp.tri(tokens.shape[-1], k=-1, dtype=bool)  # ... and is not the query itself
    asked = jnp.any(copies, axis=-1) if where is None else jnp.any(copies, axis=-1) & where
    previous = local_focus(weights, 1)
    late = jnp.broadcast_to(jnp.arange(tokens.shape[-1]) >= 1, tokens.shape)
    late = late if carriers is None else late & carriers
    seen = 1.0 + jnp.arange(tokens.shape[-1])
    even = jnp.broadcast_to((jnp.sum(behind, axis=-1) / seen)[:, None, :], previous.shape)
    found = {
        name: jnp.einsum("bhtu,btu->bht", weights, at) for name, at in (("duplicate", copies), ("induction", behind))
    }
    found = {name: mean_over(values, asked) for name, values in (*found.items(), ("chance", even))}
    return {"previous": mean_over(jnp.where(late[:, None, :], previous, 0), late), **found}


@dataclass(frozen=True)
class CopyingHeads:
    """`probe(model, params) -> {name: Float[L, H]}`: `previous`, `duplicate`, `induction`, `chance` on one batch.

    Attributes:
      task: of tokens; batch_size, seed: of the evaluation batch.
      asked: the position class whose queries count (`query` of the recall tasks); None = all with an earlier copy.
      carriers: the class whose queries count for `previous` (`value` of the recall tasks); None = all but the first.
      share: of the row's mass; False: signed mass.

    A layer without attention, or whose mechanism has no map, is NaN.
    """

    task: Any
    batch_size: int = 64
    seed: int = 0
    asked: str | None = None
    carriers: str | None = None
    share: bool = True

    def __post_init__(self) -> None:
        check_task(self.task, self.batch_size, self.seed)
        require(hasattr(self.task, "vocab_size"), "task", self.task, "a task of tokens: copies are of tokens")

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        batch = evaluation_batch(self.task, self.batch_size, self.seed)
        known = sites_of(model, params, batch.inputs)
        names = [f"blocks.{layer}.attn.weights" for layer in range(model.num_layers)]
        _, tape = model.apply(params, batch.inputs, tape=tuple(name for name in names if name in known))
        require(bool(tape), "model", model, "one with an attention map in some layer")
        where, carriers = (self._class(batch, name) for name in ("asked", "carriers"))
        start = getattr(model, "registers", 0)

        def scores(name: str) -> dict[str, Array]:
            weights = tape[name]
            weights = row_shares(weights) if self.share else weights
            return copying_scores(weights[..., start:, start:], batch.inputs, where, carriers)

        by_layer = {name: scores(name) for name in names if name in tape}
        none = {key: jnp.full_like(value, jnp.nan) for key, value in next(iter(by_layer.values())).items()}
        return {key: jnp.stack([by_layer.get(name, none)[key] for name in names]) for key in none}

    def _class(self, batch: Batch, field: str) -> Array | None:
        name, classes = getattr(self, field), batch.positions
        require(name is None or name in classes, field, name, f"a position class of the task: {', '.join(classes)}")
        return None if name is None else classes[name]

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        return {name: ("layer", "head") for name in names}


def copying_heads(task: Any, batch_size: int = 64, seed: int = 0, **options: Any) -> CopyingHeads:
    """The probe of copying heads on `task`; see `CopyingHeads`.

    Example:
      record = {"heads": log_spaced(100, of=copying_heads(tt.MQAR(), asked="query", carriers="value"))}
    """
    return CopyingHeads(task, batch_size, seed, **options)
