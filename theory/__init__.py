"""Predictions written from the papers: constructions, gradient flows, closed forms. Pure NumPy in float64.

Nothing here reads an implementation: a prediction that can see the model is no prediction.

    import theory
    model = theory.ReducedModel(P, triggers, pi, W=20.0, B=B)
    theory.predict_sink_logits(model, times)          # a Prediction: steps, values, source, assumptions
    theory.integrate(model, 0.0, 0.0, times)          # the same dynamics, solved

    data = theory.icl.Setting(dim=5, context=40)      # in-context linear regression: `theory.icl`
    theory.icl.dgd_optimum(data)                      # the best step of debiased gradient descent, and its risk

    theory.catalogue.hebb_fidelity([16, 64], 64)      # what attention mechanisms can store: `theory.catalogue`
    theory.recall.accuracy_bound(bits, 64, 4096)      # what a state of so many bits can hold: `theory.recall`
    theory.tracking.expressivity(group, "delta")      # which mechanism can follow which group: `theory.tracking`
    theory.pid.pid(p)                                 # redundant, unique and synergistic information: `theory.pid`
"""

from theory import catalogue, icl, pid, recall, tracking
from theory.backcopy_reduced import (
    ReducedModel,
    excess_risk,
    gradients,
    loss,
    small_disturbance_risk,
    transition_law,
)
from theory.base import Prediction, Reference
from theory.construction import ConstructedWeights, construct, construction_risks, embed, predict
from theory.integrate import FlowSolution, integrate
from theory.predictions import (
    predict_residual_peak,
    predict_sink_attention,
    predict_sink_logits,
    predict_sink_loss,
    predict_value_drain,
)
from theory.propositions import (
    alibi_attention,
    identity_sink_mass,
    nope_attention,
    relative_attention,
    rope_first_token_bound,
    uniform_sink_mass,
)
from theory.references import (
    ACTIVE_DORMANT,
    BARRINGTON,
    DELTA_PRODUCT,
    DYNAMICAL_SYSTEMS,
    FUNCTION_CLASSES,
    ILLUSION_OF_STATE,
    INLINE_ATTENTION,
    LEARN_BY_DESCENT,
    LOCAL_LINEAR,
    NEGATIVE_EIGENVALUES,
    ONE_STEP_OPTIMAL,
    PAVLOVIAN,
    PRECONDITIONED_DESCENT,
    PRETRAINING_TASKS,
    RECALL_THROUGHPUT,
    REFERENCES,
    REGRESSION_DEMYSTIFIED,
    SELECTIVE_ATTENTION,
    SHORTCUTS,
    SIGMOID_ATTENTION,
    SINK_EMERGES,
    SINKS_NECESSARY,
    SMOOTH_ATTENTION,
    SOFTPLUS_ATTENTION,
    TRAINED_TRANSFORMERS,
    ZOOLOGY,
    bibtex,
)
from theory.relu_flow import (
    relu_gradients,
    relu_invariant,
    relu_loss,
    relu_sink_limit,
    relu_transition_law,
    relu_value_limit,
)
from theory.residual_peak import (
    residual_drive,
    residual_peak_dynamics,
    residual_peak_sgd,
    residual_projection,
)
from theory.sink_flow import (
    attention_deficit,
    loss_time_constant,
    manifold_residual,
    sink_log_asymptote,
    sink_log_correction,
    value_fixed_point,
    value_variance,
)

__all__ = [
    "ACTIVE_DORMANT",
    "BARRINGTON",
    "DELTA_PRODUCT",
    "DYNAMICAL_SYSTEMS",
    "FUNCTION_CLASSES",
    "ILLUSION_OF_STATE",
    "INLINE_ATTENTION",
    "LEARN_BY_DESCENT",
    "LOCAL_LINEAR",
    "NEGATIVE_EIGENVALUES",
    "ONE_STEP_OPTIMAL",
    "PAVLOVIAN",
    "PRECONDITIONED_DESCENT",
    "PRETRAINING_TASKS",
    "RECALL_THROUGHPUT",
    "REFERENCES",
    "REGRESSION_DEMYSTIFIED",
    "SELECTIVE_ATTENTION",
    "SHORTCUTS",
    "SIGMOID_ATTENTION",
    "SINKS_NECESSARY",
    "SINK_EMERGES",
    "SMOOTH_ATTENTION",
    "SOFTPLUS_ATTENTION",
    "TRAINED_TRANSFORMERS",
    "ZOOLOGY",
    "ConstructedWeights",
    "FlowSolution",
    "Prediction",
    "ReducedModel",
    "Reference",
    "alibi_attention",
    "attention_deficit",
    "bibtex",
    "catalogue",
    "construct",
    "construction_risks",
    "embed",
    "excess_risk",
    "gradients",
    "icl",
    "identity_sink_mass",
    "integrate",
    "loss",
    "loss_time_constant",
    "manifold_residual",
    "nope_attention",
    "pid",
    "predict",
    "predict_residual_peak",
    "predict_sink_attention",
    "predict_sink_logits",
    "predict_sink_loss",
    "predict_value_drain",
    "recall",
    "relative_attention",
    "relu_gradients",
    "relu_invariant",
    "relu_loss",
    "relu_sink_limit",
    "relu_transition_law",
    "relu_value_limit",
    "residual_drive",
    "residual_peak_dynamics",
    "residual_peak_sgd",
    "residual_projection",
    "rope_first_token_bound",
    "sink_log_asymptote",
    "sink_log_correction",
    "small_disturbance_risk",
    "tracking",
    "transition_law",
    "uniform_sink_mass",
    "value_fixed_point",
    "value_variance",
]
