"""What a theory hands out: plain values with a source and the assumptions under which they hold.

Nothing here knows of a model, a run or a tensor library; whoever compares reads plain NumPy arrays.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from theory._checks import Array, fail, frozen


@dataclass(frozen=True)
class Reference:
    """A published source.

    Attributes:
      key: short name, unique in `theory.references`.
      authors: full names, in the order of the paper.
      title: full title.
      arxiv: arXiv number such as `2410.13835`, or an empty string.
      year: year of the version meant.
      section: where in the paper; an empty string means the paper as a whole.
    """

    key: str
    authors: tuple[str, ...]
    title: str
    arxiv: str
    year: int
    section: str = ""

    def at(self, section: str) -> Reference:
        """The same paper, pointing at one section, theorem or figure."""
        return dataclasses.replace(self, section=section)


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted curve.

    Attributes:
      name: the quantity, in words.
      steps: `[N]` the times at which it is predicted (flow time or optimizer steps; `assumptions` says which).
      values: `[N, ...]` the predicted values.
      band: `(low, high)`, each of the shape of `values`, or None where the theory gives no error bar.
      reference: where it comes from.
      assumptions: what must hold for it to apply, one sentence each.

    Raises:
      ValueError: if the shapes disagree or `low` exceeds `high`.
    """

    name: str
    steps: Array
    values: Array
    band: tuple[Array, Array] | None
    reference: Reference
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        steps, values = frozen(np.asarray(self.steps)), frozen(np.asarray(self.values))
        if steps.ndim != 1 or values.shape[:1] != steps.shape:
            found = (steps.shape, values.shape)
            raise fail("shapes of (steps, values)", found, "[N] and [N, ...]", "Predict one value for each step.")
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        if self.band is not None:
            low, high = (frozen(np.asarray(edge)) for edge in self.band)
            if low.shape != values.shape or high.shape != values.shape or (low > high).any():
                found = (low.shape, high.shape)
                raise fail("band", found, f"two arrays {values.shape}, low <= high", "Give each value its interval.")
            object.__setattr__(self, "band", (low, high))
