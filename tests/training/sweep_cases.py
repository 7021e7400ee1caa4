"""What the tests of sweeps share: a tiny grid of two programs, one of whose rates is far too high."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import attnlab as al
import toy_tasks as tt
from attnlab import training
from attnlab.attention import relu, softmax
from attnlab.training import Cell, Run, Sweep

STEPS, BATCH = 12, 4
RATES = (0.1, 1e30, 0.3)
WILD = RATES[1]
TASK = tt.Parity("prefix", 6)


def model(mechanism: Any, **options: Any) -> al.Transformer:
    """One layer of attention and nothing else, which compiles in a second."""
    sizes = {"vocab_size": 2, "length": 6, "width": 4, "norm": "none", "no_mlp": (0,)}
    return al.Transformer(mechanism=mechanism, **sizes | options)


def make(mechanism: Any, learning_rate: float, **options: Any) -> Cell:
    """Gradient descent on parities of prefixes, two seeds, the parameters kept at three steps."""
    record = {"params": al.at((0, 5, STEPS))}
    settings = {"steps": STEPS, "seeds": 2, "batch_size": BATCH, "record": record}
    return Cell(TASK, model(mechanism), al.sgd(learning_rate), **settings | options)


def cells() -> list[Cell]:
    """Two mechanisms, three rates."""
    return training.grid(make, mechanism=[softmax, relu], learning_rate=RATES)


def measures(run: Run) -> dict[str, np.ndarray]:
    """Norm of the unembedding, by entry."""
    return {"norm": np.asarray(jnp.linalg.norm(run.params["unembed"], axis=(1, 2)))}


def train(path: Any, **settings: Any) -> Sweep:
    """The sweep of these tests: in turn, on one device, three chunks of four steps a group."""
    common = {"measure": measures, "chunk_steps": 4, "seed_axis": "map"}
    placed = {"devices": jax.devices()[:1], "progress": False}
    return training.sweep(settings.pop("cells", None) or cells(), path=path, **common | placed | settings)


def resume(path: Any, **settings: Any) -> Sweep:
    return training.resume_sweep(path, devices=jax.devices()[:1], progress=False, **settings)
