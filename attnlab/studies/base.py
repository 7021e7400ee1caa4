"""What a study is: a paper, presets, and a table of checks. Nothing here loads jax.

A check pairs a `Claim` (the statement, its source, its trust, the tolerance and its reason) with what measures it: a
function of the study's `Lab`, which trains and evaluates on demand and remembers what it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnlab.report.claims import Claim

Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Preset:
    """One size of a study.

    Attributes:
      name: `smoke`, `laptop`, `evening`, `paper`, ...
      describes: what it trains and on what machine, in one line.
      minutes: how long it takes there, as measured or (for accelerators) estimated; None = not measured.
      seeds: how many by default.
    """

    name: str
    describes: str
    minutes: float | None
    seeds: int


@dataclass(frozen=True)
class Check:
    """A claim and how it is measured.

    Attributes:
      claim: the statement.
      measure: `lab -> values over seeds` (or one value, for theory).
      allowed: closed interval for the median over seeds; an end may be None.
      predicted: what theory or the paper gives, if one number.
      bands: other intervals for some presets, where the source gives other bands at another size.
      reported: presets at which the claim is measured and shown, but not asserted (what does not reproduce there).
    """

    claim: Claim
    measure: Callable[[Any], Any]
    allowed: Interval
    predicted: float | Callable[[Any], float] | None = None
    bands: Mapping[str, Interval] = field(default_factory=dict)
    reported: tuple[str, ...] = ()

    def interval(self, preset: str) -> Interval:
        """What is allowed at this preset."""
        return self.bands.get(preset, self.allowed)


def check(
    id: str,
    statement: str,
    quantity: str,
    measure: Callable[[Any], Any],
    allowed: Interval,
    *,
    source: str,
    trust: str,
    why: str,
    presets: tuple[str, ...],
    predicted: float | Callable[[Any], float] | None = None,
    bands: Mapping[str, Interval] | None = None,
    reported: tuple[str, ...] = (),
) -> Check:
    """A `Check` in one call: the claim's fields, how it is measured, what is allowed and why."""
    low, high = allowed
    expected = f"<= {high:g}" if low is None else f">= {low:g}" if high is None else f"in [{low:g}, {high:g}]"
    claim = Claim(id, statement, source, trust, quantity, expected, why, presets)
    return Check(claim, measure, allowed, predicted, bands or {}, reported)


@dataclass(frozen=True)
class Study:
    """A paper's claims at several sizes.

    Attributes:
      name: what the command line calls it.
      title, reference: the paper.
      presets: sizes, smallest first.
      checks: the table of claims.
      open_lab: `(folder, preset, seeds, progress, say, first_seed, precision) -> lab`; imports the heavy parts.
      figures: `lab -> {file name: (caption, figure)}`.
      scrubbers: `lab -> {heading: Scrubber}`.
      notes: what a reader must know, in the report's light markup.
    """

    name: str
    title: str
    reference: str
    presets: tuple[Preset, ...]
    checks: tuple[Check, ...]
    open_lab: Callable[..., Any]
    figures: Callable[[Any], Mapping[str, Any]]
    scrubbers: Callable[[Any], Mapping[str, Any]]
    notes: str = ""

    def preset(self, name: str) -> Preset:
        """The preset called `name`."""
        for preset in self.presets:
            if preset.name == name:
                return preset
        raise ValueError(
            f"--preset: got {name!r}; allowed for {self.name} is {', '.join(p.name for p in self.presets)}."
        )

    def shown(self, preset: str, only: Sequence[str] = ()) -> tuple[Check, ...]:
        """The checks of a preset, asserted or only reported; `only` keeps those whose id begins with one of them."""
        chosen = tuple(c for c in self.checks if preset in (*c.claim.presets, *c.reported))
        if not only:
            return chosen
        kept = tuple(c for c in chosen if any(c.claim.id == o or c.claim.id.startswith(o + ".") for o in only))
        if not kept:
            ids = ", ".join(c.claim.id for c in chosen)
            raise ValueError(
                f"--only: {', '.join(only)} matches no claim of {self.name} at {preset}. Its claims: {ids}."
            )
        return kept
