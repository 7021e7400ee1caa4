"""Ranks on the device against SciPy, and what they say of the kernels of linear attention."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attnlab import attention
from attnlab.analysis import (
    average_ranks,
    evenness,
    kl_to_teacher,
    monotonicity,
    rank_correlation,
    spearman,
)

U = 9
compiled = functools.cache(lambda: jax.jit(lambda x, y, seen: (average_ranks(x, seen), rank_correlation(x, y, seen))))


@st.composite
def pairs(draw):
    """Two sets of rows with many ties, and which entries count."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([2, 4, 1000]))
    x, y = rng.integers(-levels, levels, size=(2, 3, U)) / 7
    return x, y, rng.random((3, U)) > draw(st.sampled_from([0.0, 0.3, 0.8]))


@settings(max_examples=40)
@given(pairs())
def test_against_scipy(case):
    x, y, seen = case
    with jax.enable_x64(True):
        ranks, found = compiled()(*(jnp.asarray(part) for part in case))
    for row in range(3):
        ours = seen[row]
        np.testing.assert_array_equal(np.asarray(ranks[row])[ours], stats.rankdata(x[row][ours]))
        assert np.all(np.asarray(ranks[row])[~ours] == 0)
        wanted = spearman(x[row][ours], y[row][ours])
        np.testing.assert_allclose(found[row], wanted, atol=1e-12)  # NaN where SciPy has none


def test_what_has_no_correlation():
    x = jnp.arange(5.0)
    few = jnp.array([True, True, False, False, False])
    assert np.isnan(rank_correlation(x, x, few)) and np.isnan(rank_correlation(x, jnp.ones(5)))
    assert np.isnan(rank_correlation(x.at[1].set(jnp.nan), x)) and float(rank_correlation(x, -x)) == -1
    assert float(rank_correlation(x.at[1].set(jnp.nan), x, jnp.arange(5) != 1)) == 1


def test_a_growing_map_keeps_the_order():
    scores = jax.random.normal(jax.random.key(0), (2, 8, 8))
    mask = attention.causal_mask(8)
    found = np.asarray(monotonicity(attention.Softmax()(scores, mask), scores, mask))
    assert np.isnan(found[:, :2]).all()  # rows that see one or two keys
    np.testing.assert_allclose(found[:, 2:], 1, rtol=1e-6)
    np.testing.assert_allclose(monotonicity(-jnp.exp(scores), scores, mask)[:, 2:], -1, rtol=1e-6)
    # Weights behind the mask do not count.
    np.testing.assert_allclose(monotonicity(jnp.exp(scores), scores, mask)[:, 2:], 1, rtol=1e-6)


def elu1(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def relu(x):
    return np.maximum(x, 0) + 1e-12


def hedgehog(x):
    """`softmax(2 [x, -x])`: the map at `W = I`, as flash-linear-attention has it."""
    power = np.exp(2 * np.concatenate([x, -x], axis=-1))
    return power / power.sum(-1, keepdims=True)


def kernel_maps(rng, n=128, d=16, features=256):
    """Unnormalised weights of Gaussian `q, k [n, d]`, in NumPy, and the scores `q . k / sqrt(d)`."""
    q, k, directions = rng.normal(size=(n, d)), rng.normal(size=(n, d)), rng.normal(size=(features, d))

    def performer(x):
        return np.exp(x @ directions.T / d**0.25 - (x * x).sum(-1, keepdims=True) / (2 * d**0.5))

    scores = q @ k.T / d**0.5
    found = {
        "softmax": np.exp(scores),
        "taylor": 1 + scores + scores**2 / 2,
        "square": scores**2,
    }
    maps = {"elu1": elu1, "relu": relu, "performer": performer, "hedgehog": hedgehog}
    maps |= {"exp1": np.exp, "exp2": lambda x: np.exp(2 * x)}
    return found | {name: feature(q) @ feature(k).T for name, feature in maps.items()}, scores


# H / ln n, Spearman(weight, q . k), KL(softmax || map), published for one draw of q, k (d = 16, n = 128).
KERNELS = {
    "softmax": (0.897, 1.000, 0.0),
    "elu1": (0.995, 0.440, 0.422),
    "relu": (0.949, 0.530, 0.543),
    "performer": (0.865, 0.798, 0.341),
    "taylor": (0.947, 0.907, 0.066),
    "exp1": (0.979, 0.432, 0.380),
    "exp2": (0.774, 0.449, 0.797),
    "hedgehog": (0.913, 0.778, 0.281),
    "square": (0.849, 0.006, 0.933),
}
DRAWS = 8


@pytest.fixture(scope="module")
def kernels():
    """name -> `[DRAWS, 3]`, means over queries."""
    rng = np.random.default_rng(0)
    draws = [kernel_maps(rng) for _ in range(DRAWS)]
    with jax.enable_x64(True):

        @jax.jit
        def measure(weights, teacher, scores):
            rows = evenness(weights), monotonicity(weights, scores), kl_to_teacher(weights, teacher)
            return jnp.stack([jnp.mean(row, axis=-1) for row in rows], axis=-1)

        scores = np.stack([scores for _, scores in draws])
        stacked = {name: np.stack([maps[name] for maps, _ in draws]) for name in KERNELS}
        return {name: np.asarray(measure(maps, stacked["softmax"], scores)) for name, maps in stacked.items()}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_of_linear_attention(kernels, name):
    found = kernels[name]
    # Another draw of q and k: within a tenth, or within 3 standard deviations of one draw where those are wider.
    band = np.maximum(0.1 * np.abs(KERNELS[name]), 3 * found.std(axis=0, ddof=1))
    assert np.all(np.abs(found.mean(axis=0) - KERNELS[name]) <= band + 1e-9), found.mean(axis=0)
    if name == "softmax":
        np.testing.assert_allclose(found[:, 1:], [[1, 0]] * DRAWS, atol=1e-12)


def test_order_of_the_kernels(kernels):
    mean = {name: found.mean(axis=0) for name, found in kernels.items()}
    # Dispersion and order have nothing to do with each other: ELU + 1 is all but flat, a square knows no order.
    assert max(mean, key=lambda name: mean[name][0]) == "elu1"
    by_order = sorted(mean, key=lambda name: -mean[name][1])
    assert by_order[:4] == ["softmax", "taylor", "performer", "hedgehog"] and by_order[-1] == "square"
    assert min((name for name in mean if name != "softmax"), key=lambda name: mean[name][2]) == "taylor"
