"""The sink metric: the values that are known in closed form (A18), and its rule of one threshold per sequence."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import proxy, sink_mass, sink_rate
from attnlab.config import ConfigError
from toy_tasks import BigramBackcopy

T = 64


def uniform(length=T):
    return jnp.tril(jnp.ones((length, length))) / jnp.arange(1, length + 1)[:, None]


def test_uniform_attention():
    alpha = np.asarray(sink_mass(uniform()))
    tail = [sum(1 / i for i in range(k, T + 1)) / (T - k + 1) for k in range(1, T + 1)]
    np.testing.assert_allclose(alpha, tail, rtol=1e-5)  # float32 sums of 64 terms
    assert abs(alpha[0] - 0.0741) < 1e-4
    assert np.asarray(sink_rate(uniform()[None])).max() == 0


def test_identity_attention_is_spurious_only_at_the_end():
    alpha = np.asarray(sink_mass(jnp.eye(T)))
    np.testing.assert_allclose(alpha, 1 / (T - np.arange(1, T + 1) + 1), rtol=1e-6)
    rates = np.asarray(sink_rate(jnp.eye(T)[None]))
    np.testing.assert_array_equal(rates, (np.arange(1, T + 1) >= T - 2).astype(float))


def test_all_mass_on_the_first_key():
    weights = jnp.zeros((T, T)).at[:, 0].set(1)
    assert float(sink_mass(weights)[0]) == 1
    assert float(sink_rate(weights[None], num_keys=1)[0]) == 1


def test_ideal_head_on_the_task():
    task = BigramBackcopy.tiny_shakespeare(length=T)
    weights = jax.jit(lambda k: task.ideal_attention(task.sample(k, 256)))(jax.random.key(0))
    # Every row but those of triggers: 1 - f. A trigger at position 1 looks at 0 as well, but the task has none there.
    fraction = 0.2565
    assert abs(float(sink_mass(weights, 1).mean()) - (1 - fraction)) < 0.02  # 256 x 64 positions: se below .005
    assert float(sink_rate(weights)[0]) == 1


def test_threshold_holds_for_each_sequence_not_for_the_average():
    first = jnp.zeros((T, T)).at[:, 0].set(1)
    pair = jnp.stack([first, first * 0.2])
    assert float(sink_rate(pair)[0]) == 0.5
    assert float(sink_mass(pair).mean(0)[0]) > 0.3
    heads = jnp.stack([pair, pair], axis=1)
    assert sink_rate(heads, num_keys=3).shape == (2, 3)


def test_proxy_is_scale_free_and_hides_lost_mass():
    weights = 1e-3 * jnp.zeros((T, T)).at[:, 0].set(1)
    assert float(sink_rate(weights[None])[0]) == 0
    assert float(sink_rate(proxy(weights)[None])[0]) == 1
    np.testing.assert_allclose(proxy(uniform()), uniform(), atol=1e-7)  # the floor of 1e-8
    np.testing.assert_allclose(proxy(-uniform()), uniform(), atol=1e-7)
    assert np.all(np.asarray(proxy(jnp.zeros((T, T)))) == 0)


def test_bad_maps():
    with pytest.raises(ConfigError, match="num_keys"):
        sink_mass(jnp.eye(3), 4)
    # Without the run-time check of annotations that tests switch on, which says the same.
    with pytest.raises(ConfigError, match="square"):
        inspect.unwrap(sink_mass)(jnp.zeros((3, 4)))


def test_bad_threshold():
    with pytest.raises(ConfigError, match="eps"):
        sink_rate(jnp.eye(3)[None], 1.5)
