"""One body for every mechanism: its views agree with each other and with a slow reference, in value and in gradient.

Nearly everything runs operation by operation: those compiled for one mechanism serve the others.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, BATCH, BY_NAME, DIMS, HEADS, LENGTH, MASKS, OWN, full, inputs_of, mask_of
from definitions import attend

from attnlab.attention import Gated, kv_bias
from attnlab.attention.weighted import Weighted

by_name = pytest.mark.parametrize("mechanism", ALL, ids=lambda m: m.name)

# Sums of at most 7 terms of size one: float64 rounds at 1e-15; three orders are left for exp of logits up to 10 and,
# in LSSAR, for powers of 15.
EXACT = 1e-12

# float32 rounds at 6e-8 of the terms (at most 7 of them); a few entries in a hundred add up unluckily.
SINGLE = {0.99: 1e-6, 1.0: 4e-6}

# By how much a mechanism multiplies the relative error of its logits: a power; the condition of a ridge regression,
# `|k - q|^2 / ridge` with ridges down to exp(-3).
AMPLIFIES = {"lssar": 15, "lssar_3": 3, "lla": 100}

# One mechanism at least for every kind of slot: what costs compile time is run for these, traced for the others.
COMPILED = {
    *("softmax", "cosine", "kv_bias", "ssa", "forgetting", "relative", "sigmoid_normalized", "softpick", "sparsemax"),
    *("entmax15", "entmax", "lssar", "mlp_kernel_normalized_quadratic", "differential", "lla", "parallax", "one_sided"),
    *("kv_bias+shared_ns_sigmoid_head_gate", "softmax+value_head_gate", "forgetting_qk_norm+gate"),
}


def assert_close(measured, expected, quantiles: dict[float, float], factor: float = 1.0) -> None:
    """`factor` and the size of the largest number expected, if above 1, multiply what is allowed."""
    wide = np.asarray(expected, np.float64)
    error = np.abs(np.asarray(measured, np.float64) - wide).ravel()
    for level, one in quantiles.items():
        allowed = one * factor * max(1.0, np.abs(wide).max(initial=0))
        got = np.quantile(error, level)
        assert got <= allowed, f"quantile {level} of |error|: measured {got:.3g}, allowed {allowed:.3g}"


def parallel(mechanism, mask, bias, params, q, k, v, x):
    return mechanism.apply(params, q, k, v, x=x, mask=mask, bias=bias).out


def by_map(mechanism, mask, bias, params, q, k, v, x):
    """What the mixing matrix says: of the values as prepared, with the null part from its definition.

    A gate per element is no matrix: it stands outside, and is read at its site.
    """
    met = {}

    def note(name, value):
        met[name] = value
        return value

    result = mechanism.apply(params, q, k, v, x=x, mask=mask, bias=bias, view="map", site=note)
    outside = isinstance(mechanism, Gated) and (mechanism.per == "element" or mechanism.combine == "add")
    if outside and mechanism.place == "value":
        v = v * met["gate"]
    if isinstance(base := getattr(mechanism, "base", mechanism), Weighted):
        v = base.prepare(params, q, k, v, x, jnp.arange(LENGTH)).v
    out = result.weights @ v
    if "value" in params:
        out = out + result.null[..., None] * params["value"][:, None, :]
    if "value_bias" in params:
        out = out + params["value_bias"][:, None, :]
    if outside and mechanism.place == "output":
        out = out + met["gate"] if mechanism.combine == "add" else out * met["gate"]
    return out


def by_step(mechanism, mask, bias, params, q, k, v, x, **options):
    """Token by token from an empty cache (causal)."""
    state, out = mechanism.start(params, (BATCH,), LENGTH, DIMS, q.dtype), []
    for t in range(LENGTH):
        row = None if bias is None else bias[..., t, :]
        token = [y[..., t, :] for y in (q, k, v)]
        one, state = mechanism.step(params, state, *token, x=x[..., t, :], bias=row, **options)
        out.append(one)
    return jnp.stack(out, axis=-2)


def value_and_gradient(mechanism, mask, bias, arrays):
    """The output, and the gradient of a fixed random projection of it in parameters, queries, keys, values and `x`."""
    weight = jnp.asarray(np.random.default_rng(7).normal(size=arrays[1].shape), arrays[1].dtype)

    def projected(*arrays):
        out = parallel(mechanism, mask, bias, *arrays)
        return jnp.sum(weight * out), out

    (_, out), gradient = jax.value_and_grad(projected, argnums=tuple(range(5)), has_aux=True)(*arrays)
    return out, gradient


def widened(x):
    """Arrays in float64, the bias apart."""
    wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), x.arrays)
    return wide, None if x.bias is None else jnp.asarray(x.bias, jnp.float64)


@by_name
@pytest.mark.usefixtures("x64")
def test_value_weights_and_null_are_the_definition(mechanism) -> None:
    x = inputs_of(mechanism, np.float64)
    arrays = jax.tree.map(np.asarray, x.arrays)
    for kind in MASKS:
        mask = mask_of(kind)
        result = mechanism.apply(*x.arrays[:4], x=x.x, mask=mask, bias=x.bias, view="map")
        out, weights, null = attend(mechanism.name, *arrays, full(mask, True), full(x.bias, 0.0))
        assert result.out.dtype == jnp.float64
        np.testing.assert_allclose(result.out, out, rtol=0, atol=EXACT, err_msg=kind)
        np.testing.assert_allclose(result.weights, weights, rtol=0, atol=EXACT, err_msg=kind)
        if result.null is not None:
            np.testing.assert_allclose(result.null, null, rtol=0, atol=EXACT, err_msg=kind)
        assert (np.asarray(result.weights)[~full(mask, True)] == 0).all(), f"{kind}: weight where the mask forbids"


@by_name
@pytest.mark.usefixtures("x64")
def test_views_agree_in_value_and_slope_and_the_slope_is_that_of_the_definition(mechanism) -> None:
    """Slopes along a random direction of parameters, tokens and `x`.

    Five-point differences of the definition at h = 1e-5: the rounding of sums of 100 terms, 1e-14, over h.
    """
    x, mask, h = inputs_of(mechanism, np.float64), mask_of("causal"), 1e-5
    rng = np.random.default_rng(3)
    arrays = jax.tree.map(np.asarray, x.arrays)
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), arrays)

    def definition(amount):
        moved = jax.tree.map(lambda a, d: a + amount * d, arrays, direction)
        return attend(mechanism.name, *moved, full(mask, True), full(x.bias, 0.0)).out

    tangent = jax.tree.map(jnp.asarray, direction)
    out, slope = jax.jvp(partial(parallel, mechanism, mask, x.bias), x.arrays, tangent)
    expected = (8 * (definition(h) - definition(-h)) - (definition(2 * h) - definition(-2 * h))) / (12 * h)
    np.testing.assert_allclose(slope, expected, rtol=1e-8, atol=1e-8)
    for view in (by_map, by_step):
        measured = jax.jvp(partial(view, mechanism, mask, x.bias), x.arrays, tangent)
        np.testing.assert_allclose(measured[0], out, rtol=0, atol=EXACT, err_msg=view.__name__)
        # Slopes are up to a hundred times as large as values.
        np.testing.assert_allclose(measured[1], slope, rtol=0, atol=100 * EXACT, err_msg=view.__name__)


@by_name
def test_single_precision(mechanism) -> None:
    """Values and gradients have the error of single precision."""
    x, mask = inputs_of(mechanism), mask_of("causal")
    out, gradient = value_and_gradient(mechanism, mask, x.bias, x.arrays)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((out, gradient)))
    with jax.enable_x64(True):
        wide, bias = widened(x)
        exact_out, exact_gradient = value_and_gradient(mechanism, mask, bias, wide)
    factor = AMPLIFIES.get(mechanism.name, 1)
    assert_close(out, exact_out, SINGLE, factor)
    for got, want in zip(jax.tree.leaves(gradient), jax.tree.leaves(exact_gradient), strict=True):
        # A parameter's gradient adds the queries of a head, twice seven; the others about as many terms.
        assert_close(got, want, {0.99: 4e-6, 1.0: 1e-5}, factor)


@by_name
def test_compiled_it_repeats_bit_for_bit(mechanism) -> None:
    """One program per kind of slot; every mechanism is traced. Gradients of rows that see nothing are finite."""
    x, mask = inputs_of(mechanism), mask_of("causal")

    def run(mask, arrays):
        return value_and_gradient(mechanism, mask, x.bias, arrays)

    shapes = jax.eval_shape(run, mask, x.arrays)
    assert set(BY_NAME) >= COMPILED
    if mechanism.name not in COMPILED:
        assert shapes[0].shape == x.q.shape
        return
    compiled = jax.jit(run)
    first, second = compiled(mask, x.arrays), compiled(mask, x.arrays)
    for one, two, plain in zip(*map(jax.tree.leaves, (first, second, run(mask, x.arrays))), strict=True):
        assert one.tobytes() == two.tobytes()
        assert_close(one, plain, {1.0: 1e-5}, AMPLIFIES.get(mechanism.name, 1))
    nothing = compiled(np.zeros_like(mask), x.arrays)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(nothing))


@by_name
@pytest.mark.usefixtures("x64")
def test_rows_that_see_nothing_are_zero(mechanism) -> None:
    x = inputs_of(mechanism, np.float64)
    nothing = np.zeros((LENGTH, LENGTH), bool)
    result = mechanism.apply(*x.arrays[:4], x=x.x, mask=nothing, bias=x.bias, view="map")
    assert (result.weights == 0).all()
    if result.null is not None:
        gate = {"kv_bias+shared_ns_sigmoid_head_gate"}
        assert (result.null == 1).all() or mechanism.name in gate, "a null column takes the mass of such a row"
    elif "value_bias" not in x.params and getattr(mechanism, "combine", "multiply") == "multiply":
        assert (result.out == 0).all()


@by_name
def test_bfloat16_stays_bfloat16_and_near(mechanism) -> None:
    """8 bits of mantissa: 0.4 % of each term, terms up to 3, seven of them adding up at random."""
    x, mask = inputs_of(mechanism, jnp.bfloat16), mask_of("causal")

    def run(params, q, k, v, x_, bias):
        return mechanism.apply(params, q, k, v, x=x_, mask=mask, bias=bias, view="map")

    shapes = jax.eval_shape(run, *x.arrays, x.bias)
    assert shapes.out.dtype == shapes.weights.dtype == jnp.bfloat16
    if mechanism.name not in COMPILED:
        return
    result = run(*x.arrays, x.bias)
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), x.arrays)
    bias = full(None if x.bias is None else np.asarray(x.bias, np.float64), 0.0)
    expected = attend(mechanism.name, *wide, full(mask, True), bias).out
    assert_close(result.out, expected, {0.99: 0.06, 1.0: 0.12}, AMPLIFIES.get(mechanism.name, 1))


@by_name
@pytest.mark.usefixtures("x64")
def test_no_gradient_to_what_is_not_seen(mechanism) -> None:
    x, mask = inputs_of(mechanism, np.float64), mask_of("causal")
    _, pull = jax.vjp(partial(parallel, mechanism, mask, x.bias), *x.arrays)
    for row in (0, 4):
        _, to_q, to_k, to_v, to_x = pull(jnp.zeros_like(x.q).at[:, :, row].set(1.0))
        for later in (to_q[:, :, row + 1 :], to_k[:, :, row + 1 :], to_v[:, :, row + 1 :], to_x[:, row + 1 :]):
            assert (later == 0).all()
        if not mechanism.name.startswith("non_approximate"):
            assert (to_q[:, :, :row] == 0).all(), "a query changes another query's output"
        assert (to_v[:, :, : row + 1] != 0).any()


@by_name
@pytest.mark.usefixtures("x64")
def test_vmap_is_a_batch_axis(mechanism) -> None:
    x, mask = inputs_of(mechanism, np.float64), mask_of("causal")
    run = jax.vmap(partial(parallel, mechanism, mask, x.bias), in_axes=(None, 0, 0, 0, 0))
    assert jax.eval_shape(run, *x.arrays).shape == x.q.shape
    if mechanism.name not in COMPILED:
        return
    batched, mapped = parallel(mechanism, mask, x.bias, *x.arrays), run(*x.arrays)
    np.testing.assert_allclose(mapped, batched, rtol=0, atol=EXACT)


@by_name
@pytest.mark.usefixtures("x64")
def test_sites_are_met_and_obeyed(mechanism) -> None:
    x, met = inputs_of(mechanism, np.float64), []

    def uniform(name, value):
        met.append(name)
        if name == "gate":
            return jnp.zeros_like(value) if getattr(mechanism, "combine", "") == "add" else jnp.ones_like(value)
        return jnp.full_like(value, 1 / LENGTH) if name == "weights" else value

    out = mechanism.apply(*x.arrays[:4], x=x.x, bias=x.bias, site=uniform).out
    assert "weights" in met
    assert ("logits" in met) == (mechanism is not OWN)
    assert ("gate" in met) == isinstance(mechanism, Gated)
    if not {"value", "value_bias", "value_temper"} & set(x.params) and mechanism.name != "differential":
        mean = jnp.mean(x.v, axis=-2, keepdims=True)
        np.testing.assert_allclose(out, jnp.broadcast_to(mean, out.shape), rtol=0, atol=EXACT)


@pytest.mark.parametrize(("window", "prefix"), [(3, 0), (2, 1)])
@pytest.mark.parametrize("name", ["softmax", "forgetting", "ssa", "lssar", "entmax15", "softmax+value_gate"])
@pytest.mark.usefixtures("x64")
def test_decoding_with_a_window_and_kept_first_keys(name, window, prefix) -> None:
    mechanism = BY_NAME[name]
    x = inputs_of(mechanism, np.float64)
    t, u = np.indices((LENGTH, LENGTH))
    mask = (u <= t) & ((t - u < window) | (u < prefix))
    expected = parallel(mechanism, mask, x.bias, *x.arrays)
    measured = by_step(mechanism, None, x.bias, *x.arrays, window=window, prefix=prefix)
    np.testing.assert_allclose(measured, expected, rtol=0, atol=EXACT)


def test_editing_the_null_mass_changes_what_the_null_column_gives() -> None:
    x = inputs_of(kv_bias)

    def no_null(name, value):
        return jnp.zeros_like(value) if name == "null" else value

    arrays = x.arrays[:4]
    result = kv_bias.apply(*arrays, view="map", site=no_null)
    assert_close(result.out, result.weights @ x.v, SINGLE)
    assert float(jnp.max(jnp.abs(kv_bias.apply(*arrays).out - result.out))) > 0.05, "the null part was there before"


def test_own_mechanism_refuses_a_bias_it_would_ignore() -> None:
    x = inputs_of(OWN)
    with pytest.raises(ValueError, match="one_sided: this mechanism takes no logit bias"):
        OWN.apply(*x.arrays[:4], bias=jnp.zeros((HEADS, LENGTH, LENGTH)))
