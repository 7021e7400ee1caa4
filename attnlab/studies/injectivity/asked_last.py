"""In-context regression for a model that answers at every position: only the last answer counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Key

import toy_tasks as tt
from toy_tasks.base import Batch


@dataclass(frozen=True, eq=False)
class AskedLast:
    """`LinearRegression` in the layout `masked_key`, with its target at the last of `T = C + 1` positions.

    Attributes:
      task: one output. The others' targets are 0 and have weight 0.
    """

    task: tt.LinearRegression

    def __post_init__(self) -> None:
        if self.task.layout != "masked_key":
            raise ValueError(f"AskedLast.task: layout is {self.task.layout!r}; allowed is 'masked_key'.")

    @property
    def length(self) -> int:
        """`T`, pairs and the query."""
        return self.task.context + 1

    @property
    def width(self) -> int:
        """Numbers per position, an input and its label."""
        return self.task.dim + 1

    def describe(self) -> str:
        """A few lines of text."""
        return self.task.describe()

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """Fresh prompts; pure."""
        batch = self.task.sample(key, batch_size)
        before = ((0, 0), (self.task.context, 0))
        return replace(
            batch,
            targets=jnp.pad(batch.targets, (*before, (0, 0))),
            loss_mask=jnp.pad(jnp.ones((batch_size, 1)), before),
            positions={
                "query": jnp.broadcast_to(jnp.arange(self.length) == self.task.context, (batch_size, self.length))
            },
        )
