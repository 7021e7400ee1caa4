"""Partial information decomposition of two sources about a target, and bounds that need pairs of variables only.

For a discrete law `p(x1, x2, y)` and `Delta = {q: q(x1, y) = p(x1, y), q(x2, y) = p(x2, y)}`, in bits,

    I_min = min_{q in Delta} I_q(X1 X2; Y)
    redundant  R = I(X1; Y) + I(X2; Y) - I_min        unique  U1 = I_min - I(X2; Y),  U2 = I_min - I(X1; Y)
    synergy    S = I_p(X1 X2; Y) - I_min              so that R + U1 + U2 + S = I_p(X1 X2; Y)

`I_min` by alternating minimisation: `I_q = min_r KL(q || r(x1, x2) p(y))`, so that `r <- sum_y q` and, for every `y`,
`q(., . | y) <- ` the projection of `r` onto the two required marginals, `r a_y(x1) b_y(x2)` (Sinkhorn). Any `a, b` say
how far there is to go, for by Gibbs' inequality

    I_min >= sum_y p(y) [sum p(x1|y) log a_y(x1) + sum p(x2|y) log b_y(x2)] - log max_x sum_y p(y) a_y(x1) b_y(x2).

Source: arXiv 2306.04539; the certificate and the constant of `synergy_bounds` are derived here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory import _checks as check
from theory._checks import Array

CHECKED_EVERY = 50
SAFE = 1 / (4 * float(np.log(2)))
"""The largest constant of the bound by disagreement that is proven here, .361 (bits)."""


class PID(NamedTuple):
    """Parts of `I(X1 X2; Y)` in bits, each `[*N]`.

    Attributes:
      redundant, unique1, unique2, synergy: `R`, `U1`, `U2`, `S`.
      gap: how much `I_min` may be too large: `R` and `S` may be larger by it, `U1` and `U2` smaller.
    """

    redundant: Array
    unique1: Array
    unique2: Array
    synergy: Array
    gap: Array


class SynergyBounds(NamedTuple):
    """Bounds on `S` in bits from `p(x1, y)`, `p(x2, y)`, `p(x1, x2)`, each `[*N]`; the first two are lower bounds."""

    agreement: Array
    disagreement: Array
    upper: Array


def pid(p: ArrayLike, *, tolerance: float = 1e-6, most: int = 10_000) -> PID:
    """The decomposition of each law.

    Args:
      p: `[*N, X1, X2, Y]`, probabilities that sum to 1 over the last three axes.
      tolerance: it ends when every gap is below it.
      most: steps at most; where the optimum has zeros that `p` does not have, the gap falls slowly. See `PID.gap`.

    Raises:
      ValueError: fewer than three axes, an entry that is negative or not finite, a sum that is not 1.
    """
    law = _law(p)
    check.number("tolerance", tolerance, 0.0, strict=True)
    first, second = _information(law.sum(axis=-2)), _information(law.sum(axis=-3))
    least, gap = _least_information(law, tolerance, check.count("most", most))
    whole = _information(law.reshape(*law.shape[:-3], -1, law.shape[-1]))
    return PID(first + second - least, least - second, least - first, whole - least, gap)


def synergy_bounds(p: ArrayLike, constant: float = 0.25, **options: float) -> SynergyBounds:
    """What the three pairs of variables say about synergy. `p` is read through its pairwise marginals only.

        agreement     S >= R - I(X1; X2) + min_r I_r(X1; X2 | Y),   r with the three marginals
        disagreement  S >= c E_{p(x1, x2)} |p(y|x1) - p(y|x2)|^2 - max(U1, U2)
        upper         S <= H(X1 X2) + H(Y) - H_min - R - U1 - U2

    `I_r(X1; X2 | Y) = H(X1 Y) + H(X2 Y) - H(Y) - H_r(X1 X2 Y)`, so the minimum is at the law of largest entropy, found
    by iterative scaling; its dual value is used, which errs to the safe side. `H_min` is the largest entropy of the
    greatest lower bounds, in the order of majorisation, of the pairs `(X1 X2, Y)`, `(X1 Y, X2)`, `(X2 Y, X1)`: no joint
    law has less.

    The constant. `S + U2 = I(X2; Y | X1)` and `S + U1 = I(X1; Y | X2)`. By Pinsker in nats, with `|u|_1^2 + |v|_1^2 >=
    |u - v|_1^2 / 2`, their sum is at least `E |p(y|x1) - p(y|x2)|_1^2 / 4`, and `|v|_1^2 >= 2 |v|_2^2` where entries
    sum to 0: `c = 1/4` holds in nats, `SAFE = 1 / (4 log 2)` in bits. `c = 1` is wrong.

    Args:
      p: `[*N, X1, X2, Y]`, as for `pid`.
      constant: `c`.
      options: of `pid`.
    """
    law = _law(p)
    parts = pid(law, **options)  # pyright: ignore[reportArgumentType]
    pairs = law.sum(axis=-1), law.sum(axis=-2), law.sum(axis=-3)  # (x1, x2), (x1, y), (x2, y)
    y = pairs[1].sum(axis=-2)
    separate = _entropy(pairs[1], 2) + _entropy(pairs[2], 2) - _entropy(y, 1)
    shared = np.maximum(separate - _most_entropy(*pairs), 0.0)
    agreement = parts.redundant - _information(pairs[0]) + shared
    given1, given2 = (_conditional(pair) for pair in pairs[1:])
    apart = np.square(given1[..., :, None, :] - given2[..., None, :, :]).sum(axis=-1)
    unique = np.maximum(parts.unique1, parts.unique2)
    disagreement = constant * (pairs[0] * apart).sum(axis=(-2, -1)) - unique
    ones = pairs[2].sum(axis=-1), pairs[1].sum(axis=-1), y  # x2, x1, y
    couplings = zip(pairs, (ones[2], ones[0], ones[1]), strict=True)
    least = np.max([_meet_entropy(_flat(pair), one) for pair, one in couplings], axis=0)
    known = parts.redundant + parts.unique1 + parts.unique2
    return SynergyBounds(agreement, disagreement, _entropy(pairs[0], 2) + _entropy(y, 1) - least - known)


# ---- parts


def _law(p: ArrayLike) -> Array:
    law = check.finite("p", np.asarray(p, dtype=np.float64))
    if law.ndim < 3:
        raise check.fail("shape of p", law.shape, "[*N, X1, X2, Y]", "Pass p(x1, x2, y).")
    if (law < 0).any():
        raise check.fail("smallest entry of p", float(law.min()), "at least 0", "Pass probabilities.")
    sums = law.sum(axis=(-3, -2, -1), keepdims=True)
    wrong = np.abs(sums - 1)
    if wrong.max(initial=0.0) > 1e-6:
        raise check.fail("sum of p", float(sums.flat[wrong.argmax()]), "1", "Normalise over the last three axes.")
    return law / sums


def _flat(pair: Array) -> Array:
    return pair.reshape(*pair.shape[:-2], -1)


def _log2(x: Array) -> Array:
    """`log2 x`, 0 where `x` is 0."""
    return np.log2(np.where(x > 0, x, 1.0))


def _over(x: Array, y: Array) -> Array:
    """`x / y`, 0 where `y` is 0."""
    return np.divide(x, y, out=np.zeros(np.broadcast_shapes(x.shape, y.shape)), where=y > 0)


def _entropy(p: Array, axes: int) -> Array:
    return -(p * _log2(p)).sum(axis=tuple(range(-axes, 0)))


def _information(pair: Array) -> Array:
    """`I` of the last two axes."""
    return _entropy(pair.sum(axis=-1), 1) + _entropy(pair.sum(axis=-2), 1) - _entropy(pair, 2)


def _conditional(pair: Array) -> Array:
    """`p(y | x)` of `p(x, y)`."""
    return _over(pair, pair.sum(axis=-1, keepdims=True))


def _least_information(law: Array, tolerance: float, most: int) -> tuple[Array, Array]:
    """`I_min` from above, and the certified distance to it from below; laws that are done are left alone."""
    shape, flat = law.shape[:-3], law.reshape(-1, *law.shape[-3:])
    y = flat.sum(axis=(-3, -2))
    want1, want2 = (np.ascontiguousarray(np.swapaxes(_conditional_on_y(flat.sum(axis=k)), 1, 2)) for k in (-2, -3))
    r = np.swapaxes(y[..., None] * want1, 1, 2) @ want2
    b = np.ones_like(want2)
    least, gap, left = np.full(len(flat), np.inf), np.full(len(flat), np.inf), np.arange(len(flat))
    for step in range(1, most + 1):
        a = _over(want1, b @ np.swapaxes(r, 1, 2))
        b = _over(want2, a @ r)
        if step % CHECKED_EVERY == 0 or step == most:
            value, floor = _primal_dual(r, a, b, want1, want2, y)
            least[left] = np.minimum(least[left], value)
            gap[left] = least[left] - floor
            open_ = gap[left] > tolerance
            left = left[open_]
            if not left.size:
                break
            r, a, b, want1, want2, y = (x[open_] for x in (r, a, b, want1, want2, y))
        r = r * (np.swapaxes(y[..., None] * a, 1, 2) @ b)
    return least.reshape(shape), np.maximum(gap, 0.0).reshape(shape)


def _conditional_on_y(pair: Array) -> Array:
    """`p(x | y)` of `p(x, y)`, the same axes."""
    return _over(pair, pair.sum(axis=-2, keepdims=True))


def _primal_dual(r: Array, a: Array, b: Array, want1: Array, want2: Array, y: Array) -> tuple[Array, Array]:
    """`I_q` of a member of Delta, and a lower bound on `I_min`."""
    told = (want1 * _log2(a)).sum(axis=-1) + (want2 * _log2(b)).sum(axis=-1)
    most = (np.swapaxes(y[..., None] * a, 1, 2) @ b).max(axis=(1, 2))
    q = r[:, None] * a[..., :, None] * b[..., None, :]  # [N, Y, X1, X2]; its marginal over x1 may be off a little
    q = q * np.minimum(_over(want1, q.sum(axis=3)), 1.0)[..., None]
    lack1, lack2 = want1 - q.sum(axis=3), np.maximum(want2 - q.sum(axis=2), 0.0)
    q = q + _over(lack1[..., :, None] * lack2[..., None, :], lack2.sum(axis=2)[..., None, None])
    joint = np.moveaxis(q * y[..., None, None], 1, 3)
    return _information(joint.reshape(len(y), -1, y.shape[1])), (y * told).sum(axis=1) - np.log2(most)


def _most_entropy(p12: Array, p1y: Array, p2y: Array, most: int = 2000, still: float = 1e-12) -> Array:
    """At least the largest entropy of a law with these marginals: the dual value, `-sum marginal log factor`."""
    shape = (*p12.shape, p1y.shape[-1])
    margins = p12[..., :, :, None], p1y[..., :, None, :], p2y[..., None, :, :]
    r = np.ones(shape) / np.prod(shape[-3:])
    told = np.full(p12.shape[:-2], np.log2(np.prod(shape[-3:])))
    for _ in range(most):
        before = told
        for axis, margin in zip((-1, -2, -3), margins, strict=True):
            factor = _over(margin, r.sum(axis=axis, keepdims=True))
            told = told - (margin * _log2(factor)).sum(axis=(-3, -2, -1))
            r = r * factor
        if np.abs(told - before).max(initial=0.0) < still:
            break
    return told


def _meet_entropy(p: Array, q: Array) -> Array:
    """Entropy of the greatest lower bound of two laws in the order of majorisation."""
    size = max(p.shape[-1], q.shape[-1])
    sums = []
    for law in (p, q):
        falling = np.pad(-np.sort(-law, axis=-1), [(0, 0)] * (law.ndim - 1) + [(0, size - law.shape[-1])])
        sums.append(np.cumsum(falling, axis=-1))
    lower = np.minimum(*sums)
    return _entropy(np.maximum(np.diff(lower, axis=-1, prepend=0.0), 0.0), 1)
