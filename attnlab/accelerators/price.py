"""What a program costs on a chip: operations, bytes, memory, and the time that the roofline allows.

Operations are counted from the trace (`count`). Compiled for a TPU (`pip install libtpu`; no chip is needed) the bytes
are those of the fused program, the body of a loop once, and the memory is what the compiler reserves; a program that
does not fit is refused. Lowered only, neither is known.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from attnlab.accelerators.chips import Chip
from attnlab.accelerators.count import Count, count
from attnlab.accelerators.programs import Program
from attnlab.config import require

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
      flops: operations. moved: bytes to and from memory. memory: bytes at the peak. NaN where it is not known.
      seconds: the least that the roofline allows; of what is only lowered by its operations alone.
      least: what of these is a lower bound: `flops` (a loop of unknown length), `moved` (loops).
    """

    program: str
    chip: str
    state: Literal["compiled", "lowered", "refused"]
    flops: float = float("nan")
    moved: float = float("nan")
    memory: float = float("nan")
    seconds: float = float("nan")
    least: tuple[str, ...] = ()
    why: str = ""

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.moved if self.moved else float("nan")

    def to_json(self) -> dict[str, Any]:
        """All fields; None for what is not known."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    def row(self) -> dict[str, str]:
        """What a table shows; `≥` before what is a lower bound."""

        def told(name: str, unit: float) -> str:
            value = getattr(self, name)
            return "" if value != value else f"{'≥ ' if name in self.least else ''}{value / unit:.4g}"

        return {
            "program": self.program,
            "chip": self.chip,
            "state": self.state,
            "GFLOP": told("flops", 1e9),
            "MB moved": told("moved", 1e6),
            "MB at the peak": told("memory", 1e6),
            "FLOP/byte": "" if self.least or self.moved != self.moved else f"{self.intensity:.3g}",
            "roofline, µs": told("seconds", 1e-6),
        }


def price(program: Program, chip: Chip, compiled: bool | None = None) -> Price:
    """Lower `program` for `chip`, and compile it if that can be done here.

    Args:
      compiled: False lowers only; None compiles where libtpu is installed and the chip is a TPU.

    Raises:
      ConfigError: `compiled=True` where that cannot be done.
    """
    can = chip.topology is not None and find_spec("libtpu") is not None
    require(can or not compiled, "compiled", compiled, "False or None here: libtpu and a TPU's name are needed")
    if not (can if compiled is None else compiled):
        return _lowered(program, chip)
    device = _topology(chip.topology or "").devices[0]
    here = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), program.shapes)
    traced = jax.jit(program.function).trace(*shapes)
    try:
        made = traced.lower().compile()
    except Exception as error:  # the compilers' own errors share no class
        return Price(program.name, chip.name, "refused", why=str(error).strip().split("\n")[0][:200])
    counted = count(traced.jaxpr.jaxpr)
    memory: Any = made.memory_analysis()
    moved = float((made.cost_analysis() or {}).get("bytes accessed", float("nan")))
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    held -= memory.alias_size_in_bytes
    seconds = chip.seconds(counted.flops, moved)
    least = _least(counted) + (("moved",) if counted.loops else ())
    return Price(program.name, chip.name, "compiled", counted.flops, moved, float(held), seconds, least)


def _lowered(program: Program, chip: Chip) -> Price:
    with _as_if_there(chip):
        traced = jax.jit(program.function).trace(*program.shapes)
        traced.lower(lowering_platforms=(chip.platform,))
    counted = count(traced.jaxpr.jaxpr)
    seconds = counted.flops / chip.flops
    return Price(program.name, chip.name, "lowered", counted.flops, seconds=seconds, least=_least(counted))


def _as_if_there(chip: Chip) -> Any:
    """Where kernels are lowered for a GPU that is not there."""
    if chip.device is None:
        return nullcontext()
    kind, cores = chip.device
    device = AbstractDevice(device_kind=kind, num_cores=cores, platform="gpu")
    mesh = AbstractMesh((1,), ("chip",), (AxisType.Auto,), abstract_device=device)
    return jax.sharding.use_abstract_mesh(mesh)


def _least(counted: Count) -> tuple[str, ...]:
    return ("flops", "seconds") if counted.open else ()


@cache
def _topology(name: str) -> Any:
    """The devices of a slice that is not there."""
    from jax.experimental import topologies

    for key, value in _TPU.items():
        os.environ.setdefault(key, value)
    return topologies.get_topology_desc(platform="tpu", topology_name=name)
