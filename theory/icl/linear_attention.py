"""One layer of linear attention on regression prompts: where gradient flow ends, and what the result is worth.

Zhang, Frei, Bartlett (2306.09927): columns `(x_i; y_i)`, the last `(x_q; 0)`; no softmax, no mask, residual:

    f(E) = E + W_PV E (E^T W_KQ E) / rho,     yhat = f(E)[d, L],     rho the number of labelled pairs.

Ahn et al. (2306.00297): `Z + (1/n) P Z M (Z^T Q Z)`, `M` masks the query, `yhat` is minus the last entry.

Both learn `yhat = x_q^T Gamma^-1 (1/L) sum_i y_i x_i`, `Gamma = (1 + 1/N) Lambda + ((tr Lambda + s2) / N) I`, which is
`theory.icl.best_preconditioner(setting, "plain")` for a prior `N(0, I)`.

Source: the two papers; 2307.03576 for label noise; risks derived here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


class LinearAttention(NamedTuple):
    """The weights where gradient flow ends.

    Attributes:
      W_KQ: `[d + 1, d + 1]`.
      W_PV: `[d + 1, d + 1]`.
      Gamma: `[d, d]`; the preconditioner is its inverse.
    """

    W_KQ: Float[np.ndarray, "e e"]
    W_PV: Float[np.ndarray, "e e"]
    Gamma: Float[np.ndarray, "d d"]


class AhnWeights(NamedTuple):
    """A global minimum in the convention of Ahn et al.

    Attributes:
      P: `[d + 1, d + 1]`.
      Q: `[d + 1, d + 1]`.
    """

    P: Float[np.ndarray, "e e"]
    Q: Float[np.ndarray, "e e"]


class TransferRisk(NamedTuple):
    """The squared error on a test distribution, by its causes; the risk is their sum.

    Attributes:
      floor: error of the best linear predictor.
      variance: from the finite test prompt, of order `1/M`.
      bias: from the finite training prompt, of order `1/N^2`.
    """

    floor: float
    variance: float
    bias: float


def gamma_matrix(covariance: ArrayLike, context: int, noise_variance: float = 0.0) -> Float[np.ndarray, "d d"]:
    """`Gamma = (1 + 1/N) Lambda + ((tr Lambda + s2) / N) I`.

    Derivation of the noise term: in `E[g g^T]` noise adds `s2 Lambda / N` where the signal has `tr(Lambda) Lambda / N`.

    Args:
      covariance: `Lambda`, `[d, d]`.
      context: `N`, the length of training prompts.
      noise_variance: `s2` for a prior `N(0, I)`; for `N(0, I / d)` pass `d s2`.
    """
    matrix = check.covariance("covariance", covariance, check.square_size("covariance", covariance))
    length, s2 = check.count("context", context), check.number("noise_variance", noise_variance, 0.0)
    return (1 + 1 / length) * matrix + (np.trace(matrix) + s2) / length * np.eye(matrix.shape[0])


def linear_attention_limit(covariance: ArrayLike, context: int, noise_variance: float = 0.0) -> LinearAttention:
    """Where gradient flow from the published starts ends:

        W_KQ = tr(Gamma^-2)^(-1/4) [[Gamma^-1, 0], [0, 0]],     W_PV = tr(Gamma^-2)^(1/4) [[0, 0], [0, 1]].

    Derivation of the scales: the product is `Gamma^-1`, and the flow conserves `|W_KQ|_F^2 - |W_PV|_F^2 = 0`.

    Args: as for `gamma_matrix`.
    """
    gamma = gamma_matrix(covariance, context, noise_variance)
    inverse = np.linalg.inv(gamma)
    scale = float(np.sum(inverse**2)) ** 0.25
    size = gamma.shape[0] + 1
    kq, pv = np.zeros((size, size)), np.zeros((size, size))
    kq[:-1, :-1] = inverse / scale
    pv[-1, -1] = scale
    return LinearAttention(kq, pv, gamma)


def start_converges(scale: float, theta: ArrayLike, covariance: ArrayLike, context: int) -> bool:
    """Whether the theorem covers the start `W_PV = s [[0, 0], [0, 1]]`, `W_KQ = s [[Theta Theta^T, 0], [0, 0]]`:

        |Theta Theta^T|_F = 1,     Lambda Theta != 0,     s^2 |Gamma|_op sqrt(d) < 2,     s > 0.

    Args:
      scale: `s`.
      theta: `[d, d]`.
      covariance: `Lambda`, `[d, d]`.
      context: `N`.
    """
    gamma = gamma_matrix(covariance, context)
    d = gamma.shape[0]
    factor = check.matrix("theta", theta, (d, d))
    if abs(np.linalg.norm(factor @ factor.T) - 1) > 1e-6 or not np.abs(np.asarray(covariance) @ factor).max() > 1e-12:
        return False
    return bool(check.number("scale", scale) > 0 and scale**2 * np.linalg.norm(gamma, 2) * np.sqrt(d) < 2)


def linear_attention_output(
    E: ArrayLike, W_KQ: ArrayLike, W_PV: ArrayLike, rho: float | None = None
) -> Float[np.ndarray, "... e n"]:
    """`f(E) = E + W_PV E (E^T W_KQ E) / rho`; the prediction is `[..., -1, -1]`.

    Args:
      E: `[..., d + 1, L + 1]`, the query last with label 0.
      W_KQ: `[d + 1, d + 1]`.
      W_PV: `[d + 1, d + 1]`.
      rho: the divisor; None for `L`.
    """
    tokens, kq, pv = np.asarray(E, np.float64), np.asarray(W_KQ, np.float64), np.asarray(W_PV, np.float64)
    divisor = tokens.shape[-1] - 1 if rho is None else check.number("rho", rho, 0.0, strict=True)
    return tokens + pv @ tokens @ (tokens.mT @ kq @ tokens) / divisor


def transfer_risk(
    covariance: ArrayLike,
    context: int,
    test_context: int,
    best_linear: ArrayLike,
    label_covariance: ArrayLike,
    floor: float = 0.0,
    noise_variance: float = 0.0,
) -> TransferRisk:
    """The risk of the trained layer on prompts of any task with the covariates of training, by its causes.

        variance = tr(S Gamma^-1 Lambda Gamma^-1) / M
        bias     = a^T (Gamma - Lambda) Gamma^-1 Lambda Gamma^-1 (Gamma - Lambda) a,
                   Gamma - Lambda = (Lambda + (tr Lambda + s2) I) / N

    Derivation: `g = (1/M) sum y x` has mean `Lambda a` and covariance `S / M`, and is independent of the query, whose
    best linear prediction leaves an error orthogonal to `x_q`.

    Args:
      covariance: `Lambda`, of inputs in training and test.
      context: `N`, length of training prompts.
      test_context: `M`, length of test prompts.
      best_linear: `[d]` `a = Lambda^-1 E[y x]` of the test task.
      label_covariance: `[d, d]` `S = Cov(y x)` of the test task.
      floor: error of the best linear predictor of the test task.
      noise_variance: of training, as in `gamma_matrix`.
    """
    gamma = gamma_matrix(covariance, context, noise_variance)
    d = gamma.shape[0]
    cov, a = np.asarray(covariance, dtype=np.float64), check.vector("best_linear", best_linear, d)
    spread = check.covariance("label_covariance", label_covariance, d)
    inverse = np.linalg.inv(gamma)
    middle = inverse @ cov @ inverse
    miss = (gamma - cov) @ a
    variance = float(np.trace(spread @ middle)) / check.count("test_context", test_context)
    return TransferRisk(check.number("floor", floor, 0.0), variance, float(miss @ middle @ miss))


def ahn_minimum(covariance: ArrayLike, context: int) -> AhnWeights:
    """A global minimum of one layer in the convention of Ahn et al., up to a factor that `P` and `Q` may exchange:

        P = [[0, 0], [0, 1]],   Q = -[[U diag(1 / ((n+1)/n lambda_i + (1/n) sum_k lambda_k)) U^T, 0], [0, 0]],

    with `Lambda = U diag(lambda) U^T`: the block of `Q` is `-Gamma^-1`.

    Args:
      covariance: `Lambda`, `[d, d]`.
      context: `n`.
    """
    d = check.square_size("covariance", covariance)
    values, vectors = np.linalg.eigh(check.covariance("covariance", covariance, d))
    n = check.count("context", context)
    P, Q = np.zeros((d + 1, d + 1)), np.zeros((d + 1, d + 1))
    P[-1, -1] = 1.0
    Q[:-1, :-1] = -(vectors / ((n + 1) / n * values + values.sum() / n)) @ vectors.T
    return AhnWeights(P, Q)


def ahn_output(Z: ArrayLike, P: ArrayLike, Q: ArrayLike) -> Float[np.ndarray, "... e n"]:
    """`Z + (1/n) P Z M (Z^T Q Z)`, `M = diag(1, ..., 1, 0)`; the prediction is minus `[..., -1, -1]`.

    Args:
      Z: `[..., d + 1, n + 1]`, the query last with label 0.
      P: `[d + 1, d + 1]`.
      Q: `[d + 1, d + 1]`.
    """
    tokens, p, q = np.asarray(Z, np.float64), np.asarray(P, np.float64), np.asarray(Q, np.float64)
    keys = tokens.copy()
    keys[..., -1] = 0.0
    return tokens + p @ keys @ (tokens.mT @ q @ tokens) / (tokens.shape[-1] - 1)


def isotropic_curves(dim: int, lengths: ArrayLike, trained: int) -> dict[str, Float[np.ndarray, " N"]]:
    """Normalised risks `E[(beta . x_q - yhat)^2] / |beta|^2` without noise, `x ~ N(0, I)`, at each prompt length `M`:

        zero            1
        averaging       (d + 1) / M                                   (eta = 1)
        best_step       (d + 1) / (M + d + 1)                         (trained at every length)
        trained_mean    1 - 2 g + g^2 (1 + (d + 1) / M)               g = 1 / (1 + (d + 1) / N), trained at N
        trained_sum     the same with g M / N in place of g           (not divided by the actual length)
        least_squares   max(0, 1 - M / d)                             (of least norm; the Bayes risk)

    Args:
      dim: `d`.
      lengths: `[N]` prompt lengths `M` at test time, at least 1.
      trained: `N`, the prompt length of training.
    """
    d, m = check.count("dim", dim), check.times("lengths", lengths, 1.0)
    g = 1 / (1 + (d + 1) / check.count("trained", trained))
    total = g * m / trained
    return {
        "zero": np.ones_like(m),
        "averaging": (d + 1) / m,
        "best_step": (d + 1) / (m + d + 1),
        "trained_mean": 1 - 2 * g + g**2 * (1 + (d + 1) / m),
        "trained_sum": 1 - 2 * total + total**2 * (1 + (d + 1) / m),
        "least_squares": np.maximum(0.0, 1 - m / d),
    }


def least_squares_risk(dim: int, context: int, noise_variance: float) -> float:
    """`E[(beta . x_q - yhat)^2] = s2 d / (L - d - 1)` of ordinary least squares, `L >= d + 2`, Gaussian inputs.

    Not divided by `|beta|^2`, on which it does not depend: the mean of an inverse Wishart matrix.

    Args:
      dim: `d`.
      context: `L`.
      noise_variance: `s2`.
    """
    d = check.count("dim", dim)
    return check.number("noise_variance", noise_variance, 0.0) * d / (check.count("context", context, d + 2) - d - 1)
