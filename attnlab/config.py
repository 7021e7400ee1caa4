"""Frozen dataclasses <-> JSON, with nothing lost and nothing guessed.

Every setting of a run is a frozen dataclass of plain values, arrays, other such dataclasses, or functions that live at
the top of a module. Each is written with the place it comes from (`"module:Name"`), so a run directory can rebuild
its task, model and optimizer, the user's own ones included. Unknown and missing keys are errors.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import inspect
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

_TYPE, _ARRAY, _FUNCTION, _OPAQUE, _TUPLE = "$type", "$array", "$function", "$opaque", "$tuple"


class ConfigError(ValueError):
    """A setting that is unknown, missing, of the wrong kind, or that cannot be rebuilt from a file."""


def _place(value: Any) -> str | None:
    """`module:Name` if importing that finds this very object, else None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not module or not name or "<" in name:
        return None
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return f"{module}:{name}" if found is value else None


def encode(value: Any) -> Any:
    """A JSON-able image of `value`. What cannot be rebuilt is kept as its `repr` under `$opaque`."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_ARRAY: str(value), "dtype": "float"}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        place = _place(type(value))
        if place is None:
            return _opaque(value)
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {_TYPE: place, **fields}
    if isinstance(value, Mapping):
        for key in value:
            plain = isinstance(key, str) and not key.startswith("$")
            require(plain, "key of a mapping", key, "a string that does not begin with '$'")
        return {k: encode(v) for k, v in value.items()}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return {_TUPLE: [encode(v) for v in value]}
    if isinstance(value, list):
        return [encode(v) for v in value]
    if hasattr(value, "__array__") and _is_numbers(value):
        array = np.asarray(value)
        return {_ARRAY: _finite(array.tolist()), "dtype": str(array.dtype), "shape": list(array.shape)}
    if callable(value) and (place := _place(value)):
        return {_FUNCTION: place}
    return _opaque(value)


def _opaque(value: Any) -> dict[str, str]:
    """The `repr` without addresses in memory, so that the digest of a lambda is the same tomorrow."""
    return {_OPAQUE: re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))}


def _is_numbers(value: Any) -> bool:
    """Booleans, integers and real floats of any width (`V`: bfloat16 and its kin); no keys, objects or strings."""
    dtype = getattr(value, "dtype", None)
    return isinstance(dtype, np.dtype) and (dtype.kind in "biuf" or (dtype.kind == "V" and dtype.names is None))


def _finite(values: Any) -> Any:
    """Nested lists in which `nan` and infinities, which JSON lacks, are words."""
    if isinstance(values, list):
        return [_finite(v) for v in values]
    return values if not isinstance(values, float) or math.isfinite(values) else str(values)


def _find(place: str, kind: str) -> Any:
    module, _, name = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{kind}: {place!r} cannot be imported here ({error}). Install or put on the path the code that made it."
        ) from error
    return found


def decode(image: Any) -> Any:
    """The value that `encode` wrote.

    Raises:
      ConfigError: a field that the class does not have, a field that is missing, code that is not there, or a value
        that was never rebuildable (a lambda, a local function).
    """
    if isinstance(image, list):
        return [decode(v) for v in image]
    if not isinstance(image, Mapping):
        return image
    if _OPAQUE in image:
        raise ConfigError(
            f"{image[_OPAQUE]} cannot be rebuilt from a file: it is no frozen dataclass and no function at the top of "
            "a module. Pass it again from Python (for a run: `attnlab.resume(path, model=..., task=...)`)."
        )
    if _TUPLE in image:
        return tuple(decode(v) for v in image[_TUPLE])
    if _ARRAY in image:
        if image["dtype"] == "float":
            return float(image[_ARRAY])
        return np.asarray(image[_ARRAY], dtype=image["dtype"]).reshape(image["shape"])
    if _FUNCTION in image:
        return _find(image[_FUNCTION], "function")
    if _TYPE in image:
        cls = _find(image[_TYPE], "class")
        if not (inspect.isclass(cls) and dataclasses.is_dataclass(cls)):
            raise ConfigError(f"{image[_TYPE]} is not a dataclass; a config holds dataclasses only.")
        return build(cls, {k: decode(v) for k, v in image.items() if k != _TYPE})
    return {k: decode(v) for k, v in image.items()}


def build(cls: type, values: Mapping[str, Any]) -> Any:
    """`cls(**values)`, where a key that `cls` does not know is one clear error."""
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{cls.__name__}: unknown key {key!r}.{hint} Known keys: {', '.join(sorted(known))}.")
    unset = dataclasses.MISSING
    needed = {f.name for f in dataclasses.fields(cls) if f.init and f.default is unset and f.default_factory is unset}
    if absent := sorted(needed - set(values)):
        raise ConfigError(f"{cls.__name__}: missing key {', '.join(map(repr, absent))}.")
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{cls.__name__}: {error}") from error


def dumps(value: Any) -> str:
    """Canonical JSON text of `encode(value)`."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def loads(text: str) -> Any:
    """The value of `dumps`.

    Raises:
      ConfigError: text that is not JSON (cut short, for example), and all that `decode` refuses.
    """
    try:
        image = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"config: the text is not JSON ({error}). Was the file cut short?") from error
    return decode(image)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON: equal for equal settings."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()


def require(condition: bool, field: str, value: Any, allowed: str, action: str = "") -> None:
    """One clear error for a bad setting: the field, the value, what is allowed, what to do."""
    if not condition:
        raise ConfigError(f"{field}: got {value!r}; allowed is {allowed}.{' ' + action if action else ''}")
