"""AdamW whose rate falls to 0 along half a cosine, so that what is left at the end is no noise of the steps."""

from __future__ import annotations

from typing import Any

import optax
from flax import struct


@struct.dataclass
class Falling:
    """`rate (1 + cos(pi t / steps)) / 2`, betas (.9, .99), decay 1e-4. `rate`: a number or `[S]`; `steps`: to 0."""

    rate: Any
    steps: int = struct.field(pytree_node=False)

    def transform(self) -> optax.GradientTransformation:
        """The optax transformation."""
        falling = optax.cosine_decay_schedule(1.0, self.steps)
        return optax.chain(
            optax.adamw(1.0, b1=0.9, b2=0.99, weight_decay=1e-4),
            optax.scale_by_schedule(falling),
            optax.scale(self.rate),
        )
