"""One body for every recurrent mechanism: views agree with each other and with a loop, in value and in gradient."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrent_cases import (
    HEAD_DIM,
    HEADS,
    LENGTH,
    QUICK,
    UNDER_TEST,
    Inputs,
    by_step,
    chunked,
    compiled,
    dims_of,
    inputs_of,
    outputs,
    parallel,
    weight_of,
)
from recurrent_reference import DEFINITIONS, attend

from attnlab import config
from attnlab.attention import Mechanism, causal_mask
from attnlab.attention import recurrent_catalogue as catalogue
from attnlab.attention.readout import LocalTaps
from attnlab.attention.recurrent_catalogue import RECURRENT, SCANS
from attnlab.models import Transformer
from attnlab.tape import SiteError, Sites, zero

by_name = pytest.mark.parametrize("mechanism", UNDER_TEST, ids=lambda m: m.name)
PER_CHANNEL = tuple(m for m in SCANS if m.rule.channelwise)

# float64 rounds at 1e-16 of terms that reach 1e3 (products of seven tokens); two orders are left.
EXACT = {"rtol": 1e-10, "atol": 1e-10}
# float32 rounds at 6e-8 of the largest output; products of seven tokens, sums of 30 terms; gradients of parameters are
# sums that cancel.
SINGLE = {0.5: 1e-7, 0.99: 6e-7, 1.0: 1e-6}
GRADIENT = {0.5: 5e-7, 0.99: 2e-6, 1.0: 3e-6}


def assert_near(measured, expected, quantiles: dict[float, float]) -> None:
    """Quantiles of the error, relative to the largest of the expected numbers."""
    expected = np.asarray(expected, np.float64)
    error = np.abs(np.asarray(measured, np.float64) - expected).ravel() / max(np.abs(expected).max(), 1e-30)
    for level, allowed in quantiles.items():
        got = np.quantile(error, level)
        assert got <= allowed, f"quantile {level} of |error|: measured {got:.3g}, allowed {allowed:.3g}"


def check_definition(mechanism, inputs: Inputs, found, weight) -> None:
    """Every view is the loop, its matrix the loop with the identity for values; gradients agree."""
    expected = attend(mechanism.name, *inputs)
    assert {"parallel", "step"} <= set(found)
    for name in set(found) - {"weights"}:
        np.testing.assert_allclose(found[name].out, expected, err_msg=name, **EXACT)
        for got, want in zip(*map(jax.tree.leaves, (found[name].gradient, found["parallel"].gradient)), strict=True):
            np.testing.assert_allclose(got, want, err_msg=name, **EXACT)
    if "weights" in found:
        eye = np.broadcast_to(np.eye(LENGTH), (*inputs.q.shape[:2], LENGTH, LENGTH))
        np.testing.assert_allclose(found["weights"], attend(mechanism.name, *inputs, values=eye), **EXACT)
        assert (np.triu(found["weights"], 1) == 0).all(), "a weight on what comes later"


def check_slope(mechanism, inputs: Inputs, gradient: Inputs, weight) -> None:
    """The slope of the loop along a random direction, by central differences.

    Error `h^2 f''' / 6 ~ 1e-9` of values up to 1e2 and rounding `1e-14 / h ~ 1e-9` at `h = 1e-5`.
    """
    rng, h = np.random.default_rng(3), 1e-5
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), inputs)
    if "omega" in gradient.params:  # drawn once, by definition without a gradient
        assert (gradient.params["omega"] == 0).all()
        direction.params["omega"][:] = 0

    def loop(amount):
        return attend(mechanism.name, *jax.tree.map(lambda a, d: a + amount * d, inputs, direction))

    slope = np.sum(weight * (loop(h) - loop(-h))) / (2 * h)
    measured = sum(np.sum(g * d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    assert measured == pytest.approx(slope, rel=1e-6, abs=1e-5)


def check_causality(inputs: Inputs, program) -> None:
    """What comes later has exactly no gradient; a query and what the layer reads beside it, no other row's."""
    for row in (0, 3, LENGTH - 1):
        weight = np.zeros_like(inputs.v)
        weight[:, :, row] = 1.0
        found = program(inputs, weight)
        for name in set(found) - {"weights"}:
            _, to_q, to_k, to_v, to_x = found[name].gradient
            assert (np.delete(to_q, row, axis=2) == 0).all(), name
            for gradient in (to_k, to_v):
                assert (gradient[:, :, row + 1 :] == 0).all(), name
            assert (to_x[:, row + 1 :] == 0).all(), name
            assert (np.asarray(to_v[:, :, : row + 1]) != 0).any(), name


@by_name
@pytest.mark.usefixtures("x64")
def test_three_views_are_the_definition_and_look_at_nothing_later(mechanism) -> None:
    inputs, program = inputs_of(mechanism), compiled(mechanism)
    weight = weight_of(inputs.v)
    found, again = program(inputs, weight), program(inputs, weight)
    for one, two in zip(*map(jax.tree.leaves, (found, again)), strict=True):
        assert one.tobytes() == two.tobytes()
    check_definition(mechanism, inputs, found, weight)
    check_slope(mechanism, inputs, found["parallel"].gradient, weight)
    check_causality(inputs, program)


