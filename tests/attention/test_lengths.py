"""What becomes of a row of attention as it gets longer; and rows on which naive formulas overflow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import HEADS, LENGTH, SHAPE, mask_of

from attnlab import attention, config
from attnlab.attention import Dims, KVCache, Reweight, causal_mask, named, sigmoid_for, softmax


def planted_weight(mechanism, n: int, draws: int) -> np.ndarray:
    """The weight of the one key at cosine 0.8 among `n - 1` random directions of 64 dimensions: the last decode step.

    The values are 1 at that key and 0 elsewhere, so that the output is the weight.
    """
    rng = np.random.default_rng(0)
    k = rng.normal(size=(draws, 1, n, 64))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    k[:, :, 0] = 0
    k[:, :, 0, :2] = 0.8, 0.6
    q, v = np.zeros((draws, 1, 64)), np.zeros((draws, 1, n, 64))
    q[..., 0] = v[:, :, 0, 0] = 1
    k, v, q = (jnp.asarray(y, jnp.float32) for y in (k, v, q))
    params = mechanism.init(jax.random.key(0), Dims(1, 64, 64))
    out, _ = mechanism.step(params, KVCache(k, v, jnp.asarray(n - 1)), q, k[:, :, -1], v[:, :, -1])
    return np.asarray(out[:, 0, 0])


PLANTED = {
    "cosine": {64: 0.855, 16384: 0.022},
    "lssa": {64: 0.163, 16384: 0.001},
    "lssar_3": {64: 0.928, 16384: 0.037},
    "lssar": {64: 1.000, 16384: 0.998},
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_match_fades_unless_weights_are_sharpened(name) -> None:
    """Means of 16 draws against means of others: one varies by up to 0.025 (`lssar_3` at 64), a mean by 0.006."""
    for n, expected in PLANTED[name].items():
        weight = planted_weight(getattr(attention, name), n, 16 if n < 10_000 else 4)
        assert weight.mean() == pytest.approx(expected, abs=0.02), n


def evenness(mechanism, n: int, draws: int) -> float:
    """`H / log n` of one row of standard normal scores, mean of draws."""
    rng = np.random.default_rng(n)
    k = jnp.asarray(rng.normal(size=(draws, 1, n, 1)), jnp.float32)
    params = jax.tree.map(jnp.zeros_like, mechanism.init(jax.random.key(0), Dims(1, 1, 1)))
    rows = named(mechanism, "unscaled", scale=1.0).apply(params, jnp.ones((draws, 1, 1, 1)), k, k, view="map").weights
    return float(jnp.mean(jax.scipy.special.entr(rows).sum(-1)) / np.log(n))


def test_entropy_of_softmax_rises_with_the_length_and_that_of_ssa_falls() -> None:
    """Measured over 400 draws: softmax .888 (64) and .928 (1024), one varies by .03 and .006; `1 + log(n) / 2` times
    the scores: .419 and .291, one varies by .16 and .13. Five standard errors of 256 and 64 draws are allowed."""
    assert evenness(softmax, 64, 256) == pytest.approx(0.888, abs=5 * 0.03 / 16)
    assert evenness(softmax, 1024, 64) == pytest.approx(0.928, abs=5 * 0.006 / 8)
    assert evenness(attention.ssa_query, 64, 256) == pytest.approx(0.419, abs=5 * 0.16 / 16)
    assert evenness(attention.ssa_query, 1024, 64) == pytest.approx(0.291, abs=5 * 0.13 / 8)


@pytest.mark.usefixtures("x64")
def test_weights_of_lssa_differ_by_a_power_of_the_length_at_most() -> None:
    """Scores are within `log K log n`: cosines of 1 and -1 have softplus of that and of minus that."""
    for n in (8, 64):
        q = jnp.zeros((1, n, 16)).at[..., 0].set(1.0)
        k = (-q).at[:, 0].set(q[:, 0])
        row = attention.lssa.apply({}, q, k, k, mask=causal_mask(n), view="map").weights[0, -1]
        far = np.log(16) * np.log(n)
        ratio = np.log1p(np.exp(far)) / np.log1p(np.exp(-far))
        assert float(row[0] / row[1]) == pytest.approx(ratio, rel=1e-12)
        # softplus(-y) -> exp(-y): the ratio is far n^(log K), to the rounding of that limit.
        assert ratio == pytest.approx(far * n ** np.log(16), rel=2 * np.exp(-far))


def reweighted(power: float, logits):
    visible = jnp.ones(logits.shape[-2:], bool)
    mechanism = named(softmax, "reweighted", post=Reweight(power))
    zeros = jnp.zeros((*logits.shape[:-2], logits.shape[-1], 1), logits.dtype)
    return mechanism.apply({}, zeros[..., : logits.shape[-2], :], zeros, zeros, mask=visible, bias=logits, view="map")


@pytest.mark.parametrize("power", [3.0, 15.0, 1000.0])
def test_powers_that_overflow(power) -> None:
    """`(n A - 1)^15` passes 3e38 at `n A = 370`: rows of 2048 keys with half of the weight on one key, in float32.

    Against logarithms in float64: the relative error of `n A - 1`, some 1e-6, times the power.
    """
    rng, n = np.random.default_rng(0), 2048
    logits = rng.normal(size=(1, 2, n))
    logits[..., 5] = logits[..., 9] = np.log(n)
    logits[..., 9] -= 0.01
    exact = np.exp(logits)
    excess = n * exact / exact.sum(-1, keepdims=True) - 1
    assert power == 3 or power * np.log(excess.max()) > np.log(3.4e38), "the plain formula overflows here"
    logs = np.where(excess > 0, power * np.log(np.maximum(excess, 1e-300)), -np.inf)
    expected = np.exp(logs - logs.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)

    def weights(x):
        return reweighted(power, x).weights

    measured, pull = jax.vjp(weights, jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(measured, expected, rtol=0, atol=2e-6 * power)
    np.testing.assert_allclose(measured.sum(-1), 1, rtol=0, atol=1e-6)
    (gradient,) = pull(jnp.ones_like(measured).at[..., 5].set(2.0))
    assert np.isfinite(gradient).all()
    assert float(jnp.abs(gradient).max()) > 0


@pytest.mark.usefixtures("x64")
def test_reweighting_tends_to_the_largest_and_keeps_what_has_no_largest() -> None:
    """`p -> inf` is one-hot; `p = 1` the weights above uniform, less the uniform one; a uniform row stays as it is."""
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 20, 64)))
    plain = np.asarray(jax.nn.softmax(logits))
    largest = [float(reweighted(p, logits).weights.max(-1).mean()) for p in (1.0, 15.0, 100.0, 1000.0)]
    assert largest == sorted(largest) and largest[-1] > 0.99
    kept = np.maximum(plain - 1 / 64, 0)
    np.testing.assert_allclose(reweighted(1.0, logits).weights, kept / kept.sum(-1, keepdims=True), rtol=0, atol=1e-14)
    for dtype in (jnp.float32, jnp.float64):
        # 49 weights of 1/49: `n A - 1` is a rounding error, which no power may make a weight of.
        flat = reweighted(15.0, jnp.zeros((1, 2, 49), dtype)).weights
        np.testing.assert_allclose(flat, 1 / 49, rtol=1e-6)


def test_mass_of_sigmoid_with_one_bias_for_all_rows() -> None:
    """Zero logits: `n_t / (1 + n)`; early rows have little."""
    for n in (64, 256):
        zeros = jnp.zeros((1, n, 1))
        rows = sigmoid_for(n).apply({}, zeros, zeros, zeros, mask=causal_mask(n), view="map").weights
        # float32 sums of up to 256 terms.
        np.testing.assert_allclose(rows.sum(-1)[0], np.arange(1, n + 1) / (n + 1), rtol=1e-5)


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_local_linear_attention_of_far_logits_is_finite(size) -> None:
    """Weights `exp(l)`, and the ridge over their sum, leave float32 at `l = +-300`: neither is ever computed."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=SHAPE), jnp.float32) for _ in range(3))
    params, mask = {"log_ridge": jnp.zeros(HEADS)}, mask_of("causal")
    for sign in (-1, 1):
        bias = jnp.asarray(size * (sign + 0.1 * rng.normal(size=(HEADS, LENGTH, LENGTH))), jnp.float32)

        def weights(q, k, bias=bias):
            return attention.lla.apply(params, q, k, v, mask=mask, bias=bias, view="map").weights

        rows, pull = jax.vjp(weights, q, k)
        assert np.isfinite(rows).all()
        assert all(np.isfinite(g).all() for g in pull(jnp.ones_like(rows).at[..., 0].set(2.0)))
        if sign < 0 and size > 1:
            plain = softmax.apply({}, q, k, v, mask=mask, bias=bias, view="map").weights
            np.testing.assert_allclose(rows, plain, rtol=0, atol=1e-6)
        else:
            # Rounding 1e-7 of keys of size 2, over the smallest ridge that counts, 3e-4.
            np.testing.assert_allclose(rows.sum(-1), 1, rtol=0, atol=1e-3)


