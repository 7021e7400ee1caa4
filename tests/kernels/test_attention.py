"""The blockwise attention kernel, interpreted: its definition in value and gradient, and the same bits every time."""

from __future__ import annotations

import pytest
from attention_cases import CASES, arguments, by_definition, by_kernel
from kernel_checks import holds_to_reference, is_the_same_every_time, is_the_same_without_jit

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
        gradient_bound=max(2e-6, 4e-7 * case.amplified),  # without it 4e-7 is what is seen
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
