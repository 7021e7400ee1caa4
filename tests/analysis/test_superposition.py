"""Several tasks in one layer: the constructions of the paper, one task per head or shared, and what must not matter."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import coordinate_groups, participation, superposition
from attnlab.config import ConfigError
from attnlab.models.regression_attention import RegressionAttention
from toy_tasks.linear_regression import LinearRegression

TASK = LinearRegression.multi_task()  # d = 6, coordinates 0-3 and 2-5
ON = TASK.support_mask
PROBE = superposition(TASK)
ETA = 0.9


def split():
    """Four heads, two opposite ones per task, at size 1/10."""
    return 0.1 * np.repeat(ON, 2, axis=0) * np.array([1, -1, 1, -1])[:, None], np.kron(np.eye(2), [[5], [-5]]) * ETA


def shared(mu):
    """Diagonals for which zero-sum weights `mu [3, 2]` do both tasks: least-norm, `E = eta 1[j in i]`."""
    return np.linalg.pinv(mu.T) @ (ETA * ON)


def measured(diagonal, mu, probe=PROBE):
    model = RegressionAttention(6, len(mu), np.shape(mu)[1], form="merged")
    return jax.device_get(jax.jit(probe, static_argnums=0)(model, model.construct(diagonal, mu)))


def test_one_task_per_head():
    found = measured(*split())
    np.testing.assert_allclose(found["effective"], ETA * ON, atol=1e-6)
    np.testing.assert_allclose(found["on_support"], ETA, rtol=1e-5)
    np.testing.assert_allclose(found["off_support"], 0, atol=1e-6)
    np.testing.assert_allclose(found["zero_sum"], 0, atol=1e-6)
    np.testing.assert_allclose(found["tasks_per_head"], 1, rtol=1e-6)
    np.testing.assert_allclose(found["mean_tasks_per_head"], 1, rtol=1e-6)
    np.testing.assert_allclose(found["heads_per_task"], 2, rtol=1e-5)
    np.testing.assert_allclose(found["group_values"][0], [0.1, 0.1, 0], atol=1e-7)
    np.testing.assert_allclose(found["group_deviation"], 0, atol=1e-6)


def test_two_tasks_in_three_heads():
    """`N + 1` heads do: zero-sum weights that are independent, here those that training found (-4.7, -.1), ..."""
    mu = np.array([[-4.7, -0.1], [1.1, -4.1], [3.6, 4.2]])
    found = measured(shared(mu), mu)
    np.testing.assert_allclose(found["effective"], ETA * ON, atol=1e-5)
    np.testing.assert_allclose(found["zero_sum"], 0, atol=1e-6)
    np.testing.assert_allclose(found["off_support"], 0, atol=1e-5)
    np.testing.assert_allclose(found["group_deviation"], 0, atol=1e-6)
    expected = [4.8**2 / (4.7**2 + 0.1**2), 5.2**2 / (1.1**2 + 4.1**2), 7.8**2 / (3.6**2 + 4.2**2)]
    np.testing.assert_allclose(found["tasks_per_head"], expected, rtol=1e-5)
    assert 1.3 < found["mean_tasks_per_head"] < 2


def test_two_heads_cannot():
    """Their zero-sum weights are one vector times (1, -1): both tasks get multiples of the same diagonal."""
    found = measured(0.1 * np.array([[1.0] * 6, [-1.0] * 6]), [[4.5, 4.5], [-4.5, -4.5]])
    np.testing.assert_allclose(found["tasks_per_head"], 2, rtol=1e-6)
    np.testing.assert_allclose(found["off_support"], ETA, rtol=1e-5)


def test_planted_failures():
    diagonal, mu = split()
    uneven = diagonal.copy()
    uneven[0, 0] += 0.2  # 0.3, group mean 0.2
    np.testing.assert_allclose(measured(uneven, mu)["group_deviation"], [1 / 3, 0, 0, 0], atol=1e-6)
    leak = diagonal.copy()
    leak[2, 0] = -0.02  # the second task at a coordinate of the first
    np.testing.assert_allclose(measured(leak, mu)["off_support"], [0, 0.02 * 5 * ETA], atol=1e-6)
    biased = mu.copy()
    biased[0, 0] += 1
    np.testing.assert_allclose(measured(diagonal, biased)["zero_sum"], [1, 0], atol=1e-6)


def test_a_dummy_head_has_no_weight_and_no_nan():
    diagonal, mu = split()
    found = measured(np.concatenate([diagonal, 0 * diagonal[:1]]), np.concatenate([mu, [[1.0, 1.0]]]))
    np.testing.assert_allclose(found["tasks_per_head"], [1, 1, 1, 1, 2], rtol=1e-6)
    np.testing.assert_allclose(found["mean_tasks_per_head"], 1, rtol=1e-6)
    nothing = measured(0 * diagonal, 0 * mu)
    assert all(np.all(value == 0) for value in nothing.values())


def test_order_and_scale_of_heads():
    mu = np.array([[-4.7, -0.1], [1.1, -4.1], [3.6, 4.2]])
    diagonal, order, c = shared(mu), [2, 0, 1], np.array([[2.0], [0.5], [-4.0]])
    expected = measured(diagonal, mu)
    moved, scaled = measured(diagonal[order], mu[order]), measured(c * diagonal, mu / c)
    for name, dims in PROBE.dims(expected).items():
        value = expected[name][order] if "head" in dims else expected[name]
        np.testing.assert_allclose(moved[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
        if name not in ("zero_sum", "group_values"):
            np.testing.assert_allclose(scaled[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_groups_of_unequal_size():
    one = superposition([(0, 1, 2, 3)])
    found = measured([[1.0, 2.0, 3.0, 6.0, 7.0, 9.0]], [[1.0]], one)
    np.testing.assert_allclose(found["group_values"], [[3, 8]], rtol=1e-6)
    np.testing.assert_allclose(found["group_deviation"], [3 / 9], rtol=1e-6)
    np.testing.assert_allclose([found["on_support"], found["off_support"]], [[3], [9]], rtol=1e-6)


def test_groups_of_coordinates():
    assert coordinate_groups(TASK.supports, 6) == ((0, 1), (2, 3), (4, 5))
    assert coordinate_groups([(0, 2)], 4) == ((0, 2), (1, 3))
    assert superposition(LinearRegression()).supports == (tuple(range(5)),)
    with pytest.raises(ConfigError, match="supports"):
        superposition([(0, 0)])
    with pytest.raises(ConfigError, match="each of the 2 outputs"):
        measured(*split(), superposition([(0, 1)]))


def test_participation_counts():
    counts = [float(participation(jnp.array([3.0] * k + [0.0] * (4 - k)))) for k in range(5)]
    np.testing.assert_allclose(counts, range(5), rtol=1e-6)
    between = [float(participation(jnp.array([1.0, x]))) for x in (0.0, 0.2, 0.5, 1.0)]
    assert all(a < b for a, b in pairwise(between))


def test_seeds_and_axes(rng):
    model = RegressionAttention(6, 3, 2, form="merged")
    params = {"kq": rng.normal(size=(2, 3, 8, 8)).astype(np.float32), "ov": rng.normal(size=(2, 3, 8, 2)).astype("f")}
    mapped = jax.jit(jax.vmap(lambda p: PROBE(model, p)))(params)
    sizes = {"head": 3, "output": 2, "coordinate": 6, "group": 3}
    for name, dims in PROBE.dims(mapped).items():
        assert mapped[name].shape == (2, *(sizes[axis] for axis in dims)), name
    alone = jax.jit(PROBE, static_argnums=0)(model, jax.tree.map(lambda leaf: leaf[1], params))
    for name, value in alone.items():
        np.testing.assert_allclose(mapped[name][1], value, rtol=1e-4, atol=1e-5, err_msg=name)
    # What E means: a step for task i along coordinate j, from all heads.
    expected = np.einsum("shi,shjj->sij", params["ov"][:, :, [6, 7], [0, 1]], params["kq"][..., :6, :6])
    np.testing.assert_allclose(mapped["effective"], expected, rtol=1e-4, atol=1e-5)
