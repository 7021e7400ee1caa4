"""What a study claims, and what the measurement said: `Claim`, `Verdict`, `judge`, JSON in and out.

Only the standard library is imported here, so that a command line can list claims without loading jax.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Literal, SupportsFloat, get_args

Status = Literal["passed", "failed", "inconclusive", "differs", "not run"]
STATUSES: tuple[str, ...] = get_args(Status)
JSON_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement of a paper that a study can test.

    Args:
      id: short name, unique within a study (`"A16.backcopy"`).
      statement: the paper's claim in our own words, one sentence.
      source: where it is made (paper, section, equation, table).
      trust: how the expectation is known: `code`, `stored`, `derived`, `checked`, `measured`, `memory`, or a mixture.
      quantity: what is measured, with its unit.
      expected: the prediction for a human reader (`"in [0.6, 1]"`).
      tolerance_reason: why the allowed interval is as wide as it is.
      presets: the presets on which the claim is asserted.
    """

    id: str
    statement: str
    source: str
    trust: str
    quantity: str
    expected: str
    tolerance_reason: str
    presets: tuple[str, ...]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name == "presets":
                continue
            value = getattr(self, field.name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"Claim.{field.name} is {value!r}; allowed: text that is not empty. Fill it in.")
        if isinstance(self.presets, str) or not all(isinstance(p, str) and p for p in self.presets):
            raise ValueError(f"Claim.presets is {self.presets!r}; allowed: a tuple of names. Write ('laptop',).")
        object.__setattr__(self, "presets", tuple(self.presets))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the measurement says about one claim.

    Args:
      claim: the claim judged.
      status: `passed`, `failed`, `inconclusive`, `not run`, or `differs`: a claim that is reported but not asserted at
        this size, and does not hold.
      measured: median over seeds; None when not run.
      interval: smallest and largest value over seeds (the range, not a confidence interval).
      per_seed: the S measured values, in the order of the seeds.
      predicted: the value that theory or the paper gives, if it gives one.
      allowed: closed interval that the median must lie in; an end may be infinite.
      seconds: time spent measuring.
      note: why the status is what it is.
    """

    claim: Claim
    status: Status
    measured: float | None = None
    interval: tuple[float, float] | None = None
    per_seed: tuple[float, ...] = ()
    predicted: float | None = None
    allowed: tuple[float, float] | None = None
    seconds: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"Verdict.status is {self.status!r}; allowed: {', '.join(STATUSES)}. Use judge().")

    @property
    def num_seeds(self) -> int:
        """Number of seeds measured, S."""
        return len(self.per_seed)

    @property
    def num_inside(self) -> int:
        """Number of seeds whose own value lies in the allowed interval."""
        if self.allowed is None:
            return 0
        return sum(self.allowed[0] <= value <= self.allowed[1] for value in self.per_seed)


def judge(
    claim: Claim,
    per_seed_values: Iterable[SupportsFloat] | SupportsFloat,
    lo: SupportsFloat | None,
    hi: SupportsFloat | None,
    predicted: SupportsFloat | None = None,
    seconds: SupportsFloat | None = None,
    note: str = "",
) -> Verdict:
    """Compare the measured values with the allowed interval [lo, hi].

    - A value that is not finite in any seed: `failed`.
    - Median over seeds outside [lo, hi]: `failed`.
    - Median inside, but fewer than half of the seeds inside: `inconclusive` (the median then speaks for no run).
    - Otherwise `passed`. The note says how many seeds are inside.

    Args:
      claim: the claim under test.
      per_seed_values: values [S]; a single number is one seed.
      lo: lower end, None for no lower end.
      hi: upper end, None for no upper end.
      predicted: what theory or the paper says, for the table; it does not enter the decision.
      seconds: time spent measuring.
      note: put before the automatic note.

    Returns:
      The verdict, with the median, the range over seeds and all S values.

    Example:
      >>> claim = Claim("A4", "sink logits grow", "theorem 2a", "derived", "slope", "1/2", "1 %", presets=("smoke",))
      >>> judge(claim, [0.499, 0.501, 0.5], 0.495, 0.505).status
      'passed'
    """
    values = _as_floats(per_seed_values)
    if not values:
        raise ValueError(f"per_seed_values of claim {claim.id!r} is empty; allowed: S >= 1 values. Use not_run().")
    low = -math.inf if lo is None else float(lo)
    high = math.inf if hi is None else float(hi)
    if not low <= high:
        raise ValueError(
            f"interval of claim {claim.id!r} is [{low}, {high}]; allowed: lo <= hi, no NaN. Swap the ends."
        )
    finite = [value for value in values if math.isfinite(value)]
    median = statistics.median(values) if len(finite) == len(values) else math.nan
    inside = sum(low <= value <= high for value in values)
    if len(finite) < len(values):
        bad = ", ".join(str(index) for index, value in enumerate(values) if not math.isfinite(value))
        status, reason = "failed", f"not finite in seed {bad} (counted from 0)"
    elif not low <= median <= high:
        status, reason = "failed", f"median outside; {inside} of {len(values)} seeds inside"
    elif 2 * inside < len(values):
        status, reason = "inconclusive", f"median inside, but only {inside} of {len(values)} seeds are"
    else:
        status, reason = "passed", f"{inside} of {len(values)} seeds inside"
    return Verdict(
        claim=claim,
        status=status,
        measured=median,
        interval=(min(finite), max(finite)) if finite else None,
        per_seed=values,
        predicted=None if predicted is None else float(predicted),
        allowed=(low, high),
        seconds=None if seconds is None else float(seconds),
        note="; ".join(part for part in (note, reason) if part),
    )


def not_run(claim: Claim, note: str = "") -> Verdict:
    """A verdict for a claim that was not measured, for example because the preset does not assert it."""
    return Verdict(claim=claim, status="not run", note=note)


def unasserted(verdict: Verdict) -> Verdict:
    """The verdict of a claim that is reported, not asserted: where it does not hold it `differs`, and fails nothing."""
    status = "differs" if verdict.status in ("failed", "inconclusive") else verdict.status
    note = "; ".join(part for part in ("reported, not asserted at this size", verdict.note) if part)
    return dataclasses.replace(verdict, status=status, note=note)


def count_statuses(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many verdicts have each status, in the order of `STATUSES`."""
    return {status: sum(verdict.status == status for verdict in verdicts) for status in STATUSES}


