"""What is fixed of attention in blocks when a program is compiled, and which blocks can see which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attnlab.kernels.row_maps import RowMap


@dataclass(frozen=True)
class Plan:
    """What is fixed when a program is compiled.

    Attributes:
      map, finish, scale, causal, window: see `kernels.attention`.
      num_keys: `U`, without padding. offset: position of the first row; None: positions are anything.
      share: rows of one position. block_q, block_k: rows and keys of a block; num_q, num_k: how many blocks.
    """

    map: RowMap
    finish: Callable[[Array, Array], Array] | None
    scale: float
    causal: bool
    window: int | None
    num_keys: int
    offset: int | None
    share: int
    block_q: int
    block_k: int
    num_q: int
    num_k: int


def _div(x: Any, by: int) -> Any:
    """`x // by`, `x >= 0`."""
    return x // by if isinstance(x, int) else jax.lax.div(x, jnp.full_like(x, by))


def _least(x: Any, bound: int) -> Any:
    return min(x, bound) if isinstance(x, int) else jnp.minimum(x, bound)


def _not_negative(x: Any) -> Any:
    return max(x, 0) if isinstance(x, int) else jnp.maximum(x, 0)


def keys_of_rows(plan: Plan, block: Any) -> tuple[Any, Any]:
    """`begin, end`: the blocks of keys that some row of this block may see, whatever is masked besides."""
    begin, end = 0 * block, 0 * block + plan.num_k
    if plan.offset is None:
        return begin, end
    if plan.causal:
        last = plan.offset + _div((block + 1) * plan.block_q - 1, plan.share)
        end = _least(_div(last, plan.block_k) + 1, plan.num_k)
    if plan.window is not None:
        first = plan.offset + _div(block * plan.block_q, plan.share) - plan.window + 1
        begin = _div(_not_negative(first), plan.block_k)
    return begin, end


def rows_of_keys(plan: Plan, block: Any) -> tuple[Any, Any]:
    """`begin, end`: the blocks of rows that may see some key of this block."""
    begin, end = 0 * block, 0 * block + plan.num_q
    if plan.offset is None:
        return begin, end
    if plan.causal:
        begin = _div(_not_negative(block * plan.block_k - plan.offset) * plan.share, plan.block_q)
    if plan.window is not None:
        after = _not_negative((block + 1) * plan.block_k - 1 + plan.window - plan.offset) * plan.share
        end = _least(_div(after + plan.block_q - 1, plan.block_q), plan.num_q)
    return begin, end
