"""Scanpaths that a model makes by itself, and how they compare with those of the searcher it learned from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import toy_tasks as tt
from attnlab import keys
from toy_tasks.base import Batch

PARTS = ("found", "length", "search", "refixation", "revisit")


def rollout(task: tt.Scanpaths, logits: Callable[[tt.Display], Array], key: Any, count: int) -> Batch:
    """`B = count` paths drawn decision by decision from `logits(display) [B, T, N + 1]`, on fresh arrays."""
    display_key, path_key = jax.random.split(key)
    display = task.display(display_key, count)

    def step(fixated, turn):
        law = logits(dataclasses.replace(display, fixated=fixated))[:, turn]
        choice = jax.random.categorical(jax.random.fold_in(path_key, turn), law).astype(jnp.int32)
        here = jnp.where(choice == task.most, fixated[:, turn], choice)
        after = jnp.arange(task.length) > turn
        return jnp.where(after, here[:, None], fixated), choice

    fixated, chosen = jax.lax.scan(step, display.fixated, jnp.arange(task.length))
    return task.assemble(dataclasses.replace(display, fixated=fixated), chosen.T)


def behaviour(task: tt.Scanpaths, batch: Batch) -> dict[str, Float[Array, ""]]:
    """What paths are like: `found`, share that stop on the target; `length`, fixations per path; and of the fixations
    `search`, on items not looked at yet, `refixation`, on the item that is looked at, `revisit`, on an earlier one."""
    fixated, chosen = batch.inputs.fixated, batch.targets
    counted = batch.positions["fixation"] & ~batch.positions["after"]
    here = fixated == task.sought(batch.inputs)[:, None]
    looked = fixated[..., None] == jnp.arange(task.most)
    before = jnp.any((jnp.cumsum(looked, axis=1) > 0) & (chosen[..., None] == jnp.arange(task.most)), axis=-1)
    same = chosen == fixated
    total = jnp.sum(counted)
    found = {"search": ~before, "refixation": same, "revisit": before & ~same}
    shares = {name: jnp.sum(kind & counted) / total for name, kind in found.items()}
    ends = jnp.mean(jnp.any(batch.positions["stop"] & here, axis=1) * 1.0)
    return {"found": ends, "length": total / len(fixated), **shares}


def paths(lab: Any, name: str) -> dict[str, np.ndarray]:
    """`behaviour` of a trained pointer on its own paths, each `[S]`."""
    e = lab.experiments[name]

    def probe(model: Any, params: Any) -> dict[str, Array]:
        return _behaviour(lab, e.task, lambda display: model.apply(params, display)[0])

    return lab.probe(name, probe, label="paths")


def searcher(lab: Any) -> dict[str, float]:
    """`behaviour` of the known searcher, from its law."""
    task = lab.experiments["pointer zero"].task
    return {k: float(v) for k, v in jax.jit(lambda: _behaviour(lab, task, task.logits))().items()}


def _behaviour(lab: Any, task: tt.Scanpaths, logits: Callable[[tt.Display], Array]) -> dict[str, Array]:
    count = 64 if lab.preset == "smoke" else 1024
    return behaviour(task, rollout(task, logits, keys.stream(keys.root(0), "paths"), count))


def distance(lab: Any, name: str) -> np.ndarray:
    """Mean relative error of `behaviour` over its five parts, `[S]`."""
    theirs, ours = paths(lab, name), lab.theory("searcher")
    return np.mean([np.abs(np.asarray(theirs[part]) / ours[part] - 1) for part in PARTS], axis=0)
