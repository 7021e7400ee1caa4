"""How attention spreads as a row gets longer, and the scale of the scores that holds it together.

Scores are `n` independent `N(0, s^2)`, `p` their softmax, `Z = sum_j e^(x_j)`, `H` the entropy. Then

    E H = E log Z - s^2 (1 - E sum_j p_j^2),       s fixed: log n - s^2/2 + (s^2 - 1/2) e^(s^2)/n + ...

(the middle by Gaussian integration by parts), which is the random energy model: a fraction `h < 1` of the largest
entropy `log n` is kept by `s = sqrt(2 (1 - h) log n)`, and from `s = sqrt(2 log n)` on a few scores hold everything.
A score that stands out by a margin needs more, `s` of order `log n`: see `required_scale`.

Source: derived here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


def mean_entropy(keys: int, scale: float) -> float:
    """`E H` at finite `n`, by quadrature. With `f(u) = E e^(-u e^x)` and `f2(u) = E e^(2x - u e^x)`,

        E log Z = int (e^(-u) - f(u)^n) du/u,     E sum p^2 = n int u f2(u) f(u)^(n-1) du.

    Args:
      keys: `n`.
      scale: `s`, the standard deviation of the scores, in [0, 30].
    """
    n, s = check.count("keys", keys), check.number("scale", scale, 0.0, 30.0)
    if n == 1 or s == 0:
        return float(np.log(n))
    z = np.linspace(-10.0, 10.0, 801)
    density = np.exp(-(z**2) / 2)
    density /= density.sum()
    t = np.linspace(-10 * s - np.log(n) - 40, 10 * s + 6, 200 * round(4 + s))
    pressure = np.exp(np.minimum(t[:, None] + s * z, 7.0))  # e^(-e^7) is 0 in float64
    factor = np.exp(-pressure)
    f, f2 = factor @ density, (pressure**2 * factor) @ density
    step = t[1] - t[0]
    log_z = float(np.sum(np.exp(-np.exp(np.minimum(t, 7.0))) - f**n) * step)
    overlap = float(n * np.sum(f2 * f ** (n - 1)) * step)
    return log_z - s**2 * (1 - overlap)


def entropy_share(keys: ArrayLike, scale: ArrayLike) -> Float[np.ndarray, " ..."]:
    """`E H / log n`, the share of the largest entropy.

    Args:
      keys: `n`, at least 2, any shape.
      scale: `s`, of a shape that broadcasts with it: one for all, or one for each `n`.
    """
    n, s = np.broadcast_arrays(check.whole("keys", keys, 2), np.asarray(scale, dtype=np.float64))
    shares = [mean_entropy(int(m), float(t)) / np.log(m) for m, t in zip(n.ravel(), s.ravel(), strict=True)]
    return np.reshape(shares, n.shape)


def entropy_expansion(keys: ArrayLike, scale: ArrayLike) -> Float[np.ndarray, " ..."]:
    """`log n - s^2/2 + (s^2 - 1/2) e^(s^2)/n + 1/(2 n)`, for `e^(s^2)` far below `n`.

    Derivation: `E log Z = log E Z - Var Z / (2 (E Z)^2)` and `E sum p^2 = e^(s^2)/n` to this order.

    Args:
      keys: `n`, any shape.
      scale: `s`, of a shape that broadcasts.
    """
    n, s2 = check.whole("keys", keys), np.asarray(scale, dtype=np.float64) ** 2
    return np.asarray(np.log(n) - s2 / 2 - (np.exp(s2) - 1) / (2 * n) + s2 * np.exp(s2) / n)


def condensed_share(keys: ArrayLike, scale: ArrayLike) -> Float[np.ndarray, " ..."]:
    """The limit of `entropy_share` for `n -> infinity` with `b = s / sqrt(2 log n)` held: `max(0, 1 - b^2)`.

    Args:
      keys: `n`, at least 2, any shape.
      scale: `s`, of a shape that broadcasts.
    """
    n, s = check.whole("keys", keys, 2), np.asarray(scale, dtype=np.float64)
    return np.asarray(np.maximum(0.0, 1 - s**2 / (2 * np.log(n))))


def flat_scale(keys: ArrayLike, share: float) -> Float[np.ndarray, " ..."]:
    """The `s(n)` at which `entropy_share` is `share` at every `n`; for large `n`, `sqrt(2 (1 - share) log n)`.

    So the temperature that keeps the entropy of unrelated scores flat grows like `sqrt(log n)`; one that grows like
    `log n` concentrates more and more.

    Args:
      keys: `n`, at least 2, any shape.
      share: in (0, 1), reached with `s` up to 30.
    """
    from scipy.optimize import brentq  # here, so that importing the package stays fast

    wanted = check.number("share", share, 0.0, 1.0, strict=True)
    n = check.whole("keys", keys, 2)

    def solve(m: float) -> float:
        def excess(s: float) -> float:
            return mean_entropy(int(m), s) / np.log(m) - wanted

        if excess(30.0) > 0:
            raise check.fail(
                "share", wanted, f"above {excess(30.0) + wanted:.3g} at n = {m:g}", "Ask for more entropy."
            )
        return float(brentq(excess, 0.0, 30.0, xtol=1e-8))  # pyright: ignore[reportArgumentType]

    return np.reshape([solve(m) for m in n.ravel()], n.shape)


def required_scale(keys: ArrayLike, margin: float, miss: float) -> Float[np.ndarray, " ..."]:
    """`log((n - 1) (1 - e) / e) / g`: this inverse temperature gives `1 - e` to a key that leads all others by `g`.

    Derivation: if all others are exactly `g` below, its weight is `1 / (1 + (n - 1) e^(-s g))`; if some are further
    below it is more. The same formula says how much a margin can hold at all: `largest_weight`.

    Args:
      keys: `n`, at least 2, any shape.
      margin: `g`, above 0, before the scale.
      miss: `e` in (0, 1).
    """
    n = check.whole("keys", keys, 2)
    miss = check.number("miss", miss, 0.0, 1.0, strict=True)
    return np.asarray(np.log((n - 1) * (1 - miss) / miss) / check.number("margin", margin, 0.0, strict=True))


def largest_weight(keys: ArrayLike, spread: ArrayLike) -> Float[np.ndarray, " ..."]:
    """`1 / (1 + (n - 1) e^(-D))`: no softmax weight is larger if scores differ by at most `D`. Bounded scores disperse.

    Args:
      keys: `n`, any shape.
      spread: `D`, scale included, of a shape that broadcasts.
    """
    n, d = check.whole("keys", keys), np.asarray(spread, dtype=np.float64)
    return np.asarray(1 / (1 + (n - 1) * np.exp(-d)))
