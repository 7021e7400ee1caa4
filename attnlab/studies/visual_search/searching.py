"""Search by attention: a target query over items that are seen worse the farther they are, each looked at once.

Whoever looks at one place sees the item at distance `e` with noise of standard deviation `NEAR + FAR e`. Every item
becomes a key, the target without noise the query; the next fixation is the item with most attention (`largest`), or is
drawn from attention (`drawn`), among those not looked at yet (inhibition of return). Noise is new at every fixation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import toy_tasks as tt
from attnlab import keys
from attnlab.studies.visual_search.denoiser import denoised
from toy_tasks.gaussian import normal

SIZES = (4, 8, 16, 32)
NEAR, FAR = 0.3, 0.1  # noise at the place that is looked at, and per cell of distance
CONTRAST = 6.0  # `drawn`: logit of the target above that of another item, both without noise
DIETS = {"90": 0.9, "50": 0.5, "10": 0.1}  # per cent of vertical bars
Rule = Literal["largest", "drawn"]
RULES: tuple[Rule, ...] = ("largest", "drawn")
See = Callable[[Array], Array]
"""From answers of the eye `[*B, C]` to keys `[*B, K]`; also makes the query."""


def fixations(
    task: tt.OrientationDiet, see: See, rule: Rule, key: Any, count: int, size: int, odd_vertical: Any
) -> Int[Array, " B"]:
    """How many fixations each of `B = count` searches for the odd item takes, itself included.

    `odd_vertical`: whether V among O is searched; may be traced.
    """
    array_key, noise_key, draw_key = jax.random.split(key, 3)
    arrays = task.arrays(array_key, count, size, odd_vertical)
    clean = jnp.asarray(task.clean, jnp.float32)
    odd = jnp.asarray(odd_vertical, jnp.int32)
    query, other = see(clean[odd]), see(clean[1 - odd])
    scale = CONTRAST / (query @ query - other @ query) if rule == "drawn" else 1.0
    answers = clean[arrays.vertical.astype(jnp.int32)]
    noise = normal(noise_key, (size, *answers.shape))  # one field per fixation
    luck = jax.random.gumbel(draw_key, (size, count, size)) if rule == "drawn" else jnp.zeros((size, 1, 1))

    def look(state, fresh):
        here, visited, found, taken = state
        away = jnp.linalg.norm(arrays.places - here[:, None], axis=-1)
        seen = answers + (NEAR + FAR * away)[..., None] * fresh[0]
        attention = jnp.where(visited, -jnp.inf, scale * (see(seen) @ query) + fresh[1])
        chosen = jnp.argmax(attention, axis=-1)
        here = jnp.take_along_axis(arrays.places, chosen[:, None, None], axis=1)[:, 0]
        visited = visited | (jnp.arange(size) == chosen[:, None])
        return (here, visited, found | (chosen == arrays.target), taken + ~found), None

    start = (jnp.zeros((count, 2)), jnp.zeros((count, size), bool), jnp.zeros(count, bool), jnp.zeros(count, jnp.int32))
    return jax.lax.scan(look, start, (noise, luck))[0][3]


def mean_fixations(task: tt.OrientationDiet, see: See, rule: Rule, count: int) -> Float[Array, "2 N"]:
    """Means over searches for every size of array: O among V (row 0), V among O (row 1), with the same noise."""
    root = keys.stream(keys.root(0), "search")

    def one(odd_vertical: Array) -> Array:
        each = [fixations(task, see, rule, jax.random.fold_in(root, n), count, n, odd_vertical) for n in SIZES]
        return jnp.stack([jnp.mean(taken * 1.0) for taken in each])

    return jax.lax.map(one, jnp.array([False, True]))


def slopes(means: Any) -> np.ndarray:
    """Fixations per item, by least squares over the sizes; negative ones are 0. `[..., 2, N] -> [..., 2]`"""
    x = np.array(SIZES) - np.mean(SIZES)
    return np.maximum(np.asarray(means, np.float64) @ x / (x @ x), 0.0)


def asymmetry(means: Any) -> np.ndarray:
    """`(s[V among O] - s[O among V]) / (s[V among O] + s[O among V])`: above 0 where O is found faster."""
    slope = slopes(means)
    total = slope.sum(axis=-1)
    return np.where(total > 0, (slope[..., 1] - slope[..., 0]) / np.where(total > 0, total, 1.0), 0.0)


def searches(lab: Any) -> int:
    """How many searches are behind a mean."""
    return {"smoke": 32, "laptop": 1000}.get(lab.preset, 4000)


def learned(lab: Any, diet: str, readout: str, rule: Rule) -> np.ndarray:
    """Mean fixations of the searcher that was trained on a diet, `[S, 2, N]`; `readout`: `code` or `denoised`."""
    name = f"diet {diet}"
    task = lab.experiments[name].task

    def probe(model: Any, params: Any) -> Array:
        def see(x: Array) -> Array:
            return model.code(params, x) if readout == "code" else denoised(model, params, x)

        return mean_fixations(task, see, rule, searches(lab))

    return np.asarray(lab.probe(name, probe, label=("search", readout, rule)))


def ideal(lab: Any) -> dict[str, np.ndarray]:
    """Mean fixations of a searcher whose keys are exact posterior means, without training: `{diet}.{rule}`, `[2, N]`.

    Where the most attended item is taken, the diet cannot matter: posterior means lie on one line, attention is
    monotone in the likelihood ratio, and V and O can be exchanged.
    """
    found = {}
    for diet, share in DIETS.items():
        task = tt.OrientationDiet(share)
        for rule in RULES:
            run = jax.jit(partial(mean_fixations, task, task.denoise, rule, 2 * searches(lab)))
            found[f"{diet}.{rule}"] = np.asarray(run())
    return found
