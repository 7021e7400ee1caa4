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
"""

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
from theory.icl.lengths import length_regret, length_risk, trained_step
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
from theory.icl.setting import Setting
from theory.icl.small_weights import SmallWeights, best_small_weights, small_weight_risk

__all__ = [
    "BestStep",
    "Estimate",
    "Moments",
    "OneHead",
    "Setting",
    "SmallWeights",
    "bayes_limit_risk",
    "bayes_risk",
    "best_preconditioned_risk",
    "best_preconditioner",
    "best_small_weights",
    "dgd_optimum",
    "dgd_risk",
    "gd_limit_risk",
    "gd_optimum",
    "gd_risk",
    "head_moments",
    "length_regret",
    "length_risk",
    "limit_risk_ratio",
    "loss_infimum",
    "minimised_loss",
    "moments",
    "mu_star",
    "one_head_optimum",
    "population_risk",
    "reduced_gradients",
    "reduced_loss",
    "reduced_loss_moments",
    "risk_gradient",
    "small_weight_risk",
    "step_risk",
    "step_size_limit",
    "trained_step",
    "two_head_gain",
]
