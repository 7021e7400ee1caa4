"""Blockwise attention: what it must not look at, limits of its maps, and numbers of any size."""

from __future__ import annotations

from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_cases import BLOCKS, CASES, Case, arguments, by_definition, by_kernel
from kernel_checks import holds_to_reference, maps_over_seeds, measured, reads_nothing_hidden

from attnlab.kernels import Blocks, attention, row_maps

WRT = (0, 1, 2, 3)
REASON = "rounding of 6e-8 in logits and sums"


def test_seeds_may_be_mapped() -> None:
    case = CASES["softpick"]
    draws = [arguments(case, seed) for seed in (0, 1)]
    reason = "products of several matrices are summed in another order; twice what one may be off its definition"
    bound = 2 * 4e-7 * case.amplified
    maps_over_seeds(by_kernel(case, "interpret"), draws, bound=bound, reason=reason, grad_argnums=WRT)


def test_hidden_keys_and_values_are_not_read() -> None:
    """Padding, what lies ahead of a query with fewer queries than keys, and keys of other segments."""
    case = CASES["sigmoid"]
    q, k, v, extra, fixed = arguments(case)
    other_k, other_v = k.copy(), v.copy()
    other_k[0, :, -3:], other_v[0, :, -3:] = 1e4, -1e30
    changed = (q, other_k, other_v, extra, fixed)
    reads_nothing_hidden(by_kernel(case, "interpret"), (q, k, v, extra, fixed), changed, grad_argnums=WRT[:3])


def test_blocks_do_not_matter() -> None:
    """One block for all, and blocks as long as the rows of one position."""
    case = CASES["lssa"]
    args, expected = arguments(case), by_definition(case)
    assert (BLOCKS.q, BLOCKS.k) == (8, 4)
    for size in (2, 64):
        kernel = by_kernel(case, "interpret", type(BLOCKS)(size, size))
        holds_to_reference(kernel, expected, args, bound=2e-6, reason=REASON, grad_argnums=WRT[:3])


def test_bfloat16_is_summed_in_float32() -> None:
    """Weights and what comes of them are rounded to 2^-9 once before each product, and results once."""
    case = CASES["softmax"]
    found = holds_to_reference(
        by_kernel(case, "interpret"),
        by_definition(case),
        arguments(case),
        bound=3 * 2**-9,
        gradient_bound=5 * 2**-9,
        reason="2^-9 for each rounding to bfloat16",
        grad_argnums=WRT[:3],
        dtype=jnp.bfloat16,
    )
    assert {str(x.dtype) for x in (found.out, *found.gradients)} == {"bfloat16"}
    assert np.isfinite(np.asarray(found.out, np.float32)).all()


def run(q, k, v, **options):
    return attention(q, k, v, implementation="interpret", blocks=BLOCKS, **options)


def draw(seed: int = 0, length: int = 20):
    rng = np.random.default_rng(seed)
    return (jnp.asarray(rng.normal(size=(2, length, 4)), jnp.float32) for _ in range(3))


def test_sinks_and_gates_in_their_limits() -> None:
    """A sink far below changes nothing, one far above takes all; a sink is a gate `sigmoid(log sum exp(l) - b)`."""
    q, k, v = draw()
    plain = run(q, k, v)
    assert np.asarray(run(q, k, v, sink=-200.0)).tobytes() == np.asarray(plain).tobytes()
    assert np.abs(run(q, k, v, sink=200.0)).max() == 0
    logits = np.where(np.tri(20, dtype=bool), 0.5 * np.asarray(q @ jnp.swapaxes(k, 1, 2)), -np.inf)
    gate = np.log(np.exp(logits).sum(-1))[..., None] - 0.3
    expected = np.asarray(plain) / (1 + np.exp(-gate))
    np.testing.assert_allclose(run(q, k, v, sink=0.3), expected, rtol=0, atol=2e-6)  # sums of 20, to 6e-8
    by_gate = run(q, k, v, gate=jnp.broadcast_to(jnp.asarray(gate, jnp.float32), v.shape))
    np.testing.assert_allclose(by_gate, expected, rtol=0, atol=2e-6)


def test_sigmoid_of_zero_logits_sums_to_its_share() -> None:
    """`n_t / (1 + n)` with `bias = -log n`."""
    q, k, v = draw()
    out = run(0 * q, k, jnp.ones_like(v), map=row_maps.sigmoid(-log(20)))
    np.testing.assert_allclose(out[0, :, 0], np.arange(1, 21) / 21, rtol=0, atol=2e-6)


def test_rows_of_normalised_maps_sum_to_one() -> None:
    q, k, v = draw()
    for name in ("softmax", "lssa", "one's own"):
        np.testing.assert_allclose(run(q, k, jnp.ones_like(v), map=CASES[name].map), 1, rtol=0, atol=1e-6)
    assert (run(0 * q, k, v, map=row_maps.SOFTPICK) == 0).all(), "no logit is above 0"


@pytest.mark.parametrize("name", ["softmax", "lssa", "softpick", "sigmoid, normalised"])
def test_logits_of_any_size(name) -> None:
    """`exp` of logits of some hundred leaves float32; the largest takes all there, and gradients stay finite."""
    q, k, v = draw(1)
    q = 300 * q

    def total(q, k, v):
        out = run(q, k, v, map=CASES[name].map)
        return jnp.sum(out), out

    (_, out), gradients = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(q, k, v)
    whole = attention(q, k, v, map=CASES[name].map, implementation="map")
    np.testing.assert_allclose(out, whole, rtol=0, atol=1e-3)  # logits of 1e3 are rounded to 6e-5, a few times
    assert all(np.isfinite(x).all() for x in (out, *gradients))


def test_what_sigmoid_by_tanh_costs() -> None:
    """With `bias = -log n`, in float32: a weight of `1 / n` is right to `6e-8 n` of itself, the other form to 6e-8.

    The worst row is an early one, a few such weights; 512 times 6e-8 is 3e-5.
    """
    length = 512
    rng = np.random.default_rng(0)
    args = (*(rng.normal(size=(1, length, 8)) for _ in range(3)), {}, {})
    off = {}
    for by_tanh in (False, True):
        case = Case(row_maps.sigmoid(-log(length), by_tanh), lambda x: jax.nn.sigmoid(x - log(length)))
        kernel = by_kernel(case, "scan", Blocks(128, 128))
        found, expected = (
            np.asarray(measured(kernel, args, dtype=kind, grad_argnums=(0,)).out) for kind in (np.float32, np.float64)
        )
        off[by_tanh] = np.max(np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1))
    assert off[False] < 2e-6, "sums of 512, each to 6e-8"
    assert 5e-6 < off[True] < 1e-4
