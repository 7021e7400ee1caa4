"""Where the seeds of a run go: in turn, together, or one group per device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from attnlab.config import require
from attnlab.training.program import lift

SeedAxis = Literal["auto", "map", "vmap", "measure"]

VMAP_BELOW_WIDTH = 32
# On CPU, per seed-step: `map` beats `vmap` at width 64, they tie at width 16 and vmap's fewer, larger operations win below
# (`make bench`, rows `seed_axis`). On GPU and TPU one seed of a tiny model leaves the device idle, so there it is `vmap`.


@dataclass(frozen=True)
class Placement:
    """How a run's `S` seeds are laid out.

    Attributes:
      axis: `map` (in turn) or `vmap` (together) within a device.
      devices: the devices over which the seed axis is sharded.
      padded: seeds computed, `S` rounded up to a multiple of the devices; the surplus copies the last seed and is dropped.
    """

    axis: str
    devices: tuple[Any, ...]
    padded: int

    @property
    def mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), ("seed",))

    def describe(self) -> dict[str, Any]:
        kind = self.devices[0].device_kind
        return {"seed_axis": self.axis, "devices": len(self.devices), "kind": kind, "padded_seeds": self.padded}


def place(num_seeds: int, model: Any, axis: SeedAxis = "auto", devices: Sequence[Any] | None = None) -> Placement:
    """The placement for this backend and model size; `axis` and `devices` override it.

    Several devices share the seeds, as evenly as they divide. Within a device, `vmap` on accelerators and for
    models narrower than `VMAP_BELOW_WIDTH`, else `map`. `measure` is resolved by the caller (`training.loop`).
    """
    require(axis in ("auto", "map", "vmap", "measure"), "seed_axis", axis, "'auto', 'map', 'vmap' or 'measure'")
    found = list(jax.devices() if devices is None else devices)
    require(len(found) > 0, "devices", devices, "at least one device")
    used = min(len(found), num_seeds)
    while -(-num_seeds // used) * (used - 1) >= num_seeds:  # the last device would have nothing but padding
        used -= 1
    per_device = -(-num_seeds // used)
    if axis == "auto":
        narrow = getattr(model, "width", VMAP_BELOW_WIDTH) < VMAP_BELOW_WIDTH
        axis = "vmap" if narrow or found[0].platform != "cpu" else "map"
    return Placement(axis, tuple(found[:used]), per_device * used)


def microbatch_for(batch_size: int, length: int, model: Any, backend: str) -> int:
    """Sequences per microbatch: on CPU about 512 tokens of width 64 at a time, so that activations stay in cache.

    The gradient is the same sum in another order. Elsewhere the whole batch. Measured: `make bench`, rows `step`.
    """
    if backend != "cpu":
        return batch_size
    tokens = max(512 * 64 // max(getattr(model, "width", 64), 1), length)
    best = 1
    for size in range(1, batch_size + 1):
        if batch_size % size == 0 and size * length <= tokens:
            best = size
    return best


def distribute(chunk: Callable, placement: Placement) -> Callable:
    """`chunk` over the padded seed axis, sharded over the placement's devices."""
    lifted = lift(chunk, placement.axis)
    if len(placement.devices) == 1:
        return lifted
    seeds, everywhere = P("seed"), P()
    specs = (seeds, seeds, seeds, everywhere, everywhere, everywhere)
    return jax.shard_map(lifted, mesh=placement.mesh, in_specs=specs, out_specs=seeds, check_vma=False)


def put(tree: Any, placement: Placement, *, by_seed: bool) -> Any:
    """Place arrays on the run's devices: sharded on the leading seed axis, or a copy everywhere."""
    if len(placement.devices) == 1:
        return jax.device_put(tree, placement.devices[0])
    return jax.device_put(tree, NamedSharding(placement.mesh, P("seed") if by_seed else P()))
