"""Recall without training: memories of random unit vectors asked among thousands of values; bytes of decode states."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import toy_tasks as tt
from attnlab.attention import Dims, softmax
from attnlab.attention.mesa import Mesa
from attnlab.attention.recurrent import Recurrent
from attnlab.studies.associative_memory.memories import MEMORIES, Memory, reader

PAIRS = (8, 16, 32, 64, 128)
BETA = 20.0  # inverse temperature of softmax, logits 20 cos


def memories(width: int) -> dict[str, Memory]:
    """Hebb, one pass of the delta rule with strength 1, least squares (ridge 1e-6), softmax with logits `20 cos`."""
    sharp = float(np.log(BETA * np.sqrt(width)) / (2 * np.log(width)))  # (K^s)^2 / sqrt(K) = BETA
    least_squares = Memory(Recurrent("least_squares", Mesa(gated=False, ridge=1e-6)))
    return {
        "hebb": MEMORIES["hebb"],
        "delta": MEMORIES["delta"],
        "least_squares": least_squares,
        "softmax": Memory(softmax, sharpness=sharp),
    }


def stacked(lab: Any) -> dict[str, float]:
    """`{memory}.{d}.{C}`: share of queries answered right among all 4096 values of `StackedRecall`, untrained."""
    draws = 4 if lab.preset == "smoke" else 32
    found = {}
    for width in (32, 64):
        table = tt.StackedRecall(dim=width).embeddings
        keys, values, ids = written(table, draws)
        for name, memory in memories(width).items():
            read = reader(memory, draws, PAIRS[-1], width)
            for pairs in PAIRS:
                reads = read(jnp.asarray(keys), jnp.asarray(values), jnp.asarray(keys), pairs)[:, :pairs]
                right = np.argmax(reads @ table.values.T, axis=-1) == ids[:, :pairs]
                found[f"{name}.{width}.{pairs}"] = float(np.mean(right))
    return found


def written(table: Any, draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`draws` lists of distinct keys and values, the most of `PAIRS` each: vectors `[R, C, d]` twice, values' ids."""
    rng = np.random.default_rng(table.keys.shape[1])
    rows = [np.stack([rng.permutation(len(part))[: PAIRS[-1]] for _ in range(draws)]) for part in table]
    return table.keys[rows[0]], table.values[rows[1]], rows[1]


def state_bytes(lab: Any) -> dict[str, float]:
    """Bytes of float32 that decoding a whole sequence holds, by run, without the convolution's taps."""
    return {name: float(bytes_of(e.model)) for name, e in lab.experiments.items()}


def bytes_of(model: Any) -> int:
    """Of all layers' decode states at the end of a sequence; a window keeps its last tokens only."""
    dims = Dims(model.num_heads, model.head_dim or model.width // model.num_heads, model.width)
    held = model.length if model.window is None else min(model.window, model.length)

    def states() -> Any:
        made = []
        for layer in range(model.num_layers):
            mechanism = model.mechanism_of(layer)
            params = mechanism.init(jax.random.key(0), dims)
            made.append(mechanism.start(params, (), held, dims))
        return made

    floats = [x for x in jax.tree.leaves(jax.eval_shape(states)) if jnp.issubdtype(x.dtype, jnp.floating)]
    return sum(x.size * x.dtype.itemsize for x in floats)
