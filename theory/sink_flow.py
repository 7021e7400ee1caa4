"""Closed forms for the gradient flow of the reduced model: sink, value drain, and the manifold where they meet.

(a) `beta` frozen at a constant vector: every sink logit grows like half a logarithm,
    `alpha_v(t) = (1/2) log t + r_v + o(1)`, `r_v = (1/2) log(2 pi_v Var_{p_v}(B))`,
    and `t loss(t) -> (driven tokens) / 4`.
(b) `alpha` frozen at one number `a`: the mean of `beta` is conserved and
    `beta -> mean(beta) 1 + e^-a (mean(B) 1 - B)`: the stronger the sink, the smaller the value.
(c) Both free: a finite stationary point has `alpha = a 1` and `beta = c 1 - e^-a B`: all sink logits are equal.

The half logarithm comes from `d alpha/dt = pi Var e^(-2 alpha)`, the drive at leading order; a token whose next token
is certain has `Var = 0` and is never driven.

Source: arXiv 2410.13835, Theorem 2 (attention sink, value-state drain, mutual reinforcement); constants derived here.
Assumptions: `pi_v > 0` where growth is claimed; (b) and (c) want rows of full support (or supports that overlap into
one connected piece) and a `B` that is not constant.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory._tilt import centred


def value_variance(P: ArrayLike, B: ArrayLike) -> Float[np.ndarray, " V"]:
    """`Var_{p_v}(B)` for each row of `P`: how much the leftover attention of token `v` can disturb its prediction.

    Args:
      P: `[V, V]` bigram kernel; all-zero rows give 0.
      B: `[V]` sum of the values of the visible keys.

    Returns:
      `[V]`; exactly 0 where `B` is constant, to rounding, on the support of the row.
    """
    rows = check.kernel("P", P, needed=np.zeros(check.square_size("P", P), dtype=bool))
    values = check.vector("B", B, rows.shape[0])
    variance = (rows * centred(rows, values) ** 2).sum(axis=1)
    # A sum of V products near max|B| cannot tell a mean from its neighbours within about V ulp.
    rounding = (values.size * np.finfo(np.float64).eps * np.abs(values).max()) ** 2
    return np.where(variance <= rounding, 0.0, variance)


def _drive(P: ArrayLike, pi: ArrayLike, B: ArrayLike) -> check.Array:
    """`2 pi_v Var_{p_v}(B)` `[V]`, the rate at which `e^(2 alpha_v)` grows."""
    variance = value_variance(P, B)
    weights = check.vector("pi", pi, variance.size)
    if (weights < 0).any():
        raise check.fail("smallest entry of pi", float(weights.min()), "at least 0", "Pass frequencies.")
    return 2 * weights * variance


def sink_log_asymptote(P: ArrayLike, pi: ArrayLike, B: ArrayLike) -> Float[np.ndarray, " V"]:
    """`r_v = lim alpha_v(t) - (1/2) log t = (1/2) log(2 pi_v Var_{p_v}(B))` under gradient flow with `beta` constant.

    Args:
      P: `[V, V]` bigram kernel.
      pi: `[V]` weights in the loss; give triggers 0.
      B: `[V]` sum of the values of the visible keys.

    Returns:
      `[V]`; `-inf` where there is no drive (`pi_v = 0`, or a next token that is certain): there `alpha_v` stays put.

    Raises:
      ValueError: for a kernel that is not stochastic, negative weights or shapes that disagree.
    """
    drive = _drive(P, pi, B)
    with np.errstate(divide="ignore"):
        return np.log(drive) / 2


def sink_log_correction(t: ArrayLike, P: ArrayLike, pi: ArrayLike, B: ArrayLike, W: float) -> Float[np.ndarray, "N V"]:
    """The next term of the sink logit, whatever its start:

        alpha_v(t) = (1/2) log t + r_v - (3 W - kappa_v / (2 Var_v)) / sqrt(2 pi_v Var_v t) + O(log t / t),

    with `kappa_v` the third central moment of `B` under `p_v`. It says how late is late enough for the asymptote.

    Args:
      t: `[N]` flow times, above 0.
      P: `[V, V]` bigram kernel.
      pi: `[V]` weights in the loss.
      B: `[V]` sum of the values of the visible keys.
      W: number of visible keys other than the first token.

    Returns:
      `[N, V]` the term with its sign; 0 where there is no drive.
    """
    when, drive = check.times("t", t, strict=True), _drive(P, pi, B)
    keys = check.number("W", W, 0.0, strict=True)
    rows, values = np.asarray(P, dtype=np.float64), np.asarray(B, dtype=np.float64)
    skew = (rows * centred(rows, values) ** 3).sum(axis=1)
    driven = drive > 0
    variance = np.where(driven, value_variance(P, B), 1.0)
    size = np.where(driven, (3 * keys - skew / (2 * variance)) / np.sqrt(np.where(driven, drive, 1.0)), 0.0)
    return -size / np.sqrt(when)[:, None]


def loss_time_constant(P: ArrayLike, pi: ArrayLike, B: ArrayLike) -> float:
    """`lim t loss(t)` with `beta` constant: a quarter of the number of tokens that are driven, whatever `P, pi, B`."""
    return float(np.count_nonzero(_drive(P, pi, B))) / 4


def attention_deficit(t: ArrayLike, P: ArrayLike, pi: ArrayLike, B: ArrayLike, W: float) -> Float[np.ndarray, "N V"]:
    """`1 - s_v(t) ~ W / sqrt(2 pi_v Var_{p_v}(B) t)`, the attention that token `v` does not give to the first token.

    Args:
      t: `[N]` flow times, above 0.
      P: `[V, V]` bigram kernel.
      pi: `[V]` weights in the loss.
      B: `[V]` sum of the values of the visible keys.
      W: number of visible keys other than the first token.

    Returns:
      `[N, V]`; `inf` where there is no drive. The form holds where the result is much below 1.
    """
    when = check.times("t", t, strict=True)
    keys = check.number("W", W, 0.0, strict=True)
    with np.errstate(divide="ignore"):
        return keys / np.sqrt(when[:, None] * _drive(P, pi, B))


def value_fixed_point(alpha: float, B: ArrayLike, beta_mean: float) -> Float[np.ndarray, " V"]:
    """`beta* = beta_mean 1 + e^-alpha (mean(B) 1 - B)`, where the flow of `beta` ends when all sink logits are `alpha`.

    The pair `(alpha 1, beta*)` is also the general finite stationary point of the joint flow.

    Args:
      alpha: the common sink logit.
      B: `[V]` sum of the values of the visible keys.
      beta_mean: the conserved mean of `beta`.

    Returns:
      `[V]`.
    """
    a, values = check.number("alpha", alpha), check.vector("B", B)
    return check.number("beta_mean", beta_mean) + np.exp(-a) * (values.mean() - values)


def manifold_residual(alpha: ArrayLike, beta: ArrayLike, B: ArrayLike) -> float:
    """`max_v || c_v - mean(c_v) || / || B - mean(B) ||` with `c_v = e^alpha_v beta + B`: zero exactly at a fixed point.

    Args:
      alpha: sink logits of the tokens that count, one number or any number of them; leave triggers out.
      beta: `[V]` value of the first token.
      B: `[V]` sum of the values of the visible keys.

    Raises:
      ValueError: if `B` is constant (then there is nothing to cancel and every constant `beta` is a fixed point).
    """
    values = check.vector("B", B)
    first = check.vector("beta", beta, values.size)
    logits = check.vector("alpha", np.atleast_1d(np.asarray(alpha, dtype=np.float64)))
    spread = values - values.mean()
    norm = float(np.linalg.norm(spread))
    if norm == 0:
        raise check.fail("B", values.tolist(), "not constant", "A constant B disturbs no prediction.")
    # Centre by one entry first: exact for a constant vector, whatever e^alpha multiplies it with.
    shape = first - first[0]
    shape = shape - shape.mean()
    return float(np.linalg.norm(np.exp(logits)[:, None] * shape + spread, axis=1).max() / norm)
