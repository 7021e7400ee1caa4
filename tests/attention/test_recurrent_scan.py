"""The recurrence and its chunked twin against dense transitions; decays that underflow; the inverse inside a chunk."""

from __future__ import annotations

import re
from functools import partial
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrent_cases import QUICK, inputs_of, parallel

from attnlab import attention
from attnlab.attention.mesa import inverse_of_positive, solve_positive
from attnlab.attention.recurrent_catalogue import SCANS
from attnlab.attention.scan import Steps, chunked_core, inverse_of_unit_lower, scan_core

HEADS, LENGTH, KEYS, VALUES = 2, 9, 3, 2
EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64, sums of 30 terms of size up to 10


def steps_of(
    decay: str, erase: bool, early: bool, skip: bool, size: float = 1.0
) -> tuple[Steps, np.ndarray, np.ndarray]:
    """Steps, values and a state to begin with, at random; `decay` is none, head or channel."""
    rng = np.random.default_rng(0)

    def vectors():
        return rng.normal(size=(HEADS, LENGTH, KEYS))

    shape = {"none": None, "head": (HEADS, LENGTH), "channel": (HEADS, LENGTH, KEYS)}[decay]
    logs = None if shape is None else -size * rng.exponential(size=shape)
    a, b = (0.5 * vectors(), 0.5 * vectors()) if erase else (None, None)
    extra = rng.normal(size=(HEADS, LENGTH)) if skip else None
    steps = Steps(vectors(), vectors(), logs, a, b, extra, early=early)
    return steps, rng.normal(size=(HEADS, LENGTH, VALUES)), rng.normal(size=(HEADS, KEYS, VALUES))


