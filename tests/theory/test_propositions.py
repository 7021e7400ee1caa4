"""Repeated tokens: closed forms against a small transformer with random weights, written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import theory

LENGTH, WIDTH, HEADS, LAYERS = 64, 32, 2, 4
HEAD = WIDTH // HEADS


def _rotate(x: np.ndarray) -> np.ndarray:
    """Rotary embedding on the pairs (first half, second half)."""
    angles = np.outer(np.arange(LENGTH), 10_000.0 ** (-np.arange(HEAD // 2) / (HEAD // 2)))
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), a * np.sin(angles) + b * np.cos(angles)], axis=-1)


def _attention_maps(scheme: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Attention `[L, H, T, U]` of a pre-norm transformer on one repeated token, and the bound `xi` `[L, H]`."""
    rng = np.random.default_rng(seed)
    x = np.tile(rng.normal(size=WIDTH), (LENGTH, 1))
    if scheme == "learned":
        x = x + 0.5 * rng.normal(size=x.shape)
    distance = np.subtract.outer(np.arange(LENGTH), np.arange(LENGTH))
    maps, bounds = np.zeros((LAYERS, HEADS, LENGTH, LENGTH)), np.zeros((LAYERS, HEADS))
    for layer in range(LAYERS):
        h = (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-5)
        for head in range(HEADS):
            q, k, v = (h @ rng.normal(size=(WIDTH, HEAD)) * 1.5 / np.sqrt(WIDTH) for _ in range(3))
            if scheme == "rope":
                q, k = _rotate(q), _rotate(k)
            scores = q @ k.T / np.sqrt(HEAD)
            bounds[layer, head] = np.abs(scores[distance >= 0]).max()
            if scheme == "alibi":
                scores = scores - 2.0 ** -(head + 1) * distance
            scores = np.where(distance >= 0, scores, -np.inf)
            mixing = np.exp(scores - scores.max(-1, keepdims=True))
            maps[layer, head] = mixing / mixing.sum(-1, keepdims=True)
            x = x + maps[layer, head] @ v @ rng.normal(size=(HEAD, WIDTH)) / np.sqrt(WIDTH)
        x = x + np.maximum(h @ rng.normal(size=(WIDTH, WIDTH)), 0) / WIDTH
    return maps, bounds


@pytest.mark.parametrize("seed", [0, 1])
def test_without_positions_attention_is_uniform(seed: int) -> None:
    maps, _ = _attention_maps("none", seed)
    # Equal hidden states up to the rounding of four layers.
    np.testing.assert_allclose(maps, np.broadcast_to(theory.nope_attention(LENGTH), maps.shape), atol=1e-10)


@pytest.mark.parametrize("seed", [0, 1])
def test_alibi_prefers_the_nearest(seed: int) -> None:
    maps, _ = _attention_maps("alibi", seed)
    for head in range(HEADS):
        expected = theory.alibi_attention(2.0 ** -(head + 1), LENGTH)
        np.testing.assert_allclose(maps[:, head], np.broadcast_to(expected, maps[:, head].shape), atol=1e-10)
        for t in range(1, LENGTH):
            assert (np.diff(expected[t, : t + 1]) > 0).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rope_bounds_the_first_token(seed: int) -> None:
    maps, xi = _attention_maps("rope", seed)
    bound = theory.rope_first_token_bound(xi[..., None], np.arange(1, LENGTH + 1))
    assert (maps[..., 0] <= bound * (1 + 1e-12)).all()  # rounding
    assert bound[..., -1].min() < 0.9  # not empty: the bound is below 1 where it counts


def test_rope_bound_is_attained() -> None:
    """Two scores, `xi` for the first token and `-xi` for all others, meet it with equality."""
    xi, t = 1.3, np.arange(1, 20)
    best = np.exp(xi) / (np.exp(xi) + (t - 1) * np.exp(-xi))
    np.testing.assert_allclose(theory.rope_first_token_bound(xi, t), best, rtol=1e-14)
    assert theory.rope_first_token_bound(1000.0, 5) == 1.0  # no overflow


def test_learned_positions_break_the_premise() -> None:
    maps, _ = _attention_maps("learned", 0)
    assert np.abs(maps - theory.nope_attention(LENGTH)).max() > 0.05


def test_relative_attention_contains_the_others() -> None:
    np.testing.assert_allclose(theory.relative_attention(np.zeros(9)), theory.nope_attention(9), rtol=1e-15)
    np.testing.assert_allclose(
        theory.relative_attention(-0.7 * np.arange(9)), theory.alibi_attention(0.7, 9), rtol=1e-13
    )
    bias = np.random.default_rng(0).normal(size=9)
    mixing = theory.relative_attention(bias)
    np.testing.assert_allclose(mixing.sum(axis=1), 1.0, rtol=1e-14)
    # The same law in every row: odds depend on the distance only.
    assert mixing[8, 5] / mixing[8, 6] == pytest.approx(np.exp(bias[3] - bias[2]), rel=1e-12)
    assert mixing[4, 1] / mixing[4, 2] == pytest.approx(np.exp(bias[3] - bias[2]), rel=1e-12)


def test_sink_mass_of_reference_maps() -> None:
    """`alpha_k` is the mean of column `k` over the rows that see it."""
    for mixing, closed in (
        (theory.nope_attention(64), theory.uniform_sink_mass(64)),
        (np.eye(64), theory.identity_sink_mass(64)),
    ):
        np.testing.assert_allclose(closed, mixing.sum(axis=0) / np.arange(64, 0, -1), rtol=1e-13)
    assert theory.uniform_sink_mass(64)[0] == pytest.approx(0.0741, abs=5e-5)
    assert (theory.uniform_sink_mass(64) < 0.3).all()
    # Keys T - 2, T - 1, T (counted from 1) pass a threshold of 0.3 without being sinks.
    assert np.flatnonzero(theory.identity_sink_mass(64) > 0.3).tolist() == [61, 62, 63]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="length = 0"):
        theory.nope_attention(0)
    with pytest.raises(ValueError, match="slope"):
        theory.alibi_attention(0.0, 4)
    with pytest.raises(ValueError, match="xi"):
        theory.rope_first_token_bound(-1.0, 3)
    with pytest.raises(ValueError, match="Count positions from 1"):
        theory.rope_first_token_bound(1.0, 0)
