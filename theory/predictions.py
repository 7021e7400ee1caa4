"""The closed forms as `Prediction` values, ready to be laid beside a measured curve."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.backcopy_reduced import ReducedModel
from theory.base import Prediction
from theory.references import ACTIVE_DORMANT
from theory.residual_peak import residual_peak_dynamics
from theory.sink_flow import attention_deficit, loss_time_constant, sink_log_asymptote, sink_log_correction

_SINK = ACTIVE_DORMANT.at("Theorem 2, attention sink; constants derived from the reduced model")
_DRAIN = ACTIVE_DORMANT.at("Theorem 2, value-state drain; constants derived from the reduced model")
_PEAK = ACTIVE_DORMANT.at("heuristic for residual-state peaks")
_FROZEN_BETA = (
    "steps are times of the gradient flow (learning rate times steps of small gradient descent)",
    "the value of the first token stays a constant vector",
    "the bigram law sits in the MLP and the visible context is constant",
    "late times: the attention that is left over is small",
)


def _weights(model: ReducedModel) -> check.Array:
    """Loss weights with tokens that are not modelled at zero."""
    return np.where(model.modelled, model.pi, 0.0)


def predict_sink_logits(model: ReducedModel, times: ArrayLike) -> Prediction:
    """`alpha_v(t) = (1/2) log(2 pi_v Var_{p_v}(B) t)`: values `[N, V]`, `-inf` for tokens that are not driven.

    The band is twice the next term of the expansion (`theory.sink_log_correction`) to either side.

    Args:
      model: constants of the reduced model.
      times: `[N]` flow times, above 0.
    """
    when = check.times("times", times, strict=True)
    asymptote = sink_log_asymptote(model.P, _weights(model), model.B)
    values = np.log(when)[:, None] / 2 + asymptote
    slack = 2 * np.abs(sink_log_correction(when, model.P, _weights(model), model.B, model.W))
    return Prediction("sink logit of each token", when, values, (values - slack, values + slack), _SINK, _FROZEN_BETA)


def predict_sink_attention(model: ReducedModel, times: ArrayLike) -> Prediction:
    """`1 - W / sqrt(2 pi_v Var_{p_v}(B) t)`: values `[N, V]`, not below 0, for the attention to the first token.

    Args:
      model: constants of the reduced model.
      times: `[N]` flow times, above 0.
    """
    when = check.times("times", times, strict=True)
    deficit = attention_deficit(when, model.P, _weights(model), model.B, model.W)
    values = np.maximum(1.0 - deficit, 0.0)
    return Prediction("attention of each token to the first", when, values, None, _SINK, _FROZEN_BETA)


def predict_sink_loss(model: ReducedModel, times: ArrayLike) -> Prediction:
    """`loss(t) = (driven tokens) / (4 t)`: values `[N]`.

    Args:
      model: constants of the reduced model.
      times: `[N]` flow times, above 0.
    """
    when = check.times("times", times, strict=True)
    values = loss_time_constant(model.P, _weights(model), model.B) / when
    return Prediction("excess bigram risk", when, values, None, _SINK, _FROZEN_BETA)


def predict_value_drain(steps: ArrayLike, alpha: ArrayLike, B: ArrayLike) -> Prediction:
    """`|| beta - mean(beta) || = e^-alpha || B - mean(B) ||`: values `[N]`, given the common sink logit at each step.

    Args:
      steps: `[N]` increasing.
      alpha: `[N]` sink logit (measured or predicted).
      B: `[V]` sum of the values of the visible keys.
    """
    when = check.times("steps", steps)
    logits, values = check.vector("alpha", alpha, when.size), check.vector("B", B)
    norms = np.exp(-logits) * np.linalg.norm(values - values.mean())
    assumptions = (
        "all tokens share one sink logit",
        "the value of the first token has caught up with that logit",
        "the bigram law sits in the MLP and the visible context is constant",
    )
    return Prediction("norm of the first token's value, mean removed", when, norms, None, _DRAIN, assumptions)


def predict_residual_peak(
    steps: ArrayLike,
    *,
    optimizer: Literal["sgd", "adam"] = "adam",
    learning_rate: float = 0.3,
    m0: float = 10.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Prediction:
    """The size of one residual direction of the first token under an optimizer: values `[N]`.

    Args: as in `theory.residual_peak_dynamics`.
    """
    values = residual_peak_dynamics(
        steps, optimizer=optimizer, learning_rate=learning_rate, m0=m0, betas=betas, eps=eps
    )
    assumptions = (
        "one residual direction moves and is normalised before the next block",
        "the sink logit grows like the logarithm of the step",
        "the direction is large against the embedding",
    )
    name = f"residual norm of the first token under {optimizer}"
    return Prediction(name, np.asarray(steps, dtype=np.float64), values, None, _PEAK, assumptions)
