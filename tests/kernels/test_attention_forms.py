"""Attention by loops of plain JAX and by the whole map: the same definition."""

from __future__ import annotations

import numpy as np
import pytest
from attention_cases import CASES, arguments, by_definition, by_kernel
from kernel_checks import holds_to_reference

WRT = (0, 1, 2, 3)
REASON = "rounding of 6e-8 in logits and sums"


@pytest.mark.parametrize("name", ["everything", "sigmoid", "lssa", "softpick"])
def test_loops_of_plain_jax_are_the_same(name) -> None:
    """Also in float64, where nothing but the formulas is left: to 1e-13 times the sums."""
    case = CASES[name]
    holds_to_reference(
        by_kernel(case, "scan"),
        by_definition(case),
        arguments(case),
        bound=1e-13,
        reason="rounding of 1e-16 in logits and sums of 46, 24 times that for softpick",
        grad_argnums=WRT if case.extra else WRT[:3],
        dtype=np.float64,
    )


@pytest.mark.parametrize("name", CASES)
def test_the_whole_map_is_the_same(name) -> None:
    case = CASES[name]
    kernel, args = by_kernel(case, "map"), arguments(case)
    holds_to_reference(kernel, by_definition(case), args, bound=2e-6, reason=REASON, grad_argnums=WRT[:3])
