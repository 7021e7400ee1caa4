"""How the small systems of a mechanism are solved, and in which pieces its queries and keys are taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from attnlab.config import require


@dataclass(frozen=True)
class Solver:
    """How the systems are solved, and in which pieces.

    Attributes:
      kind: `cg`, conjugate gradients, whose products are sweeps over the keys; or `exact`, which builds the matrices of
        one block of queries, `block_q K^2` numbers, and a block of centred keys, `block_q block_k K`, for Cholesky.
      tol: a row of `cg` rests once its residual is this part of the right-hand side; the error of the output is then
        about the same part of it (measured, 1 to 2.5 times), down to what rounding leaves. The sweeps over a block of
        queries end when all rest.
      max_iters: no more products than this; None = `2 K`. Rows with about `K` keys and a small ridge need most.
        Both may be arrays inside `jit`.
      block_q, block_k: queries and keys of a block; None = 128, and 32 queries if exact. Query heads that share keys
        count as queries.
      heads_at_once: how many pairs of batch entry and key head are worked on side by side; None = all. With 1 the
        memory besides inputs and output is that of one.
    """

    kind: Literal["cg", "exact"] = "cg"
    tol: Any = 1e-5
    max_iters: Any = None
    block_q: int | None = None
    block_k: int | None = None
    heads_at_once: int | None = None

    def __post_init__(self):
        require(self.kind in ("cg", "exact"), "Solver.kind", self.kind, "cg | exact")
        for name in ("block_q", "block_k", "heads_at_once"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(value is None or whole, f"Solver.{name}", value, "an integer >= 1, or None")

    def blocks(self, num: int, num_keys: int) -> tuple[int, int]:
        """Sizes of the blocks of `num` queries and `num_keys` keys."""
        block_q = self.block_q or (128 if self.kind == "cg" else 32)
        return min(block_q, num), min(self.block_k or 128, num_keys)

    def control(self, width: int, dtype: Any) -> Control:
        """When conjugate gradients end, for heads of this width."""
        most = 2 * width if self.max_iters is None else self.max_iters
        return Control(jnp.asarray(self.tol, dtype), jnp.asarray(most, jnp.int32))


CG = Solver()
EXACT = Solver("exact")


class Control(NamedTuple):
    """When conjugate gradients end: relative residual, and the most products."""

    tol: Float[Array, ""]
    max_iters: Int[Array, ""]
