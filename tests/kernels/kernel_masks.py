"""Masks that kernels are tested with."""

from __future__ import annotations

import numpy as np


def padding(batch: int, length: int) -> np.ndarray:
    """The last three keys of the first sequence are padding. `[B, 1, 1, U]`"""
    mask = np.ones((batch, 1, 1, length), bool)
    mask[0, ..., -3:] = False
    return mask


def holes(batch: int, heads: int, length: int) -> np.ndarray:
    """At random, for each query head; some rows see nothing. `[B, H, T, U]`"""
    mask = np.random.default_rng(0).random((batch, heads, length, length)) < 0.4
    mask[0, 1, 3] = mask[1, :, 0] = False
    return mask
