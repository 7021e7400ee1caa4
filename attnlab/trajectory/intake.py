"""Checks of what is given to be stored: nothing is cast, padded or guessed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnlab.trajectory.errors import RunDirError
from attnlab.trajectory.layout import STEP_DTYPE, Header
from attnlab.trajectory.leaves import flatten, numpy_dtype, path_name


def checked_steps(
    header: Header, chunk: int, record: str, steps: Sequence[int] | np.ndarray | None, before: int
) -> np.ndarray:
    """The step numbers of a record's rows in a chunk. [n]

    Raises:
        RunDirError: not as many as planned, not rising, not above `before`, or outside of the chunk.
    """
    count, (first, last) = header.plan.rows[record][chunk], header.plan.span(chunk)
    numbers = np.asarray([] if steps is None else steps).astype(STEP_DTYPE, casting="unsafe")
    given = np.asarray([] if steps is None else steps)
    right = (
        numbers.shape == (count,) and np.array_equal(numbers, given) and np.all(np.diff(numbers, prepend=before) > 0)
    )
    if not right or (count and not first <= numbers[0] <= numbers[-1] <= last):
        raise RunDirError(
            f"chunk {chunk}, steps of record {record!r} = {given.tolist()}: needed are {count} rising whole numbers "
            f"above {before}, between {first} and {last}."
        )
    return numbers


def checked_arrays(header: Header, chunk: int, record: str, tree: Any, parts: range) -> dict[str, np.ndarray]:
    """The arrays of a record in a chunk by leaf path, in the byte order of this machine, contiguous: of the seeds of
    `parts`. [seeds, n, ...] each

    Raises:
        RunDirError: leaves, a shape or a dtype other than planned.
    """
    schema, count = header.schema[record], header.plan.rows[record][chunk]
    seeds = sum(header.parts[part][1] - header.parts[part][0] for part in parts)
    if (not count or not parts) and tree is None:
        return {}
    where = f"chunk {chunk}, record {record!r}"
    arrays = {path_name(keys, record): np.asarray(leaf) for keys, leaf in flatten(tree).items()}
    if set(arrays) != set(schema):
        raise RunDirError(
            f"{where}: missing leaves {sorted(set(schema) - set(arrays))}, unknown leaves "
            f"{sorted(set(arrays) - set(schema))}; give the tree that the writer was made with."
        )
    for name, leaf in schema.items():
        array, shape = arrays[name], (seeds, count, *leaf.shape)
        if array.shape != shape or array.dtype.name != leaf.dtype:
            raise RunDirError(
                f"{where}, leaf {name!r} is {array.dtype}{list(array.shape)}, expected {leaf.dtype}{list(shape)} "
                "(seeds, rows, ...)."
            )
    return {name: np.ascontiguousarray(arrays[name], numpy_dtype(leaf.dtype)) for name, leaf in schema.items()}
