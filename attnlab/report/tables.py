"""Verdicts as text: numbers, tokens, a table for the terminal (rich) and one for GitHub (Markdown)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsFloat

from attnlab.report.claims import Verdict, count_statuses

if TYPE_CHECKING:
    from rich.table import Table

# Sign, word and colour, so that nothing hangs on colour alone.
STATUS_SIGNS = {"passed": "✓", "failed": "✗", "inconclusive": "?", "differs": "≠", "not run": "–"}
STATUS_STYLES = {
    "passed": "green",
    "failed": "bold red",
    "inconclusive": "yellow",
    "differs": "magenta",
    "not run": "dim",
}
COLUMNS = (
    "claim",
    "status",
    "what is claimed",
    "measured",
    "range over seeds",
    "predicted",
    "allowed",
    "seeds",
    "source",
)


def show_token(token: str) -> str:
    """A token as a visible label: space is ␣, newline is ↵, tab is ⇥."""
    return token.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def format_number(value: SupportsFloat | None, digits: int = 4) -> str:
    """A number in at most `digits` significant digits: 0.7531, 27.86, 10513, 1.3e-07; None is an en dash.

    Whole digits are kept up to a million, so that 10513 is not turned into 1.051e+04.
    """
    if value is None:
        return "–"
    number = float(value)
    if math.isfinite(number) and 10.0 ** (digits - 1) <= abs(number) < 1e6:
        return f"{number:.0f}" if abs(number) >= 10.0**digits or number.is_integer() else f"{number:.{digits}g}"
    return f"{number:.{digits}g}"


def format_interval(interval: Sequence[SupportsFloat] | None, digits: int = 6) -> str:
    """A closed interval: `[0.6, 1]`, `≤ 0.02`, `≥ 4`, `= 0`, `any`; None is an en dash."""
    if interval is None:
        return "–"
    low, high = map(float, interval)
    if low == high:
        return f"= {format_number(low, digits)}"
    if math.isinf(low) and math.isinf(high):
        return "any"
    if math.isinf(low):
        return f"≤ {format_number(high, digits)}"
    if math.isinf(high):
        return f"≥ {format_number(low, digits)}"
    return f"[{format_number(low, digits)}, {format_number(high, digits)}]"


def format_spread(values: Sequence[SupportsFloat], none: str = "–") -> str:
    """Median and range of what is finite: `0.91 (0.88 … 0.95)`, and `, 2/3` if not all are; `none` if nothing is."""
    finite = sorted(float(value) for value in values if math.isfinite(value))
    if not finite:
        return none if len(values) else "–"
    told = format_number(statistics.median(finite), 3)
    if len(finite) > 1:
        told += f" ({format_number(finite[0], 2)} … {format_number(finite[-1], 2)})"
    return told if len(finite) == len(values) else f"{told}, {len(finite)}/{len(values)}"


def as_text(table: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns of one width."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table)


def format_range(verdict: Verdict) -> str:
    """Smallest to largest value over seeds; an en dash for fewer than two seeds."""
    if verdict.interval is None or verdict.num_seeds < 2:
        return "–"
    return f"{format_number(verdict.interval[0])} … {format_number(verdict.interval[1])}"


def format_seeds(verdict: Verdict) -> str:
    """Seeds inside the allowed interval over all seeds: `4/4`."""
    return f"{verdict.num_inside}/{verdict.num_seeds}" if verdict.num_seeds else "–"


def summary_line(verdicts: Sequence[Verdict]) -> str:
    """`17 passed, 1 failed, 2 not run`; statuses that do not occur are left out."""
    parts = [f"{count} {status}" for status, count in count_statuses(verdicts).items() if count]
    return ", ".join(parts) or "no claims"


def _row(verdict: Verdict) -> tuple[str, ...]:
    return (
        verdict.claim.id,
        f"{STATUS_SIGNS[verdict.status]} {verdict.status}",
        verdict.claim.statement,
        format_number(verdict.measured),
        format_range(verdict),
        format_number(verdict.predicted),
        format_interval(verdict.allowed),
        format_seeds(verdict),
        f"{verdict.claim.source} [{verdict.claim.trust}]",
    )


def verdict_table(
    verdicts: Sequence[Verdict], title: str | None = None, show_source: bool = False, show_statement: bool = True
) -> Table:
    """A rich table, one row per verdict. A narrow terminal has no room for statements, and none has for sources."""
    from rich.table import Table
    from rich.text import Text

    hidden = {name for name, show in (("source", show_source), ("what is claimed", show_statement)) if not show}
    shown = [i for i, column in enumerate(COLUMNS) if column not in hidden]
    columns = [COLUMNS[i] for i in shown]
    table = Table(title=title, caption=summary_line(verdicts), show_lines=False)
    for column in columns:
        right = column in ("measured", "predicted", "seeds")
        fold = column in ("what is claimed", "source")
        table.add_column(column, justify="right" if right else "left", no_wrap=not fold, overflow="fold")
    for verdict in verdicts:
        row = _row(verdict)
        cells: list[Text] = [Text(row[i]) for i in shown]
        cells[1].stylize(STATUS_STYLES[verdict.status])
        table.add_row(*cells)
    return table


def verdict_markdown(verdicts: Sequence[Verdict]) -> str:
    """A GitHub Markdown table, one row per verdict, ending in a newline."""
    right = {"measured", "predicted", "seeds"}
    lines = [
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "|".join(" ---: " if column in right else " --- " for column in COLUMNS) + "|",
    ]
    lines += ["| " + " | ".join(_escape_markdown(cell) for cell in _row(verdict)) + " |" for verdict in verdicts]
    return "\n".join(lines) + "\n"


def _escape_markdown(text: str) -> str:
    for old, new in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("\\", "\\\\"),
        ("|", "\\|"),
        ("*", "\\*"),
        ("_", "\\_"),
    ):
        text = text.replace(old, new)
    return " ".join(text.split())
