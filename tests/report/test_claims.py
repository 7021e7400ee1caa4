"""Verdict logic, tables and the JSON round trip."""

import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from attnlab.report.claims import Claim, Verdict, exit_status, judge, not_run, verdicts_from_json, verdicts_to_json
from attnlab.report.tables import format_interval, format_number, summary_line, verdict_markdown, verdict_table


def make_claim(id: str = "A16.attention", **changes: object) -> Claim:
    fields = {
        "id": id,
        "statement": "non-trigger queries attend to ⟨s⟩",
        "source": "2410.13835, figure 4",
        "trust": "measured",
        "quantity": "mean attention on ⟨s⟩",
        "expected": "in [0.6, 1]",
        "tolerance_reason": "seed spread is large",
        "presets": ("laptop",),
    }
    return Claim(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "lo", "hi", "status"),
    [
        ([0.7, 0.8, 0.9, 0.95], 0.6, 1.0, "passed"),
        ([0.6], 0.6, 1.0, "passed"),  # closed at the end
        ([0.1, 0.2, 0.3], 0.6, 1.0, "failed"),
        ([0.1, 0.7, 0.8], 0.6, 1.0, "passed"),  # one seed out, two in
        ([0.0, 0.0, 10.0, 10.0], 4.0, 6.0, "inconclusive"),  # the median speaks for no seed
        ([0.0, 0.0, 5.0, 10.0, 10.0], 4.0, 6.0, "inconclusive"),
        ([4.0, 4.0, 6.0, 9.0], 4.0, 6.0, "passed"),
        ([0.7, math.nan, 0.8], 0.6, 1.0, "failed"),
        ([0.7, math.inf, 0.8], None, None, "failed"),
        ([math.nan], None, None, "failed"),
        ([1e9], None, None, "passed"),
        ([0.5, 0.7], None, 0.7, "passed"),
        ([3.0], 4.0, None, "failed"),
        (0.7, 0.6, 1.0, "passed"),  # a plain number is one seed
        (np.float32(0.7), 0.6, 1.0, "passed"),
        (np.array([0.7, 0.8]), 0.6, 1.0, "passed"),
        ([True, True, False], 1.0, 1.0, "passed"),
    ],
)
def test_judge_status(values, lo, hi, status):
    assert judge(make_claim(), values, lo, hi).status == status


def test_judge_reports_median_range_and_seeds():
    verdict = judge(
        make_claim(), [0.9, 0.5, 0.7, 0.8], 0.6, 1.0, predicted=np.float64(0.75), seconds=3, note="step 2000"
    )
    assert verdict.measured == pytest.approx(0.75)
    assert verdict.interval == (0.5, 0.9)
    assert verdict.per_seed == (0.9, 0.5, 0.7, 0.8)
    assert (verdict.num_seeds, verdict.num_inside) == (4, 3)
    assert verdict.predicted == 0.75 and verdict.seconds == 3.0
    assert verdict.note == "step 2000; 3 of 4 seeds inside"


def test_judge_names_the_seed_that_is_not_finite():
    verdict = judge(make_claim(), [0.7, math.nan, 0.8], 0.6, 1.0)
    assert verdict.measured is not None and math.isnan(verdict.measured)
    assert verdict.interval == (0.7, 0.8)
    assert "seed 1" in verdict.note


@pytest.mark.parametrize(
    ("values", "lo", "hi", "match"),
    [
        ([], 0, 1, "empty.*not_run"),
        ([1.0], 2.0, 1.0, "lo <= hi"),
        ([1.0], math.nan, 1.0, "lo <= hi"),
        (np.ones((2, 2)), 0, 1, r"shape \[S\]"),
        (["x"], 0, 1, "per_seed_values"),
    ],
)
def test_judge_bad_input(values, lo, hi, match):
    with pytest.raises(ValueError, match=match):
        judge(make_claim(), values, lo, hi)


@pytest.mark.parametrize(("field", "value"), [("id", ""), ("source", "  "), ("presets", "laptop"), ("trust", None)])
def test_claim_bad_field_is_named(field, value):
    with pytest.raises(ValueError, match=f"Claim.{field}"):
        make_claim(**{field: value})


