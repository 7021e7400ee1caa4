"""Probes measured on fresh bags, their norm folded in; probes of the activations of a trained model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from attnlab import keys
from attnlab.models import EfficientProbe, MeanProbe
from attnlab.studies import measures
from attnlab.studies.probing.experiments import BATCH, PROBED, RATE
from attnlab.training import losses

SITES = ("embed", "blocks.1.out")
TAP_STEPS = {"smoke": 20, "laptop": 600, "evening": 3000}
AT_ONCE = 512


def sequences(lab: Any) -> int:
    """Behind every accuracy."""
    return AT_ONCE if lab.preset == "smoke" else 16 * AT_ONCE


def accuracy(lab: Any, marks: int, probe: str) -> Float[np.ndarray, " S"]:
    """Share of bags whose class is told right; the probe's norm has the statistics of 1,024 other bags."""

    def run() -> np.ndarray:
        e, given = lab.experiments[f"{marks} {probe}"], lab.run(f"{marks} {probe}").params
        bags = e.task.sample(keys.stream(keys.root(0), "statistics"), 2 * AT_ONCE).inputs
        fixed = jax.jit(lambda p: jax.lax.map(lambda one: e.model.folded(one, bags)[1], p))(given)
        alone = e.model.folded(jax.tree.map(lambda x: x[0], given), bags)[0]
        size = {"sequences": sequences(lab), "at_once": AT_ONCE}
        return np.asarray(measures.on_fresh(e.task, alone, fixed, measures.accuracy, **size))

    return lab.once(("bag", marks, probe), run)


def best(lab: Any, marks: int) -> float:
    """What the exact law of the class achieves on the same bags."""

    def run() -> float:
        task = lab.experiments[f"{marks} mean"].task
        found = [
            jnp.mean((jnp.argmax(task.oracle(b)[:, -1], -1) == b.targets[:, -1]).astype(jnp.float32))
            for b in (
                task.sample(keys.stream(keys.root(0), "fresh", n), AT_ONCE) for n in range(sequences(lab) // AT_ONCE)
            )
        ]
        return float(np.mean([float(x) for x in found]))

    return lab.once(("best", marks), run)


# ---- of a trained model


def tapped(lab: Any, site: str, probe: str) -> Float[np.ndarray, " S"]:
    """Accuracy of a probe of one activation of the trained model, all positions; the model is frozen.

    probe: `mean`, `efficient` (4 queries), or `last`, the linear probe of the last place alone.
    """
    return lab.once(("tapped", site, probe), lambda: _tapped(lab, site, probe))


def _tapped(lab: Any, site: str, name: str) -> np.ndarray:
    e, params = lab.experiments["model"], lab.run("model").params
    size = e.model.width, e.task.num_classes
    probe = EfficientProbe(*size, queries=4) if name == "efficient" else MeanProbe(*size)
    rule = optax.adam(RATE)

    def tokens(params: Any, inputs: Array) -> Array:
        read = e.model.apply(params, inputs, tape=(site,))[1][site]
        return read[:, -1:] if name == "last" else read

    def of_seed(params: Any) -> Array:
        def step(state: Any, number: Array) -> tuple[Any, None]:
            batch = e.task.sample(keys.stream(keys.root(1), "probe", number), BATCH)
            x, answer = tokens(params, batch.inputs), batch.replace(targets=batch.targets[:, -1:])
            slope = jax.grad(lambda p: jnp.mean(losses.next_token(probe.apply(p, x)[0][:, -1:], answer)))(state[0])
            change, inner = rule.update(slope, state[1], state[0])
            return (optax.apply_updates(state[0], change), inner), None

        start = probe.init(keys.stream(keys.root(1), "probe"))
        (found, _), _ = jax.lax.scan(step, (start, rule.init(start)), jnp.arange(TAP_STEPS[lab.preset]))
        bags = e.task.sample(keys.stream(keys.root(0), "statistics"), 2 * AT_ONCE).inputs
        alone, fixed = probe.folded(found, tokens(params, bags))

        def right(number: Array) -> Array:
            batch = e.task.sample(keys.stream(keys.root(0), "fresh", number), AT_ONCE)
            said = alone.apply(fixed, tokens(params, batch.inputs))[0][:, -1]
            return jnp.mean(jnp.argmax(said, axis=-1) == batch.targets[:, -1])

        return jnp.mean(jax.lax.map(right, jnp.arange(sequences(lab) // AT_ONCE)))

    return np.asarray(jax.jit(lambda p: jax.lax.map(of_seed, p))(params))


def sites(lab: Any) -> tuple[str, ...]:
    """What is probed."""
    return SITES[-1:] if lab.preset == "smoke" else SITES


def model_accuracy(lab: Any) -> Float[np.ndarray, " S"]:
    """Of the model itself."""
    return lab.accuracy("model", sequences=sequences(lab), at_once=AT_ONCE)


def model_best(lab: Any) -> float:
    """Of the exact law, on as many bags."""
    return best(lab, PROBED)
