"""The logits as a sum of parts, whatever the norm; and what cannot be written so."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention
from attnlab.analysis.direct_effects import direct_effects
from attnlab.config import ConfigError
from attnlab.models import Transformer

MODEL = Transformer(vocab_size=11, length=6, num_layers=3, num_heads=2, width=8, no_mlp=(1,), no_attention=(2,))
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (4, 6)))


def trained(model: Transformer):
    """Parameters with gains and biases that are not 1 and 0."""
    params = model.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    if "final_norm" in params:
        params["final_norm"] = {k: jnp.asarray(rng.normal(size=8), jnp.float32) for k in params["final_norm"]}
    return params


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm", "none"])
@pytest.mark.parametrize("tied", [False, True])
def test_parts_sum_to_the_logits(norm, tied) -> None:
    model = dataclasses.replace(MODEL, norm=norm, tie_embeddings=tied)
    params = trained(model)
    logits, _ = model.apply(params, TOKENS)
    found = direct_effects(model, params, TOKENS)
    np.testing.assert_allclose(found.total(), logits, rtol=0, atol=1e-5)
    assert found.heads.shape == (4, 3, 2, 6, 11)
    assert (found.heads[:, 2] == 0).all() and (found.mlps[:, 1] == 0).all()
    assert (found.heads[:, 0] != 0).any() and (found.mlps[:, 0] != 0).any()


def test_without_a_final_norm_and_with_gates_inside() -> None:
    model = dataclasses.replace(MODEL, final_norm=False, mechanism=attention.output_gated)
    params = trained(model)
    np.testing.assert_allclose(
        direct_effects(model, params, TOKENS).total(), model.apply(params, TOKENS)[0], rtol=0, atol=1e-5
    )


def test_along_a_direction() -> None:
    params = trained(MODEL)
    logits, _ = MODEL.apply(params, TOKENS)
    right, wrong = jnp.asarray([1, 2, 3, 4]), jnp.asarray([5, 6, 7, 8])
    direction = jax.nn.one_hot(right, 11) - jax.nn.one_hot(wrong, 11)
    found = direct_effects(MODEL, params, TOKENS).along(direction)
    wanted = jnp.take_along_axis(logits, right[:, None, None], -1) - jnp.take_along_axis(
        logits, wrong[:, None, None], -1
    )
    np.testing.assert_allclose(found.total(), wanted, rtol=0, atol=1e-5)
    assert found.heads.shape == (4, 3, 2, 6, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"norm_place": "post"}, "norm_place"),
        ({"output_norm": "rmsnorm"}, "output_norm"),
        ({"registers": 1}, "registers"),
        ({"mechanism": attention.dense_gated}, "output matrix"),
    ],
)
def test_streams_that_are_no_plain_sum(change, told) -> None:
    model = dataclasses.replace(MODEL, **change)
    with pytest.raises(ConfigError, match=told):
        direct_effects(model, model.init(jax.random.key(0)), TOKENS)
