"""Injectivity of maps in their query, and norms of Jacobians: loops, matrices, mechanisms, a bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention
from attnlab.analysis import collinear_change, injectivity, jacobian_norm
from attnlab.config import ConfigError

N, K = 5, 3


def normalised(feature, keys):
    """Linear attention: `phi(q) . phi(k) / sum`."""

    def attend(q):
        weights = feature(q) @ feature(keys).T
        return weights / jnp.sum(weights, axis=-1, keepdims=True)

    return attend


def inline(feature, keys):
    """InLine (2412.06590): weights less their mean, plus `1 / n`; the scale of its code, `1 / (n sqrt(d))`."""

    def attend(q):
        weights = feature(q) @ feature(keys).T / (len(keys) * keys.shape[-1] ** 0.5)
        return weights - jnp.mean(weights, axis=-1, keepdims=True) + 1 / len(keys)

    return attend


def test_injectivity_against_loops(x64, rng):
    queries, keys = jnp.asarray(rng.normal(size=(2, N, K))), jnp.asarray(rng.normal(size=(7, K)))

    def attend(q):
        return jax.nn.softmax(q @ keys.T)

    found = jax.jit(lambda q: injectivity(attend, q))(queries)
    for b in range(2):
        q, rows = np.asarray(queries[b]), np.asarray(attend(queries[b]))
        pairs = [(i, j) for i in range(N) for j in range(N) if i != j]
        wanted = min(np.linalg.norm(rows[i] - rows[j]) / np.linalg.norm(q[i] - q[j]) for i, j in pairs)
        np.testing.assert_allclose(found[b], wanted, rtol=1e-12)


def test_injectivity_of_known_maps(x64, rng):
    queries = jnp.asarray(rng.normal(size=(N, K)))
    triple = jax.jit(lambda q: injectivity(lambda q: 3 * q, q))
    np.testing.assert_allclose(triple(queries), 3, rtol=1e-12)
    np.testing.assert_allclose(triple(queries.at[1].set(queries[0])), 3, rtol=1e-12)  # an equal pair says nothing
    assert np.isinf(triple(jnp.ones((N, K))))
    assert float(injectivity(lambda q: q[..., :1], queries.at[:, 0].set(1))) == 0
    # Positive multiples of one query collide under a homogeneous feature map, not under softmax.
    ray, keys = jnp.asarray(rng.random((1, K)) * np.arange(1.0, N + 1)[:, None]), jnp.asarray(rng.random((7, K)))
    assert float(injectivity(normalised(jax.nn.relu, keys), ray)) < 1e-14
    assert float(injectivity(lambda q: jax.nn.softmax(q @ keys.T), ray)) > 1e-3


def test_a_query_twice_as_long(x64, rng):
    # Relative change of rows under q -> 2q for Gaussian q, k with d = 16, n = 64; the numbers were measured elsewhere.
    queries, keys = (jnp.asarray(rng.normal(size=(64, 16))) for _ in range(2))
    maps = {
        "softmax": (lambda q: jax.nn.softmax(q @ keys.T / 4), 1.07),
        "relu": (normalised(jax.nn.relu, keys), 0.0),
        "elu1": (normalised(lambda x: jax.nn.elu(x) + 1, keys), 0.051),
        "exp": (normalised(lambda x: jnp.exp(0.2 * x), keys), 0.010),
        "inline": (inline(lambda x: x, keys), 0.69),
        "inline_relu": (inline(jax.nn.relu, keys), 0.35),
    }
    for name, (attend, value) in maps.items():
        found = float(jnp.mean(collinear_change(attend, queries)))
        # A tenth: another draw of 64 keys; 0 is exact up to rounding.
        np.testing.assert_allclose(found, value, rtol=0.1, atol=1e-14, err_msg=name)
    assert np.all(np.asarray(collinear_change(lambda q: 0 * q, queries)) == 0)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "relu"])
def test_a_mechanism(name, rng):
    mechanism = getattr(attention, name)
    q, k = (jnp.asarray(rng.normal(size=(1, N, K)), jnp.float32) for _ in range(2))

    def attend(q):
        return mechanism.apply({}, q, k, k, view="map").weights

    found, scale = np.asarray(injectivity(attend, q)), K**-0.5
    assert found.shape == (1,) and 0 < found[0] < 1
    if name == "relu":  # linear in a positive factor
        logits = np.maximum(scale * np.asarray(q @ jnp.swapaxes(k, -1, -2)), 0) / N
        np.testing.assert_allclose(attend(q), logits, rtol=1e-5, atol=1e-6)
        alive = np.linalg.norm(logits, axis=-1) > 0
        np.testing.assert_allclose(np.asarray(collinear_change(attend, q))[alive], 1, rtol=1e-5)


def test_jacobian_of_a_matrix(x64, rng):
    matrix = jnp.asarray(rng.normal(size=(4, 6)))
    exact = np.linalg.svd(np.asarray(matrix))[1][0]
    x = jnp.asarray(rng.normal(size=(2, 3)))

    def apply(x):
        return jnp.sin(matrix @ x.reshape(-1)) if x.ndim == 2 else matrix @ x

    np.testing.assert_allclose(jacobian_norm(apply, x.reshape(-1)), exact, rtol=1e-12)
    slope = np.cos(np.asarray(matrix @ x.reshape(-1)))[:, None] * np.asarray(matrix)
    np.testing.assert_allclose(jacobian_norm(apply, x), np.linalg.norm(slope, 2), rtol=1e-12)


def test_power_iteration_rises_to_the_norm(x64, rng, key):
    keys, mix = jnp.asarray(rng.normal(size=(7, K))), jnp.asarray(rng.normal(size=(K, K)))

    def out(x):
        return jax.nn.softmax(x @ mix @ x.T) @ x @ keys.T

    x = jnp.asarray(rng.normal(size=(N, K)))

    @jax.jit
    def norms(x):
        return jacobian_norm(out, x), [jacobian_norm(out, x, key=key, iterations=n) for n in (1, 4, 300)]

    exact, steps = jax.device_get(norms(x))
    assert steps == sorted(steps) and steps[-1] <= exact * (1 + 1e-12)
    np.testing.assert_allclose(steps[-1], exact, rtol=1e-6)  # ratio of singular values to the 600th power
    assert float(jacobian_norm(lambda x: 0 * x, x, key=key, iterations=2)) == 0


def test_sigmoid_attention_stays_below_its_bound(x64, rng):
    """Ramapuram et al. (2409.04431): a bound on the Jacobian that softmax has no like of."""
    n, D = 6, 4

    @jax.jit
    def norm(x, query, key, value):
        def out(x):
            return jax.nn.sigmoid(x @ query.T @ key @ x.T - jnp.log(n)) @ x @ value.T

        return jacobian_norm(out, x)

    ratios = []
    for scale in (0.1, 0.3, 1.0, 3.0) * 4:
        x, query, key, value = scale * rng.normal(size=(n, D)), *rng.normal(size=(3, D, D))
        logits = x @ query.T @ key @ x.T - np.log(n)
        sigma = 1 / (1 + np.exp(-logits))
        size = np.mean(np.sum(x * x, axis=-1)) + np.linalg.norm(x.T @ x / n, 2)
        kq = np.linalg.norm(query.T @ key, 2)
        bound = np.linalg.norm(value, 2) * n * (sigma.max() + 2 * (sigma * (1 - sigma)).max() * kq * size)
        ratios.append(float(norm(*map(jnp.asarray, (x, query, key, value)))) / bound)
    assert max(ratios) <= 1 and min(ratios) > 0.001, ratios


def test_bad_functions():
    with pytest.raises(ConfigError, match="queries"):
        injectivity(lambda q: q, jnp.ones((1, K)))
    with pytest.raises(ConfigError, match="factor"):
        collinear_change(lambda q: q, jnp.ones((2, K)), 1.0)
    with pytest.raises(ConfigError, match="iterations"):
        jacobian_norm(lambda x: x, jnp.ones(K), key=jax.random.key(0), iterations=0)
