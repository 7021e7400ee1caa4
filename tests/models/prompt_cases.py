"""What the tests of models on labelled pairs share: prompts and parameters by NumPy, models run as one program.

Operation by operation, the tests would take thrice the time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from toy_tasks.base import Prompt


def some_prompt(sizes: tuple[int, int, int, int], seed: int = 0) -> Prompt:
    """`sizes` are `B, C, d, m`."""
    rng, (batch, context, d, m) = np.random.default_rng(seed), sizes
    shapes: Any = ((batch, context, d), (batch, context, m), (batch, d))
    return numpy_prompt(*(rng.normal(size=shape) for shape in shapes))


def numpy_prompt(x: Any, y: Any, query: Any) -> Prompt:
    return Prompt(x, y, query)


def tokens_of(prompt: Prompt) -> np.ndarray:
    asked = np.pad(prompt.query, ((0, 0), (0, prompt.y.shape[-1])))
    return np.concatenate([np.concatenate([prompt.x, prompt.y], axis=-1), asked[:, None]], axis=1)


def random_params(model: Any, seed: int = 0, size: float = 0.6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return {name: rng.normal(size=leaf.shape) * size for name, leaf in shapes.items()}


@partial(jax.jit, static_argnames=("model", "tape"))
def _compiled(model: Any, params: Any, inputs: Any, tape: tuple[str, ...], edits: Any) -> Any:
    return model.apply(params, inputs, tape=tape, edits=edits)


def run(model: Any, params: Any, inputs: Any, tape: tuple[str, ...] = (), edits: Any = ()) -> Any:
    """`model.apply`."""
    return jax.device_get(_compiled(model, params, inputs, tape, edits))


def circuits(model: Any, params: Any) -> Any:
    """`model.circuits`."""
    return jax.device_get(jax.jit(model.circuits)(params))


def factored(model: Any, params: Any, layer: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`model.kq` and `model.ov` of every head, multiplied out."""

    def both(p):
        return [(model.kq(p, layer, h).dense(), model.ov(p, layer, h).dense()) for h in range(model.num_heads)]

    return jax.device_get(jax.jit(both)(params))


def built_and_run(model: Any, build: Any, prompt: Prompt) -> np.ndarray:
    """What the model says with parameters `build()`."""
    return jax.device_get(jax.jit(lambda inputs: model.apply(build(), inputs)[0])(prompt))
