"""Long rows without training: one key that matches among many, and scores that match nothing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import analysis
from attnlab.attention import catalogue as mechanisms
from attnlab.attention.base import Dims
from attnlab.attention.weighted import named
from theory import catalogue

LENGTHS = (64, 256, 1024, 4096, 16384)
WIDTH, COSINE = 64, 0.8
NUMBERS = 2**18  # keys times draws at a time: what a long row leaves room for

# Softmax is that of 8 cos, the temperature sqrt(64). The slot that normalises tokens wants a query for each key; the
# vectors here have unit length already, and it is left out.
MATCHERS = {
    name: named(mechanism, name, tokens=None)
    for name, mechanism in {
        "softmax": mechanisms.cosine,
        "lssa": mechanisms.lssa,
        "lssar_3": mechanisms.lssar_3,
        "lssar": mechanisms.lssar,
    }.items()
}
SPREADERS = {"softmax": mechanisms.softmax, "ssa": mechanisms.ssa_query}


def draws(length: int) -> int:
    """Rows of `length` keys with one that matches that are drawn, from 16 to 256."""
    return min(max(NUMBERS // length, 16), 256)


def planted(name: str, length: int) -> np.ndarray:
    """Weight of the planted key, by draw: a query, a key of cosine .8 to it, the others random directions.

    The mechanism itself mixes one row: draws are its heads.
    """
    num = draws(length)
    query_key, key_key = jax.random.split(jax.random.fold_in(jax.random.key(0), length))
    query = _unit(jax.random.normal(query_key, (num, 1, WIDTH)))
    keys = _unit(jax.random.normal(key_key, (num, length, WIDTH)))
    across = _unit(keys[:, :1] - jnp.sum(keys[:, :1] * query, -1, keepdims=True) * query)
    keys = keys.at[:, :1].set(COSINE * query + (1 - COSINE**2) ** 0.5 * across)
    mechanism = MATCHERS[name]
    params = mechanism.init(jax.random.key(0), Dims(num, WIDTH, WIDTH))
    return np.asarray(_row(mechanism, params, query, keys)[:, 0, 0])


def spread(name: str, length: int) -> np.ndarray:
    """Entropy over `log n` of a row of independent N(0, 1) logits, by draw."""
    num = 256 if length > 1024 else 4096
    logits = jax.random.normal(jax.random.fold_in(jax.random.key(1), length), (num, length))
    width = 4  # the logit is q . k / 2 with q = (2, 0, 0, 0)
    query = jnp.zeros((num, 1, width)).at[..., 0].set(width**0.5)
    keys = jnp.zeros((num, length, width)).at[..., 0].set(logits)
    mechanism = SPREADERS[name]
    params = mechanism.init(jax.random.key(0), Dims(num, width, width))
    if "temper" in params:
        params |= {"temper": jnp.zeros_like(params["temper"])}  # the token part off: tau = 1 + log(n) / 2
    return np.asarray(analysis.evenness(_row(mechanism, params, query, keys))[:, 0])


def planted_table(lab: Any = None) -> dict[str, np.ndarray]:
    """`{mechanism}.{n}`: the mean over draws; `{mechanism}.{n}.gap`: that less the quadrature of the theory."""
    theory = {
        "softmax": catalogue.softmax_match(COSINE, LENGTHS, WIDTH),
        "lssa": catalogue.lssa_match(COSINE, LENGTHS, WIDTH),
        "lssar_3": catalogue.lssar_match(COSINE, LENGTHS, WIDTH, 3.0),
        "lssar": catalogue.lssar_match(COSINE, LENGTHS, WIDTH, 15.0),
    }
    return _table({n: lambda length, n=n: planted(n, length) for n in MATCHERS}, theory)


def spread_table(lab: Any = None) -> dict[str, np.ndarray]:
    """`{mechanism}.{n}` and `{mechanism}.{n}.gap` of the entropy over `log n`."""
    rising = 1 + 0.5 * np.log(LENGTHS)
    theory = {"softmax": catalogue.entropy_share(LENGTHS, 1.0), "ssa": catalogue.entropy_share(LENGTHS, rising)}
    return _table({n: lambda length, n=n: spread(n, length) for n in SPREADERS}, theory)


def _table(measured: dict[str, Any], theory: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {"lengths": np.asarray(LENGTHS)}
    for name, measure in measured.items():
        for place, length in enumerate(LENGTHS):
            value = np.mean(measure(length))
            found[f"{name}.{length}"] = value
            found[f"{name}.{length}.gap"] = np.abs(value - theory[name][place])
            found[f"{name}.{length}.theory"] = theory[name][place]
    return found


def _row(mechanism: Any, params: Any, query: Any, keys: Any) -> Any:
    """Weights `[draws, 1, n]`."""
    return mechanism.apply(params, query, keys, jnp.zeros_like(keys), view="map").weights


def _unit(x: Any) -> Any:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