def dense(steps: Steps, v: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`S <- M S + k v^T` with the transition written out."""
    out, state = np.zeros_like(v), state.copy()
    for h, t in np.ndindex(HEADS, LENGTH):
        logs = 0.0 if steps.log_decay is None else steps.log_decay[h, t]
        transition = np.diag(np.exp(np.broadcast_to(logs, KEYS)))
        if steps.a is not None and steps.b is not None:
            transition = transition + np.outer(steps.b[h, t], steps.a[h, t])
        before = state[h].copy()
        state[h] = transition @ before + np.outer(steps.k[h, t], v[h, t])
        out[h, t] = steps.q[h, t] @ (before if steps.early else state[h])
        if steps.skip is not None:
            out[h, t] += steps.skip[h, t] * v[h, t]
    return out, state


KINDS = [(decay, erase) for decay in ("none", "head", "channel") for erase in (False, True)]


@pytest.mark.parametrize(("decay", "erase"), KINDS)
@pytest.mark.usefixtures("x64")
def test_scan_and_chunks_are_the_dense_recurrence(decay, erase) -> None:
    early = skip = erase
    case = steps_of(decay, erase, early, skip)
    out, last = dense(*case)
    for core in (scan_core, partial(chunked_core, chunk=4)):
        found, state = jax.jit(core, compiler_options=QUICK)(*case)
        np.testing.assert_allclose(found, out, **EXACT)
        np.testing.assert_allclose(state, last, **EXACT)


@pytest.mark.parametrize("chunk", [1, 2, 3, 9, 50])
@pytest.mark.usefixtures("x64")
def test_any_chunk_size(chunk) -> None:
    """Divisors of the length 9, others, and more than there are tokens."""
    case = steps_of("channel", True, True, True)
    found, state = jax.jit(partial(chunked_core, chunk=chunk), compiler_options=QUICK)(*case)
    out, last = dense(*case)
    np.testing.assert_allclose(found, out, **EXACT)
    np.testing.assert_allclose(state, last, **EXACT)


@pytest.mark.parametrize("decay", ["head", "channel"])
def test_decays_that_underflow_are_zero_and_leave_the_others_exact(decay) -> None:
    """Logarithms of -1e4 in float32 beside some of -0.1, in one chunk.

    A difference of prefix sums of that size would round at 1e-3; the error stays that of float32.
    """
    steps, v, state = steps_of(decay, True, False, False, size=0.1)
    steps.log_decay[:, [1, 4, 5]] = -1e4
    out, last = dense(steps, v, state)

    def summed(steps, v, state):
        out, last = chunked_core(steps, v, state, 8)
        return jnp.sum(out**2) + jnp.sum(last**2), (out, last)

    single = jax.tree.map(np.float32, (steps, v, state))
    program = jax.jit(jax.value_and_grad(summed, argnums=(0, 1, 2), has_aux=True), compiler_options=QUICK)
    (_, found), gradient = program(*single)
    for got, want in zip(found, (out, last), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=3e-6)  # 6e-8 of numbers up to 10, a few of them
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert (gradient[2] != 0).any()
    assert (np.asarray(gradient[0].log_decay)[:, [1, 4, 5]] == 0).all(), "no gradient through a weight of 0"


def test_states_may_be_shared_by_channels() -> None:
    """Axes of 1 in the steps: one read for three channels with decays of their own."""
    rng = np.random.default_rng(0)
    q, k = (rng.normal(size=(HEADS, 1, LENGTH, KEYS)).astype(np.float32) for _ in range(2))
    logs = -rng.exponential(size=(HEADS, 3, LENGTH, KEYS)).astype(np.float32)
    v = rng.normal(size=(HEADS, 3, LENGTH, 1)).astype(np.float32)
    zero = np.zeros((HEADS, 3, KEYS, 1), np.float32)
    whole = [np.broadcast_to(a, logs.shape) for a in (q, k)]
    shared = jax.jit(partial(chunked_core, chunk=4), compiler_options=QUICK)(Steps(q, k, logs), v, zero)
    apart = jax.jit(scan_core, compiler_options=QUICK)(Steps(*whole, logs), v, zero)
    for one, two in zip(shared, apart, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)  # float32, sums of 30 terms up to 10


def nilpotent(lower: np.ndarray) -> np.ndarray:
    """`(I - L)^-1 = (I + L)(I + L^2)(I + L^4) ...`, in the precision of `lower`."""
    power, size = lower, 2
    inverse = np.eye(len(lower), dtype=lower.dtype) + lower
    while size < len(lower):
        power = power @ power
        inverse, size = inverse + inverse @ power, 2 * size
    return inverse


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_inverse_of_unit_lower_triangular(size) -> None:
    """Against LAPACK in float64; entries below 10, each a sum of 32 terms in float32."""
    lower = np.tril(np.random.default_rng(0).normal(size=(3, size, size)) / 3, -1)
    expected = np.linalg.inv(np.eye(size) - lower)
    found = inverse_of_unit_lower(jnp.asarray(lower, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_equal_keys_do_not_spoil_a_chunk(beta) -> None:
    """Keys that are all the same, 32 tokens, float32: all entries of `L` are `-β`, those of the inverse at most 2.

    The product of powers of `L` is off by 8 at `β = 1` and by 3e5 at `β = 2`; by blocks everything is a small integer.
    """
    lower = (-beta * np.tril(np.ones((32, 32)), -1)).astype(np.float32)
    expected = np.linalg.inv(np.eye(32) - lower.astype(np.float64))
    assert np.abs(expected).max() <= 2 + 1e-9
    np.testing.assert_allclose(inverse_of_unit_lower(jnp.asarray(lower)), expected, rtol=0, atol=1e-6)
    assert np.abs(nilpotent(lower) - expected).max() > 1


@pytest.mark.usefixtures("x64")
def test_inverse_and_solution_of_positive_matrices_with_their_derivatives() -> None:
    """`d(M^-1 r) = M^-1 (dr - dM M^-1 r)`; condition number below 100, so 1e-16 becomes 1e-14."""
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(3, 4, 4))
    m, r = roots @ roots.swapaxes(-1, -2) + np.eye(4), rng.normal(size=(3, 4))
    dm, dr = rng.normal(size=m.shape), rng.normal(size=r.shape)
    dm = dm + dm.swapaxes(-1, -2)
    np.testing.assert_allclose(inverse_of_positive(jnp.asarray(m)), np.linalg.inv(m), rtol=0, atol=1e-13)
    y = np.linalg.solve(m, r[..., None])[..., 0]
    slope = np.linalg.solve(m, (dr - np.einsum("bij,bj->bi", dm, y))[..., None])[..., 0]
    arrays = tuple(map(jnp.asarray, (m, r)))
    found, moved = jax.jvp(solve_positive, arrays, tuple(map(jnp.asarray, (dm, dr))))
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(moved, slope, rtol=0, atol=1e-12)
    weight = rng.normal(size=y.shape)
    pulled = jax.grad(lambda m, r: jnp.sum(weight * solve_positive(m, r)), argnums=(0, 1))(*arrays)
    assert np.sum(pulled[0] * dm) + np.sum(pulled[1] * dr) == pytest.approx(np.sum(weight * slope), rel=1e-11)


@pytest.mark.usefixtures("x64")
def test_mesa_reads_the_same_in_blocks(monkeypatch) -> None:
    """Two positions at a time, with one that fills the last block, in value and gradient; the same sums and solves."""
    module = import_module("attnlab.attention.mesa")  # the package has a mechanism of that name
    mechanism = attention.mesa
    inputs = inputs_of(mechanism)
    weight = np.random.default_rng(7).normal(size=inputs.v.shape)

    def summed(inputs):
        out = parallel(mechanism, *inputs)
        return jnp.sum(weight * out), out

    results = []
    for whole in (module.WHOLE, 1):
        monkeypatch.setattr(module, "WHOLE", whole)
        monkeypatch.setattr(module, "BLOCK", 2 * inputs.k[..., 0, :].size * inputs.k.shape[-1])
        results.append(jax.jit(jax.value_and_grad(lambda i: summed(i), has_aux=True), compiler_options=QUICK)(inputs))
    for whole, blocks in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(blocks, whole, rtol=0, atol=1e-11)  # float64, ridges of 0.25 under moments of 10


def test_nothing_calls_a_solver_of_the_machine() -> None:
    """A batched triangular solve hangs on a CPU with one thread; everything here is products."""
    for mechanism in {type(m.rule): m for m in SCANS}.values():
        inputs = inputs_of(mechanism, np.float32)
        text = str(jax.make_jaxpr(lambda i, m=mechanism: jax.grad(lambda j: parallel(m, *j).sum())(i))(inputs))
        called = set(re.findall(r"= (\w+)\b", text))
        assert "dot_general" in called
        assert not called & {"triangular_solve", "cholesky", "lu", "eigh", "qr", "custom_call"}, mechanism.name
