"""Where a run goes: seeds in turn, together, or one group per device; and a batch over several devices.

The mesh has two axes. `seed`: every group of devices has its own seeds, and nothing is ever exchanged between groups.
`data`: the devices of a group share each batch; their partial gradients are added. The batch of a step is drawn from
the same key on any mesh and every device takes its rows of it: a mesh changes nothing but the order of a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from attnlab import hosts
from attnlab.config import require
from attnlab.training.program import DATA_AXIS, lift
from attnlab.training.shards import spread

SeedAxis = Literal["auto", "map", "vmap", "measure"]

VMAP_BELOW_WIDTH = 32
# On CPU, per seed-step: `map` beats `vmap` at width 64, they tie at width 16, and below vmap's fewer, larger operations
# win (`make bench`, rows `seed_axis`). On GPU and TPU one seed of a tiny model leaves the device idle: `vmap` there.

CACHE_NUMBERS = 512 * 64  # tokens x width of one microbatch on CPU


@dataclass(frozen=True)
class Placement:
    """How a run's `S` seeds are laid out.

    Attributes:
      axis: `map` (in turn) or `vmap` (together) within a device; `measure` until the caller has measured.
      devices: the devices in use, `data_shards` of them per group of seeds.
      data_shards: the devices that share each batch.
      padded: seeds computed, `S` rounded up to a multiple of the groups; the surplus copies the last seed and is
        dropped.
    """

    axis: SeedAxis
    devices: tuple[Any, ...]
    padded: int
    data_shards: int = 1

    @property
    def mesh(self) -> Mesh:
        return Mesh(np.array(self.devices).reshape(-1, self.data_shards), ("seed", DATA_AXIS))

    def describe(self) -> dict[str, Any]:
        kind = self.devices[0].device_kind
        found = {"seed_axis": self.axis, "devices": len(self.devices), "kind": kind, "padded_seeds": self.padded}
        if hosts.count() > 1:
            found["processes"] = hosts.count()
        return found | ({"data_shards": self.data_shards} if self.data_shards > 1 else {})


def place(
    num_seeds: int, model: Any, axis: SeedAxis = "auto", devices: Sequence[Any] | None = None, data_shards: int = 1
) -> Placement:
    """The placement for this backend and model size; `axis` and `devices` override it.

    Several groups of `data_shards` devices share the seeds, as evenly as they divide. Within a device, `vmap` on
    accelerators and for models narrower than `VMAP_BELOW_WIDTH`, else `map`. `measure` is resolved by the caller
    (`training.loop`).

    Of several processes every one takes the same number of devices.

    Raises:
      ConfigError: no device, or fewer than `data_shards`; or processes that would have nothing to do.
    """
    require(axis in get_args(SeedAxis), "seed_axis", axis, ", ".join(map(repr, get_args(SeedAxis))))
    found = list(jax.devices() if devices is None else devices)
    require(len(found) > 0, "devices", devices, "at least one device")
    whole = isinstance(data_shards, int) and 1 <= data_shards <= len(found)
    require(whole, "data_shards", data_shards, f"1 to {len(found)}, the number of devices")
    if hosts.count() > 1:
        groups, found = _groups_of_processes(num_seeds, found, data_shards)
    else:
        groups = min(len(found) // data_shards, num_seeds)
        while -(-num_seeds // groups) * (groups - 1) >= num_seeds:  # the last group would have nothing but padding
            groups -= 1
    per_group = -(-num_seeds // groups)
    if axis == "auto":
        narrow = getattr(model, "width", VMAP_BELOW_WIDTH) < VMAP_BELOW_WIDTH
        axis = "vmap" if narrow or found[0].platform != "cpu" else "map"
    return Placement(axis, tuple(found[: groups * data_shards]), per_group * groups, data_shards)


def _groups_of_processes(num_seeds: int, devices: Sequence[Any], data_shards: int) -> tuple[int, list[Any]]:
    """Number of groups, and the devices by process: as many of each, so that every process has its part."""
    processes = hosts.count()
    by_process = [[d for d in devices if d.process_index == p] for p in range(processes)]
    each = min(len(found) for found in by_process)
    require(each > 0, "devices", devices, f"devices of each of the {processes} processes")
    if data_shards > each:  # a group is on several processes
        fits = (processes * each) % data_shards == 0 and data_shards % each == 0
        allowed = f"1 to {each}, or a multiple of {each} that divides {processes * each} (devices: {each} a process)"
        require(fits, "data_shards", data_shards, allowed)
        groups = processes * each // data_shards
        fewest = groups
    else:
        groups, each = _even_groups(num_seeds, processes, each // data_shards)
        each, fewest = each * data_shards, processes  # a group may have nothing but padding, a process may not
    hint = "Start fewer processes, train more seeds, or let processes share each batch (data_shards)."
    require(
        num_seeds >= fewest, "seeds", num_seeds, f">= {fewest}, so that each of {processes} processes has one", hint
    )
    return groups, [d for found in by_process for d in found[:each]]


def _even_groups(num_seeds: int, processes: int, most: int) -> tuple[int, int]:
    """Groups in all and per process: no more than make the largest number of seeds in a group smaller."""
    per_group = -(-num_seeds // (processes * most))
    each = next(n for n in range(1, most + 1) if -(-num_seeds // (processes * n)) == per_group)
    return processes * each, each


def shards_for(num_seeds: int, batch_size: int, devices: Sequence[Any] | None = None) -> int:
    """How many devices share a batch by default: the seeds come first, this gets what they leave over.

    1 on CPU; but of fewer seeds than processes as few as let every process take part.
    """
    found = list(jax.devices() if devices is None else devices)
    if num_seeds < hosts.count():
        return _shards_of_processes(num_seeds, batch_size, found)
    return 1 if not found or found[0].platform == "cpu" else shards_within(batch_size, len(found) // num_seeds)


def _shards_of_processes(num_seeds: int, batch_size: int, devices: Sequence[Any]) -> int:
    processes = hosts.count()
    each = min(sum(d.process_index == p for d in devices) for p in range(processes))
    sizes = [each * n for n in range(1, processes + 1) if processes % n == 0 and batch_size % (each * n) == 0]
    fits = [size for size in sizes if processes * each // size <= num_seeds]
    allowed = f">= {processes}, or a batch that the {processes * each} devices can share"
    require(len(fits) > 0, "seeds", num_seeds, allowed, f"The batch has {batch_size} sequences.")
    return fits[0]


def shards_within(batch_size: int, most: int) -> int:
    """The largest number up to `most` that divides the batch; at least 1."""
    return max((size for size in range(2, most + 1) if batch_size % size == 0), default=1)


def microbatch_for(batch_size: int, length: int, model: Any, backend: str) -> int:
    """Sequences per microbatch: on CPU about 512 tokens of width 64 at a time, so that activations stay in cache.

    The gradient is the same sum in another order. Of the divisors of the batch it is the one nearest to that number,
    in ratio; the whole batch if half of it is no more than that. Elsewhere the whole batch. Measured: `make bench`,
    rows `microbatch`.
    """
    if backend != "cpu":
        return batch_size
    wanted = max(CACHE_NUMBERS / (max(getattr(model, "width", 64), 1) * length), 1.0)
    if 2 * wanted >= batch_size:
        return batch_size
    divisors = [size for size in range(1, batch_size + 1) if batch_size % size == 0]
    return min(divisors, key=lambda size: abs(math.log(size / wanted)))


def distribute(function: Callable, placement: Placement, by_seed: Sequence[bool]) -> Callable:
    """`function` over the padded seed axis of the arguments marked in `by_seed`, sharded over the devices."""
    lifted = lift(function, placement.axis, by_seed)
    if len(placement.devices) == 1:
        return lifted
    specs = tuple(P("seed") if seeded else P() for seeded in by_seed)
    return jax.shard_map(lifted, mesh=placement.mesh, in_specs=specs, out_specs=P("seed"), check_vma=False)


def put(tree: Any, placement: Placement, *, by_seed: bool) -> Any:
    """Place arrays on the run's devices: sharded on the leading seed axis, or a copy everywhere."""
    if len(placement.devices) == 1:
        return jax.device_put(tree, placement.devices[0])
    sharding = NamedSharding(placement.mesh, P("seed") if by_seed else P())
    return jax.device_put(tree, sharding) if hosts.count() == 1 else spread(tree, sharding)


def pad(tree: Any, num_seeds: int, padded: int) -> Any:
    """`[S, ...]` to `[padded, ...]`, the surplus being copies of the last seed."""
    if padded == num_seeds:
        return tree
    place = np.minimum(np.arange(padded), num_seeds - 1)
    return jax.tree.map(lambda x: x[place], tree)


def unpad(tree: Any, num_seeds: int, padded: int) -> Any:
    """`[padded, ...]` to `[S, ...]`."""
    return tree if padded == num_seeds else jax.tree.map(lambda x: x[:num_seeds], tree)
