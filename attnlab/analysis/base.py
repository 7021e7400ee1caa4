"""What every probe shares: the contract, the evaluation batch, position classes, averages.

A **probe** is a frozen dataclass of plain values, callable as `probe(model, params) -> dict of arrays`. It is pure, so
the same object is a record function inside the training program (`log_spaced(200, of=sinks(task))`) and a measurement
on stored parameters (`analysis.apply`). `probe.dims(names)` says what the axes of each output are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab import keys
from attnlab.config import require
from toy_tasks.base import Batch, Task

Dims = dict[str, tuple[str, ...]]


@runtime_checkable
class Probe(Protocol):
    """A measurement of a model: pure, jit-able, vmap-able over parameters."""

    def __call__(self, model: Any, params: Any) -> Any: ...

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        ...


class Places(NamedTuple):
    """A batch as the diagnostics see it.

    Attributes:
      inputs: token ids `[B, T]`.
      trigger: positions whose token is a trigger (all False for a task without the class `trigger`).
      plain: neither trigger nor first token.
      newline: the token `\\n`, if the task has one.
      token: one-hot of `inputs`, `[B, T, V]`.
    """

    inputs: Int[Array, "B T"]
    trigger: Bool[Array, "B T"]
    plain: Bool[Array, "B T"]
    newline: Bool[Array, "B T"]
    token: Float[Array, "B T V"]


def evaluation_batch(task: Task, batch_size: int, seed: int = 0) -> Batch:
    """The same `B` sequences for every step and every trained seed: stream `eval` of the root key `seed`."""
    return task.sample(keys.stream(keys.root(seed), "eval"), batch_size)


def check_task(task: Any, batch_size: int, seed: int) -> None:
    """One clear error for a probe that cannot be evaluated."""
    require(hasattr(task, "sample"), "task", task, "an object with sample(key, batch_size), see toy_tasks.base.Task")
    require(isinstance(batch_size, int) and batch_size >= 1, "batch_size", batch_size, "an integer >= 1")
    require(isinstance(seed, int) and seed >= 0, "seed", seed, "an integer >= 0")


def places(task: Any, batch: Batch) -> Places:
    """The position classes of a batch. A task names them in `batch.positions`: `trigger`, `bos`."""
    nowhere = jnp.zeros(batch.inputs.shape, bool)
    trigger = batch.positions.get("trigger", nowhere)
    bos = batch.positions.get("bos", nowhere)
    newline = nowhere
    if "\n" in (names := tuple(getattr(task, "names", ()))):
        newline = batch.inputs == names.index("\n")
    token = jax.nn.one_hot(batch.inputs, task.vocab_size)
    return Places(batch.inputs, trigger, ~trigger & ~bos, newline, token)


def plain_tokens(task: Any) -> Bool[Array, " V"]:
    """Token ids that are neither triggers nor the first token."""
    plain = jnp.ones(task.vocab_size, bool)
    if (bos := getattr(task, "bos_id", None)) is not None:
        plain = plain.at[bos].set(False)
    triggers = tuple(getattr(task, "triggers", ()))
    return plain.at[jnp.array(triggers, int)].set(False) if triggers else plain


def mean_over(values: Float[Array, "B *N T"], where: Bool[Array, "B T"]) -> Float[Array, "*N"]:
    """Mean of `values` over the positions where `where` holds, NaN if there is none."""
    weight = where.astype(values.dtype)
    total = jnp.einsum("b...t,bt->...", values, weight)
    count = jnp.sum(weight)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def mean_by_token(
    values: Float[Array, "B *N T"], token: Float[Array, "B T V"], where: Bool[Array, "B T"] | None, min_count: int
) -> Float[Array, "*N V"]:
    """Mean of `values` over the positions that hold each token, NaN for tokens seen fewer than `min_count` times."""
    chosen = token if where is None else token * where[..., None]
    total = jnp.einsum("b...t,btv->...v", values, chosen)
    count = jnp.sum(chosen, axis=(0, 1))
    return jnp.where(count >= max(min_count, 1), total / jnp.maximum(count, 1), jnp.nan)


def sites_of(model: Any, params: Any, inputs: Any) -> Mapping[str, Any]:
    """Every activation that this model has, with shape and dtype; traced, not computed."""
    return jax.eval_shape(lambda p: model.apply(p, inputs, tape=("*",))[1], params)


def measure(probe: Probe | Callable[[Any, Any], Any], model: Any, params: Any) -> Any:
    """`probe(model, params)`, compiled."""
    return jax.jit(lambda p: probe(model, p))(params)
