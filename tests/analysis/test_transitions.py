"""Spectra of transitions and what recurrences keep: closed forms of decays and of the delta rule, NumPy products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import dense_transitions, effective_memory, surviving, transition_spectrum, transitions_of
from attnlab.attention import Dims
from attnlab.attention.recurrent_catalogue import delta_net_negative, linear, ssd
from attnlab.config import ConfigError

T, K = 6, 4


def delta(keys, beta, alpha=1.0):
    """`alpha (I - beta k k^T)`."""
    decay = jnp.full(keys.shape, alpha)
    return dense_transitions(decay, -alpha * beta[..., None] * keys, keys)


def test_the_delta_rule(x64, rng):
    keys, beta = jnp.asarray(rng.normal(size=(2, T, K))), jnp.asarray(rng.uniform(0, 2, size=(2, T)))
    found = jax.jit(transition_spectrum)(delta(keys, beta, 0.5))
    last = 0.5 * (1 - np.asarray(beta) * np.sum(np.asarray(keys) ** 2, axis=-1))
    wanted = np.concatenate([np.full((2, T, K - 1), 0.5), last[..., None]], axis=-1)
    wanted = np.take_along_axis(wanted, np.argsort(-np.abs(wanted), axis=-1), axis=-1)
    np.testing.assert_allclose(found.eigenvalues.imag, 0, atol=1e-8)
    np.testing.assert_allclose(found.eigenvalues.real, wanted, atol=1e-7)  # roots of a multiple eigenvalue
    np.testing.assert_allclose(found.radius, np.abs(wanted).max(-1), rtol=1e-7)
    np.testing.assert_allclose(found.volume, 0.5 ** (K - 1) * np.abs(last), rtol=1e-9)


def test_a_rotation_keeps_everything(x64):
    turn = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    found = transition_spectrum(turn[None])
    np.testing.assert_allclose(np.sort(found.eigenvalues[0].imag), [-1, 1], atol=1e-12)
    np.testing.assert_allclose([found.radius[0], found.volume[0]], 1, rtol=1e-12)
    np.testing.assert_allclose(effective_memory(jnp.stack([turn] * T)), T, rtol=1e-12)


def test_parity_needs_a_negative_eigenvalue():
    """d = 1, k = 1, beta = 2 bit: the state flips sign with every 1, and its sign is the parity of the prefix."""
    bits = jnp.array([1.0, 0, 1, 1, 0, 1])
    flips = transition_spectrum(delta(jnp.ones((T, 1)), 2 * bits)).eigenvalues[:, 0].real
    np.testing.assert_array_equal(np.asarray(jnp.prod(flips)), (-1) ** int(bits.sum()))
    forgets = transition_spectrum(delta(jnp.ones((T, 1)), bits)).eigenvalues[:, 0].real
    assert np.asarray(forgets).min() == 0  # beta <= 1 cannot flip: it erases


def test_surviving_is_a_product_of_matrices(x64, rng):
    matrices = rng.normal(size=(2, T, K, K)) / K**0.5
    found = jax.jit(surviving)(jnp.asarray(matrices))
    for b in range(2):
        for u in range(T):
            product = np.eye(K)
            for step in matrices[b, u + 1 :]:
                product = step @ product
            wanted = np.linalg.svd(product, compute_uv=False)
            np.testing.assert_allclose(found[b, u], wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[:, -1], 1, rtol=1e-12)
    np.testing.assert_allclose(effective_memory(jnp.asarray(matrices)), np.sum(found, axis=1), rtol=1e-12)


def test_memory_of_decays(x64, rng):
    decay = np.array([0.9, 0.5, -0.2, 0.0])
    constant = dense_transitions(jnp.broadcast_to(jnp.asarray(decay), (T, K)))
    size = np.abs(decay)
    np.testing.assert_allclose(effective_memory(constant), (1 - size**T) / (1 - size), rtol=1e-12)
    varied = rng.uniform(0.1, 1, size=(T, K))
    channels = np.stack([np.prod(varied[u + 1 :], axis=0) for u in range(T)])
    found = surviving(dense_transitions(jnp.asarray(varied)))
    np.testing.assert_allclose(found, -np.sort(-channels, axis=-1), rtol=1e-12)


def test_transitions_of_mechanisms(x64, rng, key):
    heads, width = 2, 5
    q, k, v = (jnp.asarray(rng.normal(size=(heads, T, K))) for _ in range(3))
    x = jnp.asarray(rng.normal(size=(T, width)))
    found = {}
    for mechanism in (linear, ssd, delta_net_negative):
        params = mechanism.init(key, Dims(heads, K, width))
        spectrum = jax.jit(lambda p, m=mechanism: transition_spectrum(transitions_of(m.steps(p, q, k, v, x=x))))
        found[mechanism.name] = spectrum(params)
        assert found[mechanism.name].radius.shape == (heads, T), mechanism.name
    # Kernels keep all; one decay per head and token is the whole spectrum; the delta rule keeps K - 1 directions.
    np.testing.assert_allclose(found["linear"].eigenvalues, 1, atol=1e-12)
    decay = found["ssd"].eigenvalues.real
    assert decay.min() > 0 and decay.max() < 1 and np.ptp(decay, axis=-1).max() < 1e-12
    values = np.sort(found["delta_net_negative"].eigenvalues.real, axis=-1)
    np.testing.assert_allclose(values[..., 1:], 1, atol=1e-7)
    assert -1 <= values[..., 0].min() < 0  # beta is up to 2, keys have length 1


def test_a_pair_of_vectors_is_given_whole():
    with pytest.raises(ConfigError, match="only then"):
        dense_transitions(jnp.ones((T, K)), jnp.ones((T, K)))
