"""In-context linear regression: what attention should learn, how fast, and how good it can be.

    from theory import icl
    data = icl.Setting(dim=5, context=40, noise_variance=0.1)
    icl.dgd_optimum(data)                        # BestStep(eta=0.879, risk=0.243), exact at every d and L
    icl.best_preconditioner(data, "debiased")    # Gamma*, for any mean, covariance and prior
    icl.one_head_optimum(data)                   # of the reduced model: omega, mu, risk

The files, one idea each:
  setting        the data model, one record that every function takes
  estimators     exact risks and optima of one step of gradient descent, plain and debiased, with preconditioner
  small_weights  the best that softmax heads of small weights can do when inputs have a mean
  lengths        trained at one prompt length, tested at another
  proportional   the limit d/L = xi, and the Bayes risk of finite prompts
  reduced        the reduced model of softmax heads: loss in matrix and moment form, optima
  heads_flow     its gradient flow, and the phases that the flow goes through
  valley         the slow end of that flow, omega ~ t^(-1/6), with its constants
  exact_heads    the exact risk of softmax heads, by Monte Carlo
  softmax        tilting, concentration, and the kernel smoother in a head
  multitask      several regressions in one prompt: how many heads they need
  linear_attention   where linear attention ends (Zhang et al., Ahn et al.), and its risk by causes
  gd_construction    weights that are steps of gradient descent (von Oswald et al.)
  curves         the above as `Prediction` values
"""

from theory.icl.curves import (
    Predictor,
    predict_context_risk,
    predict_flow,
    predict_length_risk,
    predict_limit_risk,
    predict_valley,
)
from theory.icl.estimators import (
    BestStep,
    Moments,
    best_preconditioned_risk,
    best_preconditioner,
    dgd_optimum,
    dgd_risk,
    gd_optimum,
    gd_risk,
    moments,
    population_risk,
    risk_gradient,
    step_risk,
)
from theory.icl.exact_heads import ExactHeads, exact_best_mu, exact_head_risk, exact_one_head
from theory.icl.gd_construction import DescentLayer, apply_layer, descent_layer, descent_steps_risk, uniform_optimum
from theory.icl.heads_flow import HeadsFlow, Phases, find_phases, integrate_heads, small_start
from theory.icl.lengths import length_regret, length_risk, trained_step
from theory.icl.linear_attention import (
    AhnWeights,
    LinearAttention,
    TransferRisk,
    ahn_minimum,
    ahn_output,
    gamma_matrix,
    isotropic_curves,
    least_squares_risk,
    linear_attention_limit,
    linear_attention_output,
    start_converges,
    transfer_risk,
)
from theory.icl.multitask import (
    TaskHeads,
    can_fit,
    fit_heads,
    fit_residual,
    heads_needed,
    support_matrix,
    task_diagonals,
    task_risks,
    task_setting,
)
from theory.icl.proportional import Estimate, bayes_limit_risk, bayes_risk, gd_limit_risk, limit_risk_ratio
from theory.icl.reduced import (
    OneHead,
    head_moments,
    loss_infimum,
    minimised_loss,
    mu_star,
    one_head_optimum,
    reduced_gradients,
    reduced_loss,
    reduced_loss_moments,
    step_size_limit,
    two_head_gain,
)
from theory.icl.same_sign import (
    critical_balance,
    same_sign_curvature,
    same_sign_probability,
    same_sign_solution,
    settles_same_sign,
)
from theory.icl.setting import Setting
from theory.icl.small_weights import SmallWeights, best_small_weights, small_weight_risk
from theory.icl.softmax import (
    Tilted,
    attention_overlap,
    bandwidth,
    mean_attention_overlap,
    smoother_weights,
    softmax_weights,
    tilt,
)
from theory.icl.valley import valley_constants, valley_loss, valley_omega, valley_step, valley_velocity

__all__ = [
    "AhnWeights",
    "BestStep",
    "DescentLayer",
    "Estimate",
    "ExactHeads",
    "HeadsFlow",
    "LinearAttention",
    "Moments",
    "OneHead",
    "Phases",
    "Predictor",
    "Setting",
    "SmallWeights",
    "TaskHeads",
    "Tilted",
    "TransferRisk",
    "ahn_minimum",
    "ahn_output",
    "apply_layer",
    "attention_overlap",
    "bandwidth",
    "bayes_limit_risk",
    "bayes_risk",
    "best_preconditioned_risk",
    "best_preconditioner",
    "best_small_weights",
    "can_fit",
    "critical_balance",
    "descent_layer",
    "descent_steps_risk",
    "dgd_optimum",
    "dgd_risk",
    "exact_best_mu",
    "exact_head_risk",
    "exact_one_head",
    "find_phases",
    "fit_heads",
    "fit_residual",
    "gamma_matrix",
    "gd_limit_risk",
    "gd_optimum",
    "gd_risk",
    "head_moments",
    "heads_needed",
    "integrate_heads",
    "isotropic_curves",
    "least_squares_risk",
    "length_regret",
    "length_risk",
    "limit_risk_ratio",
    "linear_attention_limit",
    "linear_attention_output",
    "loss_infimum",
    "mean_attention_overlap",
    "minimised_loss",
    "moments",
    "mu_star",
    "one_head_optimum",
    "population_risk",
    "predict_context_risk",
    "predict_flow",
    "predict_length_risk",
    "predict_limit_risk",
    "predict_valley",
    "reduced_gradients",
    "reduced_loss",
    "reduced_loss_moments",
    "risk_gradient",
    "same_sign_curvature",
    "same_sign_probability",
    "same_sign_solution",
    "settles_same_sign",
    "small_start",
    "small_weight_risk",
    "smoother_weights",
    "softmax_weights",
    "start_converges",
    "step_risk",
    "step_size_limit",
    "support_matrix",
    "task_diagonals",
    "task_risks",
    "task_setting",
    "tilt",
    "trained_step",
    "transfer_risk",
    "two_head_gain",
    "uniform_optimum",
    "valley_constants",
    "valley_loss",
    "valley_omega",
    "valley_step",
    "valley_velocity",
]
