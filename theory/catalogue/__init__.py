"""The catalogue of attention mechanisms: what each can store, resolve, forget and count, before anything is trained.

    from theory import catalogue
    catalogue.hebb_fidelity([16, 64, 256], width=64)             # array([0.900, 0.710, 0.448])
    catalogue.strengths(catalogue.Delta(0.2), catalogue.blocking())   # [41, 2] associative strengths, trial by trial
    catalogue.lssar_match(0.8, 16384, width=64, power=15)        # weight of the one key that matches

The files, one idea each:
  cosines        the cosine of random directions, the coherence of random keys
  fidelity       how faithfully Hebb, delta, Oja and ridge memories read; redundancy and depth
  retrieval      error-free reads, the nearest stored value: three criteria, three capacities
  rules          learning rules in closed form over repetitions
  conditioning   acquisition, extinction, blocking, overshadowing
  regularity     how much sigmoid and softmax attention can amplify a change
  planted        one matching key among many: softmax, LSSA, LSSAR
  dispersion     entropy of unrelated scores, and the scale that holds it
  truncated      softmax to finite order, its features; InLine as order 1
  dynamical      attention and state space models as one recurrence
  householder    parity and counting by products of reflections
  ladder         in-context regression, from the mean label to least squares
  curves         the above as `Prediction` values
"""

from theory.catalogue.conditioning import (
    Experiment,
    Phase,
    acquisition,
    blocking,
    blocking_ratio,
    extinction,
    overshadowing,
    predict_conditioning,
    rescorla_wagner,
    retained,
    strengths,
)
from theory.catalogue.cosines import (
    CoherenceLaw,
    coherence_law,
    cosine_cdf,
    cosine_nodes,
    cosine_tail,
    expected_coherence,
)
from theory.catalogue.curves import predict_entropy, predict_fidelity, predict_match, predict_nearest
from theory.catalogue.dispersion import (
    condensed_share,
    entropy_expansion,
    entropy_share,
    flat_scale,
    largest_weight,
    mean_entropy,
    required_scale,
)
from theory.catalogue.dynamical import (
    decay_as_normaliser,
    decay_matrix,
    linear_normaliser,
    normalised_matrix,
    recurrence_matrix,
    reversed_sigmoid,
    separable_matrix,
    softplus_decay,
)
from theory.catalogue.fidelity import (
    delta_fidelity,
    hebb_fidelity,
    oja_fidelity,
    pairs_at_fidelity,
    ridge_fidelity,
    separate_fidelity,
)
from theory.catalogue.householder import (
    count_modulo,
    householder,
    householder_eigenvalues,
    parity_memory,
    parity_states,
    reflections,
)
from theory.catalogue.ladder import (
    best_delta_risk,
    delta_risk,
    inline_risk,
    least_norm_risk,
    mean_label_risk,
    predict_ladder,
)
from theory.catalogue.planted import lssa_match, lssa_ratio_bound, lssar_match, softmax_match
from theory.catalogue.regularity import (
    SigmoidBound,
    SoftmaxBound,
    initial_row_sum,
    sigmoid_bound,
    sigmoid_suprema,
    softmax_bound,
)
from theory.catalogue.retrieval import (
    error_free,
    error_free_probability,
    nearest_accuracy,
    nearest_capacity,
    retrieval_margin,
    worst_case_pairs,
)
from theory.catalogue.rules import BCM, Delta, Hebb, Memory, Oja, RecursiveLeastSquares, Rule
from theory.catalogue.truncated import (
    exp_features,
    exp_remainder_bound,
    feature_count,
    inline_readout,
    inline_weights,
    monotone_from,
    truncated_exp,
    truncated_weights,
    truncation_error,
)

__all__ = [
    "BCM",
    "CoherenceLaw",
    "Delta",
    "Experiment",
    "Hebb",
    "Memory",
    "Oja",
    "Phase",
    "RecursiveLeastSquares",
    "Rule",
    "SigmoidBound",
    "SoftmaxBound",
    "acquisition",
    "best_delta_risk",
    "blocking",
    "blocking_ratio",
    "coherence_law",
    "condensed_share",
    "cosine_cdf",
    "cosine_nodes",
    "cosine_tail",
    "count_modulo",
    "decay_as_normaliser",
    "decay_matrix",
    "delta_fidelity",
    "delta_risk",
    "entropy_expansion",
    "entropy_share",
    "error_free",
    "error_free_probability",
    "exp_features",
    "exp_remainder_bound",
    "expected_coherence",
    "extinction",
    "feature_count",
    "flat_scale",
    "hebb_fidelity",
    "householder",
    "householder_eigenvalues",
    "initial_row_sum",
    "inline_readout",
    "inline_risk",
    "inline_weights",
    "largest_weight",
    "least_norm_risk",
    "linear_normaliser",
    "lssa_match",
    "lssa_ratio_bound",
    "lssar_match",
    "mean_entropy",
    "mean_label_risk",
    "monotone_from",
    "nearest_accuracy",
    "nearest_capacity",
    "normalised_matrix",
    "oja_fidelity",
    "overshadowing",
    "pairs_at_fidelity",
    "parity_memory",
    "parity_states",
    "predict_conditioning",
    "predict_entropy",
    "predict_fidelity",
    "predict_ladder",
    "predict_match",
    "predict_nearest",
    "recurrence_matrix",
    "reflections",
    "required_scale",
    "rescorla_wagner",
    "retained",
    "retrieval_margin",
    "reversed_sigmoid",
    "ridge_fidelity",
    "separable_matrix",
    "separate_fidelity",
    "sigmoid_bound",
    "sigmoid_suprema",
    "softmax_bound",
    "softmax_match",
    "softplus_decay",
    "strengths",
    "truncated_exp",
    "truncated_weights",
    "truncation_error",
    "worst_case_pairs",
]
