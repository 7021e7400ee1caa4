"""One body for every mechanism: its views agree with each other and with a slow reference, in value and in gradient."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, BATCH, DIMS, HEADS, LENGTH, MASKS, OWN, full, inputs_of, mask_of
from reference import attend

from attnlab.attention import kv_bias

by_name = pytest.mark.parametrize("mechanism", ALL, ids=lambda m: m.name)

# Sums of at most 10 terms of size one: float64 rounds at 1e-15; three orders are left for exp of logits up to 10.
EXACT = 1e-12

# float32 rounds at 6e-8 of the terms (size up to 3, at most 10 of them); a few entries in a hundred add up unluckily.
SINGLE = {0.99: 1e-6, 1.0: 4e-6}


def assert_close(measured, expected, quantiles: dict[float, float]) -> None:
    error = np.abs(np.asarray(measured, np.float64) - np.asarray(expected, np.float64)).ravel()
    for level, allowed in quantiles.items():
        got = np.quantile(error, level)
        assert got <= allowed, f"quantile {level} of |error|: measured {got:.3g}, allowed {allowed:.3g}"


def parallel(mechanism, mask, bias, params, q, k, v):
    return mechanism.apply(params, q, k, v, mask=mask, bias=bias).out


def by_map(mechanism, mask, bias, params, q, k, v):
    """What the mixing matrix says, with the null part from its definition."""
    result = mechanism.apply(params, q, k, v, mask=mask, bias=bias, view="map")
    out = result.weights @ v
    if "value" in params:
        out = out + result.null[..., None] * params["value"][:, None, :]
    return out


def by_step(mechanism, mask, bias, params, q, k, v, **options):
    """Token by token from an empty cache (causal)."""

    def one(state, inputs):
        q, k, v, row = inputs
        out, state = mechanism.step(params, state, q, k, v, bias=row, **options)
        return state, out

    first = mechanism.start(params, (BATCH,), LENGTH, DIMS, q.dtype)
    rows = None if bias is None else jnp.moveaxis(bias, -2, 0)
    _, out = jax.lax.scan(one, first, (*(jnp.moveaxis(x, -2, 0) for x in (q, k, v)), rows))
    return jnp.moveaxis(out, 0, -2)


def value_and_gradient(view, mechanism, mask, bias, arrays):
    """The output, and the gradient of a fixed random projection of it in parameters, queries, keys and values."""
    weight = jnp.asarray(np.random.default_rng(7).normal(size=arrays[1].shape), arrays[1].dtype)

    def projected(*arrays):
        out = view(mechanism, mask, bias, *arrays)
        return jnp.sum(weight * out), out

    (_, out), gradient = jax.value_and_grad(projected, argnums=(0, 1, 2, 3), has_aux=True)(*arrays)
    return out, gradient


@pytest.mark.parametrize("kind", MASKS)
@by_name
@pytest.mark.usefixtures("x64")
def test_value_weights_and_null_are_the_definition(mechanism, kind) -> None:
    x, mask = inputs_of(mechanism, np.float64), mask_of(kind)
    result = mechanism.apply(*x.arrays, mask=mask, bias=x.bias, view="map")
    params, q, k, v = jax.tree.map(np.asarray, x.arrays)
    out, weights, null = attend(mechanism.name, params, q, k, v, full(mask, True), full(x.bias, 0.0))
    assert result.out.dtype == jnp.float64
    np.testing.assert_allclose(result.out, out, rtol=0, atol=EXACT)
    np.testing.assert_allclose(result.weights, weights, rtol=0, atol=EXACT)
    if result.null is not None:
        np.testing.assert_allclose(result.null, null, rtol=0, atol=EXACT)
    assert (np.asarray(result.weights)[~full(mask, True)] == 0).all(), "weight where the mask forbids"


@by_name
@pytest.mark.usefixtures("x64")
def test_gradient_is_the_slope_of_the_definition(mechanism) -> None:
    """Central differences: error h^2 f''' / 6 ~ 1e-10 and rounding 1e-15 / h ~ 1e-10 at h = 1e-5, sums of 200 terms."""
    x, mask, h = inputs_of(mechanism, np.float64), mask_of("causal"), 1e-5
    rng = np.random.default_rng(3)
    arrays = jax.tree.map(np.asarray, x.arrays)
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), arrays)

    def reference(amount):
        moved = jax.tree.map(lambda a, d: a + amount * d, arrays, direction)
        return attend(mechanism.name, *moved, full(mask, True), full(x.bias, 0.0))[0]

    slope = (reference(h) - reference(-h)) / (2 * h)
    _, measured = jax.jvp(partial(parallel, mechanism, mask, x.bias), x.arrays, jax.tree.map(jnp.asarray, direction))
    np.testing.assert_allclose(measured, slope, rtol=0, atol=1e-7)


@pytest.mark.parametrize("view", [by_map, by_step])
@by_name
@pytest.mark.usefixtures("x64")
def test_views_agree_in_value_and_gradient(mechanism, view) -> None:
    x, mask = inputs_of(mechanism, np.float64), mask_of("causal")
    expected = value_and_gradient(parallel, mechanism, mask, x.bias, x.arrays)
    measured = value_and_gradient(view, mechanism, mask, x.bias, x.arrays)
    for got, want in zip(jax.tree.leaves(measured), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=10 * EXACT)


@by_name
def test_single_precision_has_the_error_of_single_precision(mechanism) -> None:
    x, mask = inputs_of(mechanism), mask_of("causal")
    params, q, k, v = jax.tree.map(lambda a: np.asarray(a, np.float64), x.arrays)
    bias = full(None if x.bias is None else np.asarray(x.bias, np.float64), 0.0)
    expected, *_ = attend(mechanism.name, params, q, k, v, full(mask, True), bias)
    out, gradient = value_and_gradient(parallel, mechanism, mask, x.bias, x.arrays)
    assert out.dtype == jnp.float32
    assert_close(out, expected, SINGLE)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), x.arrays)
        wide_bias = None if x.bias is None else jnp.asarray(x.bias, jnp.float64)
        _, exact = value_and_gradient(parallel, mechanism, mask, wide_bias, double)
    for got, want in zip(jax.tree.leaves(gradient), jax.tree.leaves(exact), strict=True):
        # A parameter's gradient adds the 18 queries of a head; the others about 10 terms.
        assert_close(got, want, {0.99: 4e-6, 1.0: 1e-5})


@by_name
def test_bfloat16_stays_bfloat16_and_near(mechanism) -> None:
    """8 bits of mantissa: 0.4 % of each term, terms up to 3, ten of them adding up at random."""
    x, mask = inputs_of(mechanism, jnp.bfloat16), mask_of("causal")
    result = mechanism.apply(*x.arrays, mask=mask, bias=x.bias, view="map")
    assert result.out.dtype == result.weights.dtype == jnp.bfloat16
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), x.arrays)
    bias = full(None if x.bias is None else np.asarray(x.bias, np.float64), 0.0)
    expected, *_ = attend(mechanism.name, *wide, full(mask, True), bias)
    assert_close(result.out, expected, {0.99: 0.06, 1.0: 0.12})


@pytest.mark.parametrize(("window", "prefix"), [(3, 0), (2, 1)])
@pytest.mark.usefixtures("x64")
def test_decoding_with_a_window_and_kept_first_keys(window, prefix) -> None:
    mechanism = ALL[0]
    x = inputs_of(mechanism, np.float64)
    t, u = np.indices((LENGTH, LENGTH))
    mask = (u <= t) & ((t - u < window) | (u < prefix))
    expected = parallel(mechanism, mask, x.bias, *x.arrays)
    measured = by_step(mechanism, None, x.bias, *x.arrays, window=window, prefix=prefix)
    np.testing.assert_allclose(measured, expected, rtol=0, atol=EXACT)


@by_name
def test_no_gradient_to_what_is_not_seen(mechanism) -> None:
    x, mask = inputs_of(mechanism), mask_of("causal")
    _, pull = jax.vjp(partial(parallel, mechanism, mask, x.bias), *x.arrays)
    for row in (0, 4, LENGTH - 1):
        _, to_q, to_k, to_v = pull(jnp.zeros_like(x.q).at[:, :, row].set(1.0))
        assert (to_k[:, :, row + 1 :] == 0).all()
        assert (to_v[:, :, row + 1 :] == 0).all()
        assert (jnp.delete(to_q, row, axis=2) == 0).all(), "a query changes another query's output"
        assert (to_v[:, :, : row + 1] != 0).any()


@by_name
def test_rows_that_see_nothing_are_zero_with_finite_gradients(mechanism) -> None:
    x = inputs_of(mechanism)
    nothing = np.zeros((LENGTH, LENGTH), bool)
    out, gradient = value_and_gradient(parallel, mechanism, nothing, x.bias, x.arrays)
    result = mechanism.apply(*x.arrays, mask=nothing, bias=x.bias, view="map")
    assert (result.weights == 0).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    if result.null is None:
        assert (out == 0).all()
    else:
        assert (result.null == 1).all(), "a null column takes the mass of a row that sees no key"


@by_name
def test_jit_repeats_bit_for_bit_and_equals_eager(mechanism) -> None:
    x, mask = inputs_of(mechanism), mask_of("causal")
    eager = value_and_gradient(parallel, mechanism, mask, x.bias, x.arrays)
    compiled = jax.jit(lambda arrays: value_and_gradient(parallel, mechanism, mask, x.bias, arrays))
    first, second = compiled(x.arrays), compiled(x.arrays)
    for one, two, plain in zip(*map(jax.tree.leaves, (first, second, eager)), strict=True):
        assert one.tobytes() == two.tobytes()
        assert_close(one, plain, {1.0: 1e-5})


@by_name
def test_vmap_is_a_batch_axis(mechanism) -> None:
    x, mask = inputs_of(mechanism), mask_of("causal")
    batched = parallel(mechanism, mask, x.bias, *x.arrays)
    mapped = jax.vmap(partial(parallel, mechanism, mask, x.bias), in_axes=(None, 0, 0, 0))(*x.arrays)
    assert_close(mapped, batched, SINGLE)
    seeds = jax.eval_shape(jax.vmap(lambda key: mechanism.init(key, DIMS)), jax.random.split(jax.random.key(0), 5))
    assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(seeds))


@by_name
def test_sites_are_met_and_obeyed(mechanism) -> None:
    x, met = inputs_of(mechanism), []

    def uniform(name, value):
        met.append(name)
        return jnp.full_like(value, 1 / LENGTH) if name == "weights" else value

    out = mechanism.apply(*x.arrays, bias=x.bias, site=uniform).out
    assert met[-2:] == ["weights", "null"] if "null" in met else met[-1] == "weights"
    assert ("logits" in met) == (mechanism is not OWN)
    if "value" not in x.params:
        assert_close(out, jnp.broadcast_to(jnp.mean(x.v, axis=-2, keepdims=True), out.shape), SINGLE)


def test_editing_the_null_mass_changes_what_the_null_column_gives() -> None:
    x = inputs_of(kv_bias)

    def no_null(name, value):
        return jnp.zeros_like(value) if name == "null" else value

    result = kv_bias.apply(*x.arrays, view="map", site=no_null)
    assert_close(result.out, result.weights @ x.v, SINGLE)
    assert float(jnp.max(jnp.abs(kv_bias.apply(*x.arrays).out - result.out))) > 0.05, "the null part was there before"


def test_own_mechanism_refuses_a_bias_it_would_ignore() -> None:
    x = inputs_of(OWN)
    with pytest.raises(ValueError, match="one_sided: this mechanism takes no logit bias"):
        OWN.apply(*x.arrays, bias=jnp.zeros((HEADS, LENGTH, LENGTH)))
