"""Propositions about attention on a repeated token (Gu et al., 2410.10781), on untrained models of random weights."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from attnlab.models import Transformer

LENGTH, HEADS, LAYERS = 64, 2, 4

# float32: the hidden states of all positions are equal up to 6e-8 relative, and logits of size 3 carry that over.
TOLERANCE = 1e-5


@cache
def attention(positions: str, norm: str = "layernorm") -> dict[str, np.ndarray]:
    """Logits and weights `[seed, layer, head, T, U]` on `LENGTH` copies of one token, for two random models."""
    model = Transformer(5, LENGTH, num_layers=LAYERS, num_heads=HEADS, width=16, positions=positions, norm=norm)
    tokens = jnp.full(LENGTH, 3)

    def read(params):
        _, tape = model.apply(params, tokens, tape=("*.attn.logits", "*.attn.weights"))
        return {n: jnp.stack([tape[f"blocks.{i}.attn.{n}"] for i in range(LAYERS)]) for n in ("logits", "weights")}

    found = jax.jit(jax.vmap(read))(jax.vmap(model.init)(jax.random.split(jax.random.key(0), 2)))
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_without_positions_attention_is_uniform(norm) -> None:
    weights = attention("none", norm)["weights"]
    np.testing.assert_allclose(weights - theory.nope_attention(LENGTH), 0, rtol=0, atol=TOLERANCE)


def test_alibi_is_the_geometric_law_of_its_slope() -> None:
    weights = attention("alibi")["weights"]
    for head in range(HEADS):
        expected = theory.alibi_attention(2.0 ** (-8 * (head + 1) / HEADS), LENGTH)
        np.testing.assert_allclose(weights[:, :, head] - expected, 0, rtol=0, atol=TOLERANCE)
    steps = np.diff(weights[..., -1, :], axis=-1)
    assert (steps[:, :, 0] > 0).all(), "strictly less attention the further back: no sink on the first token"


def test_rope_is_relative_and_below_its_bound() -> None:
    found = attention("rope")
    weights, logits = found["weights"], found["logits"]
    t = np.arange(1, LENGTH + 1)
    visible = np.tril(np.ones((LENGTH, LENGTH), bool))
    bound = np.abs(np.where(visible, logits, 0)).max(axis=(-1, -2))
    allowed = theory.rope_first_token_bound(bound[..., None], t)
    assert (weights[..., 0] <= allowed + TOLERANCE).all()
    assert (weights[..., -1, 0] > 0.05 / LENGTH).all(), "the bound is not met by vanishing attention"
    by_distance = logits[..., -1, ::-1]
    for seed, layer, head in np.ndindex(2, LAYERS, HEADS):
        expected = theory.relative_attention(by_distance[seed, layer, head].astype(np.float64))
        np.testing.assert_allclose(weights[seed, layer, head], expected, rtol=0, atol=TOLERANCE)
    assert np.abs(by_distance - by_distance[..., :1]).max() > 0.1, "rope does turn these logits"


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_absolute_positions_are_not_bound_by_this(positions) -> None:
    """Random logits of size 0.3 and more move weights by a third of their value, far from 1/t."""
    weights = attention(positions)["weights"]
    ratio = weights * np.arange(1, LENGTH + 1)[:, None]
    rows = ratio[..., 1:, 0]
    assert (np.abs(rows - 1).max(axis=-1) > 0.05).all()
