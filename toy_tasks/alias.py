"""Walker's alias method for the rows of a stochastic matrix: one random word and two table reads per token.

A row `p` over `V` outcomes becomes `V` equal cells. Cell `v` keeps its own outcome with some probability and hands
the rest to one other outcome. A uniform 32-bit word `w` is split exactly, `w V = cell 2^32 + rest`; the outcome is
`cell` if `rest < threshold[cell]`, else `alias[cell]`. An outcome of probability zero has threshold 0 and is nobody's
alias, so it cannot be drawn, whatever the rounding; every other probability is met to within a few times 2^-32.

Reference: A. J. Walker, An efficient method for generating discrete random variables with general distributions,
ACM TOMS 3 (1977) 253; M. D. Vose, IEEE Trans. Softw. Eng. 17 (1991) 972, for the construction.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

MAX_OUTCOMES = 2**16  # the split of a 32-bit word below is exact up to this many cells


class AliasTable(NamedTuple):
    """Tables for `R` rows over `V` outcomes: `threshold` is `UInt32[R, V]`, `alias` is `Int32[R, V]`."""

    threshold: np.ndarray
    alias: np.ndarray


def alias_table(probabilities: np.ndarray) -> AliasTable:
    """Build the tables of `probabilities`, `Float[R, V]` with rows that sum to one. Cost O(R V), on the host."""
    rows, outcomes = probabilities.shape
    if outcomes > MAX_OUTCOMES:
        raise ValueError(f"alias_table: {outcomes} outcomes per row; at most {MAX_OUTCOMES} are possible.")
    threshold = np.empty((rows, outcomes), np.uint32)
    alias = np.empty((rows, outcomes), np.int32)
    for r in range(rows):
        threshold[r], alias[r] = _alias_row(probabilities[r])
    return AliasTable(threshold, alias)


def _alias_row(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height = (p * (len(p) / p.sum())).tolist()
    keep = np.ones(len(p))
    alias = np.arange(len(p), dtype=np.int32)
    # Donors end with the largest, so that what float rounding leaves unpaired is a cell of height one, never of zero.
    order = np.argsort(p, kind="stable")
    donors = [int(v) for v in order if height[v] >= 1.0]
    needy = [
        int(v) for v in order[::-1] if height[v] < 1.0
    ]  # pops the smallest first: zeros are served before rounding
    while needy and donors:
        poor, rich = needy.pop(), donors[-1]
        keep[poor], alias[poor] = height[poor], rich
        height[rich] -= 1.0 - height[poor]
        if height[rich] < 1.0:
            needy.append(donors.pop())
    return np.minimum(np.floor(keep * 2.0**32), 2.0**32 - 1).astype(np.uint32), alias


def draw(threshold: UInt32[Array, "R V"], alias: Int[Array, "R V"], row: Int[Array, "*B"], word: UInt32[Array, "*B"]):
    """One outcome per entry of `row`, from uniform 32-bit words. Shapes `[B]`, returns `Int32[B]`."""
    outcomes = threshold.shape[1]
    low = (word & 0xFFFF) * np.uint32(outcomes)
    high = (word >> 16) * np.uint32(outcomes) + (low >> 16)
    cell = (high >> 16).astype(jnp.int32)
    rest = word * np.uint32(outcomes)  # modulo 2^32
    index = row * outcomes + cell
    keep = rest < threshold.reshape(-1).at[index].get(mode="promise_in_bounds")
    return jnp.where(keep, cell, alias.reshape(-1).at[index].get(mode="promise_in_bounds"))
