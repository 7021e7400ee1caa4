"""What a Pallas kernel is made for: a TPU (Mosaic), a GPU (Triton); or interpreted, on any machine.

The two differ in what a grid is. A TPU walks through it in order, so that a state can stay on the chip from one step to
the next; a GPU begins all its steps at once, and whatever has an order is a loop inside the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax

from attnlab.config import require

Target = Literal["tpu", "gpu"]


@dataclass(frozen=True)
class Pallas:
    """How kernels are built.

    Attributes:
      target: the form for a `tpu` or a `gpu`; None = that of the platform the program is lowered for, which must be one
        of the two (there is no other form behind it), or that of a TPU if interpreted.
      interpret: run the kernel's operations one by one by XLA, on any platform: to test it, much slower.
    """

    target: Target | None = None
    interpret: bool = False

    def __post_init__(self):
        require(self.target in (None, "tpu", "gpu"), "Pallas.target", self.target, "tpu | gpu | None")

    def run(self, form: Callable[[Target], Callable[..., Any]], *args: Any) -> Any:
        """`form(target)(*args)`."""
        if self.target is not None or self.interpret:
            return form(self.target or "tpu")(*args)
        return jax.lax.platform_dependent(*args, tpu=form("tpu"), cuda=form("gpu"), rocm=form("gpu"))


PALLAS = Pallas()
INTERPRETED = Pallas(interpret=True)


def compiler_params(target: Target, *semantics: Literal["parallel", "arbitrary"], num_warps: int = 4) -> Any:
    """Of `pallas_call`: which axes of a TPU's grid have an order (`arbitrary`); on a GPU Triton, with so many warps."""
    if target == "tpu":
        from jax.experimental.pallas import tpu

        return tpu.CompilerParams(dimension_semantics=semantics)
    from jax.experimental.pallas import triton

    return triton.CompilerParams(num_warps=num_warps)


def power_of_two(width: int) -> int:
    """The least power of 2 that is at least `width` and at least 16: Triton has no blocks of other sizes."""
    return max(16, 1 << (width - 1).bit_length())
