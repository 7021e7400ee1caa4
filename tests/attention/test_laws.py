"""Laws that hold for any logits: row sums, limits, symmetries, and stability far from zero."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, HEADS, LENGTH, MAPS, NONNEGATIVE, NORMALIZED, OWN, SHAPE, WITH_NULL, inputs_of, mask_of
from hypothesis import given
from hypothesis import strategies as st

from attnlab import attention
from attnlab.attention import (
    Dims,
    KeyBias,
    Sigmoid,
    causal_mask,
    key_bias,
    named,
    relu,
    sigmoid,
    softmax,
    softmax_off_by_one,
)

# Sums of at most 10 weights in [0, 1], float64.
EXACT = 1e-13
COUNT = np.arange(1, LENGTH + 1)

# What looks at positions, or (gates, values and key scores of `x` or of a query) at what belongs to a key's position.
POSITIONAL = {
    *("alibi", "relative", "ssa", "forgetting", "non_approximate", "offset_table", "offsets_and_content"),
    *("position_table", "identity", "softmax+value_gate", "softmax+value_head_gate", "softmax+key_gate"),
    "forgetting_qk_norm+gate",
}

# Maps that differ far from zero: the slots before the map change nothing there.
FAR = tuple(m for m in MAPS if m.name not in ("key_bias", "key_bias_shared", "softmax_unscaled", "value_bias"))


def of_logits(mechanism, logits, mask=None):
    """Weights and null mass for given logits: queries of zero, the logits as bias."""
    shape = (*logits.shape[:-2], logits.shape[-1], 1)
    zeros = jnp.zeros(shape, logits.dtype)
    queries = jnp.zeros((*logits.shape[:-1], 1), logits.dtype)
    shapes = jax.eval_shape(lambda key: mechanism.init(key, Dims(HEADS, 1, HEADS)), jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, logits.dtype), shapes)
    result = mechanism.apply(params, queries, zeros, zeros, mask=mask, bias=logits, view="map")
    return result.weights, result.null


def logits_of(seed: int = 0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(HEADS, LENGTH, LENGTH)))


@pytest.mark.parametrize("mechanism", MAPS, ids=lambda m: m.name)
@pytest.mark.usefixtures("x64")
def test_row_sums(mechanism) -> None:
    weights, null = of_logits(mechanism, logits_of(), causal_mask(LENGTH))
    total = np.asarray(weights).sum(-1)
    assert (np.asarray(weights) >= 0).all() == (mechanism.name in NONNEGATIVE)
    if mechanism.name in NORMALIZED:
        np.testing.assert_allclose(total, 1, rtol=0, atol=EXACT)
    elif mechanism in WITH_NULL:
        assert (total < 1).all()
        np.testing.assert_allclose(null, 1 - total, rtol=0, atol=EXACT)
    else:
        assert null is None
        assert (np.abs(total - 1) > 0.01).any(), "nothing normalises these rows"


@pytest.mark.usefixtures("x64")
def test_zero_logits() -> None:
    """softmax 1/n; off by one 1/(n+1); sigmoid 1/2 each; sigmoid with bias -log n sums to n/(n+1); relu 0."""
    zeros, mask = jnp.zeros((HEADS, LENGTH, LENGTH)), causal_mask(LENGTH)
    log_count = named(sigmoid, "log_count", map=Sigmoid(bias=None))
    expected = {softmax: 1.0, softmax_off_by_one: COUNT / (COUNT + 1), sigmoid: COUNT / 2, relu: 0 * COUNT}
    for mechanism, sums in (expected | {log_count: COUNT / (COUNT + 1)}).items():
        weights, _ = of_logits(mechanism, zeros, mask)
        rows = np.asarray(weights)
        np.testing.assert_allclose(rows.sum(-1), np.broadcast_to(sums, (HEADS, LENGTH)), rtol=0, atol=EXACT)
        assert (rows[..., -1, :] == rows[..., -1, :1]).all(), "equal logits, equal weights"


@pytest.mark.usefixtures("x64")
def test_zero_logits_mean_uniform_mean() -> None:
    v = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE))
    out = softmax.apply({}, jnp.zeros(SHAPE), jnp.zeros(SHAPE), v, mask=causal_mask(LENGTH)).out
    np.testing.assert_allclose(out, np.cumsum(v, axis=-2) / COUNT[:, None], rtol=0, atol=EXACT)


def test_key_bias_of_zero_is_softmax_off_by_one_exactly() -> None:
    x, mask = inputs_of(key_bias), mask_of("causal")
    zero = {"key": jnp.zeros_like(x.params["key"])}
    biased = key_bias.apply(zero, x.q, x.k, x.v, mask=mask, bias=x.bias, view="map")
    off = softmax_off_by_one.apply({}, x.q, x.k, x.v, mask=mask, bias=x.bias, view="map")
    for one, two in zip(biased, off, strict=True):
        assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("shift", [0.0, 5.0, 20.0])
@pytest.mark.usefixtures("x64")
def test_off_by_one_tends_to_softmax(shift) -> None:
    """`A_off = A_soft Z / (Z + 1)` with `Z = sum exp(l + shift)`: the difference falls like `exp(-shift)`."""
    logits = logits_of()
    plain, _ = of_logits(softmax, logits)
    off, null = of_logits(softmax_off_by_one, logits + shift)
    mass = np.exp(logits + shift).sum(-1, keepdims=True)
    np.testing.assert_allclose(off, plain * mass / (mass + 1), rtol=0, atol=EXACT)
    np.testing.assert_allclose(null, 1 / (mass[..., 0] + 1), rtol=1e-12)
    assert float(jnp.max(jnp.abs(off - plain))) <= np.exp(-shift)


@pytest.mark.usefixtures("x64")
def test_adding_a_constant_to_a_row_is_a_gauge_of_softmax_and_entmax_only() -> None:
    logits = logits_of()
    shift = jnp.asarray(np.random.default_rng(1).normal(size=(HEADS, LENGTH, 1))) * 3
    gauge = NORMALIZED - {"sigmoid_normalized", "approximate"}
    for mechanism in MAPS:
        moved = of_logits(mechanism, logits + shift)[0] - of_logits(mechanism, logits)[0]
        largest = float(jnp.max(jnp.abs(moved)))
        assert (largest < EXACT) == (mechanism.name in gauge), (mechanism.name, largest)


@pytest.mark.usefixtures("x64")
def test_relu_is_linear_in_the_size_of_the_logits() -> None:
    logits = logits_of()
    small, _ = of_logits(relu, logits)
    large, _ = of_logits(relu, 7 * logits)
    np.testing.assert_allclose(large, 7 * small, rtol=1e-14)


@pytest.mark.parametrize("mechanism", [m for m in ALL if m.name not in POSITIONAL], ids=lambda m: m.name)
@pytest.mark.usefixtures("x64")
def test_the_order_of_keys_does_not_matter_without_a_mask(mechanism) -> None:
    x = inputs_of(mechanism, np.float64)
    order = np.random.default_rng(5).permutation(LENGTH)
    bias = None if x.bias is None else x.bias[..., order]
    plain = mechanism.apply(*x.arrays[:4], x=x.x, bias=x.bias, view="map")
    k, v = x.k[..., order, :], x.v[..., order, :]
    mixed = mechanism.apply(x.params, x.q, k, v, x=x.x, bias=bias, view="map")
    # Values up to 3, ten of them, added in another order.
    np.testing.assert_allclose(mixed.out, plain.out, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mixed.weights, plain.weights[..., order], rtol=0, atol=EXACT)


@pytest.mark.parametrize("causal", [False, True])
def test_softmax_is_the_attention_of_jax(causal) -> None:
    """float32 against float32: both round at 6e-8 of values up to 3, ten of them."""
    x = inputs_of(softmax)
    mask = causal_mask(LENGTH) if causal else None
    ours = softmax.apply({}, x.q, x.k, x.v, mask=mask, bias=x.bias).out
    q, k, v = (jnp.swapaxes(a, 1, 2) for a in (x.q, x.k, x.v))
    theirs = jax.nn.dot_product_attention(q, k, v, bias=x.bias[None], is_causal=causal)
    np.testing.assert_allclose(ours, jnp.swapaxes(theirs, 1, 2), rtol=0, atol=3e-6)


@pytest.mark.parametrize("mechanism", FAR, ids=lambda m: m.name)
@given(
    logits=hnp.arrays(
        np.float32,
        (HEADS, 2, 4),
        elements=st.one_of(
            st.floats(-1e4, 1e4, width=32, allow_subnormal=False), st.sampled_from([-1e4, -100.0, 0.0, 100.0, 1e4])
        ),
    )
)
def test_large_logits_give_finite_weights_and_gradients(mechanism, logits) -> None:
    weights, null, gradient = _weights_and_gradient[mechanism.name](logits)
    assert np.isfinite(weights).all()
    assert np.isfinite(gradient).all()
    assert (weights >= 0).all() or mechanism.name not in NONNEGATIVE
    if mechanism.name in NORMALIZED:
        # float32: 4 weights, each rounded at 6e-8.
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-6)
    if mechanism in WITH_NULL:
        np.testing.assert_allclose(weights.sum(-1) + null, 1, rtol=0, atol=1e-6)


def _compiled(mechanism):
    def both(logits):
        weights, null = of_logits(mechanism, logits)
        coefficients = jnp.arange(logits.size, dtype=logits.dtype).reshape(logits.shape)
        gradient = jax.grad(lambda x: jnp.sum(coefficients * of_logits(mechanism, x)[0]))(logits)
        return weights, jnp.zeros(()) if null is None else null, gradient

    compiled = jax.jit(both)
    return lambda logits: tuple(np.asarray(x) for x in compiled(logits))


_weights_and_gradient = {mechanism.name: _compiled(mechanism) for mechanism in FAR}


@pytest.mark.parametrize(("num_queries", "num_keys"), [(5, None), (3, 5), (1, 4)])
@pytest.mark.parametrize("window", [None, 1, 2])
@pytest.mark.parametrize("prefix", [0, 2])
def test_causal_mask_is_its_definition(num_queries, num_keys, window, prefix) -> None:
    mask = np.asarray(causal_mask(num_queries, num_keys, window=window, prefix=prefix))
    keys = num_queries if num_keys is None else num_keys
    assert mask.shape == (num_queries, keys)
    for row in range(num_queries):
        t = keys - num_queries + row
        for u in range(keys):
            near = window is None or t - u < window
            assert mask[row, u] == ((u <= t and near) or u < prefix)


def test_initial_parameters_of_the_null_columns() -> None:
    """One key per head, or one for all; N(0, std^2), within 5 standard errors of 800 draws."""
    dims = attention.Dims(8, 100, 800)
    for columns, heads in ((KeyBias(std=0.5, with_value=True), 8), (KeyBias(shared_over_heads=True), 1)):
        params = columns.init(jax.random.key(0), dims)
        assert set(params) == ({"key", "value"} if columns.with_value else {"key"})
        for leaf in params.values():
            assert leaf.shape == (heads, 100)
            assert float(jnp.std(leaf)) == pytest.approx(columns.std, rel=5 / (2 * leaf.size) ** 0.5)
    both = KeyBias(with_value=True).init(jax.random.key(0), dims)
    assert not np.allclose(both["key"], both["value"])
    params = attention.value_bias.init(jax.random.key(0), dims)
    assert params["value_bias"].shape == (8, 100)
    assert float(jnp.std(params["value_bias"])) == pytest.approx(0.02, rel=5 / 1600**0.5)


def test_every_mechanism_has_its_own_name_and_is_a_value() -> None:
    """Names label tables; equality by value lets jit find a compiled program again."""
    assert len({m.name for m in attention.MECHANISMS}) == len(attention.MECHANISMS)
    for mechanism in ALL:
        assert isinstance(mechanism, attention.Mechanism)
        assert hash(mechanism) == hash(mechanism)
    assert named(softmax, "softmax") == softmax
    assert named(softmax, "softmax", scale=1.0) != softmax
    assert attention.from_weights(None, OWN.weights) == OWN
