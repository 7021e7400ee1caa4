"""Verdict tables, figures, one self-contained HTML file per run, and a scrubber over training.

Importing this package is cheap: numpy, matplotlib, rich and anywidget are loaded with the first name that needs them.
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
        unasserted,
        verdicts_from_json,
        verdicts_to_json,
    )
    from attnlab.report.figures import (
        RiskPanel,
        attention_maps,
        circuit_evolution,
        circuit_maps,
        concentration_theory,
        dynamics,
        entropy_vs_sink_logit,
        flow_phases,
        flow_theory,
        head_dynamics,
        intervention_bars,
        limit_curves,
        matrix_comparison,
        reduced_model,
        residual_norms,
        residual_peak_theory,
        risk_panels,
        seed_levels,
        sign_endpoints,
        theory_vs_measured,
        value_norm_bars,
    )
    from attnlab.report.html import write_figures, write_report
    from attnlab.report.notebook import show
    from attnlab.report.scrubber import Panel, Scrubber
    from attnlab.report.tables import format_interval, format_number, summary_line, verdict_markdown, verdict_table

__all__ = [
    "Claim",
    "Panel",
    "RiskPanel",
    "Scrubber",
    "Verdict",
    "attention_maps",
    "circuit_evolution",
    "circuit_maps",
    "concentration_theory",
    "count_statuses",
    "dynamics",
    "entropy_vs_sink_logit",
    "exit_status",
    "flow_phases",
    "flow_theory",
    "format_interval",
    "format_number",
    "head_dynamics",
    "intervention_bars",
    "judge",
    "limit_curves",
    "matrix_comparison",
    "not_run",
    "reduced_model",
    "residual_norms",
    "residual_peak_theory",
    "risk_panels",
    "seed_levels",
    "show",
    "sign_endpoints",
    "summary_line",
    "theory_vs_measured",
    "unasserted",
    "value_norm_bars",
    "verdict_markdown",
    "verdict_table",
    "verdicts_from_json",
    "verdicts_to_json",
    "write_figures",
    "write_report",
]

_HOMES = {
    "attnlab.report.claims": (
        "Claim",
        "Verdict",
        "count_statuses",
        "exit_status",
        "judge",
        "not_run",
        "unasserted",
        "verdicts_from_json",
        "verdicts_to_json",
    ),
    "attnlab.report.tables": (
        "format_interval",
        "format_number",
        "summary_line",
        "verdict_markdown",
        "verdict_table",
    ),
    "attnlab.report.figures": (
        "RiskPanel",
        "attention_maps",
        "circuit_evolution",
        "circuit_maps",
        "concentration_theory",
        "dynamics",
        "entropy_vs_sink_logit",
        "flow_phases",
        "flow_theory",
        "head_dynamics",
        "intervention_bars",
        "limit_curves",
        "matrix_comparison",
        "reduced_model",
        "residual_norms",
        "residual_peak_theory",
        "risk_panels",
        "seed_levels",
        "sign_endpoints",
        "theory_vs_measured",
        "value_norm_bars",
    ),
    "attnlab.report.html": (
        "write_figures",
        "write_report",
    ),
    "attnlab.report.notebook": ("show",),
    "attnlab.report.scrubber": (
        "Panel",
        "Scrubber",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
