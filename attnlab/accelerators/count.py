"""Operations of a program, counted from its trace: compilers count the body of a loop once, this as often as it runs.

Matrix products are `2 M N K` operations; every other number that is computed is one. A loop whose end depends on its
values (`while`) counts once, and the count says that it is then a lower bound. A Pallas kernel counts as what it says
of itself (`cost_estimate`; with `least` in its `metadata` a lower bound, too).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import Jaxpr


class Count(NamedTuple):
    """`flops`; `loops`: whether anything is repeated; `open`: whether a loop is among it whose length is not known."""

    flops: float
    loops: bool = False
    open: bool = False


def count(jaxpr: Jaxpr) -> Count:
    """Of a trace: `jax.make_jaxpr(function)(*shapes).jaxpr`."""
    total, loops, open_ended = 0.0, False, False
    for eqn in jaxpr.eqns:
        found = _one(eqn)
        total, loops, open_ended = total + found.flops, loops or found.loops, open_ended or found.open
    return Count(total, loops, open_ended)


def _one(eqn: Any) -> Count:
    name = eqn.primitive.name
    if name == "pallas_call" and (told := eqn.params["cost_estimate"]) is not None:
        return Count(float(told.flops + told.transcendentals), open="least" in (eqn.params["metadata"] or {}))
    inner = [count(body) for body in _bodies(eqn.params)]
    if name == "cond":
        platforms = eqn.params.get("branches_platforms")
        # Of programs for several platforms, the one that is not for any in particular: accelerators get that.
        return max(inner) if platforms is None or None not in platforms else inner[platforms.index(None)]
    if inner:
        times = eqn.params["length"] if name == "scan" else 1
        repeated = name == "while" or (name == "scan" and times > 1)
        some, ended = any(x.loops for x in inner), any(x.open for x in inner)
        return Count(times * sum(x.flops for x in inner), repeated or some, name == "while" or ended)
    size = sum(int(np.prod(x.aval.shape)) for x in eqn.outvars if hasattr(x.aval, "shape"))
    if name != "dot_general":
        return Count(0.0 if name in _MOVES else float(size))
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shared = np.prod([eqn.invars[0].aval.shape[i] for i in contracted], initial=1.0)
    return Count(2.0 * size * float(shared))


_MOVES = {
    *("bitcast_convert_type", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "dynamic_slice"),
    *("dynamic_update_slice", "expand_dims", "gather", "iota", "pad", "random_unwrap", "random_wrap", "reshape"),
    *("rev", "slice", "split", "squeeze", "stop_gradient", "transpose"),
}
"""What moves numbers and computes none."""


def _bodies(params: Any) -> Iterator[Jaxpr]:
    """The programs within an operation; of a `while` its condition, too."""
    for value in params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(inner := getattr(one, "jaxpr", one), Jaxpr):  # closed over constants, or not
                yield inner
