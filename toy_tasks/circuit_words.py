"""One vocabulary for the tasks whose circuits are compared, and the flip that each of them offers to path patching."""

from __future__ import annotations

from dataclasses import dataclass

from flax import struct
from jaxtyping import Array

from toy_tasks import answers
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require


@struct.dataclass
class Flip:
    """A corrupted batch: as few tokens changed as it takes for another answer.

    Attributes:
      batch: the corrupted sequences, with their own targets.
      right, wrong: `Int[B]` the answers at the last place to the clean and to the corrupted sequence, never the same.
        The logit difference of a run is `logit(right) - logit(wrong)`.
    """

    batch: Batch
    right: Array
    wrong: Array


@dataclass(frozen=True)
class Words:
    """Names (which serve as objects too), colours, fillers, then bos, the question mark and padding, in this order."""

    num_names: int = 20
    num_colours: int = 12
    num_fillers: int = 6

    def __post_init__(self) -> None:
        for name, least in (("num_names", 2), ("num_colours", 2), ("num_fillers", 1)):
            answers.whole(f"Words.{name}", getattr(self, name), least)

    @property
    def first_colour(self) -> int:
        """The smallest colour."""
        return self.num_names

    @property
    def first_filler(self) -> int:
        """The smallest filler."""
        return self.num_names + self.num_colours

    @property
    def bos(self) -> int:
        """The begin token, also the number of words that a text can be made of."""
        return self.first_filler + self.num_fillers

    @property
    def question(self) -> int:
        """The question mark."""
        return self.bos + 1

    @property
    def padding(self) -> int:
        """What stands between bos and a sequence that is shorter than the others."""
        return self.bos + 2

    @property
    def vocab_size(self) -> int:
        """`V`."""
        return self.bos + 3


WORDS = Words()


def check(name: str, words: object, length: object, least: int, note: str) -> None:
    """Raises ValueError unless these are words, and a length of at least `least`."""
    require(isinstance(words, Words), f"{name}.words", repr(words), "a Words(num_names, num_colours, num_fillers)")
    answers.whole(f"{name}.length", length, least, note)
