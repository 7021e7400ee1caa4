"""What a program costs on a chip: operations, bytes, memory, and the time that the roofline allows.

Compiled for a TPU (`pip install libtpu`; no chip is needed) the bytes are those of the fused program and the memory is
what the compiler reserves; a program that does not fit is refused. Lowered only, operations are counted of the program
as written, and so are bytes, as if nothing were fused: an upper bound, by far.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import jax
import numpy as np

from attnlab.accelerators.chips import Chip
from attnlab.accelerators.programs import Program

_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
}
"""What libtpu asks the machine for where there is none."""


@dataclass(frozen=True)
class Price:
    """Of one program on one chip.

    Attributes:
      state: `compiled` for it; `lowered` to its instructions and no more; `refused` by its compiler, see `why`.
      flops, moved: operations, bytes to and from memory. memory: bytes at the peak, NaN if only lowered.
      seconds: the least that the roofline allows; of what is only lowered by its operations alone.
    """

    program: str
    chip: str
    state: Literal["compiled", "lowered", "refused"]
    flops: float = float("nan")
    moved: float = float("nan")
    memory: float = float("nan")
    seconds: float = float("nan")
    why: str = ""

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.moved if self.moved else float("nan")

    def to_json(self) -> dict[str, Any]:
        """All fields; None for what is not known."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    def row(self) -> dict[str, str]:
        """What a table shows."""
        return {
            "program": self.program,
            "chip": self.chip,
            "state": self.state,
            "GFLOP": f"{self.flops / 1e9:.4g}",
            "MB moved": f"{self.moved / 1e6:.4g}",
            "MB at the peak": f"{self.memory / 1e6:.4g}" if self.memory == self.memory else "",
            "FLOP/byte": f"{self.intensity:.3g}",
            "roofline, µs": f"{self.seconds * 1e6:.4g}",
        }


def price(program: Program, chip: Chip, compiled: bool | None = None) -> Price:
    """Lower `program` for `chip`, and compile it if that can be done here.

    Args:
      compiled: False lowers only; None compiles where libtpu is installed and the chip is a TPU.
    """
    can = chip.topology is not None and find_spec("libtpu") is not None
    if not (can if compiled is None else compiled):
        return _lowered(program, chip)
    device = _topology(chip.topology or "").devices[0]
    here = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), program.shapes)
    try:
        made = jax.jit(program.function).lower(*shapes).compile()
    except Exception as error:  # the compilers' own errors share no class
        return Price(program.name, chip.name, "refused", why=str(error).strip().split("\n")[0][:200])
    counts, memory = _counts(made.cost_analysis()), made.memory_analysis()
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    held -= memory.alias_size_in_bytes
    seconds = chip.seconds(*counts)
    return Price(program.name, chip.name, "compiled", *counts, float(held), seconds)


def _lowered(program: Program, chip: Chip) -> Price:
    traced = jax.jit(program.function).trace(*program.shapes)
    traced.lower(lowering_platforms=(chip.platform,))
    flops, moved = _counts(traced.lower().cost_analysis())
    return Price(program.name, chip.name, "lowered", flops, moved, seconds=flops / chip.flops)


def _counts(found: Any) -> tuple[float, float]:
    """Operations and bytes."""
    found = found or {}
    return float(found.get("flops", np.nan)), float(found.get("bytes accessed", np.nan))


@cache
def _topology(name: str) -> Any:
    """The devices of a slice that is not there."""
    from jax.experimental import topologies

    for key, value in _TPU.items():
        os.environ.setdefault(key, value)
    return topologies.get_topology_desc(platform="tpu", topology_name=name)
