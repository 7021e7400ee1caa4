"""The blockwise attention kernel, interpreted: its definition in value and gradient, and the same bits every time."""

from __future__ import annotations

import numpy as np
import pytest
from attention_cases import BLOCKS, CASES, arguments, by_definition, by_kernel
from kernel_checks import (
    holds_to_reference,
    is_the_same_every_time,
    is_the_same_without_jit,
    maps_over_seeds,
    reads_nothing_hidden,
)

WRT = (0, 1, 2, 3)
# Exponentials of logits to 4, rounded to 6e-8 each, in sums of 46, twice on the way back.
REASON = "rounding of 6e-8 in logits and sums"


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_definition(name) -> None:
    case = CASES[name]
    wrt = WRT if case.extra else WRT[:3]
    found = holds_to_reference(
        by_kernel(case, "interpret"),
        by_definition(case),
        arguments(case),
        bound=2e-6,
        reason=REASON,
        grad_argnums=wrt,
    )
    if name == "everything":
        for x in (found.out, found.gradients[0], found.gradients[3]["gate"]):
            assert (x[0, 1, 3] == 0).all() and (x[1, :, 0] == 0).all(), "rows that see nothing are zeros"


def test_the_same_bits_every_time() -> None:
    case = CASES["everything"]
    is_the_same_every_time(by_kernel(case, "interpret"), arguments(case), grad_argnums=WRT)


def test_operation_by_operation_as_in_one_program() -> None:
    """To rounding: outside the kernels, operations that are fused round once less."""
    case = CASES["softmax"]
    kernel = by_kernel(case, "interpret")
    is_the_same_without_jit(kernel, arguments(case), bound=1e-6, reason=REASON, grad_argnums=WRT[:3])


def test_seeds_may_be_mapped() -> None:
    case = CASES["softpick"]
    draws = [arguments(case, seed) for seed in (0, 1)]
    maps_over_seeds(by_kernel(case, "interpret"), draws, bound=1e-6, reason=REASON, grad_argnums=WRT)


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
    import jax.numpy as jnp

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
