"""The maps of the catalogue as maps that can be taken in blocks, or why they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from attnlab.attention import maps, simplex
from attnlab.attention.base import WeightMap
from attnlab.config import ConfigError, require
from attnlab.kernels.row_maps import (
    LSSA,
    SOFTMAX,
    SOFTPICK,
    Logistic,
    LogLogistic,
    RowMap,
    Share,
    itself,
    normalized,
    over_sum,
    pointwise,
    sigmoid,
)


class Taken(NamedTuple):
    """A map of the catalogue in blocks: `row_map` of `l + shift(n_t)`, over `divisor(n_t)`; None: 0, and 1."""

    row_map: RowMap
    shift: Callable[[Array], Array] | None = None
    divisor: Callable[[Array], Array] | None = None


def _minus_log(count: Array) -> Array:
    return -jnp.log(jnp.maximum(count, 1))


def _sigmoid(given: maps.Sigmoid) -> Taken:
    bias = 0.0 if given.bias is None else given.bias
    row_map = normalized(LogLogistic(bias)) if given.normalized else sigmoid(bias)
    return Taken(row_map, _minus_log if given.bias is None else None)


def _pointwise(given: maps.Pointwise) -> Taken:
    function = Logistic() if given.function is maps.logistic else given.function
    if given.divisor is maps.row_sum:
        positive = (maps.logistic, maps.relu, maps.squared_relu, maps.elu_plus_one, maps.second_order)
        hint = "Of another function that is never negative: over_sum(function)."
        names = ", ".join(one.__name__ for one in positive)
        require(given.function in positive, "map", given, f"with a sum as divisor, one of {names}", hint)
        return Taken(over_sum(function))
    if given.divisor is None or given.divisor is maps.count:
        return Taken(pointwise(function), divisor=given.divisor and itself)
    if given.divisor is maps.root_count:
        return Taken(pointwise(function), divisor=jnp.sqrt)
    if isinstance(given.divisor, maps.Length):
        return Taken(pointwise(Share(function, given.divisor.n)))
    raise ConfigError(
        f"map: got {given!r}, which cannot be taken in blocks: its divisor is not a sum of positive terms of single "
        "logits. Use the map form."
    )


def taken(given: RowMap | WeightMap | maps.LearnedMap) -> Taken:
    """The block form of a map of the catalogue.

    Raises:
      ConfigError: it has none, and why.
    """
    match given:
        case RowMap():
            return Taken(given)
        case maps.Softmax():
            return Taken(SOFTMAX)
        case maps.Softpick():
            return Taken(SOFTPICK)
        case maps.ReluOverPosition():
            return Taken(pointwise(maps.relu), divisor=itself)
        case maps.Normalized():
            # The catalogue's own is written with functions that compilers of kernels do not know.
            own = given.log_function is maps.log_softplus
            return Taken(LSSA if own else normalized(given.log_function))
        case maps.Sigmoid():
            return _sigmoid(given)
        case maps.Pointwise():
            return _pointwise(given)
        case maps.Top() | simplex.Sparsemax() | simplex.Entmax15() | simplex.Entmax() | simplex.AdaptiveEntmax():
            why = "which logits keep a weight depends on a threshold that needs the whole row, sorted or by bisection"
        case _:
            why = "it is given for whole rows only; write it as a RowMap"
    raise ConfigError(f"map: got {given!r}, which cannot be taken in blocks: {why}. Or use the map form.")


def row_map_of(given: RowMap | WeightMap) -> RowMap:
    """The block form of a map that does not look at the number of visible keys.

    Raises:
      ConfigError: there is none, or it does.
    """
    found = taken(given)
    plain = found.shift is None and found.divisor is None
    hint = "Here a number is the same for all rows: RowMap, Sigmoid(bias=..), Length(n). Blockwise mechanisms count."
    require(plain, "map", given, "a map that does not count the keys of a row", hint)
    return found.row_map
