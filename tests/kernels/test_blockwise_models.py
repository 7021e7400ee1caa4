"""A Transformer whose attention is a kernel: logits and gradients of the catalogue's form; a map of one's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention as catalogue
from attnlab.attention import Weighted
from attnlab.config import decode, encode
from attnlab.kernels import Blocks, Blockwise, RowMap, blockwise
from attnlab.models import Transformer

pytestmark = pytest.mark.usefixtures("x64")

BATCH, HEADS, LENGTH = 2, 3, 7
SMALL = Blocks(4, 4)


def same(one, two, bound: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=bound), one, two)


def small_model(mechanism):
    return Transformer(vocab_size=5, length=LENGTH, num_heads=HEADS, width=12, mechanism=mechanism, no_mlp=(0,))


def loss_of(mechanism, tokens):
    model = small_model(mechanism)
    params = jax.tree.map(lambda x: x.astype(float), model.init(jax.random.key(0)))

    def loss(params):
        logits, _ = model.apply(params, tokens)
        return jnp.sum(jnp.sin(logits)), logits

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


@pytest.mark.parametrize(
    "mechanism",
    [catalogue.softmax, catalogue.sigmoid_for(LENGTH), catalogue.ssa, catalogue.output_gated],
    ids=lambda m: m.name,
)
def test_in_a_model_it_says_what_the_catalogue_says(mechanism) -> None:
    """Logits and the gradients of all parameters."""
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 5, (BATCH, LENGTH)))
    fast = blockwise(mechanism, implementation="interpret", blocks=SMALL, causal_only=True)
    same(loss_of(fast, tokens), loss_of(mechanism, tokens), 1e-11)


def reciprocal(logits, c):
    return jnp.exp(-c) / (1 + jnp.square(logits))


def test_a_map_of_ones_own_in_a_model() -> None:
    """The example of `kernels.row_maps` and of the docs: kernel and whole map, by its formula."""
    cauchy = RowMap(reciprocal, total=reciprocal)
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 5, (BATCH, LENGTH)))
    fast = Blockwise("cauchy", map=cauchy, implementation="scan", blocks=SMALL, causal_only=True)
    same(loss_of(fast, tokens), loss_of(Weighted("cauchy", cauchy), tokens), 1e-11)
    logits = np.random.default_rng(1).normal(size=(1, 3, 3))
    expected = np.tri(3) / (1 + logits**2)
    found = cauchy(jnp.asarray(logits), jnp.asarray(np.tri(3, dtype=bool)))
    np.testing.assert_allclose(found, expected / expected.sum(-1, keepdims=True), rtol=0, atol=1e-15)
    assert decode(encode(fast)) == fast
