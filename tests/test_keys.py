"""Random streams: reproducible, reached by name and step, never shared."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import keys

NAMES = ("init", "data", "eval", "analysis")


def bits(key) -> bytes:
    return np.asarray(jax.random.key_data(key)).tobytes()


def test_streams_steps_and_roots_differ() -> None:
    found = {
        bits(keys.stream(keys.root(seed), name, step))
        for seed in (0, 1, 2**32 - 1)
        for name in NAMES
        for step in (0, 1, 2, 1000)
    }
    assert len(found) == 3 * 4 * 4
    assert bits(keys.root(0)) not in found


def test_a_stream_is_its_definition() -> None:
    """The published rule; `crc32("data")` is 2918445923 everywhere. Stored runs recompute their batches with it."""
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 2918445923), 17)
    assert bits(keys.stream(keys.root(3), "data", 17)) == bits(expected)
    assert bits(keys.stream(keys.root(3), "data")) == bits(keys.stream(keys.root(3), "data", 0))


def test_traced_steps_are_concrete_steps() -> None:
    root = keys.root(0)
    many = jax.jit(jax.vmap(lambda step: keys.stream(root, "data", step)))(jnp.arange(5))
    assert [bits(key) for key in many] == [bits(keys.stream(root, "data", step)) for step in range(5)]


def test_streams_are_independent() -> None:
    """Correlation of 10,000 normal draws: 1 / sqrt(10,000) = 0.01 is one standard error; 5 of them."""
    draws = [jax.random.normal(keys.stream(keys.root(0), name, step), (10_000,)) for name in NAMES for step in (0, 1)]
    correlation = np.corrcoef(np.asarray(draws)) - np.eye(len(draws))
    assert np.abs(correlation).max() < 0.05


def test_numpy_integers_are_seeds() -> None:
    assert bits(keys.root(np.int64(7))) == bits(keys.root(7))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "0", True, None])
def test_bad_seeds(seed) -> None:
    """2^32 is refused because JAX would take it for 0."""
    with pytest.raises(ValueError, match=r"seed: got .*; allowed is an integer from 0 to 2\^32 - 1"):
        keys.root(seed)
