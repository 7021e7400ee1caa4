"""The tree of a state, in the forms that orbax can save and restore."""

from typing import Any

import numpy as np

from attnlab.trajectory.errors import RunDirError

_PLAIN = (bool, int, float, str)
_EMPTY = 0  # stands for arrays without entries, which orbax refuses


def storable(state: Any) -> Any:
    """`state` with numpy scalars as arrays and a placeholder for arrays without entries.

    Raises:
        RunDirError: a leaf of a type that cannot be stored.
    """
    import jax

    def leaf(path: Any, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = np.asarray(value)
        kinds = (np.bool_, np.number, jax.dtypes.prng_key)
        if isinstance(value, _PLAIN) or any(jax.numpy.issubdtype(getattr(value, "dtype", object), k) for k in kinds):
            return _EMPTY if getattr(value, "size", 1) == 0 else value
        name = jax.tree_util.keystr(path)
        raise RunDirError(
            f"state{name} is a {type(value).__name__}; allowed are arrays, typed PRNG keys, bool, int, float, str. "
            "Convert it."
        )

    return jax.tree_util.tree_map_with_path(leaf, state)


def target(like: Any) -> Any:
    """The tree that orbax wants to restore by: shape, dtype and placement of every leaf."""
    import jax

    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def leaf(value: Any) -> Any:
        if getattr(value, "size", 1) == 0:
            return _EMPTY
        if isinstance(value, np.generic | np.ndarray):
            return np.asarray(value)
        if not hasattr(value, "shape"):
            return value
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=getattr(value, "sharding", None) or here)

    return jax.tree.map(leaf, like)


def with_empty(like: Any, found: Any) -> Any:
    """`found` with arrays without entries where `like` has them."""
    import jax

    def leaf(wanted: Any, value: Any) -> Any:
        if getattr(wanted, "size", 1):
            return value
        return np.empty_like(wanted) if isinstance(wanted, np.ndarray) else jax.numpy.empty(wanted.shape, wanted.dtype)

    return jax.tree.map(leaf, like, found)
