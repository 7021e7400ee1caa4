"""The parallel form in blocks of rows is the whole map's, in value and gradient; who looks at the map gets it whole."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BATCH, BY_NAME, HEADS, LENGTH, inputs_of, mask_of
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_cases import QUICK

from attnlab import attention
from attnlab.attention import rows
from attnlab.tape import Sites

EXACT = 1e-12  # float64: the same sums, over keys in the same order; powers of 15 in LSSAR

# A clock, temperatures, posts that read `x`, counts and keys, null columns, derivatives that are given, tables of
# positions, two maps, and wrappers.
KINDS = ("softmax", "forgetting", "ssa", "lssar", "parallax", "kv_bias", "entmax", "position_table", "differential")


@pytest.fixture
def blocks_of_two(monkeypatch) -> None:
    """Two rows at a time: 7 rows make four blocks, the last of them half filled."""
    monkeypatch.setattr(rows, "WHOLE", 1)
    monkeypatch.setattr(rows, "FEWEST", 2)
    monkeypatch.setattr(rows, "BLOCK", 2 * BATCH * HEADS * LENGTH)


@pytest.mark.parametrize("name", [*KINDS, "softmax+value_gate"])
@pytest.mark.usefixtures("x64", "blocks_of_two")
def test_blocks_are_the_whole(name) -> None:
    """Some rows see nothing; masks differ per sequence, the bias per head."""
    mechanism, mask = BY_NAME[name], mask_of("holes")
    inputs = inputs_of(mechanism, np.float64)
    weight = np.random.default_rng(2).normal(size=inputs.q.shape)

    def of(view):
        def summed(arrays, bias):
            params, q, k, v, x = arrays
            found = mechanism.apply(params, q, k, v, x=x, mask=mask, bias=bias, view=view)
            null = 0.0 if found.null is None else jnp.sum(weight[..., 0] * found.null)
            return jnp.sum(weight * found.out) + null, (found.out, found.null)

        return lambda *arguments: jax.value_and_grad(summed, argnums=(0, 1), has_aux=True)(*arguments)

    arguments = (inputs.arrays, inputs.bias)
    assert str(jax.make_jaxpr(of("parallel"))(*arguments)).count("scan[") >= 2, "a loop forward and one backward"
    both = jax.jit(lambda *arguments: (of("parallel")(*arguments), of("map")(*arguments)), compiler_options=QUICK)
    found, whole = both(*arguments)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=EXACT, atol=EXACT)


@pytest.mark.usefixtures("blocks_of_two")
def test_who_looks_at_the_map_gets_it_whole() -> None:
    """A tape that reads or edits a site, and a plain function, which cannot say; others are told what there is."""
    inputs = inputs_of(attention.softmax)
    mask = mask_of("causal")

    def call(site):
        return attention.softmax.apply({}, inputs.q, inputs.k, inputs.v, mask=mask, site=site).out

    reads = Sites(read=("a.weights",))
    out = call(reads.at("a"))
    assert reads.finish()["a.weights"].shape == (BATCH, HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(out, reads.tape["a.weights"] @ inputs.v, rtol=1e-6, atol=1e-6)  # float32

    seen = []
    call(lambda name, value: seen.append((name, value.shape)) or value)
    assert seen == [(name, (BATCH, HEADS, LENGTH, LENGTH)) for name in ("logits", "weights")]

    other = Sites(read=("a.nothing",))
    np.testing.assert_allclose(call(other.at("a")), out, rtol=1e-5, atol=1e-6)  # float32: sums in another order
    with pytest.raises(KeyError, match=r"Known: a\.logits, a\.weights"):
        other.finish()


@pytest.mark.usefixtures("blocks_of_two")
def test_a_mechanism_of_ones_own_gets_all_rows() -> None:
    """Its map may normalise columns, for all we know."""
    heights = []

    def weights(params, q, k, *, mask):
        heights.append(q.shape[-2])
        return jnp.where(mask, 1.0, 0.0) / q.shape[-2]

    inputs = inputs_of(attention.softmax)
    attention.from_weights(None, weights).apply({}, inputs.q, inputs.k, inputs.v)
    assert heights == [LENGTH]


def test_the_map_is_never_whole_in_memory() -> None:
    """Forward and backward at T = 2048 in less than one map, a quarter of it the mask; whole maps would be three."""
    num = 2048

    def loss(q, k, v):
        return jnp.sum(attention.softmax.apply({}, q, k, v, mask=attention.causal_mask(num)).out ** 2)

    shape = jax.ShapeDtypeStruct((1, 1, num, 16), jnp.float32)
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2)), compiler_options=QUICK).lower(shape, shape, shape).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 4 * num**2


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 5000), st.integers(1, 5000))
def test_blocks_have_a_fitting_size(lead, num, num_keys) -> None:
    size = rows.rows_at_once((lead, num, 16), num_keys)
    if lead * num * num_keys <= rows.WHOLE:
        assert size is None
    elif size is None:
        assert num < 2 * max(rows.FEWEST, rows.BLOCK // (lead * num_keys)), "less than two blocks"
    else:
        assert size & (size - 1) == 0
        assert size * lead * num_keys <= rows.BLOCK or size == rows.FEWEST
        assert rows.FEWEST <= size <= num // 2
