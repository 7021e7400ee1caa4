"""The figures of the papers: plain arrays in, `matplotlib.figure.Figure` out, theory drawn over measurement."""

from attnlab.report.figures_circuits import circuit_evolution, circuit_maps, matrix_comparison
from attnlab.report.figures_heads import attention_maps, entropy_vs_sink_logit, intervention_bars, value_norm_bars
from attnlab.report.figures_reduced import flow_phases, head_dynamics
from attnlab.report.figures_regression import (
    RiskPanel,
    concentration_theory,
    limit_curves,
    risk_panels,
    seed_levels,
    sign_endpoints,
)
from attnlab.report.figures_theory import flow_theory, reduced_model, residual_peak_theory
from attnlab.report.figures_time import dynamics, residual_norms, theory_vs_measured
from attnlab.report.style import save_png, style

__all__ = [
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
    "save_png",
    "seed_levels",
    "sign_endpoints",
    "style",
    "theory_vs_measured",
    "value_norm_bars",
]
