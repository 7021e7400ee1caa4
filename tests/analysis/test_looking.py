"""Relative maps, shifts of gaze, gradients in the map, crops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import looking
from attnlab.analysis.ranks import rank_correlation
from attnlab.models import Transformer

RNG = np.random.default_rng(0)


def test_a_relative_map_recovers_what_the_question_means() -> None:
    """`A_q = N S / Z`, `A_g = N / Z'`: the ranking of S, whatever the noise; biased where `A_g` is below the ridge."""
    noise, meaning = RNG.uniform(0.01, 1, (2, 12))
    asked, general = noise * meaning / (noise * meaning).sum(), noise / noise.sum()
    found = [looking.relative_map(jnp.asarray(asked), jnp.asarray(general), ridge) for ridge in (0.0, 10.0)]
    ranks = [float(rank_correlation(x, jnp.asarray(meaning))) for x in found]
    assert ranks[0] == pytest.approx(1, abs=1e-6)
    assert ranks[1] < 0.9, "a large ridge leaves the raw map"


def test_a_gaze_that_does_not_move_has_no_saliency() -> None:
    sink = jnp.broadcast_to(jnp.asarray([0.7, 0.1, 0.2]), (5, 3))
    assert (looking.gaze_shift(sink) == 0).all()
    falling = jnp.asarray([[0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.3, 0.3, 0.4]])
    np.testing.assert_allclose(looking.gaze_shift(falling), [0, 1 / 3, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(looking.gaze_shift(falling + 0.25), looking.gaze_shift(falling), atol=1e-6)


def test_gradients_in_the_map_against_finite_differences() -> None:
    model = Transformer(vocab_size=7, length=5, num_layers=2, num_heads=2, width=8)
    params = model.init(jax.random.key(0))
    tokens = jnp.asarray(RNG.integers(0, 7, (3, 5)))

    def score(logits):
        return jnp.sum(jax.nn.log_softmax(logits[:, -1])[:, 2])

    maps, gradients = looking.pattern_gradients(model, params, tokens, score, (0, 1))
    assert maps.shape == gradients.shape == (2, 3, 2, 5, 5)
    from attnlab import edits

    for layer, head, key in ((0, 1, 2), (1, 0, 3)):
        step = jnp.zeros((3, 2, 5, 5)).at[1, head, -1, key].set(1e-2)
        ends = [score(model.apply(params, tokens, edits=(edits.pattern_add(layer, s * step),))[0]) for s in (1, -1)]
        slope = float(ends[0] - ends[1]) / 2e-2
        # Central difference in float32: 1e-6 / 1e-2 of rounding.
        assert float(gradients[layer, 1, head, -1, key]) == pytest.approx(slope, abs=1e-3, rel=2e-2)
    found = looking.gradient_attention(maps[1], gradients[1])
    wanted = np.mean(np.asarray(maps[1]) * np.maximum(gradients[1], 0), axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_hits() -> None:
    maps = jnp.asarray([[9.0, 0.1, 0.5, 0.2], [9.0, 0.6, 0.5, 0.2]])
    keys = jnp.asarray([False, True, True, True])
    target = jnp.asarray([2, 2])
    assert float(looking.hit_rate(maps, target, keys)) == 0.5
    assert float(looking.hit_rate(maps, target, keys, jnp.asarray([True, False]))) == 1.0


def test_the_crop_is_the_window_that_stands_out() -> None:
    grid = np.full((8, 8), 0.01)
    grid[2:5, 4:7] = 1.0
    size, row, column = looking.best_crop(jnp.asarray(grid), (2, 3, 5))
    assert (int(size), int(row), int(column)) == (3, 2, 4)
