"""Linear attention weights that are steps of gradient descent, token by token, and the risk of `k` steps.

Tokens `e_j = (x_j, y_j)`, the query last with label 0; keys are the labelled tokens only. One layer adds

    e_j <- e_j + P sum_i W_V e_i (W_K e_i . W_Q e_j),

and with `W_K = W_Q = [[I, 0], [0, 0]]`, `W_V = [[0, 0], [W_0, -I]]`, `P = (eta / N) [[0, 0], [0, 1]]` every label falls
by what one step of gradient descent from `W_0` explains of it: `y_j <- y_j - Delta W x_j`,
`Delta W = (eta / N) sum_i (y_i - W_0 x_i) x_i^T`. `k` equal layers with `W_0 = 0` are `k` steps, for the labels then
hold the residuals; the prediction is minus the label of the query.

Source: arXiv 2212.07677, Proposition 1 and the update GD++; the closed forms of the risks are derived here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.icl.estimators import BestStep
from theory.icl.proportional import Estimate


class DescentLayer(NamedTuple):
    """One layer of linear attention, all `[d + 1, d + 1]`.

    Attributes:
      W_K: keys.
      W_Q: queries.
      W_V: values.
      P: output projection.
    """

    W_K: Float[np.ndarray, "e e"]
    W_Q: Float[np.ndarray, "e e"]
    W_V: Float[np.ndarray, "e e"]
    P: Float[np.ndarray, "e e"]


def descent_layer(
    dim: int, context: int, eta: float, gamma: float = 0.0, initial: ArrayLike | None = None
) -> DescentLayer:
    """The weights of one step of gradient descent, or of GD++ if `gamma` is not 0.

    GD++ also moves the inputs, `x_j <- x_j - gamma X X^T x_j` (a sum over the keys, not divided by their number), which
    improves the conditioning of later steps. It is the same attention with `W_V = [[I, 0], [W_0, -I]]` and
    `P = diag(-gamma, ..., -gamma, eta / N)`: value and projection are read block by block, the scores are shared.

    Args:
      dim: `d`.
      context: `N`, the number of labelled tokens.
      eta: step size of the mean gradient.
      gamma: of GD++.
      initial: `[d]` the weights `W_0` from which the step starts; None for 0.
    """
    d, length = check.count("dim", dim), check.count("context", context)
    read, value, project = (np.zeros((d + 1, d + 1)) for _ in range(3))
    read[:d, :d] = np.eye(d)
    value[d, d] = -1.0
    if initial is not None:
        value[d, :d] = check.vector("initial", initial, d)
    project[d, d] = check.number("eta", eta) / length
    if check.number("gamma", gamma) != 0:
        value[:d, :d] = np.eye(d)
        project[:d, :d] = -gamma * np.eye(d)
    return DescentLayer(read, read.copy(), value, project)


def apply_layer(tokens: ArrayLike, layer: DescentLayer) -> Float[np.ndarray, "... n e"]:
    """One layer on tokens in rows; the last row is the query, which is no key.

    Args:
      tokens: `[..., N + 1, d + 1]`.
      layer: its weights.

    Returns:
      Of the shape of `tokens`.
    """
    rows = np.asarray(tokens, dtype=np.float64)
    if rows.ndim < 2 or rows.shape[-2] < 2 or rows.shape[-1] != layer.P.shape[0]:
        wanted = f"[..., N + 1, {layer.P.shape[0]}]"
        raise check.fail("shape of tokens", rows.shape, wanted, "Put the query last, with label 0.")
    keys = rows[..., :-1, :]
    scores = (rows @ layer.W_Q.T) @ (keys @ layer.W_K.T).mT
    return rows + scores @ (keys @ layer.W_V.T) @ layer.P.T


def uniform_optimum(dim: int = 10, context: int = 10, width: float = 1.0, noise_variance: float = 0.0) -> BestStep:
    """The best single step for `x ~ U(-width/2, width/2)^d`, prior `N(0, I)`, and half its mean squared error:

        eta = m2 / (((N - 1) / N) m2^2 + (m4 + (d - 1) m2^2 + s2 m2) / N),     half MSE = (d m2 / 2) (1 - eta m2),

    with the moments `m2 = width^2 / 12`, `m4 = width^4 / 80`.

    Derivation: as in `theory.icl.estimators.moments`, with `E[x x^T x x^T] = (m4 + (d - 1) m2^2) I`.

    Args:
      dim: `d`.
      context: `N`.
      width: of the interval.
      noise_variance: `s2` of the labels of the context; the target has none.

    Returns:
      `eta` and the half mean squared error, in the name of `risk`.
    """
    d, n = check.count("dim", dim), check.count("context", context)
    side = check.number("width", width, 0.0, strict=True)
    noise = check.number("noise_variance", noise_variance, 0.0)
    m2, m4 = side**2 / 12, side**4 / 80
    eta = m2 / ((n - 1) / n * m2**2 + (m4 + (d - 1) * m2**2 + noise * m2) / n)
    return BestStep(eta, d * m2 / 2 * (1 - eta * m2))


def descent_steps_risk(
    eta: float,
    steps: int,
    dim: int,
    context: int,
    noise_variance: float = 0.0,
    inputs: Literal["normal", "uniform"] = "normal",
    prompts: int = 2000,
    *,
    seed: int = 0,
) -> Estimate:
    """`E[(beta . x_q - yhat_k)^2]` of `k` plain steps from 0, prior `N(0, I)`, by Monte Carlo over the inputs alone.

    With the eigenvalues `lambda_i` of `S = (1/L) sum x x^T` and `m2 = E[x_1^2]`,

        risk = m2 E sum_i [ (1 - eta lambda_i)^(2 k) + (s2 / L) (1 - (1 - eta lambda_i)^k)^2 / lambda_i ].

    Derivation: `beta - w_k = (I - eta S)^k beta - (1 - (I - eta S)^k) S^-1 (noise)`, and the noise of `S beta` has
    covariance `s2 S / L`; a zero eigenvalue adds 1 and no noise.

    Args:
      eta: step size of the mean gradient.
      steps: `k`.
      dim: `d`.
      context: `L`.
      noise_variance: `s2`.
      inputs: `normal`: variance 1; `uniform`: on `(-1/2, 1/2)`.
      prompts: number of draws.
      seed: of NumPy's generator.

    Raises:
      ValueError: if descent diverges on some draw beyond what can be averaged.
    """
    check.choice("inputs", inputs, ("normal", "uniform"))
    d, length, draws = check.count("dim", dim), check.count("context", context), check.count("prompts", prompts, 2)
    rng = np.random.default_rng(seed)
    size = (draws, length, d)
    x = rng.standard_normal(size) if inputs == "normal" else rng.uniform(-0.5, 0.5, size)
    m2 = 1.0 if inputs == "normal" else 1 / 12
    values = np.maximum(np.linalg.eigvalsh(x.mT @ x / length), 0.0)
    with np.errstate(over="ignore"):
        left = (1 - check.number("eta", eta) * values) ** check.count("steps", steps, 0)
    if np.abs(left).max() > 1e100:
        raise check.fail("eta", eta, f"below 2 / {values.max():.3g} for {steps} steps", "Descent diverges: step less.")
    positive = values > 1e-12
    noise = np.where(positive, (1 - left) ** 2 / np.where(positive, values, 1.0), 0.0)
    noise *= check.number("noise_variance", noise_variance, 0.0) / length
    risks = m2 * (left**2 + noise).sum(axis=1)
    return Estimate(float(risks.mean()), float(risks.std(ddof=1) / np.sqrt(draws)))
