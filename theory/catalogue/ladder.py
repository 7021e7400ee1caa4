"""The ladder of in-context linear regression: what each attention can know of `beta` after `L` pairs.

    mean      uniform attention, the mean label           order 0
    gd        linear attention, one best step             `theory.icl.gd_optimum`
    inline    InLine, the mean label and a debiased step  `inline_risk`
    debiased  the best debiased step alone                `theory.icl.dgd_optimum`
    delta     delta rule, one pass of online descent      `delta_risk`, `best_delta_risk`
    softmax   one best softmax head                       `theory.icl.exact_one_head`, by Monte Carlo
    ridge     Mesa, recursive least squares               `theory.icl.bayes_risk`, by Monte Carlo; `least_norm_risk`

Isotropic settings: `x ~ N(0, I)`, `beta ~ N(0, I/d)`, label noise `s2`. All risks include the floor of the setting. In
numbers of pairs that it takes for half the risk without noise: gd `d + 1`, delta `.69 d`, ridge `d/2`.

Source: derived here where not said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory import icl
from theory.base import Prediction
from theory.icl.setting import Setting
from theory.references import ONE_STEP_OPTIMAL, REGRESSION_DEMYSTIFIED


def mean_label_risk(lengths: ArrayLike, setting: Setting) -> Float[np.ndarray, " ..."]:
    """`floor + 1 + (1 + s2)/L`: the mean label is worse than the answer 0, for it carries the noise of its inputs.

    Derivation: `E (beta . (x_q - xbar) - noise)^2`.

    Args:
      lengths: `L`, any shape.
      setting: isotropic; its own context does not count.
    """
    data = _isotropic(setting)
    return np.asarray(data.floor + 1 + (1 + data.noise_variance) / check.whole("lengths", lengths))


def inline_risk(lengths: ArrayLike, setting: Setting, output: float = 1.0) -> Float[np.ndarray, " ..."]:
    """Risk of InLine attention at its best scale of queries, with its output multiplied by `c`:

        floor + 1 - a eta + c^2 (1 + s2)/L,    a = (L - 1)/L,    eta = 1 / (1 + (1 + s2) d/L).

    Derivation: InLine answers `c (ybar + (e/L) sum_l (y_l - ybar) (x_l - xbar) . x_q)`, the mean label plus a debiased
    step from 0 of size `c e`. The query is independent of the context and has mean 0, so that the product of the two
    parts averages to 0, and `E ybar^2 = E (beta . xbar)^2 + s2/L = (1 + s2)/L` is added to the risk of the step,
    whatever its size: the best step is that of `theory.icl.dgd_optimum`. With an output matrix after the mixing `c` is
    free, and `c -> 0` at `c e = eta` leaves the step alone; mixing by itself has `c = 1`.

    Args:
      lengths: `L`, any shape, at least 2.
      setting: isotropic; its own context does not count.
      output: `c`.
    """
    data, c = _isotropic(setting), check.number("output", output)
    length = check.whole("lengths", lengths, 2)
    eta = 1 / (1 + (1 + data.noise_variance) * data.dim / length)
    return np.asarray(data.floor + 1 - (1 - 1 / length) * eta + c**2 * (1 + data.noise_variance) / length)


def delta_risk(
    lengths: ArrayLike, setting: Setting, rate: float = 1.0, *, normalised: bool = True
) -> Float[np.ndarray, " ..."]:
    """Risk after one pass of the delta rule from 0, `w <- w + b k (y' - w . k)`:

        floor + g^L + a (1 - g^L) / (1 - g)
        normalised (k = x/|x|, y' = y/|x|)    g = 1 - (2 b - b^2)/d,         a = b^2 s2 / (d - 2)
        plain      (k = x, y' = y)            g = 1 - 2 b + b^2 (d + 2),     a = b^2 s2 d

    Derivation: the error `e = w - beta` obeys `e <- (I - b k k^T) e + b k noise'`; `E (I - b k k^T)^2` is `g I`, and
    `E 1/|x|^2 = 1/(d - 2)`. The query is independent, so the risk is `floor + E |e|^2`. Plain, it converges for
    `b < 2/(d + 2)` and is best at `1/(d + 2)` without noise.

    Args:
      lengths: `L`, any shape, 0 allowed.
      setting: isotropic; its own context does not count.
      rate: `b`.
      normalised: whether keys have norm 1, as in DeltaNet; with noise it needs `d > 2`.
    """
    data = _isotropic(setting)
    d, s2, b = data.dim, data.noise_variance, check.number("rate", rate, 0.0)
    length = check.whole("lengths", lengths, 0)
    if normalised and s2 > 0 and d <= 2:
        raise check.fail(
            "setting.dim", d, "above 2", "1/|x|^2 has no mean: set noise_variance = 0 or normalised = False."
        )
    if normalised:
        keep, noise = 1 - (2 * b - b**2) / d, b**2 * s2 / max(d - 2, 1)
    else:
        keep, noise = 1 - 2 * b + b**2 * (d + 2), b**2 * s2 * d
    with np.errstate(over="ignore"):
        left = keep**length
    total = length if keep == 1 else (1 - left) / (1 - keep)
    return np.asarray(data.floor + left + noise * total)


def best_delta_risk(lengths: ArrayLike, setting: Setting) -> Float[np.ndarray, " ..."]:
    """The least risk of the plain delta rule over all schedules of rates, `b_l = E / (E (d + 2) + s2 d)`:

        E <- E - E^2 / (E (d + 2) + s2 d),   E_0 = 1,   risk = floor + E_L.

    Without noise `(1 - 1/(d + 2))^L`, with it like `s2 d / L` in the end: what online descent with one rate for all
    directions can do.

    Args:
      lengths: `L`, any shape, 0 allowed.
      setting: isotropic; its own context does not count.
    """
    data = _isotropic(setting)
    length = check.whole("lengths", lengths, 0)
    errors = np.ones(int(length.max()) + 1)
    for n in range(1, errors.size):
        before = errors[n - 1]
        errors[n] = before - before**2 / (before * (data.dim + 2) + data.noise_variance * data.dim)
    return np.asarray(data.floor + errors[length.astype(int)])


def least_norm_risk(lengths: ArrayLike, setting: Setting) -> Float[np.ndarray, " ..."]:
    """Risk of the least squares solution of least norm (Mesa at `lambda -> 0`), exact away from `L = d`:

        L <= d - 2    floor + 1 - L/d + s2 L / (d - L - 1)
        L >= d + 2    floor + s2 d / (L - d - 1)
        between       infinite with noise; floor + max(0, 1 - L/d) without

    Derivation: the solution keeps what the inputs span, and `E tr (X X^T)^-1 = L / (d - L - 1)` (inverse Wishart).

    Args:
      lengths: `L`, any shape, 0 allowed.
      setting: isotropic; its own context does not count.
    """
    data = _isotropic(setting)
    length, d, s2 = check.whole("lengths", lengths, 0), data.dim, data.noise_variance
    missed = np.maximum(0.0, 1 - length / d)
    if s2 == 0:
        return np.asarray(data.floor + missed)
    gap = np.abs(length - d) - 1
    noise = np.where(gap > 0, s2 * np.minimum(length, d) / np.where(gap > 0, gap, 1.0), np.inf)
    return np.asarray(data.floor + missed + np.where(length == 0, 0.0, noise))


def predict_ladder(
    setting: Setting, lengths: Sequence[int], prompts: int = 2000, *, seed: int = 0
) -> dict[str, Prediction]:
    """The rungs by name, each a curve over the number of pairs: `mean`, `gd`, `inline`, `debiased`, `delta`, `softmax`,
    `ridge`.

    Args:
      setting: isotropic; its context is replaced by each of `lengths`.
      lengths: increasing, at least 2.
      prompts: draws for `softmax` and, with noise, `ridge`.
      seed: of these draws.
    """
    data = _isotropic(setting)
    n = check.times("lengths", [check.count("lengths", length, 2) for length in lengths], 2.0)
    one_step = ONE_STEP_OPTIMAL.at("one step of gradient descent")
    here = REGRESSION_DEMYSTIFIED.at("data model; risk derived here")
    assumptions = ("steps are numbers of pairs in the prompt", "isotropic inputs, prior N(0, I / d)")

    def curve(name: str, values: check.Array, reference=here, more: str = "") -> Prediction:
        return Prediction(f"risk of {name}", n, values, None, reference, (*assumptions, more) if more else assumptions)

    at_best = "the step is best at each length"
    rungs = {
        "mean": curve("the mean label", mean_label_risk(n, data)),
        "gd": curve("linear attention", np.array([icl.gd_optimum(data.at(int(m))).risk for m in n]), one_step, at_best),
        "inline": curve("InLine", inline_risk(n, data), here, at_best),
        "debiased": curve(
            "a debiased step", np.array([icl.dgd_optimum(data.at(int(m))).risk for m in n]), here, at_best
        ),
        "delta": curve("the delta rule", best_delta_risk(n, data), here, "the best rate at every pair"),
        "softmax": icl.predict_context_risk(data, [int(m) for m in n], "one_head", prompts, seed=seed),
    }
    if data.noise_variance == 0:
        rungs["ridge"] = curve("least squares", least_norm_risk(n, data))
    else:
        rungs["ridge"] = icl.predict_context_risk(data, [int(m) for m in n], "bayes", prompts, seed=seed)
    return rungs


def _isotropic(setting: Setting) -> Setting:
    if not setting.isotropic:
        raise check.fail(
            "setting", setting, "isotropic (covariance I, mean 0, prior I / d)", "Use theory.icl for others."
        )
    return setting
