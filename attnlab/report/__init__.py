"""Verdict tables, figures, one self-contained HTML file per run, and a scrubber over training.

Importing this package is cheap: matplotlib, rich and anywidget are loaded when a name that needs them is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnlab.report.claims import (
        Claim,
        Verdict,
        count_statuses,
        exit_status,
        judge,
        not_run,
        verdicts_from_json,
        verdicts_to_json,
    )
    from attnlab.report.tables import format_interval, format_number, summary_line, verdict_markdown, verdict_table

_HOMES = {
    "attnlab.report.claims": (
        "Claim",
        "Verdict",
        "count_statuses",
        "exit_status",
        "judge",
        "not_run",
        "verdicts_from_json",
        "verdicts_to_json",
    ),
    "attnlab.report.tables": ("format_interval", "format_number", "summary_line", "verdict_markdown", "verdict_table"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order of a study: claims, tables
    "Claim",
    "Verdict",
    "count_statuses",
    "exit_status",
    "judge",
    "not_run",
    "verdicts_from_json",
    "verdicts_to_json",
    "format_interval",
    "format_number",
    "summary_line",
    "verdict_markdown",
    "verdict_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
