"""Which family of mechanisms tracks which group in one layer, with the reason, and the weights where the answer is yes.

The recurrences are `S_t = A(g_t) S_(t-1) + B(g_t)` with any writes `B` and any read-out of state and letter. A family
tracks a group if for words of any length the read-out is the product of the word, in finite precision: the state takes
finitely many values, and an answer is told from them. (Without that, a decay or a sum counts without bound.)

What is proved (derived here; the first two are in arXiv 2411.12537 for parity and counting):

  the periodic part   One letter repeated: on finitely many values the map `T S = A S + B` permutes the values of its
                      periodic part. `T` fixes their mean, and on their span `W` the linear part `A` is of finite order,
                      a multiple of the order of the letter; if no factor of `A` lengthens a vector, then `A` is an
                      isometry of `W`, and so is every factor.
  decay               Diagonal in [0, 1]: an isometry with such entries is the identity. The letter has order 1.
  delta, rate <= 1    Any number of factors: `|(I - b k k^T) w| = |w|` with `0 < b <= 1` only if `k . w = 0`. Order 1.
  signs               Diagonal in [-1, 1]: the periodic part has entries 1 and -1. Order 1 or 2.
  delta, rate <= 2    One factor: symmetric, so its eigenvalues of modulus 1 are 1 and -1. Order 1 or 2.
  diagonal            A word whose map is in the smallest ideal of the maps of all words has a power `e` that is
                      idempotent. The maps `e T e` are a group on the image of `e`, and the product of the letters is a
                      homomorphism of it onto the group that is tracked. In each channel it is a finite group of maps
                      `a s + b`, which fixes the mean of what it permutes, so it is commutative: the group is abelian.

What is conjectured: softmax, LLA and linear attention of any fixed depth, with precision logarithmic in the length, and
diagonal state space models, are in TC0 (arXiv 2404.08819 for the latter); the word problem of a group that is not
solvable is complete for NC1 (Barrington). So they do not track it for all lengths unless TC0 = NC1. Solvable groups
are not ruled out: arXiv 2210.10749 builds transformers of fixed depth for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from theory import _checks as check
from theory.base import Reference
from theory.references import BARRINGTON, DELTA_PRODUCT, ILLUSION_OF_STATE, NEGATIVE_EIGENVALUES, SHORTCUTS
from theory.tracking.constructions import (
    dense_tracker,
    householder_tracker,
    mirror_tracker,
    rotation_tracker,
    sign_tracker,
)
from theory.tracking.representations import faithful_representation, reflections_needed
from theory.tracking.trackers import Tracker
from theory.tracking.words import Group, alphabet_of, element_orders

Family = Literal["decay", "sign", "rotation", "delta_unit", "delta", "dense", "constant_depth"]
Answer = Literal["yes", "no", "open", "conjecturally no", "not ruled out"]

_SIGNS = NEGATIVE_EIGENVALUES.at("eigenvalues in [0, 1] and in [-1, 1]; proof and weights derived here")
_TURNS = NEGATIVE_EIGENVALUES.at("complex diagonal transitions; proof and weights derived here")
_FACTORS = DELTA_PRODUCT.at("products of Householder factors; proof and weights derived here")
_DENSE = ILLUSION_OF_STATE.at("transition matrices that depend on the input; weights derived here")


@dataclass(frozen=True)
class Expressivity:
    """One entry of the table.

    Attributes:
      answer: `yes`: `build_tracker` gives weights. `no`: proved in this module. `open`: neither. The other two are
        about circuits of constant depth, for words of every length.
      reason: the idea of the proof or of the construction.
      reference: where it is from.
    """

    answer: Answer
    reason: str
    reference: Reference


def expressivity(group: Group, family: Family, alphabet: Iterable[int] | None = None, factors: int = 1) -> Expressivity:
    """Whether the family tracks the group in one layer.

    Args:
      group: `G`.
      family: `decay`: diagonal in [0, 1], as GLA, Mamba, RetNet. `sign`: diagonal in [-1, 1]. `rotation`: complex
        diagonal of modulus up to 1. `delta_unit`: delta rule with rates in [0, 1]. `delta`: with rates in [0, 2]; both
        with unit keys. `dense`: any matrix. `constant_depth`: transformers (softmax, LLA) of any fixed depth.
      alphabet: the letters of the words; None for all elements. They must generate the group.
      factors: micro-steps a token of the delta rule, `n_h` of DeltaProduct.

    Raises:
      ValueError: there is no such family, or the letters do not generate the group.
    """
    check.choice("family", family, get_args(Family))
    letters = alphabet_of(group, alphabet)
    _require_generators(group, letters)
    steps = check.count("factors", factors)
    largest = int(element_orders(group)[list(letters)].max())
    if group.table.shape[0] == 1:
        return Expressivity("yes", "there is nothing to track", _SIGNS)
    if family == "decay":
        return Expressivity("no", "a repeated letter ends in a fixed point: entries in [0, 1]", _SIGNS)
    if family == "delta_unit":
        return Expressivity("no", "a repeated letter ends in a fixed point: rates in [0, 1]", _SIGNS)
    if family == "sign":
        if int(element_orders(group).max()) <= 2:
            return Expressivity("yes", "one channel that flips for every factor of Z_2^k", _SIGNS)
        return Expressivity("no", _sign_reason(group), _SIGNS)
    if family == "rotation":
        if group.is_abelian:
            return Expressivity("yes", "each cyclic factor turns a channel by roots of unity", _TURNS)
        return Expressivity("no", "channels are commutative groups of maps, so the group is abelian", _TURNS)
    if family == "delta":
        return _delta(group, letters, largest, steps)
    if family == "dense":
        return Expressivity("yes", "the state is a one-hot element, letters permute it", _DENSE)
    if group.is_solvable:
        return Expressivity("not ruled out", "the word problem of a solvable group has constant depth", SHORTCUTS)
    reason = "complete for NC1, the model is in TC0: impossible unless TC0 = NC1"
    return Expressivity("conjecturally no", reason, BARRINGTON)


def build_tracker(group: Group, family: Family, alphabet: Iterable[int] | None = None, factors: int = 1) -> Tracker:
    """The weights behind a `yes` of `expressivity`.

    Args: as there.

    Raises:
      ValueError: the answer is not `yes`.
    """
    letters = alphabet_of(group, alphabet)
    found = expressivity(group, family, letters, factors)
    if found.answer != "yes":
        raise check.fail("family", family, f"one that tracks this group ({found.reason})", "Choose another family.")
    if family == "sign":
        return sign_tracker(group)
    if family == "rotation":
        return rotation_tracker(group)
    if family == "delta":
        few = _needed(group, letters) <= factors
        return householder_tracker(group, letters, factors) if few else mirror_tracker(group)
    return dense_tracker(group, letters)


def expressivity_table(
    groups: Mapping[str, Group], factors: Iterable[int] = (1, 2, 3, 4)
) -> dict[str, dict[str, Expressivity]]:
    """For each group the answer of every family, all elements being letters.

    Args:
      groups: by name.
      factors: the numbers of micro-steps of the delta rule to ask for.

    Returns:
      `table[group][family]`; the delta rule as `delta x 1`, `delta x 2`, ...
    """
    plain = [family for family in get_args(Family) if family != "delta"]
    table: dict[str, dict[str, Expressivity]] = {}
    for name, group in groups.items():
        row = {family: expressivity(group, family) for family in plain}
        table[name] = row | {f"delta x {m}": expressivity(group, "delta", factors=m) for m in factors}
    return table


def _delta(group: Group, letters: tuple[int, ...], largest: int, steps: int) -> Expressivity:
    if steps == 1 and largest > 2:
        reason = f"one factor is symmetric: a letter of order {largest} repeated has period 1 or 2"
        return Expressivity("no", reason, _SIGNS)
    needed = _needed(group, letters)
    if needed <= steps:
        reason = f"a faithful representation in which every letter is a product of {needed} reflections"
        return Expressivity("yes", reason, _FACTORS)
    if int(element_orders(group).max()) <= 2 and group.table.shape[0] <= 16:
        return Expressivity("yes", "one mirror for every letter, read together", _FACTORS)
    reason = f"the best representation found needs {needed} reflections; that fewer cannot do is not proved"
    return Expressivity("open", reason, _FACTORS)


def _needed(group: Group, letters: tuple[int, ...]) -> int:
    return int(reflections_needed(faithful_representation(group, letters)[list(letters)]).max())


def _sign_reason(group: Group) -> str:
    return f"signs: every element has order 1 or 2, here up to {int(element_orders(group).max())}"


def _require_generators(group: Group, letters: tuple[int, ...]) -> None:
    inside, fresh = {group.identity}, [group.identity]
    while fresh:
        reached = {int(group.table[g, letter]) for g in fresh for letter in letters} - inside
        inside |= reached
        fresh = list(reached)
    if len(inside) < group.table.shape[0]:
        raise check.fail("alphabet", letters, "generators of the group", "Add letters.")