def test_verdict_bad_status():
    with pytest.raises(ValueError, match="status"):
        Verdict(make_claim(), "ok")  # type: ignore[arg-type]


def some_verdicts() -> tuple[Verdict, ...]:
    return (
        judge(make_claim("A16.attention"), [0.75, 0.97, 0.81, 0.9], 0.6, 1.0, predicted=0.8, seconds=1.25),
        judge(make_claim("A16|pipe", statement="a < b & *c* | d_e"), [1.3e-7, 0.5], None, 0.02),
        judge(make_claim("A4"), 0.5, 0.5, None),
        not_run(make_claim("A9", presets=("paper",)), "needs an accelerator"),
    )


def test_json_round_trip():
    verdicts = some_verdicts()
    text = verdicts_to_json(verdicts)
    assert verdicts_from_json(text) == verdicts
    json.loads(text, parse_constant=lambda name: pytest.fail(f"not strict JSON: {name}"))


def test_json_round_trip_of_nan():
    verdict = judge(make_claim(), [math.nan, 1.0], None, None)
    (back,) = verdicts_from_json(verdicts_to_json([verdict]))
    assert repr(back) == repr(verdict)


@pytest.mark.parametrize("text", ['{"format": 99, "verdicts": []}', "[]"])
def test_json_of_another_format_is_refused(text):
    with pytest.raises(ValueError, match="format"):
        verdicts_from_json(text)


def test_json_with_an_unknown_field_is_refused():
    data = json.loads(verdicts_to_json(some_verdicts()))
    data["verdicts"][0]["surprise"] = 1
    with pytest.raises(ValueError, match="surprise"):
        verdicts_from_json(json.dumps(data))


def test_exit_status():
    good, bad = judge(make_claim(), 0.7, 0.6, 1), judge(make_claim(), 0.1, 0.6, 1)
    unclear = judge(make_claim(), [0.0, 0.0, 10.0, 10.0], 4, 6)
    assert exit_status([good, not_run(make_claim())]) == 0
    assert exit_status([good, bad]) == 1
    assert exit_status([good, unclear]) == 1
    assert exit_status([not_run(make_claim())]) == 1  # no evidence is no success


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.75314, "0.7531"),
        (1.3e-7, "1.3e-07"),
        (27.8612, "27.86"),
        (10513.4, "10513"),
        (2000, "2000"),
        (2000.4, "2000"),
        (1234567.0, "1.235e+06"),
        (0.0, "0"),
        (-0.5, "-0.5"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (None, "–"),
    ],
)
def test_format_number(value, text):
    assert format_number(value) == text


def test_format_interval():
    inf = math.inf
    found = [format_interval(i) for i in ((0.6, 1.0), (-inf, 0.02), (4.0, inf), (0.0, 0.0), (-inf, inf), None)]
    assert found == ["[0.6, 1]", "≤ 0.02", "≥ 4", "= 0", "any", "–"]


def test_markdown_has_every_claim_and_stays_a_table():
    verdicts = some_verdicts()
    lines = verdict_markdown(verdicts).splitlines()
    assert len(lines) == 2 + len(verdicts)
    bars = {line.replace("\\|", "").count("|") for line in lines}
    assert bars == {10}
    assert "a &lt; b &amp; \\*c\\* \\| d\\_e" in lines[3]
    assert "0.855" in lines[2] and "0.75 … 0.97" in lines[2] and "4/4" in lines[2] and "✓ passed" in lines[2]


def test_rich_table_has_every_claim():
    from rich.console import Console

    console = Console(file=io.StringIO(), width=220)
    console.print(verdict_table(some_verdicts(), title="active-dormant", show_source=True))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "A16.attention",
        "A16|pipe",
        "A4",
        "A9",
        "not run",
        "failed",
        "≤ 0.02",
        "[0.6, 1]",
        summary_line(some_verdicts()),
    ):
        assert part in text


def test_claims_import_nothing_heavy():
    code = (
        "import sys; import attnlab.report.claims, attnlab.report.tables, attnlab.report; "
        "from attnlab.report import Claim, judge; "
        "print([m for m in ('matplotlib', 'anywidget', 'rich', 'jax') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
