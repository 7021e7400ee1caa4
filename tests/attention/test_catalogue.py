"""The whole catalogue: every mechanism in the docs, in a model, from a file; the two forms of a kernel are one."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention, config
from attnlab.attention import Dims, causal_mask

DOCS = (Path(__file__).parents[2] / "docs" / "mechanisms.md").read_text()
DIMS = Dims(2, 4, 8)


def test_every_mechanism_is_in_the_docs_under_its_name() -> None:
    assert len({m.name for m in attention.MECHANISMS}) == len(attention.MECHANISMS) == 101
    assert [m.name for m in attention.MECHANISMS if f"`{m.name}`" not in DOCS] == []


def test_every_mechanism_comes_back_from_json() -> None:
    for mechanism in attention.MECHANISMS:
        assert config.loads(config.dumps(mechanism)) == mechanism


@pytest.mark.parametrize(
    ("pairs", "recurrence"),
    [
        (attention.catalogue.elu_kernel_quadratic, attention.linear),
        (attention.catalogue.mlp_kernel_quadratic, attention.mlp_kernel),
        (attention.catalogue.mlp_kernel_normalized_quadratic, attention.mlp_kernel_normalized),
        (attention.approximate, attention.taylor),
    ],
    ids=lambda m: m.name,
)
@pytest.mark.usefixtures("x64")
def test_a_kernel_pair_by_pair_is_its_recurrence(pairs, recurrence) -> None:
    """Up to the epsilon of the normaliser, 1e-6 of a row sum above .5 for Taylor, less for the others."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(3, 2, 9, 4))) for _ in range(3))
    drawn = recurrence.init(jax.random.key(0), DIMS)
    params = dict(zip(sorted(pairs.init(jax.random.key(0), DIMS)), (drawn[n] for n in sorted(drawn)), strict=True))
    one = pairs.apply(params, q, k, v, mask=causal_mask(9), view="map")
    two = recurrence.apply(drawn, q, k, v, view="map")
    np.testing.assert_allclose(one.weights, two.weights, rtol=0, atol=2e-6)
    np.testing.assert_allclose(one.out, two.out, rtol=0, atol=1e-5)
