"""The programs that are priced: one training step of every run of a preset, and every kernel forward and backward.

A step and not a whole chunk of them: what compilers count of a loop is one pass through its body, however often it
runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from attnlab import kernels as own_kernels
from attnlab.attention.scan import Steps
from attnlab.models import Transformer
from attnlab.models.base import Remat
from attnlab.training import losses
from attnlab.training.devices import place
from attnlab.training.precision import Precision, full
from attnlab.training.program import lift, make_step
from attnlab.training.session import Session
from attnlab.training.settings import RunConfig


@dataclass(frozen=True)
class Program:
    """`function(*shapes)`, under a name."""

    name: str
    function: Callable[..., Any]
    shapes: tuple[Any, ...]


def training_step(name: str, config: RunConfig) -> Program:
    """One update of all seeds of a run, together (`vmap`), whole batches."""
    seeds = len(config.seeds)
    session = Session(config, place(seeds, config.model, "vmap", jax.devices()[:1]))
    step = make_step(config.task, config.computed, config.loss, config.batch_size, None)
    arguments = session.optimizer, session.roots, session.edits, session.state_like()
    update = lift(step, "vmap", (True, True, False, True))

    def training_step(*args: Any) -> Any:
        with config.precision.scope():
            return update(*args)

    return Program(name, training_step, _shapes(arguments))


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def paper_steps(
    preset: str = "paper", study: str | None = None, precision: Precision = full, remat: Remat | None = None
) -> Iterator[Program]:
    """The step of every run of a preset, of every study that has it (or of one), `study/run`.

    With another `precision` or `remat` than the preset's, the runs whose models can be computed so.

    Raises:
      ConfigError: an unknown study, or one without this preset.
    """
    from attnlab.config import require
    from attnlab.studies import STUDIES, find

    chosen = STUDIES if study is None else (find(study),)
    having = [s for s in chosen if preset in {p.name for p in s.presets}]
    names = sorted({p.name for s in chosen for p in s.presets})
    require(bool(having), "preset", preset, " | ".join(names))
    for one in having:
        seeds = next(p.seeds for p in one.presets if p.name == preset)
        with tempfile.TemporaryDirectory() as folder:  # a lab writes nothing there until it trains
            lab = one.open_lab(Path(folder), preset, seeds, False, lambda _: None, 0)
        for name, e in lab.experiments.items():
            config = config_of(e, seeds)
            if (precision.compute == "params" and remat is None) or isinstance(config.model, Transformer):
                yield training_step(f"{one.name}/{name}", replace(config, precision=precision, remat=remat))


def config_of(experiment: Any, seeds: int = 1) -> RunConfig:
    """The settings of a study's run over its first `seeds` seeds."""
    most = getattr(experiment, "most_seeds", None)
    return RunConfig(
        task=experiment.task,
        model=experiment.model,
        optimizer=experiment.optimizer,
        steps=experiment.steps,
        seeds=tuple(range(seeds if most is None else min(seeds, most))),
        batch_size=experiment.batch_size,
        record=experiment.record(),
        loss=losses.natural(experiment.task),
    )


def kernels(heads: int = 8, length: int = 2048, head_dim: int = 64) -> Iterator[Program]:
    """Every kernel of `attnlab.kernels`, forward, and forward and backward: `[H, T, K]`, float32."""
    tokens = jax.ShapeDtypeStruct((heads, length, head_dim), jnp.float32)
    per_head = jax.ShapeDtypeStruct((heads,), jnp.float32)
    size = f"H={heads} T={length} K={head_dim}"
    yield from _both("local_linear_attention", own_kernels.local_linear_attention, (tokens,) * 3 + (per_head,), size)
    lla = partial(own_kernels.local_linear_attention, pallas=own_kernels.PALLAS)
    yield from _both("local_linear_attention by Pallas", lla, (tokens,) * 3 + (per_head,), size)
    per_token = jax.ShapeDtypeStruct((heads, length), jnp.float32)
    for name, function, numbers in (
        ("linear attention", _linear_attention, 0),
        ("delta rule", own_kernels.delta_rule, 1),
        ("gated delta rule", own_kernels.delta_rule, 2),
    ):
        yield from _both(name, _outputs(function), (tokens,) * 3 + (per_token,) * numbers, size)
    maps = own_kernels.row_maps
    for name, row_map, extra in (
        ("softmax", maps.SOFTMAX, {}),
        ("sink logit", maps.SOFTMAX, {"sink": jax.ShapeDtypeStruct((heads, 1), jnp.float32)}),
        ("sigmoid", maps.sigmoid(-log(length)), {}),
        ("sigmoid by tanh", maps.sigmoid(-log(length), by_tanh=True), {}),
        ("lssa", maps.LSSA, {}),
        ("softpick", maps.SOFTPICK, {}),
        ("gated", maps.SOFTMAX, {"gate": tokens}),
    ):
        yield from _both(f"attention {name}", _attention(row_map, *extra), (tokens,) * 3 + tuple(extra.values()), size)


def _linear_attention(q: Any, k: Any, v: Any) -> Any:
    return own_kernels.recurrence(Steps(q, k), v)


def _outputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without the last state."""
    return lambda *args: function(*args)[0]


def _attention(row_map: own_kernels.RowMap, *names: str) -> Callable[..., Any]:
    """The Pallas kernel of a map, causal; `names` of what it takes after `q, k, v`."""

    def call(q: Any, k: Any, v: Any, *extra: Any) -> Any:
        more = dict(zip(names, extra, strict=True))
        return own_kernels.attention(q, k, v, map=row_map, implementation="pallas", **more)

    return call


def _both(name: str, function: Callable[..., Any], shapes: tuple[Any, ...], size: str) -> Iterator[Program]:
    def total(*args: Any) -> Any:
        return jnp.sum(function(*args))

    yield Program(f"{name} {size}", function, shapes)
    yield Program(f"{name}, gradient, {size}", jax.grad(total, tuple(range(len(shapes)))), shapes)
