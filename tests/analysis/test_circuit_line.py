"""Lines between models in circuits: what symmetry leaves open is undone exactly; the risk along the line is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed_prompts import FixedPrompts

from attnlab.analysis import align, balanced, circuit_line, identified_part, interpolate
from attnlab.config import ConfigError
from attnlab.models import LinearAttention
from attnlab.models.regression_attention import Circuits, RegressionAttention

d, H, B = 3, 3, 64
TASK = FixedPrompts(d, noise=0.3)
MERGED = RegressionAttention(d, H, form="merged")
aligned = jax.jit(align, static_argnames="rescale")


def random_circuits(rng, *lead, heads=H):
    return Circuits(*(jnp.asarray(rng.normal(size=(*lead, heads, d + 1, k)), jnp.float32) for k in (d + 1, 1)))


def moved(circuits, order, factor):
    """The same model: other order of heads, other scale between KQ and OV (signs too), garbage where nothing reads."""
    factor = jnp.asarray(factor, jnp.float32)[:, None, None]
    kq, ov = circuits.kq[jnp.array(order)] * factor, circuits.ov[jnp.array(order)] / factor
    return Circuits(kq.at[..., d:].set(7.0), ov)


def close(found, expected, tol=1e-5):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tol, atol=tol)


@pytest.mark.parametrize("order", list(itertools.permutations(range(H))))
def test_alignment_undoes_order_and_scale(rng, order):
    circuits = random_circuits(rng)
    expected = Circuits(identified_part(circuits.kq), circuits.ov)
    close(aligned(circuits, moved(circuits, order, [3.0, 0.2, 1.0])), expected)
    close(aligned(circuits, moved(circuits, order, [1.0, 1.0, 1.0]), rescale=False), expected)


def test_scale_is_that_of_the_reference_and_the_product_stays(rng):
    """Also where the two models differ: `|KQ| / |OV|` from the reference, everything else from the other."""
    circuits, other = random_circuits(rng), random_circuits(rng)
    plain, found = aligned(circuits, other, rescale=False), aligned(circuits, other)
    norms = [np.linalg.norm(c, axis=(-1, -2)) for c in (*found, identified_part(circuits.kq), circuits.ov)]
    np.testing.assert_allclose(norms[0] / norms[1], norms[2] / norms[3], rtol=1e-4)
    products = [np.einsum("hij,hko->hijko", *(np.asarray(c) for c in pair)) for pair in (found, plain)]
    np.testing.assert_allclose(*products, rtol=1e-4, atol=1e-5)


def test_signs_are_not_a_scale():
    """A positive and a negative head have the same product of KQ and OV; the order tells them apart all the same."""
    circuits = MERGED.circuits(MERGED.construct([0.1, -0.1, 0.0], [4.0, -4.0, 0.0]))
    found = aligned(circuits, moved(circuits, (1, 2, 0), [0.5, 2.0, 5.0]))
    close(found, circuits)


def test_fewer_heads_and_heads_of_zero(rng):
    """The construction of two heads against a model of three, one a dummy: the dummy's partner is a head of 0."""
    circuits = MERGED.circuits(MERGED.construct([0.1, 0.001, -0.1], [4.0, 0.01, -4.0]))
    two = Circuits(circuits.kq[jnp.array([2, 0])], circuits.ov[jnp.array([2, 0])])
    found = aligned(circuits, two)
    close(found, [c.at[1].set(0) for c in circuits])
    nothing = jax.tree.map(jnp.zeros_like, circuits)
    close(jax.jit(balanced)(nothing), nothing)
    close(aligned(nothing, nothing), nothing)
    with pytest.raises(ConfigError, match="at most 2"):
        align(two, circuits)
    with pytest.raises(ConfigError, match="all orders"):
        align(random_circuits(rng, heads=9), circuits)


def test_balanced_heads_keep_their_product(rng):
    kq, ov = jax.jit(balanced)(circuits := random_circuits(rng, 2))
    np.testing.assert_allclose(np.linalg.norm(kq, axis=(-1, -2)), np.linalg.norm(ov, axis=(-1, -2)), rtol=1e-5)
    ours = np.einsum("shij,shko->shijko", kq, ov)
    theirs = np.einsum("shij,shko->shijko", identified_part(circuits.kq), circuits.ov)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_line_to_oneself_is_flat(rng):
    """Two seeds of the separate form, to the first one's circuits in another order: flat for it, not for the other."""
    model = RegressionAttention(d, H)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = {name: rng.normal(size=(2, *leaf.shape)).astype(np.float32) / 3 for name, leaf in shapes.items()}
    first = model.circuits(jax.tree.map(lambda leaf: leaf[0], params))
    found = circuit_line(model, params, moved(first, (2, 0, 1), [1, 1, 1]), TASK, points=5, batch_size=B)
    assert found.risk.shape == (2, 5) and found.barrier.shape == found.distance.shape == (2,)
    np.testing.assert_allclose(found.risk[0], found.risk[0, 0], rtol=1e-4)
    np.testing.assert_allclose(found.distance[0], 0, atol=1e-5)
    assert found.distance[1] > 0.1 and (np.asarray(found.barrier) >= 0).all()
    batch = TASK.sample(None, B)
    for seed in range(2):
        one = jax.tree.map(lambda leaf, i=seed: leaf[i], params)
        risk = np.mean((jax.jit(model.apply)(one, batch.inputs)[0] - batch.targets) ** 2)
        np.testing.assert_allclose(found.risk[seed, 0], risk, rtol=1e-4)


def test_risk_on_a_line_is_that_of_the_model_between():
    """From `mu` to `3 mu` with the same KQ predictions grow linearly, so the risk is a parabola: no barrier."""
    start = MERGED.construct([0.3, -0.2, 0.1], [0.5, -0.5, 0.2])
    target = Circuits(start["kq"], 3 * start["ov"])
    found = circuit_line(MERGED, start, target, TASK, points=5, rescale=False, batch_size=B)
    batch = TASK.sample(None, B)
    plain = jax.jit(MERGED.apply)(start, batch.inputs)[0]
    expected = [np.mean(((1 + 2 * t) * plain - batch.targets) ** 2) for t in np.linspace(0, 1, 5)]
    np.testing.assert_allclose(found.risk, expected, rtol=1e-4)
    np.testing.assert_allclose(found.t, np.linspace(0, 1, 5))
    assert found.barrier < 1e-6
    np.testing.assert_allclose(interpolate(start, target._asdict(), 0.25)["ov"], 1.5 * start["ov"], rtol=1e-6)


def test_bad_arguments():
    params = MERGED.construct([0.3, -0.2, 0.1], [0.5, -0.5, 0.2])
    with pytest.raises(ConfigError, match="points"):
        circuit_line(MERGED, params, MERGED.circuits(params), TASK, points=1)
    with pytest.raises(ConfigError, match="RegressionAttention"):
        circuit_line(LinearAttention(d), params, MERGED.circuits(params), TASK)  # pyright: ignore[reportArgumentType]
