"""Harsanyi dividends and Shapley values: the definitions by loops, games of two players, laws, decoding."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlab import analysis
from attnlab.config import ConfigError
from attnlab.models import Transformer


def by_definition(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dividends as alternating sums over subsets; Shapley values as mean gains over orders of arrival."""
    n = int(math.log2(len(values)))
    found = np.zeros(len(values))
    for s in range(len(values)):
        for t in range(len(values)):
            if s & t == t:
                found[s] += (-1) ** (s.bit_count() - t.bit_count()) * values[t]
    gains = np.zeros(n)
    for order in itertools.permutations(range(n)):
        here = 0
        for player in order:
            gains[player] += values[here | 1 << player] - values[here]
            here |= 1 << player
    return found, gains / math.factorial(n)


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_both_are_their_definitions(players, x64, rng):
    values = rng.normal(size=(3, 2**players))
    found, shares = analysis.harsanyi(jnp.asarray(values)), analysis.shapley(jnp.asarray(values))
    for row, dividends, share in zip(values, found, shares, strict=True):
        wanted = by_definition(row)
        np.testing.assert_allclose(dividends, wanted[0], atol=1e-12)
        np.testing.assert_allclose(share, wanted[1], atol=1e-12)


@given(players=st.sampled_from([1, 3, 8]), seed=st.integers(0, 1000))
def test_laws(players, seed):
    values = jnp.asarray(np.random.default_rng(seed).normal(size=2**players), jnp.float32)
    found = analysis.harsanyi(values)
    loose = 1e-5 * 2**players  # float32, 2^n terms with alternating signs
    np.testing.assert_allclose(jnp.sum(found), values[-1], atol=loose)
    np.testing.assert_allclose(jnp.sum(found[1:]), values[-1] - values[0], atol=loose)
    np.testing.assert_allclose(analysis.coalition_values(found), values, atol=loose)
    np.testing.assert_allclose(jnp.sum(analysis.shapley(values)), values[-1] - values[0], atol=loose)


GATES = {  # v(empty), v(1), v(2), v(both) and I
    "and": ((0, 0, 0, 1), (0, 0, 0, 1)),
    "xor": ((0, 1, 1, 0), (0, 1, 1, -2)),
    "or": ((0, 1, 1, 1), (0, 1, 1, -1)),
    "sum": ((0, 2, 3, 5), (0, 2, 3, 0)),
}


@pytest.mark.parametrize("name", GATES)
def test_games_of_two(name):
    values, wanted = GATES[name]
    np.testing.assert_array_equal(analysis.harsanyi(jnp.asarray(values, jnp.float32)), wanted)


def test_an_additive_score_has_no_interactions_and_equals_are_treated_equally(x64, rng):
    masks = analysis.coalition_masks(6)
    worth = rng.normal(size=6)
    found = analysis.harsanyi(jnp.asarray(0.3 + masks @ worth))
    sizes = masks.sum(axis=1)
    assert np.abs(np.asarray(found)[sizes >= 2]).max() < 1e-12
    np.testing.assert_allclose(np.asarray(found)[sizes == 1], worth, atol=1e-12)
    symmetric = rng.normal(size=7)[sizes]  # depends on the number of players alone
    np.testing.assert_allclose(analysis.shapley(jnp.asarray(symmetric)), (symmetric[-1] - symmetric[0]) / 6, atol=1e-12)
    # A player that adds nothing to any coalition gets nothing, from whatever game the others play.
    game = rng.normal(size=64)[np.arange(64) & 31]
    assert abs(analysis.shapley(jnp.asarray(game))[5]) < 1e-12


def test_bits_are_players():
    masks = analysis.coalition_masks(3)
    np.testing.assert_array_equal(masks[[0, 1, 2, 6]], [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1]])
    scores = analysis.coalition_scores(lambda present: {"who": present * jnp.arange(1.0, 4.0)}, 3)["who"]
    np.testing.assert_array_equal(scores, (masks * np.arange(1.0, 4.0)).T)


def test_of_a_transformer_one_compiled_pass_against_a_loop(key):
    """Segments of the input are blanked; the score is a logit at the last place."""
    model = Transformer(vocab_size=5, length=6, input_dim=3, width=8, num_heads=2)
    params = jax.tree.map(lambda x: 2 * x, model.init(key))  # logits of size 1
    inputs = 3 * jax.random.normal(jax.random.key(1), (6, 3))
    segment = np.array([0, 0, 1, 1, 2, 2])

    def score(present):
        return model.apply(params, jnp.where(present[segment][:, None], inputs, 0))[0][-1]

    found = jax.jit(lambda: analysis.dividends(score, 3))()
    assert found.shape == (5, 8)
    values = np.stack([np.asarray(score(jnp.asarray(mask))) for mask in analysis.coalition_masks(3)], axis=-1)
    wanted = np.stack([by_definition(row)[0] for row in values.astype(np.float64)])
    np.testing.assert_allclose(found, wanted, atol=1e-4)  # float32, alternating sums
    assert np.abs(wanted[:, -1]).max() > 1e-3  # a softmax and an MLP do interact


def test_guidance_is_a_dividend_and_contrast_lacks_two_terms(rng):
    v = jnp.asarray(rng.normal(size=(7, 4)), jnp.float32)  # empty, image, instruction, both
    v00, v10, v01, v11 = v.T
    guided = analysis.interaction_guided(v11, v10, v01, v00, 0.5)
    np.testing.assert_allclose(guided, v11 + 0.5 * analysis.harsanyi(v)[:, 3], atol=1e-6)
    plain = analysis.contrast(v11, v01, 0.5)
    np.testing.assert_allclose(guided - plain, 0.5 * (v00 - v10), atol=1e-6)
    for same in (analysis.interaction_guided(v11, v10, v01, v00, 0.0), analysis.contrast(v11, v01, 0.0)):
        np.testing.assert_array_equal(same, v11)


def test_bad_counts_are_named():
    for wrong in (0, 13, True, 2.0):
        with pytest.raises(ConfigError, match="players"):
            analysis.coalition_masks(wrong)  # type: ignore[arg-type]
    for count in (1, 3):
        with pytest.raises(ConfigError, match="coalitions"):
            analysis.harsanyi(jnp.ones(count))
