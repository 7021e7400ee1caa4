"""Where the mass of a map lies: loops from the definitions, closed forms, share against mass."""

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
    head_diversity,
    kl_to_teacher,
    local_focus,
    map_entropy,
    on_key,
    previous_token_score,
    row_shares,
    window_mass,
)
from attnlab.config import ConfigError

H, T, U = 3, 4, 6
EXACT = 1e-12  # float64 sums of a few terms


@functools.cache
def everything():
    def measure(weights, teacher, mask):
        first, third = on_key(weights, 0, mask), on_key(weights, 3, mask)
        return {
            "on_key": jnp.stack([first.share, first.mass, third.share, third.mass]),
            "local": jnp.stack([local_focus(weights, offset) for offset in range(4)]),
            "window": jnp.stack([window_mass(weights, width) for width in (1, 3, U)]),
            "diversity": head_diversity(weights, mask),
            "kl": kl_to_teacher(weights, teacher, mask),
            "kl_floor": kl_to_teacher(weights, teacher, mask, floor=1e-3),
        }

    return jax.jit(measure)


@st.composite
def maps(draw):
    """Signed maps of three heads, a teacher with zeros, and a mask that may hide whole rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kept = rng.random((2, H, T, U)) > draw(st.sampled_from([0.0, 0.1, 0.9]))
    weights = 10.0 ** draw(st.integers(-6, 3)) * rng.normal(size=(H, T, U)) * kept[0]
    return weights, rng.normal(size=(H, T, U)) * kept[1], rng.random((T, U)) > draw(st.sampled_from([0.0, 0.4, 0.9]))


@settings(max_examples=40)
@given(maps())
def test_against_loops(case):
    weights, teacher, mask = case
    with jax.enable_x64(True):
        found = everything()(*(jnp.asarray(x) for x in case))
    for h in range(H):
        for place, key in ((0, 0), (2, 3)):
            np.testing.assert_allclose(found["on_key"][place : place + 2, h], slow_maps.on_key(weights[h], mask, key))
        for offset in range(4):
            np.testing.assert_array_equal(found["local"][offset, h], slow_maps.local(weights[h], offset))
        for place, width in enumerate((1, 3, U)):
            wanted = slow_maps.window(weights[h], width)
            np.testing.assert_allclose(found["window"][place, h], wanted, rtol=1e-9, atol=EXACT * np.abs(weights).max())
        for name, floor in (("kl", 0.0), ("kl_floor", 1e-3)):
            wanted = slow_maps.kl(weights[h], teacher[h], mask, floor)
            np.testing.assert_allclose(found[name][h], wanted, rtol=1e-9, atol=EXACT, err_msg=name)
    np.testing.assert_allclose(found["diversity"], slow_maps.diversity(weights, mask), rtol=EXACT)


def test_a_tiny_mass_can_be_the_whole_share():
    weights = jnp.zeros((5, 5)).at[:, 0].set(1e-6).at[2].set(0.0)
    first = on_key(weights, gate=jnp.full(5, -0.5))
    np.testing.assert_array_equal(np.asarray(first.share), [1, 1, np.nan, 1, 1])
    np.testing.assert_allclose(first.mass, [1e-6, 1e-6, 0, 1e-6, 1e-6])
    np.testing.assert_allclose(first.gated, 0.5 * np.asarray(first.mass))
    assert on_key(weights).gated is None


def test_a_learned_sink_is_a_gate(x64):
    """A null column of logit `b` is softmax behind a gate `sigmoid(lse - b)`: same shares, same gated mass."""
    scores = jnp.asarray(np.random.default_rng(2).normal(size=(T, U)))
    whole = jax.nn.softmax(jnp.concatenate([scores, jnp.full((T, 1), 0.7)], axis=-1))[:, :U]
    gate = jax.nn.sigmoid(jax.nn.logsumexp(scores, axis=-1) - 0.7)
    sink, gated = on_key(whole), on_key(jax.nn.softmax(scores), gate=gate)
    np.testing.assert_allclose(sink.share, gated.share, rtol=EXACT)
    np.testing.assert_allclose(sink.mass, gated.gated, rtol=EXACT)


def test_local_focus_is_the_previous_token_score():
    weights = jnp.asarray(np.random.default_rng(3).random((2, U, U)))
    np.testing.assert_allclose(jnp.nanmean(local_focus(weights, 1), axis=-1), previous_token_score(weights), rtol=1e-6)
    shifted = jnp.eye(U, k=-2)
    np.testing.assert_array_equal(np.asarray(local_focus(shifted, 2)), [np.nan] * 2 + [1] * 4)
    assert float(local_focus(weights[0, -1:], 1)[0]) == float(weights[0, -1, -2])  # a single query is the last position


def test_head_diversity(x64):
    mask = attention.causal_mask(T)
    even = jnp.tril(jnp.ones((T, T))) / jnp.arange(1, T + 1)[:, None]
    assert float(head_diversity(jnp.stack([even, even]), mask)) == 0
    apart = jnp.stack([jnp.eye(T), jnp.zeros((T, T)).at[:, 0].set(1)])
    # The two differ by 1 at two keys of each row but the first: std 1/2 at 2 (T - 1) of T (T + 1) / 2 entries.
    np.testing.assert_allclose(head_diversity(apart, mask), (T - 1) / (T * (T + 1) / 2), rtol=EXACT)
    assert np.isnan(head_diversity(apart, jnp.zeros((T, T), bool)))
    assert np.isfinite(jax.grad(lambda a: head_diversity(a, mask))(jnp.stack([even, even]))).all()


def test_kl_is_cross_entropy_less_entropy(x64):
    rng = np.random.default_rng(4)
    scores, own = (jnp.asarray(rng.normal(size=(T, T))) for _ in range(2))
    mask = attention.causal_mask(T)
    teacher = attention.Softmax()(scores, mask)
    log_share = jnp.log(jnp.where(mask, row_shares(jnp.exp(own), mask), 1))
    cross = -jnp.sum(teacher * log_share, axis=-1)
    found = kl_to_teacher(jnp.exp(own), teacher, mask)
    np.testing.assert_allclose(found, cross - map_entropy(teacher, mask), atol=EXACT)
    assert np.all(np.asarray(found) >= -EXACT)
    np.testing.assert_allclose(kl_to_teacher(7 * teacher, teacher, mask), 0, atol=EXACT)
    total = jax.jit(lambda s: jnp.sum(kl_to_teacher(jnp.exp(s), teacher, mask)))
    check_grads(lambda s: total(jnp.asarray(s)), (own,), order=1, modes=("rev",))


def test_kl_where_a_map_takes_nothing():
    teacher = jnp.array([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]])
    weights = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    found = np.asarray(kl_to_teacher(weights, teacher))
    assert np.isinf(found[:2]).all() and np.isnan(found[2])
    floored = kl_to_teacher(weights, teacher, floor=1e-4)
    assert np.isfinite(floored[:2]).all() and float(floored[1]) == pytest.approx(np.log(0.5 / 1e-4))
    slope = jax.grad(lambda a: jnp.nansum(kl_to_teacher(a, teacher, floor=1e-4)))(weights)
    assert np.isfinite(slope).all()


def test_one_planted_match_among_many(rng, x64):
    # Key 0 has cosine .8 with the query, the others N(0, 1/8^2); scores are 8 cos. Weight on key 0, measured elsewhere.
    measured = {64: 0.855, 256: 0.587, 1024: 0.263, 4096: 0.082, 16384: 0.022}
    scores = jnp.asarray(rng.normal(size=(64, 16384))).at[:, 0].set(6.4)

    @jax.jit
    def on_match(num):
        return on_key(jnp.exp(scores), 0, jnp.broadcast_to(jnp.arange(scores.shape[-1]) < num, scores.shape)).share

    for n, value in measured.items():
        share = np.asarray(on_match(n))
        match, others = np.exp(6.4), (n - 1) * np.exp(0.5)  # E exp N(0, 1) = exp(1/2)
        error = 5 * share.std() / np.sqrt(len(share)) + 0.003  # of the mean, and of putting the mean in the fraction
        assert abs(share.mean() - match / (match + others)) < error
        assert abs(share.mean() - value) < 0.02


def test_bad_places():
    weights = jnp.ones((3, 3))
    for call in (
        lambda: on_key(weights, 3),
        lambda: local_focus(weights, 3),
        lambda: window_mass(weights, 0),
        lambda: kl_to_teacher(weights, weights, floor=-1.0),
    ):
        with pytest.raises(ConfigError, match="allowed"):
            call()
