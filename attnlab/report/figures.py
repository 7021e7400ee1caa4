"""The figures of the papers: plain arrays in, `matplotlib.figure.Figure` out, theory drawn over measurement."""

from attnlab.report.figures_heads import attention_maps, entropy_vs_sink_logit, intervention_bars, value_norm_bars
from attnlab.report.figures_theory import flow_theory, reduced_model, residual_peak_theory
from attnlab.report.figures_time import dynamics, residual_norms, theory_vs_measured
from attnlab.report.style import save_png, style

__all__ = [
    "attention_maps",
    "dynamics",
    "entropy_vs_sink_logit",
    "flow_theory",
    "intervention_bars",
    "reduced_model",
    "residual_norms",
    "residual_peak_theory",
    "save_png",
    "style",
    "theory_vs_measured",
    "value_norm_bars",
]
