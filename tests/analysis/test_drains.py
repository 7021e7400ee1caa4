"""Value drain, massive activations, gates: closed forms, shapes of gates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import gate_size, gate_split, massive_activation, value_drain
from attnlab.config import ConfigError

B, H, T, K = 2, 3, 5, 4
ROWS = (B, H, T)


def test_value_drain(rng):
    drain = jax.jit(value_drain)
    values = rng.normal(size=(B, H, T, K)).astype(np.float32)
    norms = np.linalg.norm(values, axis=-1)
    np.testing.assert_allclose(drain(jnp.asarray(values)), norms[..., 0] / norms[..., 1:].mean(-1), rtol=1e-5)
    values[..., 0, :] = 0
    np.testing.assert_array_equal(drain(jnp.asarray(values)), np.zeros((B, H)))
    assert np.all(np.asarray(drain(jnp.zeros_like(values))) == 0)
    slope = jax.jit(jax.grad(lambda v: jnp.sum(value_drain(v))))(jnp.asarray(values))
    assert np.isfinite(slope).all()  # a norm of 0 has no direction to grow in: 0, not NaN


def test_massive_activation():
    stream = jnp.ones((B, T, K)).at[1, 0, 2].set(-1000.0)
    found = massive_activation(stream)
    np.testing.assert_allclose(found.peak, [1, 1000])
    np.testing.assert_allclose(found.ratio, [1, np.sqrt(1e6 + K - 1) / np.sqrt(K)], rtol=1e-6)


def test_gates_of_every_shape(rng):
    gate = jnp.asarray(rng.random((B, H, T, K)), jnp.float32)
    mean = np.asarray(gate).mean(-1)
    np.testing.assert_allclose(gate_size(gate, ROWS), mean, rtol=1e-6)
    np.testing.assert_array_equal(gate_size(gate[..., 0], ROWS), gate[..., 0])
    np.testing.assert_array_equal(gate_size(gate[..., :1], ROWS), gate[..., 0])
    shared = gate_size(gate[:, :1], ROWS)
    np.testing.assert_allclose(shared, np.broadcast_to(mean[:, :1], ROWS), rtol=1e-6)
    np.testing.assert_array_equal(gate_size(gate[:, :1, :, 0], ROWS), np.broadcast_to(gate[:, :1, :, 0], ROWS))
    wide = jnp.asarray(rng.random((B, T, 7)), jnp.float32)  # a gate after the heads are joined
    np.testing.assert_allclose(gate_size(wide, ROWS)[:, 1], np.asarray(wide).mean(-1), rtol=1e-6)
    with pytest.raises(ConfigError, match="gate"):
        gate_size(gate[..., :-1, :], ROWS)


def test_a_gate_that_closes():
    active = jnp.zeros((B, T), bool).at[0, 1].set(True).at[1, 3].set(True)
    gate = jnp.where(active[:, None], 0.871, 0.109) * jnp.ones(ROWS)
    found = gate_split(gate, active)
    np.testing.assert_allclose(found.active, [0.871] * H, rtol=1e-6)
    np.testing.assert_allclose(found.dormant, [0.109] * H, rtol=1e-6)
    np.testing.assert_allclose(found.difference, [0.762] * H, rtol=1e-6)
    assert np.isnan(gate_split(gate, active & False).active).all()
    some = gate_split(gate.at[:, :, 0].set(5.0), active, ~active & (jnp.arange(T) > 0))
    np.testing.assert_allclose(some.dormant, [0.109] * H, rtol=1e-6)


def test_a_single_position_has_no_others():
    with pytest.raises(ConfigError, match="positions"):
        value_drain(jnp.ones((1, K)))
