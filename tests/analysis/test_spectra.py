"""Spectra and subspaces: matrices made to have known answers, bounds, invariances, factored against dense."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlab.analysis import (
    best_multiple,
    commutator,
    entropy_rank,
    principal_cosines,
    relative_distance,
    singular_values,
    stable_rank,
    subspace_overlap,
    symmetric_share,
)
from attnlab.config import ConfigError
from attnlab.models import Factored

M = 6
# Float32: products of 6 terms of size 1 and an SVD, whose zeros are 1e-7 and enter an entropy.
CLOSE: Any = {"rtol": 1e-3, "atol": 1e-5}


def turn(rng):
    return np.linalg.qr(rng.normal(size=(M, M)))[0]


def spectral(matrix, other):
    """What a factored product can be asked as well."""
    return {
        "values": singular_values(matrix),
        "entropy_rank": entropy_rank(matrix),
        "stable_rank": stable_rank(matrix),
        "symmetric_share": symmetric_share(matrix),
        "cosines": principal_cosines(matrix, other),
        "overlap": subspace_overlap(matrix, other),
    }


@jax.jit
def _every(matrix, other):
    factor, rest = best_multiple(matrix)
    return spectral(matrix, other) | {
        "commutator": commutator(matrix, other),
        "distance": relative_distance(matrix, other),
        "factor": factor,
        "rest": rest,
        "multiple": best_multiple(matrix, other),
    }


def every(matrix, other=None):
    """All measures of a square matrix, or of one and another: compiled once."""
    other = np.eye(M) if other is None else other
    return jax.device_get(_every(np.float32(matrix), np.float32(other)))


def planted(rng, *values):
    """A matrix with these singular values."""
    return turn(rng)[:, : len(values)] * np.array(values) @ turn(rng)[:, : len(values)].T


@pytest.mark.parametrize("k", [1, 3, 6])
def test_equal_singular_values_count(rng, k):
    found = every(planted(rng, *[2.5] * k))
    np.testing.assert_allclose([found["entropy_rank"], found["stable_rank"]], k, **CLOSE)
    np.testing.assert_allclose(found["values"], [2.5] * k + [0] * (M - k), **CLOSE)


def test_uneven_singular_values(rng):
    """A small one hardly counts for the stable rank."""
    found = every(planted(rng, 4.0, 2.0, 2.0))
    np.testing.assert_allclose(found["stable_rank"], 1.5, **CLOSE)
    np.testing.assert_allclose(found["entropy_rank"], np.exp(1.5 * np.log(2)), **CLOSE)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16))
def test_what_does_not_see_scale_or_rotation(seed):
    rng = np.random.default_rng(seed)
    matrix, other, a, b = rng.normal(size=(M, M)), rng.normal(size=(M, M)), turn(rng), turn(rng)
    plain, both_sides = every(matrix, other), every(1e3 * a @ matrix @ b, a @ other @ b)
    for name in ("entropy_rank", "stable_rank", "overlap"):
        np.testing.assert_allclose(both_sides[name], plain[name], **CLOSE, err_msg=name)
    assert 1 <= plain["stable_rank"] <= plain["entropy_rank"] <= M
    alike = every(1e3 * a @ matrix @ a.T, a @ other @ a.T)
    for name in ("commutator", "symmetric_share", "rest"):
        np.testing.assert_allclose(alike[name], plain[name], **CLOSE, err_msg=name)
    assert 0 < plain["commutator"] <= 1


def test_angles_of_planted_planes(rng):
    """Two planes of which one direction is common and the others are `theta` apart; bases do not matter."""
    theta, basis = 0.3, turn(rng)
    first = basis[:, :2] @ rng.normal(size=(2, M))
    second = np.stack([basis[:, 0], np.cos(theta) * basis[:, 1] + np.sin(theta) * basis[:, 2]], axis=1)
    second = second @ rng.normal(size=(2, M))
    line, away = (basis[:, [i]] @ rng.normal(size=(1, M)) for i in (0, 3))
    found = every(first, second)
    np.testing.assert_allclose(found["cosines"], [1, np.cos(theta), 0, 0, 0, 0], rtol=1e-3, atol=1e-4)
    expected = {(0, 1): (1 + np.cos(theta) ** 2) / 2, (0, 0): 1, (0, 2): 1, (2, 1): 1, (3, 0): 0, (4, 0): 0, (4, 4): 0}
    spaces = [first, second, line, away, 0 * line]
    for (i, j), overlap in expected.items():
        np.testing.assert_allclose(every(spaces[i], spaces[j])["overlap"], overlap, **CLOSE, err_msg=f"{i}, {j}")


def test_commutator(rng):
    """0 for what commutes, 1 for the pair that makes the bound of Böttcher and Wenzel sharp."""
    matrix, x, z = rng.normal(size=(M, M)), np.zeros((M, M)), np.zeros((M, M))
    x[0, 1] = x[1, 0] = z[0, 0] = 1
    z[1, 1] = -1
    np.testing.assert_allclose(every(matrix, matrix @ matrix)["commutator"], 0, atol=1e-6)
    np.testing.assert_allclose(every(x, z)["commutator"], 1, **CLOSE)
    assert every(0 * x, z)["commutator"] == 0


def test_nearest_multiple_of_the_identity():
    """For a preconditioner `(Sigma + c I)^-1` the rest is known from its eigenvalues."""
    gaps = np.abs(np.subtract.outer(np.arange(M), np.arange(M)))
    gamma = np.linalg.inv(0.5**gaps + (M + 0.5) / 40 * np.eye(M))
    found, values = every(gamma), np.linalg.eigvalsh(gamma)
    np.testing.assert_allclose(found["factor"], values.mean(), **CLOSE)
    np.testing.assert_allclose(found["rest"], values.std() * M**0.5 / np.linalg.norm(values), **CLOSE)
    exact = every(-3 * np.eye(M))
    np.testing.assert_allclose([exact["factor"], exact["rest"]], [-3, 0], **CLOSE)
    np.testing.assert_allclose(every(2 * gamma, gamma)["multiple"], [2, 0], **CLOSE)
    shift = np.roll(np.eye(M), 1, axis=0)
    np.testing.assert_allclose([every(shift)["factor"], every(shift)["rest"]], [0, 1], **CLOSE)
    with pytest.raises(ConfigError, match="direction"):
        best_multiple(jnp.zeros((2, 3)))


def test_relative_distance(rng):
    target = rng.normal(size=(M, M))
    np.testing.assert_allclose(every(1.02 * target, target)["distance"], 0.02, **CLOSE)
    np.testing.assert_allclose(every(0 * target, target)["distance"], 1, **CLOSE)
    assert every(0 * target, 0 * target)["distance"] == 0 and np.isinf(every(target, 0 * target)["distance"])


def test_symmetric_share(rng):
    matrix = rng.normal(size=(M, M))
    share = np.linalg.norm(matrix + matrix.T) ** 2 / 4 / np.linalg.norm(matrix) ** 2
    for made, expected in ((matrix + matrix.T, 1), (matrix - matrix.T, 0), (matrix, share), (0 * matrix, 0.5)):
        np.testing.assert_allclose(every(made)["symmetric_share"], expected, **CLOSE)


def test_zero_is_not_nan():
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(every(np.zeros((M, M)))))


def test_factored_is_the_dense_product_and_leading_axes_stay(rng):
    product = Factored(*(jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, M, 2), (3, 2, M))))
    other = rng.normal(size=(3, M, M)).astype(np.float32)
    found = jax.jit(spectral)(product, other)
    for i, dense in enumerate(np.asarray(product.left) @ np.asarray(product.right)):
        for name, value in every(dense, other[i]).items():
            if name in found:
                size = found[name].shape[1:] or ()
                np.testing.assert_allclose(found[name][i], value[: size[0]] if size else value, **CLOSE, err_msg=name)


def test_products_are_not_multiplied_out():
    """No array as large as one side of the dense product."""
    product = Factored(jnp.zeros((50, 3)), jnp.zeros((3, 50)))
    jaxpr = jax.make_jaxpr(lambda f: spectral(f, f))(product)
    sizes = [np.prod(getattr(v.aval, "shape", ()), dtype=int) for eqn in jaxpr.eqns for v in eqn.outvars]
    assert max(sizes) <= 50 * 3