@pytest.mark.parametrize("mechanism", PER_CHANNEL, ids=lambda m: m.name)
@pytest.mark.usefixtures("x64")
def test_one_channel_per_head_has_a_map(mechanism) -> None:
    inputs = inputs_of(mechanism, head_dim=1)

    def both(inputs):
        made = chunked(mechanism).apply(*inputs[:4], x=inputs.x, view="map")
        return made.out, made.weights, by_step(mechanism, *inputs)

    out, weights, decoded = jax.jit(both, compiler_options=QUICK)(inputs)
    eye = np.broadcast_to(np.eye(LENGTH), (*inputs.q.shape[:2], LENGTH, LENGTH))
    np.testing.assert_allclose(weights, attend(mechanism.name, *inputs, values=eye), **EXACT)
    for found in (out, decoded):
        np.testing.assert_allclose(found, attend(mechanism.name, *inputs), **EXACT)
    wide = jax.tree.map(jnp.asarray, inputs_of(mechanism))
    with pytest.raises(ValueError, match=f"{mechanism.name}: got view='map' with head width {HEAD_DIM}; allowed is 1"):
        mechanism.apply(*wide[:4], x=wide.x, view="map")
    assert not mechanism.has_map(HEAD_DIM)
    sites = Sites()
    jax.eval_shape(lambda i: mechanism.apply(*i[:4], x=i.x, site=sites.at("a")).out, wide)
    assert sites._seen == [], "no site that it cannot give"
    asked = Sites(read="a.weights")
    jax.eval_shape(lambda i: mechanism.apply(*i[:4], x=i.x, site=asked.at("a")).out, wide)
    with pytest.raises(SiteError, match=f"{mechanism.name} with head width {HEAD_DIM} has none"):
        asked.finish()


@by_name
def test_single_precision_has_the_error_of_single_precision(mechanism) -> None:
    inputs = inputs_of(mechanism, np.float32)
    out = outputs(mechanism)(inputs)
    assert out.dtype == jnp.float32
    assert_near(out, attend(mechanism.name, *jax.tree.map(np.float64, inputs)), SINGLE)


@pytest.mark.parametrize("mechanism", [catalogue.gated_delta_net, catalogue.mesa], ids=lambda m: m.name)
def test_gradients_in_single_precision(mechanism) -> None:
    def gradient(inputs, weight):
        return jax.grad(lambda i: jnp.sum(weight * parallel(chunked(mechanism), *i)))(inputs)

    inputs = inputs_of(mechanism, np.float32)
    weight = weight_of(inputs.v)
    program = jax.jit(gradient, compiler_options=QUICK)
    single = program(inputs, weight)
    with jax.enable_x64(True):
        double = program(jax.tree.map(np.float64, inputs), weight.astype(np.float64))
    for got, want in zip(*map(jax.tree.leaves, (single, double)), strict=True):
        assert got.dtype == np.float32
        assert_near(got, want, GRADIENT)


@pytest.mark.parametrize("mechanism", [catalogue.gla, catalogue.gated_delta_net], ids=lambda m: m.name)
def test_half_precision_stays_and_the_state_does_not(mechanism) -> None:
    """bfloat16 has 8 bits: 0.4 % of each number; the state adds in float32."""
    inputs = inputs_of(mechanism, jnp.bfloat16)
    out = outputs(mechanism)(inputs)
    assert out.dtype == jnp.bfloat16
    assert_near(out, attend(mechanism.name, *jax.tree.map(np.float64, inputs)), {0.99: 0.02, 1.0: 0.04})
    state = jax.eval_shape(lambda p: mechanism.start(p, (1,), LENGTH, dims_of(mechanism), jnp.bfloat16), inputs.params)
    assert state.memory.dtype == jnp.float32


@pytest.mark.parametrize("mechanism", [catalogue.inline, catalogue.delta_net], ids=lambda m: m.name)
@pytest.mark.usefixtures("x64")
def test_local_taps_are_bands_of_the_matrix(mechanism) -> None:
    with_taps = replace(mechanism, local=LocalTaps(3))
    inputs = inputs_of(with_taps)
    taps = inputs.params["taps"]
    assert taps.shape == (HEADS, 3)

    def both(inputs):
        made = with_taps.apply(*inputs[:4], x=inputs.x, view="map")
        plain = mechanism.apply(*inputs[:4], x=inputs.x, view="map")
        return made.weights - plain.weights, made.out, parallel(with_taps, *inputs), by_step(with_taps, *inputs)

    bands, mixed, out, decoded = jax.jit(both, compiler_options=QUICK)(inputs)
    expected = sum(taps[:, m, None, None] * np.eye(LENGTH, k=-m) for m in range(3))
    np.testing.assert_allclose(bands, np.broadcast_to(expected, bands.shape), **EXACT)
    for found in (mixed, decoded):
        np.testing.assert_allclose(found, out, **EXACT)


