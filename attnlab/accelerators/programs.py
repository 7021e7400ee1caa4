"""The programs that are priced: one training step of every run of a preset, and every kernel forward and backward.

A step and not a whole chunk of them: what compilers count of a loop is one pass through its body, however often it
runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from attnlab import kernels as own_kernels
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
    shapes = (tokens, tokens, tokens, jax.ShapeDtypeStruct((heads,), jnp.float32))

    def total(q: Any, k: Any, v: Any, ridge: Any) -> Any:
        return jnp.sum(own_kernels.local_linear_attention(q, k, v, ridge))

    size = f"H={heads} T={length} K={head_dim}"
    yield Program(f"local_linear_attention {size}", own_kernels.local_linear_attention, shapes)
    yield Program(f"local_linear_attention, gradient, {size}", jax.grad(total, (0, 1, 2, 3)), shapes)
