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

    def read(self, record: str, name: str, chunk: int) -> np.ndarray:
        """One chunk of a leaf, read-only, its empty slots dropped. [S, n, ...]

        Raises:
            DamagedFileError: the file is missing or is not what was written.
        """
        leaf = self.header.schema[record][name]
        file = chunk_file(record, name, len(leaf.shape), chunk)
        if file in self._kept:
            self._kept.move_to_end(file)
            return self._kept[file]
        shape, rows = chunk_shape(self.header, record, leaf), self.header.plan.rows[record][chunk]
        if 0 in leaf.shape:
            return np.empty((shape[0], rows, *leaf.shape), numpy_dtype(leaf.dtype))
        raw = self._read_checked(file, record, chunk)
        values = np.frombuffer(_ZSTD.decode(raw), leaf.stored).reshape(shape).view(numpy_dtype(leaf.dtype))[:, :rows]
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
        rows = np.atleast_1d(np.arange(self.shape[1])[key[1]])
        others = [np.arange(size)[entry] for size, entry in zip(self.shape, key, strict=True)]
        shape = [len(rows) if axis == 1 else entry.size for axis, entry in enumerate(others) if axis == 1 or entry.ndim]
        out = np.empty(shape, self.dtype)
        place = int(others[0].ndim > 0)  # of the row axis in the result
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for chunk in np.unique(owners):
            mine = np.flatnonzero(owners == chunk)
            block = self._chunks.read(self._record, self._name, int(chunk))
            picked = _as_slice(rows[mine] - self._starts[chunk])
            into = (slice(None),) * place + (_as_slice(mine),)
            out[into] = _outer(block, (key[0], picked, *key[2:]))
        return out if np.ndim(key[1]) or isinstance(key[1], slice) else out[(slice(None),) * place + (0,)]


def _as_slice(index: np.ndarray) -> slice | np.ndarray:
    """A slice if the index is consecutive (numpy then copies blocks instead of single entries)."""
    if len(index) and np.all(np.diff(index) == 1):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _outer(block: np.ndarray, key: tuple[Any, ...]) -> np.ndarray:
    for axis in reversed(range(block.ndim)):
        block = block[(slice(None),) * axis + (key[axis],)]
    return block