def test_the_matrix_is_built_only_for_who_reads_or_edits_it() -> None:
    mechanism = catalogue.linear
    inputs = jax.tree.map(jnp.asarray, inputs_of(mechanism, np.float32))

    def traced(sites):
        return str(jax.make_jaxpr(lambda i: mechanism.apply(*i[:4], x=i.x, site=sites.at("a")).out)(inputs))

    square = f"{LENGTH},{LENGTH + 1}]"  # the identity and a column of ones
    silent, reader = Sites(), Sites(read="a.weights")
    assert square not in traced(silent) and "a.weights" in silent._seen
    assert square in traced(reader) and "a.weights" in reader.tape
    edited = mechanism.apply(*inputs[:4], site=Sites(edits=(zero("a.weights"),)).at("a")).out
    assert (edited == 0).all()


def test_in_a_transformer_under_jit() -> None:
    """The mask is traced there, and taken for causal; the matrix on the tape times the values is the output."""
    model = Transformer(vocab_size=5, length=LENGTH, width=8, num_heads=2, mechanism=catalogue.gated_delta_net)
    tokens = jnp.asarray(np.random.default_rng(0).integers(5, size=(2, LENGTH)))
    read = [f"blocks.0.attn.{name}" for name in ("weights", "v", "head_out")]

    def run(key):
        params = model.init(key)
        return model.apply(params, tokens, tape=read), model.apply(params, tokens)[0]

    (logits, tape), unread = jax.jit(run, compiler_options=QUICK)(jax.random.key(0))
    weights, v, out = (tape[name] for name in read)
    assert weights.shape == (2, 2, LENGTH, LENGTH) and (np.triu(weights, 1) == 0).all()
    assert_near(weights @ v, out, SINGLE)
    assert_near(unread, logits, {1.0: 1e-5})  # the matrix or chunks, then an MLP and two norms in float32


def test_refusals() -> None:
    mechanism, gated = catalogue.linear, catalogue.gated_delta_net
    inputs = jax.tree.map(jnp.asarray, inputs_of(mechanism, np.float32))
    plain = inputs[:4]
    causal = np.tri(LENGTH, dtype=bool)
    same = mechanism.apply(*plain).out
    for mask in (causal, causal[None, None], causal_mask(LENGTH)):
        assert (mechanism.apply(*plain, mask=mask).out == same).all()
    for mask in (np.ones_like(causal), causal_mask(LENGTH, window=2), causal_mask(LENGTH, prefix=3)):
        with pytest.raises(ValueError, match=r"linear: got a mask .* allowed is None or causal_mask\(7\)"):
            mechanism.apply(*plain, mask=mask)
    with pytest.raises(ValueError, match="linear: this mechanism takes no logit bias"):
        mechanism.apply(*plain, bias=np.zeros((HEADS, LENGTH, LENGTH), np.float32))
    with pytest.raises(ValueError, match="linear: got 2 queries and 7 keys"):
        mechanism.apply(inputs.params, inputs.q[:, :, :2], inputs.k, inputs.v)
    with pytest.raises(ValueError, match="x: got None"):
        gated.apply(jax.tree.map(jnp.asarray, inputs_of(gated, np.float32).params), *plain[1:])
    state = mechanism.start(inputs.params, (1,), LENGTH, dims_of(mechanism))
    token = (inputs.q[:, :, 0], inputs.k[:, :, 0], inputs.v[:, :, 0])
    for wrong in ({"window": 3}, {"prefix": 1}, {"bias": np.zeros(LENGTH, np.float32)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            mechanism.step(inputs.params, state, *token, **wrong)
    with pytest.raises(config.ConfigError, match=r"linear\.chunk: got 0"):
        replace(mechanism, chunk=0)
    with pytest.raises(config.ConfigError, match=r"s6\.normalizer"):
        replace(catalogue.s6, normalizer=catalogue.SUM)


def test_every_mechanism_is_a_value_with_a_definition() -> None:
    """Names label tables; a value can be hashed, compared, written to a run's manifest and read again."""
    assert {m.name for m in RECURRENT} == set(DEFINITIONS)
    assert len({m.name for m in RECURRENT}) == len(RECURRENT)
    for mechanism in RECURRENT:
        assert isinstance(mechanism, Mechanism) and mechanism.causal_only
        assert config.decode(config.encode(mechanism)) == mechanism
        assert hash(mechanism) == hash(replace(mechanism))


def test_initial_values_have_the_shapes_of_a_seed_axis() -> None:
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 5))
    for mechanism in RECURRENT:
        made = jax.eval_shape(jax.vmap(lambda key, m=mechanism: m.init(key, dims_of(m))), keys)
        assert all(leaf.shape[0] == 5 and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(made))
