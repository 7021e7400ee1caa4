"""TTT-linear: every combination of its parts against a loop, what it is without them, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrent_cases import HEAD_DIM, HEADS, LENGTH, by_step, dims_of, inputs_of, parallel
from ttt_reference import loop

from attnlab import config, tape
from attnlab.attention import Recurrent, TTTLinear, ttt_linear
from attnlab.attention.gates import Beta, FixedBeta
from attnlab.attention.rules import Delta, Hebb
from attnlab.models import Transformer

# Sums of some ten products of numbers up to 10, in float64, by two ways; an inner norm divides by numbers near 1.
EXACT = {"rtol": 1e-10, "atol": 1e-10}
BARE = TTTLinear("bare", 1, 1.0, Beta(), norm=False, residual=False, bias=False, learned_start=False)


@pytest.mark.parametrize("parts", list(product((True, False), repeat=4)), ids=str)
@pytest.mark.usefixtures("x64")
def test_every_combination_of_its_parts_is_the_loop(parts) -> None:
    """Five tokens to a mini-batch, the second one not full; parallel and step."""
    norm, residual, bias, learned = parts
    mechanism = TTTLinear(
        "some", 5, 0.7, FixedBeta(0.8), norm=norm, residual=residual, bias=bias, learned_start=learned
    )
    inputs = jax.tree.map(jnp.asarray, inputs_of(mechanism))
    own = inputs.params
    rates = 0.7 * np.maximum(1 / np.arange(1, 6) + own["place"], 0)
    out, decoded = parallel(mechanism, *inputs), by_step(mechanism, *inputs)
    nothing = np.zeros((HEADS, HEAD_DIM, HEAD_DIM)), np.zeros((HEADS, HEAD_DIM))
    first = own.get("start", nothing[0]), own.get("start_bias", nothing[1])
    for h in range(HEADS):
        given = (own["inner_scale"][h], own["inner_shift"][h]) if norm else None
        tokens = (inputs.q[0, h], inputs.k[0, h], inputs.v[0, h], np.full(LENGTH, 0.8), rates)
        expected = loop(*tokens, (first[0][h], first[1][h]), norm=given, residual=residual, bias=bias)
        for found in (out, decoded):
            np.testing.assert_allclose(found[0, h], expected, **EXACT)


@pytest.mark.usefixtures("x64")
def test_without_its_parts_it_is_the_delta_rule_and_linear_attention() -> None:
    delta, hebb = Recurrent("delta", Delta(beta=Beta())), Recurrent("hebb", Hebb(beta=Beta()))
    inputs = jax.tree.map(jnp.asarray, inputs_of(delta))
    one = inputs._replace(params=inputs.params | {"place": jnp.zeros(1)})
    np.testing.assert_allclose(parallel(BARE, *one), parallel(delta, *inputs), **EXACT)
    # With the residual: the state is W + 1, the delta rule from the identity, which is read besides.
    steps = delta.steps(inputs.params, inputs.q, inputs.k, inputs.v, x=inputs.x)
    state, expected = np.broadcast_to(np.eye(HEAD_DIM), (1, HEADS, HEAD_DIM, HEAD_DIM)), []
    for t in range(LENGTH):
        k, write = inputs.k[:, :, t, :, None], steps.k[:, :, t, :, None]
        state = state + write * (inputs.v[:, :, t, None, :] - k.mT @ state)
        expected.append((inputs.q[:, :, t, None, :] @ state)[..., 0, :])
    np.testing.assert_allclose(parallel(replace(BARE, residual=True), *one), np.stack(expected, 2), **EXACT)
    # All tokens in one mini-batch, whose gradients at 0 are -k v^T: linear attention; the paper's 1 / n divides it.
    whole = replace(BARE, mini_batch=LENGTH)
    count = np.arange(1, LENGTH + 1)
    even = inputs._replace(params=inputs.params | {"place": jnp.asarray(1 - 1 / count)})
    summed = parallel(hebb, *inputs)
    np.testing.assert_allclose(parallel(whole, *even), summed, **EXACT)
    mean = inputs._replace(params=inputs.params | {"place": jnp.zeros(LENGTH)})
    np.testing.assert_allclose(parallel(whole, *mean), summed / count[:, None], **EXACT)


@pytest.mark.usefixtures("x64")
def test_the_norm_makes_it_nonlinear_in_the_values() -> None:
    """Why there is no matrix: the second difference in the values is not 0, as it is without the norm."""
    for mechanism, linear in ((replace(ttt_linear, norm=False), True), (ttt_linear, False)):
        inputs = jax.tree.map(jnp.asarray, inputs_of(mechanism))
        none, once, twice = (parallel(mechanism, *inputs._replace(v=factor * inputs.v)) for factor in (0.0, 1.0, 2.0))
        bend = float(jnp.abs(none - 2 * once + twice).max())
        assert (bend < 1e-10) == linear and (bend > 0.01) != linear


def test_there_is_no_map_and_everyone_is_told_why() -> None:
    inputs = jax.tree.map(jnp.asarray, inputs_of(ttt_linear, np.float32))
    assert not ttt_linear.has_map(1)
    with pytest.raises(
        ValueError, match=r"ttt_linear: got view='map'; allowed is 'parallel': .* not linear in the val"
    ):
        ttt_linear.apply(*inputs[:4], x=inputs.x, view="map")
    model = Transformer(vocab_size=5, length=LENGTH, width=8, num_heads=2, mechanism=ttt_linear)
    made = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jnp.zeros((1, LENGTH), int)
    for asked in ({"tape": "blocks.*.attn.weights"}, {"edits": (tape.zero("blocks.0.attn.weights"),)}):
        with pytest.raises(tape.SiteError, match=r"no activation of this model .ttt_linear has none: .* not linear"):
            jax.eval_shape(lambda p, asked=asked: model.apply(p, tokens, **asked), made)


def test_refusals() -> None:
    inputs = jax.tree.map(jnp.asarray, inputs_of(ttt_linear, np.float32))
    for wrong in ({"mask": np.ones((LENGTH, LENGTH), bool)}, {"bias": np.zeros((LENGTH, LENGTH), np.float32)}):
        with pytest.raises(ValueError, match=r"ttt_linear: .*(got a mask|no logit bias)"):
            ttt_linear.apply(*inputs[:4], x=inputs.x, **wrong)
    with pytest.raises(ValueError, match="x: got None"):
        ttt_linear.apply(*inputs[:4])
    state = ttt_linear.start(inputs.params, (1,), LENGTH, dims_of(ttt_linear))
    with pytest.raises(config.ConfigError, match="window"):
        ttt_linear.step(inputs.params, state, inputs.q[:, :, 0], inputs.k[:, :, 0], inputs.v[:, :, 0], window=3)
    with pytest.raises(config.ConfigError, match=r"ttt_linear\.mini_batch: got 0"):
        replace(ttt_linear, mini_batch=0)


def test_half_precision_stays_and_the_state_does_not() -> None:
    """bfloat16 has 8 bits: 0.4 % of each number that goes in and of what comes out; the state adds in float32."""
    half = inputs_of(ttt_linear, jnp.bfloat16)
    inputs = jax.tree.map(jnp.asarray, half)
    out = parallel(ttt_linear, *inputs)
    wide = parallel(ttt_linear, *jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), half))
    assert out.dtype == jnp.bfloat16
    assert float(jnp.abs(out.astype(jnp.float32) - wide).max() / jnp.abs(wide).max()) < 0.02
    assert ttt_linear.start(inputs.params, (1,), LENGTH, dims_of(ttt_linear), jnp.bfloat16).memory.dtype == jnp.float32


def test_initial_values_are_those_of_the_authors() -> None:
    params = ttt_linear.init(jax.random.key(0), dims_of(ttt_linear, 64))
    assert params["start"].shape == (HEADS, 64, 64) and params["place"].shape == (16,)
    assert float(jnp.std(params["start"])) == pytest.approx(0.02, rel=0.05)  # of 8192 draws: four errors are 3 %
    zeros = ("start_bias", "place", "inner_shift", "strength_bias")
    assert all((params[name] == 0).all() for name in zeros) and (params["inner_scale"] == 1).all()
