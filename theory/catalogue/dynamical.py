"""Attention and state space models as one recurrence, each as the matrix that mixes tokens.

    h_i = Lambda_i h_(i-1) + B_i u_i,   y_i = C_i h_i,      Phi_ij = C_i Lambda_i ... Lambda_(j+1) B_j   for j <= i

    separable attention   Lambda_i = eta_(i-1)/eta_i,  B_i = k_i / eta_i,  C_i = q_i:   Phi_ij = q_i . k_j / eta_i
    scalar decay (SSD)    Lambda_i = exp(g_i),         B_i = k_i,          C_i = q_i:   Phi_ij = q_i . k_j e^(G_i - G_j)

with `G` the running sum of the log decays `g`. So a scalar state space model is separable attention with the normaliser
`eta = e^(-G)` and values multiplied by `eta`: they differ in where the normaliser comes from, and in whether inputs are
scaled with it. The decay of S6, `exp(-a softplus(x))`, is the reversed sigmoid `sigmoid(-x)^a`.

Source: arXiv 2405.15731; the identities are derived here. Plain loops and products: references, not fast.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


def softplus_decay(x: ArrayLike, rate: ArrayLike) -> Float[np.ndarray, " ..."]:
    """`exp(-a softplus(x))`, the decay of a state of S6 whose step is `softplus(x)`.

    Args:
      x: any shape.
      rate: `a`, of a shape that broadcasts.
    """
    return np.asarray(np.exp(-np.asarray(rate, dtype=np.float64) * np.logaddexp(0.0, np.asarray(x, dtype=np.float64))))


def reversed_sigmoid(x: ArrayLike, rate: ArrayLike) -> Float[np.ndarray, " ..."]:
    """`sigmoid(-x)^a`, equal to `softplus_decay`: `1 + e^x = 1 / sigmoid(-x)`.

    Args: as for `softplus_decay`.
    """
    from scipy.special import expit  # here, so that importing the package stays fast

    return np.asarray(expit(-np.asarray(x, dtype=np.float64)) ** np.asarray(rate, dtype=np.float64))


def recurrence_matrix(transition: ArrayLike, write: ArrayLike, read: ArrayLike) -> Float[np.ndarray, "T T"]:
    """`Phi_ij = C_i Lambda_i ... Lambda_(j+1) B_j`, by running the recurrence from a unit input at each `j`.

    Args:
      transition: `Lambda`: `[T]` scalars, `[T, F]` diagonals or `[T, F, F]` matrices.
      write: `B`, `[T, F]`.
      read: `C`, `[T, F]`.
    """
    B = check.finite("write", np.asarray(write, dtype=np.float64))
    if B.ndim != 2:
        raise check.fail("shape of write", B.shape, "[T, F]", "Pass one vector per token.")
    tokens, size = B.shape
    C = check.matrix("read", read, (tokens, size))
    steps = check.finite("transition", np.asarray(transition, dtype=np.float64))
    if steps.shape not in ((tokens,), (tokens, size), (tokens, size, size)):
        raise check.fail("shape of transition", steps.shape, "[T], [T, F] or [T, F, F]", "Pass one step per token.")
    phi = np.zeros((tokens, tokens))
    for j in range(tokens):
        state = B[j]
        phi[j, j] = C[j] @ state
        for i in range(j + 1, tokens):
            state = steps[i] @ state if steps.ndim == 3 else steps[i] * state
            phi[i, j] = C[i] @ state
    return phi


def separable_matrix(queries: ArrayLike, keys: ArrayLike, normaliser: ArrayLike) -> Float[np.ndarray, "T T"]:
    """`q_i . k_j / eta_i` for `j <= i`.

    Args:
      queries: `[T, F]`, after the feature map.
      keys: `[T, F]`, after the feature map.
      normaliser: `eta`, `[T]`, not 0. The row sum of the scores gives linear attention, `linear_normaliser`.
    """
    scores = _scores(queries, keys)
    eta = check.vector("normaliser", normaliser, scores.shape[0])
    if (eta == 0).any():
        raise check.fail("normaliser", 0.0, "not 0", "Use a kernel whose rows do not sum to 0.")
    return scores / eta[:, None]


def linear_normaliser(queries: ArrayLike, keys: ArrayLike) -> Float[np.ndarray, " T"]:
    """`eta_i = sum_{j <= i} q_i . k_j`: it needs the query, so a recurrence has to carry the sum of the keys too.

    Args: as for `separable_matrix`.
    """
    return _scores(queries, keys).sum(axis=1)


def normalised_matrix(queries: ArrayLike, keys: ArrayLike, exponent: ArrayLike) -> Float[np.ndarray, "T T"]:
    """Normalised attention, `e^(-n_i) q_i . k_j` for `j <= i`: a learned normaliser of the query token alone.

    No feature map, no division by `sqrt(d)`, no sign. A normalisation of each output to norm 1 cancels the factor.

    Args:
      queries: `[T, F]`.
      keys: `[T, F]`.
      exponent: `n`, `[T]`.
    """
    scores = _scores(queries, keys)
    return scores * np.exp(-check.vector("exponent", exponent, scores.shape[0]))[:, None]


def decay_matrix(queries: ArrayLike, keys: ArrayLike, log_decay: ArrayLike) -> Float[np.ndarray, "T T"]:
    """Scalar decay (SSD, RetNet), `q_i . k_j e^(G_i - G_j)` for `j <= i`, `G = cumsum(g)`.

    Args:
      queries: `[T, F]`.
      keys: `[T, F]`.
      log_decay: `g`, `[T]`; `g_1` has no effect.
    """
    scores = _scores(queries, keys)
    total = np.cumsum(check.vector("log_decay", log_decay, scores.shape[0]))
    return scores * np.exp(np.minimum(total[:, None] - total, np.where(np.tri(total.size) > 0, np.inf, 0.0)))


def decay_as_normaliser(log_decay: ArrayLike) -> Float[np.ndarray, " T"]:
    """`eta = e^(-G)`: `decay_matrix(q, k, g) = separable_matrix(q, k, eta) * eta`, the last factor on the values.

    Args:
      log_decay: `g`, `[T]`, of a sum that `exp` can hold.
    """
    return np.exp(-np.cumsum(check.vector("log_decay", log_decay)))


def _scores(queries: ArrayLike, keys: ArrayLike) -> Float[np.ndarray, "T T"]:
    """`q_i . k_j`, 0 for `j > i`."""
    q = check.finite("queries", np.asarray(queries, dtype=np.float64))
    if q.ndim != 2:
        raise check.fail("shape of queries", q.shape, "[T, F]", "Pass one vector per token.")
    k = check.matrix("keys", keys, (q.shape[0], q.shape[1]))
    return np.tril(q @ k.T)
