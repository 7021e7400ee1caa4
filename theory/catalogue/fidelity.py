"""How faithfully an associative memory of random unit pairs `(k_j, v_j)` reads back what it stored.

A read is `r_i = S^T k_i`. Its fidelity is `E[r_i . v_i] / sqrt(E |r_i|^2)`, a ratio of means in which every formula
here but `ridge_fidelity` is exact at every size; the mean of the cosine differs from it by terms of order `1/d`.

    Hebb      S = sum_j k_j v_j^T                           sqrt(1 / (1 + (n - 1)/d))
    delta     S <- S + b k (v - S^T k)^T, in one pass       `delta_fidelity`, by age
    Oja       S <- S + b (k - S v) v^T, in one pass         `oja_fidelity`, by age
    ridge     S = (K^T K + lambda I)^-1 K^T V               `ridge_fidelity`, n and d large

Source: arXiv 2508.08289 reads attention as such a memory; the formulas are derived here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


def hebb_fidelity(pairs: ArrayLike, width: int, redundancy: int = 1, reads: int = 1) -> Float[np.ndarray, " ..."]:
    """`rho = (1 + (n - 1)/(R d))^(-L/2)`: `R` heads that are averaged, `L` reads in a chain.

    Derivation: one read is `v_i + sum_j c_ij v_j` with `E c_ij^2 = 1/d`. Averaging `R` heads of independent keys and
    equal values averages the `c`, which is one head of width `R d`. In a chain the values of one memory are the keys
    of the next: a read multiplies the coefficients by a Gram matrix `G` of fresh random codes, and
    `E[G G^T] = (1 + (n - 1)/d) I`, so their energy grows by that factor with every read while the signal stays 1.
    For memories that share only the items of the chain see `separate_fidelity`.

    Args:
      pairs: `n`, any shape.
      width: `d`, of keys, in each head.
      redundancy: `R`.
      reads: `L`.

    Returns:
      Of the shape of `pairs`.
    """
    return np.asarray((1 + _crowding(pairs, width, redundancy)) ** (-check.count("reads", reads, 0) / 2))


def separate_fidelity(pairs: ArrayLike, width: int, redundancy: int = 1, reads: int = 1) -> Float[np.ndarray, " ..."]:
    """The chain whose memories share the item alone, each with distractors of its own: `rho = (A_L + N_L)^(-1/2)`,

        A <- A + N/(R d),   N <- x (A + N),   A_0 = 1, N_0 = 0,   x = (n - 1)/(R d);

    for `L` far below `R d` the geometric sum `rho = (1 + x + ... + x^L)^(-1/2)`.

    Derivation: `A` is the mean square of the item's coefficient, `N` the energy of the rest of the read. What is wrong
    in a query is unrelated to the next keys: it counts as length, and only its chance overlap with the item is kept.
    Below `n - 1 = R d` depth costs almost nothing, for `rho -> sqrt(1 - x)`; above it `rho` falls like `x^(-L/2)`.

    Args and returns: as for `hebb_fidelity`.
    """
    x, capacity = _crowding(pairs, width, redundancy), width * redundancy
    item, rest = np.ones_like(x), np.zeros_like(x)
    for _ in range(check.count("reads", reads, 0)):
        item, rest = item + rest / capacity, x * (item + rest)
    return np.asarray((item + rest) ** -0.5)


def pairs_at_fidelity(
    fidelity: ArrayLike, width: int, redundancy: int = 1, reads: int = 1
) -> Float[np.ndarray, " ..."]:
    """`n = 1 + R d (rho^(-2/L) - 1)`, the load at which `hebb_fidelity` is `rho`; about `1 + 2 R d log(1/rho) / L`.

    The trade-off in one line: redundancy and width count as their product, and depth divides it.

    Args:
      fidelity: `rho` in (0, 1], any shape.
      width: `d`.
      redundancy: `R`.
      reads: `L`, at least 1.
    """
    rho = check.finite("fidelity", np.asarray(fidelity, dtype=np.float64))
    if ((rho <= 0) | (rho > 1)).any():
        raise check.fail("fidelity", rho.tolist(), "in (0, 1]", "Pass the cosine that is wanted.")
    capacity = check.count("width", width) * check.count("redundancy", redundancy)
    return np.asarray(1 + capacity * (rho ** (-2 / check.count("reads", reads)) - 1))


def delta_fidelity(pairs: int, width: int, rate: float = 1.0) -> Float[np.ndarray, " n"]:
    """Fidelity of each pair after one pass of the delta rule, in the order of writing: the last is 1 at `b = 1`.

        signal   b (1 - b/d)^m,      m = n - i later writes,    g = 1 - (2 b - b^2)/d
        energy   b^2 [A_m + B_m + (A_m (1 - b)^2 / d + B_m g) sum_{t < i-1} g^t + (1/d) sum_{t < m} g^t]

    with `E[P_m^T k k^T P_m] = A_m k k^T + B_m I` for the product `P_m` of `m` later factors `I - b k' k'^T`:

        A <- A (1 - 2 b/d + 2 b^2 q),    B <- B g + A b^2 q,    q = 1 / (d (d + 2)),    A_0 = 1, B_0 = 0.

    Derivation: `S = b sum_j P_(n-j) k_j v_j^T`; values are independent, so energies add, and
    `E[u u^T M u u^T] = q (2 M + tr(M) I)` for random `u`. Of earlier pairs writing `k_i` has removed the share `b` of
    their part along it; of later ones nothing.

    Args:
      pairs: `n`.
      width: `d`.
      rate: `b` in (0, 2].

    Returns:
      `[n]`.
    """
    n, d, b = check.count("pairs", pairs), check.count("width", width), check.number("rate", rate, 0, 2)
    if b == 0:
        raise check.fail("rate", b, "above 0", "Nothing is written at rate 0.")
    keep, q = 1 - (2 * b - b**2) / d, 1 / (d * (d + 2))
    A, B = np.empty(n), np.empty(n)
    A[0], B[0] = 1.0, 0.0
    for m in range(1, n):
        A[m] = A[m - 1] * (1 - 2 * b / d + 2 * b**2 * q)
        B[m] = B[m - 1] * keep + A[m - 1] * b**2 * q
    sums = np.concatenate([[0.0], np.cumsum(keep ** np.arange(n - 1))])
    later = np.arange(n)[::-1]
    A, B = A[later], B[later]
    energy = A + B + (A * (1 - b) ** 2 / d + B * keep) * sums + sums[later] / d
    return (1 - b / d) ** later / np.sqrt(energy)


def oja_fidelity(pairs: int, width: int, value_width: int, rate: float = 1.0) -> Float[np.ndarray, " n"]:
    """Fidelity of each pair after one pass of Oja's rule, in the order of writing.

        (1 - b/d_v)^m / sqrt(g^m + (1/d) sum_{j != i} g^(n - j)),    m = n - i,    g = 1 - (2 b - b^2)/d_v

    Derivation: `S = b sum_j k_j v_j^T Q_(n-j)` with factors `I - b v v^T`, and reading takes `k_i . k_j`, of mean
    square `1/d`, independent of all values.

    Args:
      pairs: `n`.
      width: `d`, of keys.
      value_width: `d_v`.
      rate: `b` in [0, 2].

    Returns:
      `[n]`.
    """
    n, d, dv = check.count("pairs", pairs), check.count("width", width), check.count("value_width", value_width)
    b = check.number("rate", rate, 0.0, 2.0)
    later = np.arange(n)[::-1]
    kept = (1 - (2 * b - b**2) / dv) ** later
    return (1 - b / dv) ** later / np.sqrt(kept + (kept.sum() - kept) / d)


def ridge_fidelity(pairs: ArrayLike, width: int, ridge: float) -> Float[np.ndarray, " ..."]:
    """Fidelity of the ridge solution (Mesa, recursive least squares) for `n, d -> infinity` with `c = n/d` held.

        p = lambda m(-lambda),   lambda m^2 + (lambda + c - 1) m - 1 = 0,   e = p (p + lambda) / sqrt((lambda + c - 1)^2
        + 4 lambda),             fidelity = (1 - p) / sqrt(c (1 - 2 p + e));   lambda -> 0: sqrt(min(1, 1/c))

    Derivation: `r = H v` with `H = K (K^T K + lambda)^-1 K^T`; signal `tr(H)/n`, energy `tr(H^2)/n`, both from the
    Stieltjes transform `m` of the Marchenko-Pastur law of `K^T K` and its derivative.

    Args:
      pairs: `n`, any shape.
      width: `d`.
      ridge: `lambda`, above 0.
    """
    lam = check.number("ridge", ridge, 0.0, strict=True)
    c = check.whole("pairs", pairs) / check.count("width", width)
    b = lam + c - 1
    root = np.sqrt(b**2 + 4 * lam)
    # Two forms of one root: each where it adds numbers of one sign.
    p = np.where(b > 0, 2 * lam / np.maximum(b + root, 1e-300), (root - b) / 2)
    spread = p * (p + lam) / root
    return np.asarray((1 - p) / np.sqrt(c * (1 - 2 * p + spread)))


def _crowding(pairs: ArrayLike, width: int, redundancy: int) -> check.Array:
    """`x = (n - 1)/(R d)`, the noise of one read in units of its signal."""
    return (check.whole("pairs", pairs) - 1) / (check.count("width", width) * check.count("redundancy", redundancy))
