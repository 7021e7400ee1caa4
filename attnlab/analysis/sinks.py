"""The probe of attention sinks: risks, attention to the first token, sink logits, value drain, residual peaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array

from attnlab.analysis import sink_metric, sink_terms
from attnlab.analysis.base import Dims, Places, check_task, evaluation_batch, places, plain_tokens, sites_of
from attnlab.config import require

Part = Literal["risks", "attention", "logits", "values", "residual", "sink"]
PARTS: tuple[Part, ...] = get_args(Part)
_BY_TOKEN = ("sink_logit_by_token", "value_norm_by_token", "residual_norm_by_token")


@dataclass(frozen=True)
class Sinks:
    """`probe(model, params) -> {name: array}`: every metric of attention sinks on one fixed evaluation batch.

    Leading axis `L` (layers), then `H` (heads) where the quantity has one. A layer without the activation in question
    (no attention, or a mechanism without logits) is NaN. Position 0 is called bos, whatever token it holds.

    parts -> outputs:
      risks: what `task.risks` names: backcopy, bigram, overall, bigram_code and `excess_` of each. `[]`
      attention: bos_attention, bos_attention_later, previous_attention, row_sum, null_mass, dormant_mass_tokens,
        dormant_mass_triggers, dormant_mass_newline. `[L, H]`
      logits: sink_logit, sink_logit_sd, sink_logit_q10, sink_logit_q90, sink_logit_trigger. `[L, H]`
      values: value_norm_bos, value_norm_bos_raw, value_norm_ordinary, value_norm_ordinary_median, value_norm_trigger,
        value_norm_newline, value_ratio. `[L, H]`
      residual: residual_norm_bos, residual_norm_other, residual_peak. `[L]`
      sink: sink_mass, sink_mass_proxy, sink_rate, sink_rate_proxy `[L, H, num_keys]`, always with the part `values`:
        raw mass, proxy and value ratio are to be read together.
      with `by_token`: sink_logit_by_token, value_norm_by_token `[L, H, V]`, residual_norm_by_token `[L, V]`.
    Their definitions are in `attnlab.analysis.sink_terms`.

    Attributes:
      task: what to evaluate on.
      batch_size, seed: of the evaluation batch, the same for every step and trained seed.
      parts: which groups to measure.
      by_token: give the curves of single tokens too.
      min_count: tokens seen less often have no value of their own (NaN) and no part in means over tokens.
      num_keys, eps: how many keys the sink metric looks at, and its threshold.
    """

    task: Any
    batch_size: int = 64
    seed: int = 0
    parts: tuple[Part, ...] = PARTS
    by_token: bool = False
    min_count: int = 5
    num_keys: int = 2
    eps: float = sink_metric.EPSILON

    def __post_init__(self) -> None:
        check_task(self.task, self.batch_size, self.seed)
        object.__setattr__(self, "parts", (self.parts,) if isinstance(self.parts, str) else tuple(self.parts))
        for part in self.parts:
            require(part in PARTS, "parts", part, ", ".join(PARTS))
        if "risks" in self.parts:
            hint = "Leave 'risks' out of parts for a task without them."
            require(hasattr(self.task, "risks"), "task", self.task, "a task with risks(logits, batch)", hint)
        require(len(self.parts) > 0, "parts", self.parts, ", ".join(PARTS))
        require(self.min_count >= 1, "min_count", self.min_count, "an integer >= 1")
        length = getattr(self.task, "length", self.num_keys)
        require(1 <= self.num_keys <= length, "num_keys", self.num_keys, f"1 to the task's length={length}")
        require(0 <= self.eps <= 1, "eps", self.eps, "a number from 0 to 1")

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        registers = getattr(model, "registers", 0)
        hint = "The probe analysis.mixing tells registers from tokens."
        require(registers == 0, "sinks: the model's registers", registers, "0", hint)
        batch = evaluation_batch(self.task, self.batch_size, self.seed)
        known = sites_of(model, params, batch.inputs)
        wanted = [name for layer in range(model.num_layers) for name in self._sites(layer) if name in known]
        logits, tape = model.apply(params, batch.inputs, tape=tuple(wanted))
        found = dict(self.task.risks(logits, batch)) if "risks" in self.parts else {}
        at, plain = places(self.task, batch), plain_tokens(self.task)
        rows = [self._layer(layer, model, params, tape, at, plain) for layer in range(model.num_layers)]
        return found | _stack(rows, self._shapes(model, known))

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        ends = {"sink_mass": ("key",), "sink_rate": ("key",), "by_token": ("token",)}
        dims: Dims = {}
        for name in names:
            end = next((axes for key, axes in ends.items() if key in name), ())
            start = ("layer",) if name.startswith("residual_") else ("layer", "head")
            measured = name.startswith(("residual_", "value_", "sink_", "dormant_")) or name in _ATTENTION
            dims[name] = (*start, *end) if measured else ()
        return dims

    @property
    def _measured(self) -> frozenset[str]:
        return frozenset(self.parts) | ({"values"} if "sink" in self.parts else set())

    def _sites(self, layer: int) -> list[str]:
        attn, sites, parts = f"blocks.{layer}.attn", [], self._measured
        if parts & {"attention", "sink"}:
            sites += [f"{attn}.weights", f"{attn}.null"]
        if "logits" in parts:
            sites.append(f"{attn}.logits")
        if "values" in parts:
            sites.append(f"{attn}.v")
        return [*sites, f"blocks.{layer}.out"] if "residual" in parts else sites

    def _layer(self, layer: int, model: Any, params: Any, tape: Mapping[str, Array], at: Places, plain: Array):
        parts, attn, found = self._measured, f"blocks.{layer}.attn", {}
        if (weights := tape.get(f"{attn}.weights")) is not None:
            if "attention" in parts:
                found |= sink_terms.attention_terms(weights, tape.get(f"{attn}.null"), at)
            if "sink" in parts:
                found |= sink_terms.sink_terms(weights, self.num_keys, self.eps)
        if (scores := tape.get(f"{attn}.logits")) is not None:
            found |= sink_terms.logit_terms(scores, at, plain, self.min_count)
        if (values := tape.get(f"{attn}.v")) is not None:
            output = output_matrix(params, layer)
            found |= sink_terms.value_terms(values, output, at, plain, self.min_count)
        if (stream := tape.get(f"blocks.{layer}.out")) is not None:
            found |= sink_terms.residual_terms(stream, at, self.min_count)
        return found if self.by_token else {name: x for name, x in found.items() if name not in _BY_TOKEN}

    def _shapes(self, model: Any, known: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Name -> shape for one layer, of everything this probe gives, also where no layer has the activation."""
        sizes = {"head": model.num_heads, "key": self.num_keys, "token": self.task.vocab_size}
        names = [name for part in PARTS if part in self._measured for name in _NAMES.get(part, ())]
        names += [name for name in _BY_TOKEN if self.by_token and _PART_OF[name] in self._measured]
        return {name: tuple(sizes[dim] for dim in dims[1:]) for name, dims in self.dims(names).items()}


