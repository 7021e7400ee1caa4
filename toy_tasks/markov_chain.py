"""Random order-1 Markov languages: a kernel from a seed, and walks of it on the device."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from toy_tasks import alias
from toy_tasks.bigram_counts import stationary
from toy_tasks.regression_checks import require


def check(name: str, concentration: Any, seed: Any) -> None:
    """Raises ValueError for a language that cannot be drawn."""
    number = isinstance(concentration, (int, float)) and not isinstance(concentration, bool)
    right = number and np.isfinite(concentration) and concentration >= 0.01
    require(right, f"{name}.concentration", repr(concentration), "a finite number >= 0.01")
    whole = isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32
    require(whole, f"{name}.seed", repr(seed), "an integer from 0 to 2^32 - 1")


def kernel(size: int, concentration: float, seed: int) -> np.ndarray:
    """`Float64[V, V]`: every row drawn by itself from the symmetric Dirichlet law of that concentration.

    Small concentrations give rows with one or two likely successors, large ones rows that are nearly uniform.
    """
    return np.random.RandomState(seed).dirichlet(np.full(size, float(concentration)), size)


def start(rows: np.ndarray) -> np.ndarray:
    """`Float64[V]`: the stationary law, of which the first token is drawn, so that all places are alike."""
    return stationary(rows)


def tables(rows: np.ndarray) -> alias.AliasTable:
    """What `walk` reads: the rows of the kernel, and behind them the law of the first token."""
    return alias.alias_table(np.vstack([rows, start(rows)]))


def walk(table: alias.AliasTable, key: Key[Array, ""], rows: int, steps: int) -> Int[Array, "B n"]:
    """`Int32[rows, steps]`: independent walks, on the device."""
    threshold, other = map(jnp.asarray, table)
    words = jax.random.bits(key, (steps, rows), jnp.uint32)

    def step(token, word):
        following = alias.draw(threshold, other, token, word)
        return following, following

    first = jnp.full((rows,), threshold.shape[0] - 1, jnp.int32)  # the extra row
    return jax.lax.scan(step, first, words)[1].T
