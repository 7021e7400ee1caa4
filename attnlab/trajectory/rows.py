"""Reading rows out of chunk files: checked against their hashes, lazily, each file at most once while it is in use."""

import collections
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd

from attnlab.trajectory.errors import DamagedFileError
from attnlab.trajectory.layout import Header, chunk_file, chunk_shape
from attnlab.trajectory.leaves import numpy_dtype

CACHE_BYTES = 256 * 2**20  # a chunk of 64 snapshots of a million float32 numbers: who steps through it reads it once
_ZSTD = Zstd()


class Chunks:
    """The decoded chunks of a store, the most recently used ones kept, up to `CACHE_BYTES` (but always one).

    Args:
        store: path of the zarr store.
        header: what is in it.
        hashes: SHA-256 per file and finished chunk. [J]
    """

    def __init__(self, store: Path, header: Header, hashes: list[dict[str, str]]):
        self.store = store
        self.header = header
        self._hashes = hashes
        self._kept: collections.OrderedDict[str, np.ndarray] = collections.OrderedDict()
        self._bytes = 0

    def read(self, record: str, name: str, chunk: int, part: int = 0) -> np.ndarray:
        """One chunk of a leaf, read-only, its empty slots dropped. [seeds of the part, n, ...]

        Raises:
            DamagedFileError: the file is missing or is not what was written.
        """
        leaf = self.header.schema[record][name]
        file = chunk_file(record, name, len(leaf.shape), chunk, part)
        if file in self._kept:
            self._kept.move_to_end(file)
            return self._kept[file]
        shape, rows = chunk_shape(self.header, record, leaf), self.header.plan.rows[record][chunk]
        first, end = self.header.parts[part]
        if 0 in leaf.shape:
            return np.empty((end - first, rows, *leaf.shape), numpy_dtype(leaf.dtype))
        raw = self._read_checked(file, record, chunk)
        values = np.frombuffer(_ZSTD.decode(raw), leaf.stored).reshape(shape).view(numpy_dtype(leaf.dtype))
        values = values[: end - first, :rows]
        self._keep(file, values)
        return values

    def _read_checked(self, file: str, record: str, chunk: int) -> bytes:
        first, last = self.header.plan.span(chunk)
        where = f"{self.store / file} (chunk {chunk}, record {record!r}, steps {first} to {last})"
        advice = "`attnlab verify` shows all damage. Restore the file from a copy; the other chunks can still be read."
        try:
            raw = (self.store / file).read_bytes()
        except FileNotFoundError as error:
            raise DamagedFileError(f"{where} is missing. {advice}") from error
        # always compared: at 1.8 GB/s that is a quarter of the time that decoding takes
        if hashlib.sha256(raw).hexdigest() != self._hashes[chunk].get(file):
            raise DamagedFileError(f"{where} is not what was written. {advice}")
        return raw

    def _keep(self, file: str, values: np.ndarray) -> None:
        self._kept[file] = values
        self._bytes += values.nbytes
        while self._bytes > CACHE_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


class LeafRows:
    """All rows of one leaf as one array [S, N, ...], of which only the chunks that an index touches are read.

    Args:
        chunks: where they are.
        record, name: which leaf.
        counts: rows of the record per finished chunk. [J]
        dtype: of the values given out; float32 for those that xarray cannot reduce (bfloat16, float8: the widening is
            exact).
    """

    def __init__(self, chunks: Chunks, record: str, name: str, counts: np.ndarray, dtype: np.dtype):
        leaf = chunks.header.schema[record][name]
        self.dtype = dtype
        self.shape = (len(chunks.header.seeds), int(counts.sum()), *leaf.shape)
        self._chunks, self._record, self._name = chunks, record, name
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def outer(self, key: tuple[Any, ...]) -> np.ndarray:
        """A copy of the entries under an outer index: an int, slice or 1-d int array per axis."""
        others = [np.arange(size)[entry] for size, entry in zip(self.shape, key, strict=True)]
        seeds, rows = np.atleast_1d(others[0]), np.atleast_1d(others[1])
        out = np.empty([len(seeds), len(rows), *(entry.size for entry in others[2:] if entry.ndim)], self.dtype)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for part, (first, end) in enumerate(self._chunks.header.parts):
            ours = np.flatnonzero((first <= seeds) & (seeds < end))
            for chunk in np.unique(owners) if len(ours) else ():
                mine = np.flatnonzero(owners == chunk)
                block = self._chunks.read(self._record, self._name, int(chunk), part)
                picked = _as_slice(seeds[ours] - first), _as_slice(rows[mine] - self._starts[chunk])
                out[_crossed(_as_slice(ours), _as_slice(mine))] = _outer(block, (*picked, *key[2:]))
        return out[tuple(slice(None) if entry.ndim else 0 for entry in others[:2])]


def _as_slice(index: np.ndarray) -> slice | np.ndarray:
    """A slice if the index is consecutive (numpy then copies blocks instead of single entries)."""
    if len(index) and np.all(np.diff(index) == 1):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _crossed(seeds: slice | np.ndarray, rows: slice | np.ndarray) -> tuple[Any, Any]:
    """The index of every pair of the two."""
    if isinstance(seeds, np.ndarray) and isinstance(rows, np.ndarray):
        return seeds[:, None], rows
    return seeds, rows


def _outer(block: np.ndarray, key: tuple[Any, ...]) -> np.ndarray:
    for axis in reversed(range(block.ndim)):
        block = block[(slice(None),) * axis + (key[axis],)]
    return block
