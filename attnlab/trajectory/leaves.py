"""What a record is made of: named leaves, with shape, dtype and the names of their dimensions."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnlab.trajectory.errors import RunDirError

RESERVED = ("seed", "step")
WIDENED = (
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
)  # zarr and xarray have no such dtypes: stored as unsigned integers
NATIVE = ("bool", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)), *(f"float{b}" for b in (16, 32, 64)))
COMPLEX = ("complex64", "complex128")

Key = str | int


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of a record, for one seed at one snapshot.

    Attributes:
        shape: without the seed and snapshot axes.
        dtype: name of the dtype, e.g. `float32`, `bfloat16`.
        dims: names of the axes in `shape`; () for a scalar.
        keys: the way to the leaf in the recorded tree; an int is a place in a list. () if the record is a bare array.
    """

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    keys: tuple[Key, ...]

    @property
    def stored(self) -> np.dtype:
        """The dtype on disk: itself, or the unsigned integer that holds the bits of one that zarr does not know."""
        if self.dtype in WIDENED:
            return np.dtype(f"<u{numpy_dtype(self.dtype).itemsize}")
        return np.dtype(self.dtype).newbyteorder("<")


Schema = dict[str, dict[str, Leaf]]  # record -> path of the leaf -> leaf


def numpy_dtype(name: str) -> np.dtype:
    """The numpy dtype of that name, those of `ml_dtypes` (bfloat16, float8) included."""
    if name in WIDENED:
        import ml_dtypes  # comes with jax; only needed where such numbers were recorded

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)


def flatten(tree: Any) -> dict[tuple[Key, ...], Any]:
    """The leaves of a pytree by their keys: dict keys and field names as str, places in lists as int; () if bare."""
    if isinstance(tree, Mapping) and all(isinstance(key, str) and hasattr(leaf, "shape") for key, leaf in tree.items()):
        return {(key,): leaf for key, leaf in tree.items()}  # flat already: needs no jax
    if hasattr(tree, "shape") and hasattr(tree, "dtype"):
        return {(): tree}
    import jax

    return {
        tuple(key_of(entry) for entry in path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def path_name(keys: Sequence[Key], record: str) -> str:
    """`blocks.0.attn.query` for the keys ("blocks", 0, "attn", "query"); a bare array is called like its record."""
    return ".".join(str(key) for key in keys) if keys else record


def unflatten(leaves: Mapping[tuple[Key, ...], Any]) -> Any:
    """Nested dicts and lists from leaves by their keys (the inverse of `flatten`, with dataclasses as dicts)."""
    if list(leaves) == [()]:
        return leaves[()]
    branches: dict[Key, dict[tuple[Key, ...], Any]] = {}
    for keys, leaf in leaves.items():
        branches.setdefault(keys[0], {})[keys[1:]] = leaf
    if branches and all(isinstance(key, int) for key in branches):
        return [
            unflatten(branches[index]) for index in sorted(branches)
        ]  # an empty tree in a list has no leaf, hence no place
    return {key: unflatten(branch) for key, branch in branches.items()}


def schema_of(
    records: Mapping[str, Any],
    dims: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    forbidden: Sequence[str] = (),
) -> Schema:
    """The schema of `records`.

    Args:
        records: per record a pytree whose leaves have `.shape` and `.dtype`, for one seed at one snapshot (what
            `jax.eval_shape` of the record function gives), and maybe `.dims`.
        dims: names of axes, per record and path of the leaf. Axes without a name get one that no other leaf has.
        forbidden: names that no record may have.

    Raises:
        RunDirError: a name or dtype that cannot be stored, or dims that do not fit.
    """
    schema: Schema = {}
    dims = dims or {}
    if unknown := sorted(set(dims) - set(records)):
        raise RunDirError(f"dims names the records {unknown}, which are not recorded; recorded: {sorted(records)}.")
    for record, tree in records.items():
        if not (record.isidentifier() and not record.startswith("_")) or record in forbidden:
            raise RunDirError(
                f"record name {record!r}: must be a Python identifier without a leading underscore, and none of "
                f"{', '.join(forbidden)}: it becomes an attribute of the trajectory. Rename the record."
            )
        named = {path_name(keys, record): (keys, leaf) for keys, leaf in flatten(tree).items()}
        if len(named) != len(flatten(tree)):
            raise RunDirError(
                f"record {record!r}: two leaves have the same dotted path; rename a key that contains a dot."
            )
        given = dict(dims.get(record, {}))
        schema[record] = {
            name: _leaf(record, name, keys, leaf, given.pop(name, None)) for name, (keys, leaf) in named.items()
        }
        if given:
            raise RunDirError(
                f"dims of record {record!r} names {sorted(given)}, which are no leaves; leaves: {sorted(named)}."
            )
        _check_names(record, schema[record])
    return schema


def key_of(entry: Any) -> Key:
    if hasattr(entry, "idx"):
        return int(entry.idx)
    return str(entry.name if hasattr(entry, "name") else entry.key)


def _leaf(record: str, name: str, keys: tuple[Key, ...], leaf: Any, dims: Sequence[str] | None) -> Leaf:
    where = f"record {record!r}, leaf {name!r}"
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        raise RunDirError(f"{where} is a {type(leaf).__name__}; a leaf must be an array (have .shape and .dtype).")
    dtype = str(leaf.dtype)
    if dtype not in (*NATIVE, *COMPLEX, *WIDENED):
        advice = "record jax.random.key_data(key) instead" if dtype.startswith("key<") else "convert it"
        raise RunDirError(
            f"{where}: dtype {dtype} cannot be stored; allowed: {', '.join((*NATIVE, *COMPLEX, *WIDENED))}; {advice}."
        )
    shape = tuple(int(size) for size in leaf.shape)
    dims = getattr(leaf, "dims", None) if dims is None else dims
    dims = tuple(f"{name}_{axis}" for axis in range(len(shape))) if dims is None else tuple(str(dim) for dim in dims)
    if len(dims) != len(shape) or len(set(dims)) != len(dims) or set(dims) & {*RESERVED, name}:
        raise RunDirError(
            f"{where}: dims = {dims} for shape {shape}; needed: {len(shape)} different names, none of them 'seed', "
            f"'step' or {name!r}."
        )
    return Leaf(shape, dtype, dims, keys)


def _check_names(record: str, leaves: Mapping[str, Leaf]) -> None:
    sizes: dict[str, tuple[str, int]] = {}
    folded: dict[str, str] = {}
    for name, leaf in leaves.items():
        # the rules of zarr v3 for node names, and of file systems
        if name in RESERVED or name.startswith("__") or not name.strip(".") or re.search(r"[/\\\x00-\x1f]", name):
            raise RunDirError(
                f"record {record!r}: leaf path {name!r} cannot be stored; it must not be 'seed', 'step', or dots only, "
                "start with '__', "
                "or contain a slash or control character. Rename the key."
            )
        if (other := folded.setdefault(name.casefold(), name)) != name:
            raise RunDirError(
                f"record {record!r}: leaves {other!r} and {name!r} are the same file where case does not count; rename "
                "one."
            )
        for dim, size in zip(leaf.dims, leaf.shape, strict=True):
            if dim in leaves:
                raise RunDirError(
                    f"record {record!r}: {dim!r} is a leaf and a dimension of {name!r}; rename the dimension."
                )
            other, known = sizes.setdefault(dim, (name, size))
            if known != size:
                raise RunDirError(
                    f"record {record!r}: dimension {dim!r} has size {known} in {other!r} and {size} in {name!r}; give "
                    "two names."
                )
