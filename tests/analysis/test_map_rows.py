"""Row measures of maps: loops from the definitions, closed forms, rows without mass, gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow_maps
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from attnlab import attention
from attnlab.analysis import (
    evenness,
    frobenius,
    map_entropy,
    proxy,
    row_mass,
    row_shares,
    spikiness,
    support_size,
)
from attnlab.config import ConfigError

T, U = 4, 6
EXACT = 1e-12  # float64 sums of six terms


@functools.cache
def everything():
    """All row measures of a batch of maps, compiled once."""

    def measure(weights, mask):
        mass = row_mass(weights, mask)
        return {
            "signed": mass.signed,
            "absolute": mass.absolute,
            "entropy": map_entropy(weights, mask),
            "evenness": evenness(weights, mask),
            "spikiness": spikiness(weights, mask),
            "support": support_size(weights, mask),
            "frobenius": frobenius(weights, mask),
            "shares": row_shares(weights, mask),
        }

    return jax.jit(measure)


@st.composite
def maps(draw):
    """Signed maps of any size with zeros, and a mask that may hide whole rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10.0 ** draw(st.integers(-12, 6))
    weights = scale * rng.normal(size=(2, T, U)) * (rng.random((2, T, U)) > draw(st.sampled_from([0.0, 0.3, 0.9])))
    if draw(st.booleans()):
        weights = np.abs(weights)
    return weights, rng.random((T, U)) > draw(st.sampled_from([0.0, 0.4, 0.9]))


@settings(max_examples=40)
@given(maps())
def test_against_loops(case):
    weights, mask = case
    with jax.enable_x64(True):
        found = everything()(jnp.asarray(weights), jnp.asarray(mask))
    for b in range(2):
        for name, value in slow_maps.rows(weights[b], mask).items():
            np.testing.assert_allclose(found[name][b], value, rtol=EXACT, atol=EXACT * (name == "signed"), err_msg=name)
        np.testing.assert_allclose(found["frobenius"][b], slow_maps.frobenius(weights[b], mask), rtol=EXACT)


@settings(max_examples=20)
@given(maps(), st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3))
def test_shares_do_not_see_a_factor_of_the_row(case, factor):
    weights, mask = case
    with jax.enable_x64(True):
        before = everything()(jnp.asarray(weights), jnp.asarray(mask))
        after = everything()(jnp.asarray(factor * weights), jnp.asarray(mask))
    for name in ("entropy", "evenness", "spikiness", "support", "shares"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-14, err_msg=name)
    np.testing.assert_allclose(after["absolute"], abs(factor) * np.asarray(before["absolute"]), rtol=EXACT)


def test_uniform_and_one_key(x64):
    mask = attention.causal_mask(U)
    count = np.arange(1, U + 1)
    even, one = jnp.tril(jnp.ones((U, U))) / count[:, None], jnp.eye(U)
    np.testing.assert_allclose(map_entropy(even), np.log(count), atol=EXACT)
    np.testing.assert_allclose(evenness(even, mask)[1:], 1, rtol=EXACT)
    assert np.isnan(evenness(even, mask)[0])  # one visible key is no choice
    np.testing.assert_allclose(spikiness(even, mask), 1, rtol=EXACT)
    np.testing.assert_allclose(support_size(even), count)
    np.testing.assert_allclose(frobenius(even), np.sqrt(np.sum(1 / count)), rtol=EXACT)
    np.testing.assert_allclose(map_entropy(one), 0, atol=EXACT)
    np.testing.assert_allclose(spikiness(one, mask), 1 / count, rtol=EXACT)
    np.testing.assert_allclose(frobenius(one), np.sqrt(U), rtol=EXACT)
    # The published spikiness of a full map whose rows sum to one.
    full = jax.nn.softmax(jnp.linspace(-1.0, 2.0, U * U).reshape(U, U))
    np.testing.assert_allclose(spikiness(full), 1 / (U * jnp.sum(full**2, axis=-1)), rtol=EXACT)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_row_without_mass(hidden):
    weights = jnp.ones((2, 3)) if hidden else jnp.array([[1.0, 1, 1], [0, 0, 0]])
    mask = jnp.array([[True] * 3, [not hidden] * 3])
    mass = row_mass(weights, mask)
    assert float(mass.signed[1]) == float(mass.absolute[1]) == float(support_size(weights, mask)[1]) == 0
    assert np.all(np.asarray(row_shares(weights, mask)[1]) == 0)
    for measure in (map_entropy, evenness, spikiness):
        found = np.asarray(measure(weights, mask))
        assert np.isnan(found[1]) and np.isfinite(found[0]), measure.__name__
    assert float(frobenius(weights, mask)) == pytest.approx(3**0.5)


