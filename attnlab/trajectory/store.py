"""The zarr store of a run: its metadata made by zarr at the start, its chunk files written and removed here.

It is an ordinary zarr v3 store, which any zarr library reads. All final shapes are known at the start, so the metadata
never changes. The chunk files are written by this module, since their bytes are needed for the hashes anyway, and since
for the many small leaves of a toy model this takes a tenth of the time of zarr's general path (3 ms for 30 small
leaves, against 28 ms).
"""

import hashlib
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd

from attnlab.trajectory.files import copy_files, file_sha256, files_in, is_remote, sync_file, write_durably
from attnlab.trajectory.layout import (
    FILL_STEP,
    SEED,
    STEP,
    STEP_DTYPE,
    Header,
    chunk_file,
    chunk_of,
    chunk_shape,
    fill_value,
    step_file,
)
from attnlab.trajectory.leaves import WIDENED

ZSTD_LEVEL = 1
# Measured on 63 MB of slowly drifting float32 weights, ms to write / ms to read / size: none 174/204/1.00, lz4
# 60/101/1.00, lz4 after bitshuffle 78/93/0.87, zstd(-1) 64/103/1.00, zstd(1) 105/133/0.93, zstd(3) 139/117/0.93. With 4
# of 64 slots used, none costs 178 ms and 63 MB, all others about 20 ms and 4 MB: there must be some compression.
# zstd(1): one thread (blosc may order the blocks of its threads by chance, but a resumed run must equal an unbroken
# one in its bytes), and 0.88 of the size on smooth metrics, where the two that are faster here save nothing.
WRITERS = 8  # waits for the disk overlap: 40 small files take 8 ms instead of 14 (idle machine) to 140 (busy one)
_ZSTD = Zstd(level=ZSTD_LEVEL)


def create(path: Path, header: Header) -> dict[str, str]:
    """Make the zarr store with all groups and arrays, no data but the seed labels, metadata consolidated.

    Returns:
        SHA-256 of every file in it, by path in the store.
    """
    if not is_remote(path):
        return _create(path, header)
    with tempfile.TemporaryDirectory() as folder:
        hashes = _create(Path(folder) / path.name, header)
        copy_files(Path(folder) / path.name, path)
    return hashes


def _create(path: Path, header: Header) -> dict[str, str]:
    import zarr
    from zarr.codecs import ZstdCodec

    common: dict[str, Any] = {
        "compressors": ZstdCodec(level=ZSTD_LEVEL),
        "filters": None,
        "chunk_key_encoding": {"name": "default", "separator": "."},  # c.0.3.0: no directory per chunk
    }
    root = zarr.open_group(path, mode="w-", zarr_format=3)
    for record, named in header.schema.items():
        group, slots = root.create_group(record), header.plan.slots(record)
        for name, leaf in named.items():
            chunk = chunk_shape(header, record, leaf)
            group.create_array(
                name,
                shape=(len(header.seeds), slots * len(header.plan.ends), *leaf.shape),
                chunks=tuple(max(1, size) for size in chunk),
                dtype=leaf.stored,
                fill_value=fill_value(leaf),
                dimension_names=(SEED, STEP, *leaf.dims),
                attributes={"bits_of": leaf.dtype} if leaf.dtype in WIDENED else None,
                **common,
            )
        for name, size, chunk in (
            (SEED, len(header.seeds), len(header.seeds)),
            (STEP, slots * len(header.plan.ends), slots),
        ):
            shape = {"shape": (size,), "chunks": (chunk,), "dimension_names": (name,)}
            array = group.create_array(name, dtype=STEP_DTYPE, fill_value=FILL_STEP, **shape, **common)
            if name == SEED:
                array[:] = np.asarray(header.seeds)
    with warnings.catch_warnings():
        # That other zarr libraries may ignore it is no harm: every array also has its own zarr.json.
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(path, zarr_format=3)
    found = files_in(path)
    for file in found:
        sync_file(file)
    return {file.relative_to(path).as_posix(): file_sha256(file) for file in found}


def write_chunk(
    path: Path,
    header: Header,
    chunk: int,
    arrays: dict[str, dict[str, np.ndarray]],
    steps: dict[str, np.ndarray],
    parts: range,
) -> dict[str, str]:
    """Write the rows of all records in a chunk, their steps last, and wait until the disk has them.

    Args:
        path: the store.
        header: what is in it.
        chunk: index of the chunk.
        arrays: by record and leaf path. [seeds of the parts, n, ...] each
        steps: of the rows, by record; written with part 0. [n] each
        parts: of the seed axis, whose rows these are.

    Returns:
        SHA-256 of the files by path in the store.
    """

    def write_leaf(place: tuple[str, str, int]) -> tuple[str, str] | None:
        record, name, part = place
        leaf, count = header.schema[record][name], len(steps[record])
        (first, end), start = header.parts[part], header.parts[parts[0]][0]
        shape = chunk_shape(header, record, leaf)
        values = arrays[record][name][first - start : end - start].view(leaf.stored)
        if values.shape != shape:  # slots that stay empty
            padded = np.full(shape, fill_value(leaf), leaf.stored)
            padded[: end - first, :count] = values
            values = padded
        return _write(path, chunk_file(record, name, len(leaf.shape), chunk, part), values) if values.size else None

    def write_steps(record: str) -> tuple[str, str]:
        slots = np.full(header.plan.slots(record), FILL_STEP, STEP_DTYPE)
        slots[: len(steps[record])] = steps[record]
        return _write(path, step_file(record, chunk), slots)

    records = [record for record in header.schema if len(steps[record])]
    with ThreadPoolExecutor(WRITERS) as pool:
        places = [(record, name, part) for record in records for name in header.schema[record] for part in parts]
        leaves = list(pool.map(write_leaf, places))
        return dict(filter(None, [*leaves, *pool.map(write_steps, records if 0 in parts else [])]))


def remove_from(path: Path, header: Header, chunks: int) -> None:
    """Remove the files of all chunks from index `chunks` on."""
    for record, named in header.schema.items():
        for name in (*named, STEP):
            for file in (path / record / name).glob("c.*"):
                place = chunk_of(name, file.name)
                if place is not None and place >= chunks:
                    file.unlink()


def _write(path: Path, name: str, values: np.ndarray) -> tuple[str, str]:
    raw = _ZSTD.encode(values)
    write_durably(path / name, raw)
    return name, hashlib.sha256(raw).hexdigest()
