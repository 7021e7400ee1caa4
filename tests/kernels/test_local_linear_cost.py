"""What local linear attention in blocks costs: numbers held, and steps of conjugate gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.kernels import Solver, local_linear_attention, solve_report


def compiled_bytes(num: int) -> int:
    """Bytes of a compiled forward and backward pass besides arguments and results: 2 heads, K = 16, float32."""
    shape = jax.ShapeDtypeStruct((2, num, 16), jnp.float32)

    def total(q, k, v, ridge):
        return jnp.sum(local_linear_attention(q, k, v, ridge))

    gradient = jax.jit(jax.grad(total, (0, 1, 2, 3)))
    memory = gradient.lower(shape, shape, shape, jax.ShapeDtypeStruct((2,), jnp.float32)).compile().memory_analysis()
    return memory.temp_size_in_bytes


def test_memory_grows_with_the_length_not_with_its_square() -> None:
    """Slope of log bytes over log T at most 1.1; at T = 2048, with two heads, a fifth of the map of one."""
    lengths = np.array([512, 1024, 2048])
    held = np.array([compiled_bytes(int(num)) for num in lengths], float)
    assert (np.diff(np.log(held)) / np.log(2) <= 1.1).all(), held
    assert held[-1] < 0.2 * 4 * 2048**2, held


# Steps until the output is right to 1e-3: median and worst row of 512, standard normal q, k, v of 64 dimensions.
STEPS = {10: (3, 5), 1: (7, 10), 0.3: (9, 17), 0.1: (12, 24), 0.03: (13, 36), 0.01: (14, 55)}


@pytest.mark.usefixtures("x64")
def test_conjugate_gradients_take_as_many_steps_as_the_systems_are_hard() -> None:
    """Within 30 %, another draw of the data. Hardest are rows with about as many keys as dimensions."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(1, 512, 64))) for _ in range(3))
    ridge = jnp.asarray(list(STEPS), float)
    heads = jnp.repeat(q, len(STEPS), axis=0)

    @jax.jit
    def run(tol):
        solver = Solver(tol=tol, max_iters=200)
        return local_linear_attention(heads, k, v, ridge, solver=solver), solve_report(heads, k, ridge, solver=solver)

    right, _ = run(1e-9)
    for tol, off in ((1e-3, 2.5), (1e-5, 2.5)):
        out, report = run(tol)
        error = np.linalg.norm(out - right, axis=-1) / np.linalg.norm(right, axis=-1)
        assert 0.5 * tol < error.max() < off * tol, "the error of the output is about the tolerance"
        assert float(report.residual.max()) <= tol
        if tol == 1e-3:
            for steps, (median, worst) in zip(np.asarray(report.iterations), STEPS.values(), strict=True):
                assert np.median(steps) == pytest.approx(median, rel=0.3)
                assert steps.max() == pytest.approx(worst, rel=0.3)
            assert 48 <= np.argmax(np.asarray(report.iterations)[-1]) <= 80
        # With a ridge of 10 more than 70 % of 32 sweeps are saved, also at the default tolerance.
        assert int(report.iterations[0].max()) < 0.3 * 32
