"""What the training tests share: one tiny task and model, one run, and a task and model of a user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import attnlab as al
from toy_tasks import BigramBackcopy
from toy_tasks.base import Batch

LENGTH, WIDTH, BATCH, STEPS = 16, 16, 8, 24
RATES = (1e-2, 2e-2, 5e-3)  # of the usual run, by seed


def tiny_task() -> BigramBackcopy:
    """8 characters, one trigger."""
    kernel = np.random.default_rng(0).dirichlet(np.ones(8), size=8)
    return BigramBackcopy.from_matrix(kernel, num_triggers=1, length=LENGTH)


def tiny_model(**options: Any) -> al.Transformer:
    """Without norms, which take half of the time to compile and do nothing for these tests."""
    sizes = {"vocab_size": 9, "length": LENGTH, "width": WIDTH, "mlp_width": 32, "embed_std": 0.5, "norm": "none"}
    return al.Transformer(**sizes | options)


def unembedding_norm(model: Any, params: Any) -> dict[str, jax.Array]:
    """A record with a shape other than the parameters'."""
    return {"norm": jnp.linalg.norm(params["unembed"]), "by_token": jnp.linalg.norm(params["unembed"], axis=0)}


def uneven() -> dict[str, Any]:
    """Two records at different, uneven steps."""
    return {"params": al.at((0, 1, 7, 8, 13, STEPS)), "unembed": al.log_spaced(9, unembedding_norm)}


def train(path: Any, optimizer: Any = None, **settings: Any) -> al.Run:
    """The run of these tests, with some settings changed: 3 seeds in turn on one device, 3 chunks of 8 steps."""
    task, model = settings.pop("task", tiny_task()), settings.pop("model", tiny_model())
    common = {"steps": STEPS, "seeds": 3, "batch_size": BATCH, "chunk_steps": 8, "record": uneven()}
    placed = {"seed_axis": "map", "devices": jax.devices()[:1], "progress": False}
    return al.run(
        task, model, al.adamw(list(RATES)) if optimizer is None else optimizer, path=path, **common | placed | settings
    )


def same_bits(one: Any, two: Any) -> bool:
    """Whether two trees of numbers are equal bit for bit (nan equals nan)."""
    if jax.tree.structure(one) != jax.tree.structure(two):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def seed_of(params: Any, place: int) -> Any:
    """Parameters of one seed, by its place on the seed axis."""
    return jax.tree.map(lambda x: x[place], params)


def largest_difference(one: Any, two: Any) -> float:
    """Over all numbers of two trees."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return max(float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)))) for a, b in pairs)


# A user's own task and model: not a transformer, not a loss over tokens, the same batch at every step.


@dataclass(frozen=True)
class FixedPoints:
    """Six points `x[B, d]` with targets `y[B]`, whatever the key."""

    length: int = 1

    def sample(self, key: jax.Array, batch_size: int) -> Batch:
        rng = np.random.default_rng(1)
        inputs = jnp.asarray(rng.normal(size=(6, 1, 3)))
        targets = jnp.asarray(rng.normal(size=(6, 1)))
        return Batch(inputs, targets, jnp.ones((6, 1)), {})


@dataclass(frozen=True)
class TwoLayerLinear:
    """`a . (W x)`; every seed starts at the same place."""

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        rng = np.random.default_rng(2)
        return {"a": jnp.asarray(0.7 * rng.normal(size=2)), "w": jnp.asarray(0.7 * rng.normal(size=(2, 3)))}

    def apply(self, params: Any, inputs: Any, *, tape: Any = (), edits: Any = ()) -> tuple[jax.Array, dict[str, Any]]:
        return inputs @ params["w"].T @ params["a"], {}


def squared_error(outputs: jax.Array, batch: Batch) -> jax.Array:
    """`(f(x) - y)^2 / 2`."""
    return 0.5 * (outputs - batch.targets) ** 2
