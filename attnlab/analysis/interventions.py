"""Risks with a part of the model taken out or forced: what each part is for (Guo et al., 2410.13835, figure 3).

Every intervention is a **zero ablation** (what the part writes is replaced by 0, nothing is averaged or resampled) or a
forced attention map, and is made of the edits of `attnlab.edits`. All of them are one compiled forward pass: each edit
has an array that says whether it holds, and the pass is mapped over these gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from attnlab import edits
from attnlab.analysis.base import Dims, check_task, evaluation_batch, sites_of
from attnlab.config import require
from attnlab.tape import Edit

Named = tuple[tuple[str, tuple[Edit, ...]], ...]


@dataclass(frozen=True)
class Interventions:
    """`probe(model, params) -> {intervention: {risk: array []}}`, the risks being those of `task.risks`.

    Interventions, each in all layers at once and, if there is more than one layer, also as `<name>_<layer>`:
      full: nothing is changed.
      no_attention: attention writes 0. no_mlp: the MLP writes 0. no_block: both.
      identity_attention: every position attends to itself only.
      ideal_attention: triggers attend to the position before them, all others to bos; without bos only the rows of
        triggers are forced (tasks with triggers only).
      no_bos_to_bos: bos does not attend to itself. no_bos_value: the value at bos is 0, the weights stay.
        no_mlp_at_bos: the MLP writes 0 at bos. These three need a task with bos.
    What a layer does not have (attention, MLP) is not intervened on.

    Attributes:
      task: what to evaluate on; needs `risks`.
      batch_size, seed: of the evaluation batch, the same for every step and trained seed.
      only: names of the interventions wanted; None = all.
      extra: your own, as pairs (name, edits).
    """

    task: Any
    batch_size: int = 64
    seed: int = 0
    only: tuple[str, ...] | None = None
    extra: Named = ()

    def __post_init__(self) -> None:
        check_task(self.task, self.batch_size, self.seed)
        require(hasattr(self.task, "risks"), "task", self.task, "a task with risks(logits, batch)")
        if self.only is not None:
            object.__setattr__(self, "only", (self.only,) if isinstance(self.only, str) else tuple(self.only))

    def __call__(self, model: Any, params: Any) -> dict[str, dict[str, Array]]:
        batch = evaluation_batch(self.task, self.batch_size, self.seed)
        named = self.edits(model, params)
        flat, gates = gated(named)

        def risks(gate):
            held = tuple(_gate(edit, on) for edit, on in zip(flat, gate, strict=True))
            logits, _ = model.apply(params, batch.inputs, edits=held)
            return self.task.risks(logits, batch)

        found = jax.lax.map(risks, jnp.asarray(gates))
        return {name: {risk: x[i] for risk, x in found.items()} for i, (name, _) in enumerate(named)}

    def edits(self, model: Any, params: Any) -> Named:
        """The edits of each intervention on this model, `full` first."""
        tokens = jax.ShapeDtypeStruct((1, self.task.length), jnp.int32)
        known = frozenset(jax.eval_shape(lambda t: sites_of(model, params, t), tokens))
        named = (*standard(self.task, model.num_layers, known), *self.extra)
        if self.only is None:
            return named
        names = [name for name, _ in named]
        for name in self.only:
            require(name in names, "only", name, ", ".join(names))
        return tuple((name, held) for name, held in named if name in self.only)

    def dims(self, names: Iterable[str]) -> Dims:
        """Every output is a number."""
        return {name: () for name in names}


def interventions(task: Any, batch_size: int = 64, seed: int = 0, **options: Any) -> Interventions:
    """The probe of risks under interventions on `task`; see `Interventions`.

    Example:
      risks = measure(interventions(task), model, params)
      risks["no_attention"]["backcopy"], risks["full"]["backcopy"]
    """
    return Interventions(task, batch_size, seed, **options)


def standard(task: Any, num_layers: int, known: frozenset[str]) -> Named:
    """The interventions of `Interventions` for a model that has the sites `known`."""
    triggers = tuple(getattr(task, "triggers", ()))
    bos = getattr(task, "bos_id", None) is not None
    ideal = edits.SinkOrPrevious(triggers, 0 if bos else None)
    makers: dict[str, tuple[Callable[[int], Edit], str]] = {
        "no_attention": (edits.remove_attention, "attn.out"),
        "no_mlp": (edits.remove_mlp, "mlp.out"),
        "identity_attention": (edits.identity_attention, "attn.weights"),
    }
    if triggers:
        makers["ideal_attention"] = (lambda layer: edits.force_attention(layer, ideal), "attn.weights")
    if bos:
        makers["no_bos_to_bos"] = (edits.zero_attention_at, "attn.weights")
        makers["no_bos_value"] = (edits.zero_value_at, "attn.v")
        makers["no_mlp_at_bos"] = (edits.zero_mlp_at, "mlp.out")
    by_layer: dict[str, dict[int, tuple[Edit, ...]]] = {
        name: {n: (make(n),) for n in range(num_layers) if f"blocks.{n}.{site}" in known}
        for name, (make, site) in makers.items()
    }
    attention, mlp = by_layer["no_attention"], by_layer["no_mlp"]
    blocks = {n: (*attention.get(n, ()), *mlp.get(n, ())) for n in sorted({*attention, *mlp})}
    by_layer = {"no_attention": attention, "no_mlp": mlp, "no_block": blocks, **by_layer}
    found: list[tuple[str, tuple[Edit, ...]]] = [("full", ())]
    for name, layers in by_layer.items():
        if layers:
            found.append((name, tuple(edit for held in layers.values() for edit in held)))
        if num_layers > 1:
            found += [(f"{name}_{layer}", held) for layer, held in layers.items()]
    return tuple(found)


def gated(named: Named) -> tuple[tuple[Edit, ...], Bool[np.ndarray, "I E"]]:
    """The distinct edits of all interventions, and which of them each intervention holds."""
    flat = list({id(edit): edit for _, held in named for edit in held}.values())
    gates = np.array([[any(edit is one for one in held) for edit in flat] for _, held in named], bool)
    return tuple(flat), gates.reshape(len(named), len(flat))


def _gate(edit: Edit, on: Bool[Array, ""]) -> Edit:
    mask = on if edit.mask is None else on & edit.mask
    return edit.replace(mask=mask)  # pyright: ignore[reportAttributeAccessIssue]  (flax adds `replace`)