def kept_keys(mechanism, n: int) -> np.ndarray:
    """How many keys have weight, for rows of 1 to `n` distinct logits."""
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(1, n, n)), jnp.float32)
    zeros = jnp.zeros((1, n, 1), jnp.float32)
    weights = mechanism.apply({}, zeros, zeros, zeros, mask=causal_mask(n), bias=logits, view="map").weights
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)  # up to 64 weights, each rounded at 6e-8
    kept = np.where(np.asarray(weights[0]) > 0, np.asarray(logits[0]), np.inf).min(axis=-1)
    gone = np.where((np.asarray(weights[0]) == 0) & np.tri(n, dtype=bool), np.asarray(logits[0]), -np.inf).max(axis=-1)
    assert (kept > gone).all(), "the largest are kept"
    return (np.asarray(weights[0]) > 0).sum(axis=-1)


def test_the_top_of_a_row_grows_with_a_power_of_its_length() -> None:
    n = np.arange(1, 65)
    expected = np.minimum(n, np.maximum(np.floor(n**0.9), 10))
    np.testing.assert_array_equal(kept_keys(attention.ssa_top, 64), expected)
    half = named(softmax, "half", map=attention.Top(0.5, 1))
    np.testing.assert_array_equal(kept_keys(half, 64), [int(np.sqrt(m)) for m in n])  # 8 of 64: whole powers are met
    # All of a row: softmax, bit for bit; equal logits are all kept.
    q, k, v = (jnp.asarray(np.random.default_rng(3).normal(size=SHAPE), jnp.float32) for _ in range(3))
    for mechanism in (named(softmax, "all", map=attention.Top(1.0, 1)), attention.ssa_top):
        one, two = (m.apply({}, q, k, v, mask=causal_mask(LENGTH)).out for m in (mechanism, softmax))
        assert one.tobytes() == two.tobytes()
    equal = half.apply({}, 0 * q, k, v, mask=causal_mask(LENGTH), view="map").weights
    np.testing.assert_allclose(equal[0, 0, -1], 1 / LENGTH, rtol=1e-6)
    for wrong in ((1.2, 10), (-0.1, 10), (0.9, 0)):
        with pytest.raises(config.ConfigError, match=r"Top\.(power|at_least)"):
            attention.Top(*wrong)