def test_what_is_broken_stays_visible():
    weights = jnp.array([[jnp.nan, 1.0], [0.5, 0.5]])
    for measure in (map_entropy, evenness, spikiness, support_size):
        found = np.asarray(measure(weights))
        assert np.isnan(found[0]) and np.isfinite(found[1]), measure.__name__
    assert np.isnan(row_mass(weights).absolute[0]) and np.isnan(frobenius(weights))


def test_shares_are_exact_where_the_floor_of_the_proxy_is_not():
    weights = jnp.array([[1e-9, 0, 0]], jnp.float32)
    assert float(row_shares(weights)[0, 0]) == 1
    np.testing.assert_allclose(proxy(weights)[0, 0], 1e-9 / (1e-9 + 1e-8), rtol=1e-6)


def test_gradients(x64):
    mask = attention.causal_mask(4)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)))  # no zeros: |A| has a corner there
    for measure in (map_entropy, spikiness, frobenius):
        total = jax.jit(lambda a, f=measure: jnp.sum(f(a, mask)))
        check_grads(lambda a, f=total: f(jnp.asarray(a)), (weights,), order=1, modes=("rev",))
    # A dead row and one that sees nothing leave the others' gradients alone.
    dead = weights.at[2].set(0)
    seen = mask.at[3].set(False)
    for measure in (map_entropy, spikiness, evenness):
        slope = jax.grad(lambda a, f=measure: jnp.nansum(f(a, seen)))(dead)
        assert np.isfinite(slope).all() and np.all(np.asarray(slope[2:]) == 0), measure.__name__
        assert np.any(np.asarray(slope[1]) != 0), measure.__name__
    assert np.isfinite(jax.grad(frobenius)(jnp.zeros((2, 2)))).all()


def test_dispersion_of_softmax(rng, x64):
    # For scores N(0, 1) and many keys the entropy is ln n - 1/2; means over rows, measured elsewhere.
    measured = {64: 0.886, 256: 0.912, 1024: 0.927, 4096: 0.940, 16384: 0.948}
    scores = jnp.asarray(rng.normal(size=(64, 16384)))

    @jax.jit
    def even(num, scale):
        mask = jnp.broadcast_to(jnp.arange(scores.shape[-1]) < num, scores.shape)
        return jnp.mean(evenness(jnp.exp(scale * scores), mask))

    for n, value in measured.items():
        found = float(even(n, 1.0))
        assert abs(found - value) < 0.01  # a row of 64 keys has sd .03, the mean of 64 rows .004
        assert abs(found - (1 - 1 / (2 * np.log(n)))) < 0.01  # the next term is O(1/n): .006 at n = 64
    # A temperature 1 + log(n) / 2 turns dispersion round (selective self-attention, 2411.12892).
    flat = [float(even(n, 1 + 0.5 * np.log(n))) for n in measured]
    assert flat == sorted(flat, reverse=True)
    np.testing.assert_allclose([flat[0], flat[-1]], [0.442, 0.194], rtol=0.1)  # a row's sd is .1, of 64 rows .013


def test_bad_threshold():
    with pytest.raises(ConfigError, match="eps"):
        support_size(jnp.eye(3), eps=-1.0)
    assert np.asarray(support_size(jnp.array([[0.5, 0.1, -0.3]]), eps=0.2)).tolist() == [2]
