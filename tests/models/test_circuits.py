"""KQ and OV: what they promise about the activations, and a factored product against the dense one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.models import Factored, Transformer

MODEL = Transformer(vocab_size=11, length=6, num_layers=2, num_heads=2, width=8)
TOKENS = np.random.default_rng(0).integers(0, 11, (2, 6))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.usefixtures("x64")
def test_circuits_say_what_attention_does(layer) -> None:
    """`logits = x_u^T KQ x_t / sqrt(K)` and `out = sum_h A x OV`; float64, sums of 8 terms of size 1."""
    params = MODEL.init(jax.random.key(0))
    site = f"blocks.{layer}.attn"
    _, tape = MODEL.apply(params, jnp.asarray(TOKENS), tape=(f"{site}.*",))
    x, out = tape[f"{site}.in"], 0.0
    for head in range(2):
        kq, ov = MODEL.kq(params, layer, head), MODEL.ov(params, layer, head)
        assert kq.shape == ov.shape == (8, 8)
        assert kq.rank_bound == ov.rank_bound == 4
        logits = np.einsum("bui,ij,btj->btu", x, kq.dense(), x) / np.sqrt(4)
        np.testing.assert_allclose(tape[f"{site}.logits"][:, head], logits, rtol=0, atol=1e-13)
        out = out + np.asarray(tape[f"{site}.weights"][:, head]) @ x @ ov.dense()
    np.testing.assert_allclose(tape[f"{site}.out"], out, rtol=0, atol=1e-13)


def test_circuits_of_stacked_seeds_and_snapshots() -> None:
    """Leading axes of the parameters (seeds, steps) pass through."""
    stacked = jax.vmap(MODEL.init)(jax.random.split(jax.random.key(0), 3))
    for circuit in (MODEL.kq, MODEL.ov):
        many = circuit(stacked, 1, 1)
        assert many.shape == (3, 8, 8)
        assert many.singular_values().shape == (3, 4)
        for i in range(3):
            one = circuit(jax.tree.map(lambda leaf, i=i: leaf[i], stacked), 1, 1)
            # float32 products of 3 terms.
            np.testing.assert_allclose(many.dense()[i], one.dense(), rtol=0, atol=1e-6)


def factored(*lead: int, rows: int = 7, columns: int = 7, rank: int = 3, seed: int = 0) -> Factored:
    rng = np.random.default_rng(seed)
    return Factored(
        jnp.asarray(rng.normal(size=(*lead, rows, rank))), jnp.asarray(rng.normal(size=(*lead, rank, columns)))
    )


def sort_complex(values) -> np.ndarray:
    values = np.asarray(values)
    return values[np.lexsort((values.imag.round(8), values.real.round(8)))]


# float64, matrices of size 7 with entries of size 1: dense SVD and eigenvalues round at 1e-14.
EXACT = 1e-11


@pytest.mark.usefixtures("x64")
def test_factored_is_the_dense_product() -> None:
    product = factored()
    dense = np.asarray(product.left) @ np.asarray(product.right)
    np.testing.assert_allclose(product.dense(), dense, atol=EXACT)
    np.testing.assert_allclose(product.T.dense(), dense.T, atol=EXACT)
    np.testing.assert_allclose(product.trace(), np.trace(dense), atol=EXACT)
    np.testing.assert_allclose(product.norm(), np.linalg.norm(dense), atol=EXACT)
    singular = np.linalg.svd(dense, compute_uv=False)
    np.testing.assert_allclose(product.singular_values(), singular[:3], atol=EXACT)
    assert (singular[3:] < EXACT).all()
    eigenvalues = np.linalg.eigvals(dense)
    largest = eigenvalues[np.argsort(-np.abs(eigenvalues))[:3]]
    np.testing.assert_allclose(sort_complex(product.eigenvalues()), sort_complex(largest), atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_conjugate_reads_between_other_vectors() -> None:
    product, rng = factored(rows=5, columns=7), np.random.default_rng(1)
    left, right = rng.normal(size=(4, 5)), rng.normal(size=(6, 7))
    read = product.conjugate(jnp.asarray(left), jnp.asarray(right))
    assert read.shape == (4, 6) and read.rank_bound == 3
    np.testing.assert_allclose(read.dense(), left @ np.asarray(product.dense()) @ right.T, atol=EXACT)


@pytest.mark.usefixtures("x64")
def test_leading_axes_and_vmap() -> None:
    many = factored(2)
    for i in range(2):
        one = Factored(many.left[i], many.right[i])
        for name in ("singular_values", "trace", "norm"):
            np.testing.assert_allclose(getattr(many, name)()[i], getattr(one, name)(), atol=EXACT)
    mapped = jax.vmap(lambda f: f.trace())(many)
    np.testing.assert_allclose(mapped, many.trace(), atol=EXACT)


def test_the_product_is_never_multiplied_out() -> None:
    """No array as large as one side of the dense product."""
    product = jax.eval_shape(lambda: factored(rows=50, columns=50))
    for method in (Factored.singular_values, Factored.eigenvalues, Factored.trace, Factored.norm):
        jaxpr = jax.make_jaxpr(method)(product)
        assert max(v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars) <= 50 * 3, method.__name__


def test_eigenvalues_need_a_square_product() -> None:
    with pytest.raises(ValueError, match=r"eigenvalues: got a product of shape \(5, 7\); allowed is a square one"):
        factored(rows=5).eigenvalues()


def test_norm_of_a_product_that_cancels_is_not_nan() -> None:
    """The squared norm is a difference of large numbers when the product is (nearly) zero."""
    left = jnp.asarray([[1.0, 1.0], [1.0, 1.0 + 1e-7]])
    product = Factored(left, jnp.asarray([[1e4, 1e4], [-1e4, -1e4]]))
    assert np.isfinite(product.norm())
