"""Tiles are the whole map in value, gradient and gradient of the gradient; keys that nobody sees are left out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BATCH, BY_NAME, HEADS, LENGTH, inputs_of, mask_of
from recurrent_cases import QUICK
from test_rows import EXACT, KINDS

from attnlab import attention
from attnlab.attention import Weighted, causal_mask, tiles
from attnlab.tape import Sites


@pytest.fixture
def runs_of_two(monkeypatch) -> None:
    """7 rows make four runs, the last of one row; one sequence after the other."""
    monkeypatch.setattr(tiles, "FEWEST", 2)
    monkeypatch.setattr(tiles, "WHOLE", 1)


@pytest.mark.parametrize("name", [*KINDS, "softmax+value_gate"])
@pytest.mark.usefixtures("x64", "runs_of_two")
def test_tiles_are_the_whole(name) -> None:
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
    both = jax.jit(lambda *arguments: (of("parallel")(*arguments), of("map")(*arguments)), compiler_options=QUICK)
    assert "platform_index" in str(jax.make_jaxpr(of("parallel"))(*arguments)), "there are tiles"
    found, whole = both(*arguments)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=EXACT, atol=EXACT)


def of_softmax(view, inputs, mask):
    def total(q, k, v):
        return jnp.sum(attention.softmax.apply({}, q, k, v, mask=mask, view=view).out ** 2)

    return total, (inputs.q, inputs.k, inputs.v)


@pytest.mark.usefixtures("x64", "runs_of_two")
def test_a_lone_sequence_needs_no_loop() -> None:
    """Its axes are the heads' alone; or there is a batch axis of 1."""
    inputs, mask = inputs_of(attention.softmax, np.float64), mask_of("causal")
    for cut in (lambda x: x[0], lambda x: x[:1]):
        arrays = [cut(y) for y in (inputs.q, inputs.k, inputs.v)]
        gradients = [
            jax.grad(lambda *a, view=view: jnp.sum(attention.softmax.apply({}, *a, mask=mask, view=view).out ** 2))
            for view in ("parallel", "map")
        ]
        found, whole = (gradient(*arrays) for gradient in gradients)
        np.testing.assert_allclose(found, whole, rtol=EXACT, atol=EXACT)


@pytest.mark.usefixtures("x64", "runs_of_two")
def test_the_slope_of_the_gradient_is_that_of_the_whole() -> None:
    """Forward over reverse, as stiff solvers of the gradient flow and Hessian-vector products take it."""
    inputs, mask = inputs_of(attention.softmax, np.float64), mask_of("causal")
    slopes = []
    for view in ("parallel", "map"):
        total, arrays = of_softmax(view, inputs, mask)
        tangent = tuple(jnp.cos(x) for x in arrays)
        slope = jax.jit(lambda a, t, f=total: jax.jvp(jax.grad(f, (0, 1, 2)), a, t)[1], compiler_options=QUICK)
        slopes.append(slope(arrays, tangent))
    for got, want in zip(*slopes, strict=True):
        np.testing.assert_allclose(got, want, rtol=EXACT, atol=EXACT)


@pytest.mark.usefixtures("runs_of_two")
def test_keys_that_no_row_sees_are_left_out(monkeypatch) -> None:
    """Under a causal mask, under a window, and all of them if the mask is traced."""
    found = []

    class Noting(Weighted):
        rows_apart = True

        def mix(self, params, tokens, rows, **rest):
            found.append((tokens.q.shape[-2], tokens.k.shape[-2]))
            return super().mix(params, tokens, rows, **rest)

    inputs = inputs_of(attention.softmax)

    def tiles_with(mask):
        found.clear()
        Noting("noting").apply({}, inputs.q, inputs.k, inputs.v, mask=mask)
        return [pair for pair in found if pair[0] < LENGTH]

    assert tiles_with(causal_mask(LENGTH)) == [(2, 2), (2, 4), (2, 6), (1, 7)]
    assert tiles_with(causal_mask(LENGTH, prefix=3)) == [(2, 3), (2, 4), (2, 6), (1, 7)]
    jax.eval_shape(lambda mask: tiles_with(mask), causal_mask(LENGTH))
    assert [pair for pair in found if pair[0] < LENGTH] == [(2, 7), (2, 7), (2, 7), (1, 7)]


@pytest.mark.usefixtures("runs_of_two")
def test_only_cpus_get_tiles() -> None:
    """Elsewhere one large operation beats several small ones."""
    inputs = inputs_of(attention.softmax)
    total, arrays = of_softmax("parallel", inputs, causal_mask(LENGTH))
    trace = jax.jit(jax.grad(total)).trace(*arrays)
    texts = {name: trace.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "tpu", "cuda")}
    made = {name: [line for line in text.splitlines() if "dot_general" in line] for name, text in texts.items()}
    whole = f"-> tensor<{BATCH}x{HEADS}x{LENGTH}x{LENGTH}xf32>"
    assert not any(whole in line for line in made["cpu"]) and "stablehlo.while" in texts["cpu"]
    for name in ("tpu", "cuda"):
        assert all(f"{BATCH}x{HEADS}x{LENGTH}" in line for line in made[name]) and "stablehlo.while" not in texts[name]


@pytest.mark.usefixtures("runs_of_two")
def test_who_looks_at_the_map_gets_it_whole() -> None:
    inputs, reads = inputs_of(attention.softmax), Sites(read=("a.weights",))
    out = attention.softmax.apply({}, *inputs.arrays[1:4], mask=mask_of("causal"), site=reads.at("a")).out
    assert reads.finish()["a.weights"].shape == (BATCH, HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(out, reads.tape["a.weights"] @ inputs.v, rtol=1e-6, atol=1e-6)  # float32


def test_short_and_long_sequences_have_no_tiles() -> None:
    def of(*shape):
        return tiles.tiles_for(shape, shape[-2], causal_mask(shape[-2]))

    assert of(64, 4, 255, 16) is None and of(2, 1, 1025, 16) is None and of(4, 1, 256, 64) is None
    assert of(64, 4, 256, 16) == tiles.Tiles(True, ((0, 128, 128), (128, 256, 256)))
    assert of(1, 8, 300, 16) == tiles.Tiles(False, ((0, 128, 128), (128, 256, 256), (256, 300, 300)))