_ATTENTION = ("bos_attention", "bos_attention_later", "previous_attention", "row_sum", "null_mass")
_NAMES: dict[str, tuple[str, ...]] = {
    "attention": (*_ATTENTION, "dormant_mass_tokens", "dormant_mass_triggers", "dormant_mass_newline"),
    "logits": ("sink_logit", "sink_logit_sd", "sink_logit_q10", "sink_logit_q90", "sink_logit_trigger"),
    "values": (
        "value_norm_bos",
        "value_norm_bos_raw",
        "value_norm_ordinary",
        "value_norm_ordinary_median",
        "value_norm_trigger",
        "value_norm_newline",
        "value_ratio",
    ),
    "residual": ("residual_norm_bos", "residual_norm_other", "residual_peak"),
    "sink": ("sink_mass", "sink_mass_proxy", "sink_rate", "sink_rate_proxy"),
}
_PART_OF = dict(zip(_BY_TOKEN, ("logits", "values", "residual"), strict=True))


def output_matrix(params: Any, layer: int) -> Array | None:
    """`W_O` of a layer by head, `[H, K, D]`; None for a model whose values need none."""
    block = params.get("blocks", {}).get(str(layer), {}) if isinstance(params, Mapping) else {}
    return block.get("attn", {}).get("output")


def _stack(rows: list[dict[str, Array]], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    return {n: jnp.stack([row.get(n, jnp.full(shape, jnp.nan)) for row in rows]) for n, shape in shapes.items()}


def sinks(task: Any, batch_size: int = 64, seed: int = 0, **options: Any) -> Sinks:
    """The probe of attention sinks on `task`; see `Sinks` for its outputs and options.

    Example:
      record = {"sinks": log_spaced(200, of=sinks(task))}
    """
    return Sinks(task, batch_size, seed, **options)
