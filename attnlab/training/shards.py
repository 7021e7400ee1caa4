"""Which seeds' rows are on which process, and how they come to the one that writes them.

Parts of the seed axis are written by one process each. Where its own devices hold whole parts, nothing is exchanged:
that is so unless a run goes on with another number of processes than it was begun with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from attnlab import hosts

Parts = Sequence[tuple[int, int]]


def rows_here(tree: Any, num_seeds: int, parts: Parts) -> tuple[Any, range]:
    """The rows of the parts that this process is to write, on the host, `[seeds of the parts, ...]`; and which parts.

    Args:
      tree: arrays `[padded, ...]`, sharded on the seed axis over the devices of all processes.
      num_seeds: seeds that are not padding.
      parts: first seed and end of each part, rising, without gaps.
    """
    if hosts.count() == 1:
        return jax.tree.map(lambda x: x[:num_seeds], jax.device_get(tree)), range(len(parts))
    first, end = seeds_here(jax.tree.leaves(tree)[0], num_seeds)
    mine = [p for p, (start, stop) in enumerate(parts) if first <= start and stop <= end]
    owned = int(hosts.gather(len(mine)).sum())
    if owned == len(parts):
        chosen = range(mine[0], mine[-1] + 1) if mine else range(0)
        host = jax.tree.map(_local_rows, tree)
    else:  # a part is on two processes: everyone gets all
        share = -(-len(parts) // hosts.count())
        chosen = range(min(hosts.index() * share, len(parts)), min((hosts.index() + 1) * share, len(parts)))
        host, first = on_host(tree), 0
    if not chosen:
        return {}, chosen
    start, stop = parts[chosen[0]][0] - first, parts[chosen[-1]][1] - first
    return jax.tree.map(lambda x: x[start:stop], host), chosen


def seeds_here(array: jax.Array, num_seeds: int) -> tuple[int, int]:
    """First seed and end of those whose rows are on this process and on none before it, without padding."""
    places = [shard.index[0] for shard in array.addressable_shards if shard.replica_id == 0]
    if not places:
        return 0, 0
    first, end = min(p.start or 0 for p in places), max(array.shape[0] if p.stop is None else p.stop for p in places)
    return min(first, num_seeds), min(end, num_seeds)


def part_seeds(placement: Any) -> int | None:
    """Seeds per part when a run begins: those of one process, or of one group where several processes share a group."""
    if hosts.count() == 1:
        return None
    groups = len(placement.devices) // placement.data_shards
    return placement.padded // groups * max(1, groups // hosts.count())


def on_host(tree: Any) -> Any:
    """Every array of all processes on the host, the same on each."""
    if hosts.count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    with hosts.contact():
        return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))


def spread(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Arrays that every process has, onto devices of all processes."""

    def place(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree)


def _local_rows(array: jax.Array) -> np.ndarray:
    shards = [shard for shard in array.addressable_shards if shard.replica_id == 0]
    shards.sort(key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards]) if shards else np.empty((0, *array.shape[1:]))
