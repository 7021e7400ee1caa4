"""Two segments: who looks at whom, which heads notice, and the loss that aligns them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import segments
from attnlab.models import Transformer

MODEL = Transformer(vocab_size=7, length=6, num_layers=3, num_heads=2, width=8, no_attention=(1,))
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 7, (3, 6)))
IMAGE = jnp.arange(6) < 3


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0))


def test_interaction_against_the_loop(params) -> None:
    found = segments.interactions_of(MODEL, params, TOKENS, ~IMAGE, IMAGE)
    _, tape = MODEL.apply(params, TOKENS, tape=("*.weights",))
    for layer in (0, 2):
        weights = np.asarray(tape[f"blocks.{layer}.attn.weights"], np.float64)
        masses = [weights[b, h, t, :3].sum() for b in range(3) for h in range(2) for t in (3, 4, 5)]
        assert float(found[layer]) == pytest.approx(np.mean(masses), abs=1e-6)
    assert np.isnan(found[1])


def test_the_alignment_loss_has_hubers_shape_and_a_gradient_to_the_model(params) -> None:
    deltas = jnp.asarray([0.1, 0.2])
    found = segments.alignment_loss(jnp.asarray([0.35, 0.9]), jnp.asarray([0.3, 0.4]), deltas)
    assert float(found) == pytest.approx((0.05**2 / 2 + 0.2 * (0.5 - 0.1)) / 2, rel=1e-5)
    layers = jnp.asarray([0, 2])

    def loss(params):
        return segments.alignment_loss(
            segments.interactions_of(MODEL, params, TOKENS, ~IMAGE, IMAGE)[layers], jnp.full(2, 0.9), 0.05
        )

    gradient = jax.grad(loss)(params)["blocks"]["2"]["attn"]["query"]
    at = np.unravel_index(int(jnp.argmax(abs(gradient))), gradient.shape)
    h = 1e-2

    def moved(sign):
        blocks = {**params["blocks"]}
        attn = {**blocks["2"]["attn"], "query": blocks["2"]["attn"]["query"].at[at].add(sign * h)}
        return loss({**params, "blocks": {**blocks, "2": {**blocks["2"], "attn": attn}}})

    # Central difference of a float32 loss near 1e-2: rounding 1e-9 / h.
    assert float(gradient[at]) == pytest.approx(float(moved(1) - moved(-1)) / (2 * h), rel=2e-2)


def test_divergence_is_the_distance_of_outputs(params) -> None:
    blank = TOKENS.at[:, :3].set(0)
    found, alone = segments.head_divergence(MODEL, params, TOKENS, blank)
    tapes = [MODEL.apply(params, x, tape=("*.head_out",))[1]["blocks.2.attn.head_out"] for x in (TOKENS, blank)]
    wanted = np.linalg.norm(np.asarray(tapes[0] - tapes[1])[:, :, -1], axis=-1).mean(0)
    np.testing.assert_allclose(found[2], wanted, rtol=1e-5)
    np.testing.assert_allclose(alone[2], np.linalg.norm(np.asarray(tapes[1])[:, :, -1], axis=-1).mean(0), rtol=1e-5)
    assert np.isnan(found[1]).all()
    assert (segments.head_divergence(MODEL, params, TOKENS, TOKENS)[0][0] == 0).all()


def test_halves_of_a_layer() -> None:
    scores = jnp.asarray([[1.0, 4, 2, 3]])
    upper, lower = (segments.above_median(scores, flag) for flag in (False, True))
    assert upper.tolist() == [[False, True, False, True]] and (lower == ~upper).all()


def test_span_scores() -> None:
    weights = jnp.zeros((1, 2, 6, 6)).at[0, 0, 4, 1].set(0.6).at[0, 1, 4, 2].set(0.2).at[0, 1, 5, 0].set(0.4)
    response = (jnp.arange(6) >= 4)[None]
    assert float(segments.span_score(weights, response, IMAGE[None])[0]) == pytest.approx(0.5)