def exit_status(verdicts: Sequence[Verdict]) -> int:
    """0 if at least one claim passed and no asserted one failed or stayed inconclusive, else 1 (for `sys.exit`)."""
    counts = count_statuses(verdicts)
    return 0 if counts["passed"] and not counts["failed"] and not counts["inconclusive"] else 1


def verdicts_to_json(verdicts: Sequence[Verdict]) -> str:
    """Verdicts as strict JSON text (`inf` and `nan` are written as strings); `verdicts_from_json` reads it back."""
    rows = [_jsonable(dataclasses.asdict(verdict)) for verdict in verdicts]
    return json.dumps({"format": JSON_FORMAT, "verdicts": rows}, indent=1, ensure_ascii=False, allow_nan=False)


def verdicts_from_json(text: str) -> tuple[Verdict, ...]:
    """Read what `verdicts_to_json` wrote; the result compares equal to the verdicts written (NaN apart)."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("format") != JSON_FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"format of the verdict file is {found!r}; allowed: {JSON_FORMAT}. Run the study again.")
    verdicts = []
    for row in data["verdicts"]:
        claim = _build(Claim, {**row["claim"], "presets": tuple(row["claim"]["presets"])})
        values = {name: _unjson(value) for name, value in row.items() if name not in ("claim", "status", "note")}
        verdicts.append(_build(Verdict, {**values, "claim": claim, "status": row["status"], "note": row["note"]}))
    return tuple(verdicts)


def _as_floats(values: Any) -> tuple[float, ...]:
    # Arrays of any library: 0-d has no length, 1-d iterates; more dimensions fail in float() with our message.
    try:
        items = list(values)
    except TypeError:
        items = [values]
    try:
        return tuple(float(item) for item in items)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"per_seed_values is {values!r}; allowed: one number for each of S seeds, shape [S]."
        ) from error


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _unjson(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_unjson(item) for item in value)
    return float(value) if value in ("inf", "-inf", "nan") else value


def _build(kind: type, values: dict[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f"{kind.__name__} has unknown fields {unknown}; allowed: {sorted(known)}. Run the study again."
        )
    return kind(**values)
