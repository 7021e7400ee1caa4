"""Conjugate gradients: the solution, the steps they take, and that they stop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.kernels.conjugate_gradient import conjugate_gradient

pytestmark = pytest.mark.usefixtures("x64")

WIDTH = 6


@pytest.fixture
def systems():
    """Rows with 1 to 6 different eigenvalues, then one whose right-hand side is 0; conditions up to 100."""
    rng = np.random.default_rng(0)
    values = [np.linspace(1, 100, n)[np.arange(WIDTH) % n] for n in (1, 2, 3, 4, 5, 6, 6)]
    bases = [np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0] for _ in values]
    matrices = np.stack([u @ np.diag(v) @ u.T for u, v in zip(bases, values, strict=True)])
    b = rng.normal(size=(len(values), WIDTH))
    b[-1] = 0
    return matrices, b


def solve(matrices, b, tol=1e-12, max_iters=50):
    """The solution, and how often the matrices were multiplied with."""
    calls = []

    def times(y):
        jax.debug.callback(lambda: calls.append(0))
        return jnp.einsum("tij,tj->ti", matrices, y)

    solved = conjugate_gradient(times, jnp.asarray(b), jnp.asarray(tol), jnp.asarray(max_iters))
    jax.effects_barrier()
    return solved, len(calls)


def test_a_row_takes_as_many_steps_as_it_has_eigenvalues(systems) -> None:
    """In exact arithmetic; the loop ends with the last row, not at `max_iters`."""
    matrices, b = systems
    solved, calls = solve(matrices, b)
    np.testing.assert_allclose(solved.x, np.linalg.solve(matrices, b[..., None])[..., 0], rtol=0, atol=1e-12)
    assert solved.iterations.tolist() == [1, 2, 3, 4, 5, 6, 0]
    assert calls == 6


def test_rows_rest_at_the_tolerance_or_at_the_most_steps(systems) -> None:
    matrices, b = systems
    for tol, most in ((1e-3, 50), (0.0, 2)):
        solved, calls = solve(matrices, b, tol, most)
        left = np.linalg.norm(b - np.einsum("tij,tj->ti", matrices, solved.x), axis=-1)
        size = np.linalg.norm(b, axis=-1)
        np.testing.assert_allclose(solved.residual[:-1], (left / np.where(size, size, 1))[:-1], rtol=1e-9, atol=1e-14)
        if most == 50:
            assert (left <= tol * size).all() and calls == max(solved.iterations)
        else:
            assert calls == 2 and max(solved.iterations) == 2
    assert (np.asarray(solved.x[-1]) == 0).all()


def test_a_row_that_is_not_finite_does_not_hold_up_the_others(systems) -> None:
    matrices, b = systems
    matrices[2, 0, 0] = np.nan
    solved, calls = solve(matrices, b)
    assert calls == 6 and np.isfinite(np.delete(solved.x, 2, axis=0)).all()
