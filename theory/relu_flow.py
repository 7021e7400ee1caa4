"""The reduced model with unnormalised ReLU attention: no sink is needed, and none is formed.

Ordinary keys have the logit 0 and therefore the weight `relu(0) = 0`: there is nothing to cancel, and

    q_v = softmax_k( log p_v(k) + a_v beta_k ),   a_v = relu(alpha_v),   loss = sum_v pi_v KL(p_v || q_v).

(i) Any `a = 0` is optimal: zero loss with zero sink.
(ii) Gradient flow conserves the mean of `beta` and `sum_{a_v > 0} a_v^2 - ||beta||^2`.
(iii) `||a||` and `||beta - mean||` never grow. Their product is driven to zero, so the smaller one vanishes:
      with `A = sum a_0^2` and `C = ||beta_0 - mean||^2`, for `A < C` the sink disappears and the value keeps
      `||beta - mean||^2 -> C - A` (no drain); for `A > C` the value becomes constant and `sum a^2 -> A - C`.

Source: arXiv 2410.13835 states the consequence (ReLU attention shows no mutual reinforcement); statements and constants
are derived here. arXiv 2603.11487 proves a related fact: for a trigger-conditional task softmax needs a sink and ReLU
does not.
Assumptions: every row has full support, so that only a constant `beta` leaves all predictions alone.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory._tilt import centred, tilt
from theory.backcopy_reduced import ReducedModel


def _parts(model: ReducedModel, alpha: ArrayLike, beta: ArrayLike) -> tuple[check.Array, check.Array, check.Array]:
    """`(a, centred beta, q - p)` for the modelled rows, with `KL` left to the callers that want it."""
    rows = model.modelled
    a = np.maximum(check.vector("alpha", alpha, model.vocab_size)[rows], 0.0)
    shape = centred(model.P[rows], check.vector("beta", beta, model.vocab_size))
    return a, shape, tilt(model.P[rows], a[:, None] * shape)[1]


def relu_transition_law(model: ReducedModel, alpha: ArrayLike, beta: ArrayLike) -> Float[np.ndarray, "V V"]:
    """`q_v = softmax(log p_v + relu(alpha_v) beta)`; `W` and `B` of the model play no part.

    Args:
      alpha: `[V]` scores between each token and the first token.
      beta: `[V]` value of the first token.

    Returns:
      `[V, V]`; rows of tokens that are not modelled are NaN.

    Raises:
      ValueError: for vectors of the wrong size or with entries that are not finite.
    """
    out = np.full_like(model.P, np.nan)
    out[model.modelled] = model.P[model.modelled] + _parts(model, alpha, beta)[2]
    return out


def relu_loss(model: ReducedModel, alpha: ArrayLike, beta: ArrayLike) -> float:
    """`sum_v pi_v KL(p_v || q_v)` in nats (arguments as in `relu_transition_law`)."""
    rows = model.modelled
    a, shape, _ = _parts(model, alpha, beta)
    return float(model.pi[rows] @ tilt(model.P[rows], a[:, None] * shape)[0])


def relu_gradients(
    model: ReducedModel, alpha: ArrayLike, beta: ArrayLike
) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """`d loss / d alpha_v = pi_v [alpha_v > 0] <q_v - p_v, beta>`, `d loss / d beta = sum_v pi_v a_v (q_v - p_v)`.

    Args:
      alpha: `[V]` scores between each token and the first token.
      beta: `[V]` value of the first token.

    Returns:
      `(d_alpha, d_beta)`, each `[V]`.
    """
    rows = model.modelled
    a, shape, gap = _parts(model, alpha, beta)
    d_alpha = np.zeros(model.vocab_size)
    d_alpha[rows] = model.pi[rows] * (a > 0) * (gap * shape).sum(axis=1)
    return d_alpha, (model.pi[rows] * a) @ gap


def relu_invariant(alpha: ArrayLike, beta: ArrayLike) -> float:
    """`sum_v relu(alpha_v)^2 - ||beta||^2`, conserved by the flow while no score crosses zero (and none does).

    Args:
      alpha: scores of the modelled tokens.
      beta: `[V]` value of the first token.
    """
    a, b = check.vector("alpha", alpha), check.vector("beta", beta)
    return float((np.maximum(a, 0.0) ** 2).sum() - (b**2).sum())


def relu_value_limit(alpha0: ArrayLike, beta0: ArrayLike) -> float:
    """`||beta(infinity)|| = sqrt( V mean(beta_0)^2 + max(C - A, 0) )`, `A = sum a_0^2`, `C = ||beta_0 - mean||^2`.

    For `A < C` this is `sqrt(||beta_0||^2 - A)`.

    Args:
      alpha0: initial scores of the modelled tokens (with `pi_v > 0`).
      beta0: `[V]` initial value of the first token.
    """
    a, b = np.maximum(check.vector("alpha0", alpha0), 0.0), check.vector("beta0", beta0)
    spread = ((b - b.mean()) ** 2).sum()
    return float(np.sqrt(b.size * b.mean() ** 2 + max(spread - (a**2).sum(), 0.0)))


def relu_sink_limit(alpha0: ArrayLike, beta0: ArrayLike) -> float:
    """`||a(infinity)|| = sqrt(max(A - C, 0))`: no sink is left unless it started stronger than the value it reads.

    Args:
      alpha0: initial scores of the modelled tokens (with `pi_v > 0`).
      beta0: `[V]` initial value of the first token.
    """
    a, b = np.maximum(check.vector("alpha0", alpha0), 0.0), check.vector("beta0", beta0)
    return float(np.sqrt(max((a**2).sum() - ((b - b.mean()) ** 2).sum(), 0.0)))
