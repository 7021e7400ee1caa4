"""The numbers are what they are said to be: Threefry's words, the normal law, independence."""

import math

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks.gaussian import normal, threefry_words

COUNT = 1_000_000


@pytest.fixture(scope="module")
def numbers() -> np.ndarray:
    """Float64[2, N]: the two numbers of every pair (`normal` puts all first ones before all second ones)."""
    return np.asarray(jax.jit(lambda key: normal(key, (COUNT,)))(jax.random.key(7)), np.float64).reshape(2, -1)


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5])
def test_words_are_threefry_bit_for_bit(seed):
    key, count = jax.random.key(seed), 1001
    first, second = jax.random.key_data(key)
    counters = jnp.arange(count, dtype=jnp.uint32), jnp.zeros(count, jnp.uint32)
    theirs = jax.extend.random.threefry2x32_p.bind(first, second, *counters)
    for ours, known in zip(threefry_words(key, count), theirs, strict=True):
        np.testing.assert_array_equal(ours, known)


def test_known_answer_of_the_authors():
    """Random123's `kat_vectors`: threefry 2x32, 20 rounds, counter and key 0."""
    words = threefry_words(jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32)), 1)
    assert [int(word[0]) for word in words] == [0x6B200159, 0x99BA4EFE]


def test_box_muller_of_the_words(numbers):
    """The formula in float64 from the words: 24 bits of each, to the rounding of float32."""
    radius, angle = (np.asarray(w) >> 8 for w in threefry_words(jax.random.key(7), COUNT // 2))
    length = np.sqrt(-2 * np.log((radius + 1.0) / 2**24))
    turn = 2 * np.pi * (angle / 2**24 - 0.5)
    # absolute: the angle, up to pi, is rounded to 2e-7, and is multiplied by a length of up to 5.8
    np.testing.assert_allclose(numbers, length * np.stack([np.cos(turn), np.sin(turn)]), rtol=0, atol=2e-6)


def test_law_is_normal(numbers):
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(numbers[0], numbers[1]).pvalue > 1e-3


def test_moments(numbers):
    for power in range(1, 7):
        known = [0, 1, 0, 3, 0, 15][power - 1]
        spread = math.prod(range(1, 2 * power, 2)) - known**2  # E z^(2p) - (E z^p)^2
        error = math.sqrt(spread / COUNT)
        assert abs(np.mean(numbers**power) - known) < 5 * error, power


@pytest.mark.parametrize("bound", [3.0, 4.0, 4.5])
def test_tails(numbers, bound):
    """Counts beyond the bound on each side are Poisson; the z-score is under 4.5."""
    expected = COUNT * stats.norm.sf(bound)
    for count in ((numbers > bound).sum(), (numbers < -bound).sum()):
        assert abs(count - expected) < 4.5 * math.sqrt(expected), (count, expected)


def test_extremes():
    """Beyond 5 sigma, in 2e7 numbers; the largest possible number is not passed."""

    @jax.jit
    def beyond(keys):
        def one(count, key):
            z = jnp.abs(normal(key, (1_000_000,)))
            return count + jnp.stack([jnp.sum(z > 4.0), jnp.sum(z > 5.0)]), jnp.max(z)

        return jax.lax.scan(one, jnp.zeros(2, jnp.int32), keys)

    counts, largest = beyond(jax.random.split(jax.random.key(3), 20))
    expected = 2e7 * 2 * stats.norm.sf([4.0, 5.0])  # 1267 and 11.5
    assert (np.abs(np.asarray(counts) - expected) < 4.5 * np.sqrt(expected)).all(), (counts, expected)
    assert float(largest.max()) <= math.sqrt(48 * math.log(2)) * (1 + 1e-6)  # float32


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """In standard errors of 0."""
    return float(np.corrcoef(a, b)[0, 1] * math.sqrt(len(a)))


def test_no_correlation_within_pairs_and_between_neighbours(numbers):
    first, second = numbers
    flat = numbers.ravel()
    for f in (np.array, np.square, np.abs, np.sign):
        for a, b in ((first, second), (first[:-1], second[1:]), (flat[:-1], flat[1:]), (flat[:-2], flat[2:])):
            assert abs(correlation(f(a), f(b))) < 4.5
    assert abs(correlation(first**2, second)) < 4.5
    assert abs(correlation(first, second**2)) < 4.5
    # the pair is rotation invariant: its direction is uniform, and independent of its length
    direction = np.arctan2(second, first)
    assert stats.kstest(direction / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3
    assert abs(correlation(np.cos(direction * 2), first**2 + second**2)) < 4.5


def test_keys_are_independent():
    keys = jax.random.split(jax.random.key(11), 400)
    z = np.asarray(jax.jit(jax.vmap(lambda key: normal(key, (2000,))))(keys), np.float64)
    gram = (z @ z.T / math.sqrt(2000))[np.triu_indices(400, 1)]  # 79800 products, each about N(0, 1)
    assert abs(gram.mean()) < 4.5 / math.sqrt(len(gram))
    assert abs(gram.var() - 1) < 4.5 * math.sqrt(2 / len(gram)) + 3 / 2000  # kurtosis of a sum of 2000 products
    assert np.abs(gram).max() < 5.5  # P = 0.003
    across = z.mean(axis=0) * math.sqrt(400)  # the same place under 400 keys
    assert stats.kstest(across, "norm").pvalue > 1e-3


@pytest.mark.parametrize("shape", [(), (1,), (7,), (6, 5), (5, 3), (2, 3, 2), (0, 3), (4, 0)])
def test_shapes(shape):
    z = jax.jit(normal, static_argnums=1)(jax.random.key(0), shape)
    assert (z.shape, z.dtype) == (shape, jnp.float32)
    assert len(np.unique(z)) == z.size


def test_jit_and_vmap_change_nothing():
    keys = jax.random.split(jax.random.key(0), 3)
    alone = np.stack([normal(key, (4, 3)) for key in keys])
    mapped = jax.jit(jax.vmap(lambda key: normal(key, (4, 3))))(keys)
    # compiled whole, products may be fused into sums: a last bit of the angle
    np.testing.assert_allclose(alone, mapped, rtol=0, atol=2e-6)
    looped = jax.jit(lambda keys: jax.lax.map(lambda key: normal(key, (4, 3)), keys))(keys)
    np.testing.assert_allclose(looped, mapped, rtol=0, atol=2e-6)


def test_another_generator_falls_back():
    key = jax.random.key(5, impl="rbg")
    np.testing.assert_array_equal(normal(key, (3, 4)), jax.random.normal(key, (3, 4)))
