"""Chips by name: what one of them does at most, from the makers' data sheets. Loads no jax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
      name: what the command line calls it.
      platform: what programs are lowered for.
      flops: operations per second of matrix products in bfloat16 with sums in float32, dense. By default JAX multiplies
        float32 matrices on a TPU in this way too; on a GPU float32 takes longer (TF32: half of this).
      bandwidth: bytes per second of its memory.
      topology: the smallest slice, as libtpu calls it; None where nothing can be compiled without the chip.
      device: what the driver of a GPU calls it, and its number of multiprocessors: kernels are lowered for these.
    """

    name: str
    platform: Literal["tpu", "cuda"]
    flops: float
    bandwidth: float
    topology: str | None = None
    device: tuple[str, int] | None = None

    def seconds(self, flops: float, moved: float) -> float:
        """The roofline: what so many operations and bytes take at least, `max(flops / peak, bytes / bandwidth)`."""
        return max(flops / self.flops, moved / self.bandwidth)


CHIPS = (
    Chip("v4", "tpu", 275e12, 1228e9, "v4:2x2x1"),
    Chip("v5e", "tpu", 197e12, 819e9, "v5e:2x2"),
    Chip("v5p", "tpu", 459e12, 2765e9, "v5p:2x2x1"),
    Chip("v6e", "tpu", 918e12, 1640e9, "v6e:2x2"),
    Chip("a100", "cuda", 312e12, 2039e9, device=("NVIDIA A100-SXM4-80GB", 108)),
    Chip("h100", "cuda", 989e12, 3350e9, device=("NVIDIA H100 80GB HBM3", 132)),
)
"""Cloud TPU and NVIDIA A100, H100 SXM (80 GB)."""


def chip(name: str) -> Chip:
    """The chip of that name.

    Raises:
      ConfigError: there is none.
    """
    from attnlab.config import require

    known = {c.name: c for c in CHIPS}
    require(name in known, "chip", name, " | ".join(known))
    return known[name]
