"""What a mechanism refuses that sees all that came before and nothing else."""

from __future__ import annotations

import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from attnlab.attention.base import HostOrDevice
from attnlab.config import require


def refuse_bias(name: str, bias: HostOrDevice | None) -> None:
    """Raises ValueError if there is a logit bias."""
    if bias is not None:
        raise ValueError(f"{name}: this mechanism takes no logit bias; use other positions than 'alibi'.")


def refuse_other_masks(name: str, mask: HostOrDevice | None, num: int, num_keys: int) -> None:
    """Raises ValueError for a mask that is not causal, queries the last positions; one that is traced goes unseen."""
    if mask is None or isinstance(mask, Tracer):
        return
    seen, causal = np.asarray(mask), np.tri(num, num_keys, num_keys - num, dtype=bool)
    if seen.shape[-2:] != causal.shape or not (seen == causal).all():
        sizes = f"{num}" if num == num_keys else f"{num}, {num_keys}"
        raise ValueError(
            f"{name}: got a mask that is not the causal one; allowed is None or causal_mask({sizes}): it sees all that "
            "came before and nothing else."
        )


def refuse_all_but_causal(name: str, q: Array, k: Array, mask: HostOrDevice | None, bias: HostOrDevice | None) -> None:
    """Raises ValueError for a bias, fewer queries than keys, a mask that is not causal (unless it is traced)."""
    refuse_bias(name, bias)
    num = k.shape[-2]
    if q.shape[-2] != num:
        raise ValueError(f"{name}: got {q.shape[-2]} queries and {num} keys; allowed: as many of each.")
    refuse_other_masks(name, mask, num, num)


def refuse_in_step(name: str, bias: HostOrDevice | None, window: int | None, prefix: int) -> None:
    """Raises ValueError for a bias, ConfigError for a window or a prefix in a decode step."""
    refuse_bias(name, bias)
    require(window is None, "window", window, f"None: {name} sees all that came before, or forgets by itself")
    require(prefix == 0, "prefix", prefix, f"0: {name} is causal")
