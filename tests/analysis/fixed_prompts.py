"""A regression task of one's own: the same few prompts always. Nothing to draw, so nothing to compile."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from toy_tasks.base import Batch, Prompt


@dataclass(frozen=True)
class FixedPrompts:
    """Noiseless unless `noise`; `supports` as in `LinearRegression`."""

    dim: int = 3
    context: int = 12
    outputs: int = 1
    noise: float = 0.0

    @property
    def length(self) -> int:
        return self.context + 1

    def arrays(self, size: int) -> tuple[np.ndarray, ...]:
        """x, y, query, label."""
        rng = np.random.default_rng(0)
        beta = rng.normal(size=(size, self.outputs, self.dim))
        x = rng.normal(size=(size, self.context + 1, self.dim))
        y = np.einsum("bcd,bmd->bcm", x, beta)
        y = y + self.noise * rng.normal(size=y.shape)
        found = x[:, :-1], y[:, :-1], x[:, -1], y[:, -1]
        return tuple(a.astype(np.float32) for a in found)

    def sample(self, key, batch_size: int) -> Batch:
        del key
        x, y, query, label = map(jnp.asarray, self.arrays(batch_size))
        ones = jnp.ones((batch_size, 1))
        return Batch(Prompt(x, y, query), label[:, None], ones, {"query": ones > 0})
