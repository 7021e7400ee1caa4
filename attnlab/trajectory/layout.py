"""What lies where in the zarr store of a run: plan, header, names of chunk files, and the store's metadata.

A group per record, an array per leaf with dims (seed, step, ...), and per group the arrays `seed` and `step`. In the
snapshot axis, chunk j of the run owns the slots j*c ... (j+1)*c - 1, c the most rows that any chunk yields; what a
chunk does not fill stays at the fill value, with step -1. All entries of a leaf are in one chunk file, of all seeds or,
where several processes write, of one part of them: each file is written once, by one process.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from attnlab.trajectory.errors import RunDirError
from attnlab.trajectory.leaves import Leaf, Schema

SEED, STEP = "seed", "step"
FILL_STEP = -1
STEP_DTYPE = np.dtype("<i8")
MAX_CHUNK_BYTES = 2**31 - 1  # numcodecs refuses larger buffers


@dataclasses.dataclass(frozen=True)
class Plan:
    """When a run records: its program chunks, and the rows that each record yields in each of them.

    Attributes:
        ends: steps done at the end of chunk j, rising; the state saved after chunk j carries this step. [J]
        rows: number of snapshots per record and chunk. [J] each

    Raises:
        RunDirError: `ends` does not rise, or a record has not one number >= 0 per chunk.
    """

    ends: tuple[int, ...]
    rows: dict[str, tuple[int, ...]]

    def __post_init__(self):
        object.__setattr__(self, "ends", tuple(int(end) for end in self.ends))
        object.__setattr__(self, "rows", {name: tuple(int(n) for n in rows) for name, rows in self.rows.items()})
        if not self.ends or any(later <= earlier for earlier, later in zip((-1, *self.ends), self.ends, strict=False)):
            raise RunDirError(
                f"plan.ends = {self.ends}: needed is at least one chunk, and step numbers >= 0 that rise."
            )
        for record, rows in self.rows.items():
            if len(rows) != len(self.ends) or min(rows) < 0:
                raise RunDirError(
                    f"plan.rows[{record!r}] = {rows}: needed is one number >= 0 for each of {len(self.ends)} chunks."
                )

    def slots(self, record: str) -> int:
        """Row slots per chunk: the most rows that any chunk yields (at least 1: zarr has no empty chunks)."""
        return max((1, *self.rows[record]))

    def span(self, chunk: int) -> tuple[int, int]:
        """Steps done before and after a chunk."""
        return (self.ends[chunk - 1] if chunk else 0, self.ends[chunk])


@dataclasses.dataclass(frozen=True)
class Header:
    """What will be written: the first line of the journal, as values.

    `files` holds the SHA-256 of the store's metadata, by path in the store. `part_seeds` is the most seeds in one chunk
    file; None = all.
    """

    schema: Schema
    plan: Plan
    seeds: tuple[int, ...]
    files: dict[str, str]
    part_seeds: int | None = None

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """First seed and end of each part of the seed axis that has files of its own."""
        total = len(self.seeds)
        size = self.part_seeds or total
        return tuple((first, min(first + size, total)) for first in range(0, total, size))

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        leaves = {
            record: {name: dataclasses.asdict(leaf) for name, leaf in named.items()}
            for record, named in self.schema.items()
        }
        return {
            "chunk": None,
            "seeds": self.seeds,
            "ends": self.plan.ends,
            "rows": self.plan.rows,
            "records": leaves,
            "files": self.files,
            **({} if self.part_seeds is None else {"part_seeds": self.part_seeds}),
        }

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> "Header":
        """The inverse of `to_json`."""
        schema = {
            record: {
                name: Leaf(tuple(leaf["shape"]), leaf["dtype"], tuple(leaf["dims"]), tuple(leaf["keys"]))
                for name, leaf in named.items()
            }
            for record, named in doc["records"].items()
        }
        return cls(
            schema, Plan(doc["ends"], doc["rows"]), tuple(doc["seeds"]), dict(doc["files"]), doc.get("part_seeds")
        )

    def differences(self, other: "Header") -> list[str]:
        """Which of records, plan and seeds are not the same in `other`."""
        found = [] if self.seeds == other.seeds else [f"seeds {self.seeds} and {other.seeds}"]
        if self.plan.ends != other.plan.ends:
            found.append(f"chunk ends {self.plan.ends} and {other.plan.ends}")
        for record in sorted({*self.schema, *other.schema}):
            if self.schema.get(record) != other.schema.get(record) or self.plan.rows.get(record) != other.plan.rows.get(
                record
            ):
                found.append(f"record {record!r}")
        return found


def check_sizes(header: Header) -> None:
    """Raise RunDirError unless plan and schema name the same records, seeds differ, and every chunk can be stored."""
    if set(header.plan.rows) != set(header.schema):
        raise RunDirError(
            f"plan.rows has the records {sorted(header.plan.rows)}, the schema {sorted(header.schema)}; give both the "
            "same."
        )
    if not header.seeds or len(set(header.seeds)) != len(header.seeds):
        raise RunDirError(f"seeds = {header.seeds}: needed is at least one, and no label twice.")
    for record, named in header.schema.items():
        for name, leaf in named.items():
            shape = chunk_shape(header, record, leaf)
            if (size := int(np.prod(shape)) * leaf.stored.itemsize) > MAX_CHUNK_BYTES:
                raise RunDirError(
                    f"record {record!r}, leaf {name!r}: a chunk of shape {shape} has {size} bytes, more than "
                    f"{MAX_CHUNK_BYTES}; "
                    "record fewer rows per chunk or fewer seeds."
                )


def chunk_shape(header: Header, record: str, leaf: Leaf) -> tuple[int, ...]:
    """Shape of one stored chunk of a leaf: [seeds of a part, slots, ...]."""
    return (header.part_seeds or len(header.seeds), header.plan.slots(record), *leaf.shape)


def chunk_file(record: str, name: str, ndim: int, chunk: int, part: int = 0) -> str:
    """Path in the store of chunk `chunk` of leaf `name`, which has `ndim` dimensions beside seed and step."""
    return f"{record}/{name}/c.{part}.{chunk}" + ".0" * ndim


def step_file(record: str, chunk: int) -> str:
    """Path in the store of chunk `chunk` of a record's `step` array."""
    return f"{record}/{STEP}/c.{chunk}"


def chunk_of(name: str, file: str) -> int | None:
    """Index of the chunk that the file called `file` in the array `name` belongs to; None if it is no chunk file."""
    if not re.fullmatch(r"c(\.\d+)+", file):
        return None
    places = [int(place) for place in file.split(".")[1:]]
    axis = 0 if name == STEP else 1
    return places[axis] if axis < len(places) else None


def fill_value(leaf: Leaf) -> Any:
    """What empty slots hold: nan where there is one."""
    return np.nan if leaf.stored.kind in "fc" else leaf.stored.type(0)
