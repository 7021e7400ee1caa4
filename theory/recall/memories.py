"""Associative memories as matrices over the stored pairs: the read at key `i` is `r_i = sum_j M_ij v_j`.

    hebb      M = G                             G = K K^T, the Gram matrix of unit keys
    delta     I - M = (I - G (D/b + N)^-1)^p    `p` passes at rate `b`; D = I and N the part of G below the diagonal
    ridge     M = G (G + lambda I)^-1           lambda -> 0: the projection on the span of the keys
    softmax   M = rows of exp(s G), normalised

Derivation of delta: written as `S = K^T X`, one pass of the delta rule is one sweep of Gauss-Seidel (at other rates:
successive over-relaxation) for `G X = I`, the equations of exact recall. So passes converge to the projection.

With independent random unit values, the squared error of a read has mean `(1 - M_ii)^2 + sum_(j != i) M_ij^2` given the
keys: relative to `|v|^2 = 1`, the row sum of `(I - M)^2`.

Source: arXiv 2508.08289 for the reading; the forms are derived here.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.catalogue import delta_fidelity
from theory.icl import Estimate

Memory = Literal["hebb", "delta", "ridge", "softmax"]


def memory_matrix(
    keys: ArrayLike,
    memory: Memory,
    *,
    passes: int = 1,
    rate: float = 1.0,
    ridge: float = 0.0,
    scale: float | None = None,
) -> Float[np.ndarray, "n n"]:
    """`M`, given the keys.

    Args:
      keys: `[n, d]` of norm 1, in the order of writing.
      memory: the rule.
      passes: `p`, of delta.
      rate: `b` in (0, 2), of delta.
      ridge: `lambda`; 0 for the pseudo-inverse.
      scale: `s`, of softmax; None for `sqrt(d)`.
    """
    k = check.finite("keys", np.asarray(keys, dtype=np.float64))
    if k.ndim != 2 or np.abs(np.sum(k**2, axis=1) - 1).max() > 1e-6:
        raise check.fail("keys", k.shape, "[n, d] rows of norm 1", "Divide each key by its norm.")
    check.choice("memory", memory, get_args(Memory))
    gram = k @ k.T
    if memory == "hebb":
        return gram
    if memory == "delta":
        b = check.number("rate", rate, 0.0, 2.0, strict=True)
        sweep = np.diag(np.diag(gram) / b) + np.tril(gram, -1)
        missed = np.eye(len(k)) - np.linalg.solve(sweep.T, gram.T).T
        return np.eye(len(k)) - np.linalg.matrix_power(missed, check.count("passes", passes))
    if memory == "ridge":
        lam = check.number("ridge", ridge, 0.0)
        return k @ np.linalg.pinv(k) if lam == 0 else np.linalg.solve(gram + lam * np.eye(len(k)), gram)
    s = np.sqrt(k.shape[1]) if scale is None else check.number("scale", scale)
    scores = s * gram
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def read_errors(matrix: ArrayLike) -> Float[np.ndarray, " n"]:
    """`(1 - M_ii)^2 + sum_(j != i) M_ij^2`, relative squared error of each read, mean over random unit values.

    Args:
      matrix: `M`, `[n, n]`.
    """
    M = np.asarray(matrix, dtype=np.float64)
    return np.sum((np.eye(check.square_size("matrix", M)) - M) ** 2, axis=1)


def expected_error(memory: Memory, pairs: int, width: int) -> float:
    """Relative squared error, mean over keys, values and the stored pairs; one pass.

        hebb   (n - 1)/d, exact: SNR d/(n - 1)
        delta  mean over ages of 1 - 2 s + (s / rho)^2, s = (1 - 1/d)^m, rho of `theory.catalogue.delta_fidelity`; exact
        ridge  max(0, 1 - d/n) at lambda = 0, exact: the projection keeps `d` of `n` dimensions

    Args:
      memory: not `softmax`, which has no closed form here.
      pairs: `n`.
      width: `d`.
    """
    n, d = check.count("pairs", pairs), check.count("width", width)
    check.choice("memory", memory, ("hebb", "delta", "ridge"))
    if memory == "hebb":
        return (n - 1) / d
    if memory == "ridge":
        return max(0.0, 1 - d / n)
    signal = (1 - 1 / d) ** np.arange(n)[::-1]
    return float(np.mean(1 - 2 * signal + (signal / delta_fidelity(n, d)) ** 2))


def simulated_error(memory: Memory, pairs: int, width: int, draws: int = 20, *, seed: int = 0, **options) -> Estimate:
    """Relative squared error by Monte Carlo over the keys alone, exact over values: for what has no closed form.

    Args:
      memory: the rule.
      pairs: `n`.
      width: `d`.
      draws: of the keys, at least 2.
      seed: of NumPy's generator.
      **options: of `memory_matrix`.
    """
    rng = np.random.default_rng(seed)
    count = check.count("draws", draws, 2)
    errors = [
        read_errors(memory_matrix(random_keys(rng, pairs, width), memory, **options)).mean() for _ in range(count)
    ]
    return Estimate(float(np.mean(errors)), float(np.std(errors, ddof=1) / np.sqrt(count)))


def random_keys(rng: np.random.Generator, pairs: int, width: int) -> Float[np.ndarray, "n d"]:
    """Independent directions, drawn evenly from the sphere.

    Args:
      rng: NumPy's generator.
      pairs: `n`.
      width: `d`.
    """
    x = rng.standard_normal((check.count("pairs", pairs), check.count("width", width)))
    return x / np.linalg.norm(x, axis=1, keepdims=True)
