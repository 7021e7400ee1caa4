"""Recall: what can be read back from a context, by which memory, from how much state; attention as regression.

    from theory import recall
    recall.rates("linear", "low").slope                           # how fast local linear attention learns a curve
    recall.accuracy_bound(8 * 256, pairs=256, vocab=4096)         # no state of 256 bytes recalls a larger share
    recall.recall_accuracy("hebb", 64, width=32, vocab=4096)      # Estimate: .49
    recall.stream_summaries(recall.Stream(), recall.stream_memories(1.0))    # four memories on a changing stream

The files, one idea each:
  smoothers    softmax and local linear attention as weights on the pairs seen; bias and variance given the keys
  edges        what the edge of the data costs: equivalent kernels, constants, best bandwidths
  rates        errors at finite n beside their limits
  states       numbers of state that each mechanism carries
  information  bits that a recall needs: Fano, counting; what guessing achieves
  memories     associative memories as matrices over the stored pairs; squared errors
  decoding     the chance that the nearest of V values is the right one
  stream       test-time regression on a piecewise linear stream, exact given the keys
  curves       the above as `Prediction` values
"""

from theory.recall.curves import (
    StreamSummary,
    predict_rates,
    predict_recall,
    predict_recall_bound,
    predict_snr,
    predict_stream,
    predict_stream_ratio,
    stream_memories,
    stream_summaries,
)
from theory.recall.decoding import (
    argmax_accuracy,
    hebb_accuracy,
    recall_accuracy,
    softmax_accuracy_bound,
    softmax_capacity,
)
from theory.recall.edges import (
    BestBandwidth,
    EdgeConstants,
    best_bandwidth,
    edge_constants,
    edge_risk,
    integrated_risk,
    layer_constant,
)
from theory.recall.information import (
    accuracy_bound,
    counting_bound,
    guess_accuracy,
    map_bits,
    recall_bits,
    recalled_pairs,
    state_bits,
)
from theory.recall.memories import expected_error, memory_matrix, random_keys, read_errors, simulated_error
from theory.recall.rates import Rates, Target, limit_risk, quadrature_risk, rates, sine_line
from theory.recall.smoothers import Risk, kernel_weights, local_linear_weights, smoother_risk
from theory.recall.states import (
    attention_state,
    based_state,
    convolution_state,
    hyena_state,
    mamba_state,
    matrix_state,
    mesa_state,
    state_bytes,
)
from theory.recall.stream import (
    DeltaRule,
    LocalConstant,
    LocalLinear,
    Mesa,
    PastMemory,
    Stream,
    StreamMean,
    stream_mean,
    stream_risk,
)

__all__ = [
    "BestBandwidth",
    "DeltaRule",
    "EdgeConstants",
    "LocalConstant",
    "LocalLinear",
    "Mesa",
    "PastMemory",
    "Rates",
    "Risk",
    "Stream",
    "StreamMean",
    "StreamSummary",
    "Target",
    "accuracy_bound",
    "argmax_accuracy",
    "attention_state",
    "based_state",
    "best_bandwidth",
    "convolution_state",
    "counting_bound",
    "edge_constants",
    "edge_risk",
    "expected_error",
    "guess_accuracy",
    "hebb_accuracy",
    "hyena_state",
    "integrated_risk",
    "kernel_weights",
    "layer_constant",
    "limit_risk",
    "local_linear_weights",
    "mamba_state",
    "map_bits",
    "matrix_state",
    "memory_matrix",
    "mesa_state",
    "predict_rates",
    "predict_recall",
    "predict_recall_bound",
    "predict_snr",
    "predict_stream",
    "predict_stream_ratio",
    "quadrature_risk",
    "random_keys",
    "rates",
    "read_errors",
    "recall_accuracy",
    "recall_bits",
    "recalled_pairs",
    "simulated_error",
    "sine_line",
    "smoother_risk",
    "softmax_accuracy_bound",
    "softmax_capacity",
    "state_bits",
    "state_bytes",
    "stream_mean",
    "stream_memories",
    "stream_risk",
    "stream_summaries",
]
