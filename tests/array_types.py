"""The run-time check of our annotations: shapes and dtypes of arrays, on every call of every function of ours."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray


def _mentions_array(annotation: Any) -> bool:
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(_mentions_array(part) for part in typing.get_args(annotation))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype`, for annotations that speak of arrays.

    Two things are left alone. Plain Python arguments (pyright reads those): what a user gets wrong there must reach our
    own error, which the tests read. And constructors of dataclasses: `vmap` and `scan` rebuild them with more axes.
    """
    if getattr(function, "__name__", "") == "__init__":
        return function
    kept = {name: a for name, a in function.__annotations__.items() if _mentions_array(a)}
    function.__annotations__ = kept
    return beartype(function)
