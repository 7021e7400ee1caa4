"""What a predictor trained on prompts of one length does on prompts of another.

Softmax weights sum to one, so trained heads take the same step at every length: `R_DGD(eta*_DGD(L); L')`. Linear
attention takes the step `eta*_GD(L)` if it divides by the actual length, and `(L'/L) eta*_GD(L)` if it divides by the
length of training (the unnormalised sum): then its error grows without bound.

Source: arXiv 2503.12734, length generalisation; formulas by inserting the step into the exact risks of
`theory.icl.estimators`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from theory import _checks as check
from theory.icl.estimators import dgd_optimum, dgd_risk, gd_optimum, gd_risk
from theory.icl.setting import Setting

Normalisation = Literal["softmax", "linear_mean", "linear_sum"]


def trained_step(setting: Setting, lengths: Sequence[int], attention: Normalisation) -> Float[np.ndarray, " N"]:
    """The step that a model trained at `setting.context` takes on prompts of `lengths` pairs.

    Args:
      setting: the data of training.
      lengths: numbers of pairs at test time.
      attention: `softmax`: `eta*_DGD(L)`. `linear_mean`: `eta*_GD(L)`, divided by the actual length.
        `linear_sum`: `(L'/L) eta*_GD(L)`, divided by the length of training.

    Returns:
      `[N]`.
    """
    check.choice("attention", attention, ("softmax", "linear_mean", "linear_sum"))
    tested = np.array([check.count("lengths", n) for n in lengths], dtype=np.float64)
    if attention == "linear_sum":
        return gd_optimum(setting).eta * tested / setting.context
    best = dgd_optimum(setting) if attention == "softmax" else gd_optimum(setting)
    return np.full(tested.size, best.eta)


def length_risk(
    setting: Setting, lengths: Sequence[int], attention: Normalisation = "softmax"
) -> Float[np.ndarray, " N"]:
    """Risk at each test length of the optimum of training at `setting.context`. Isotropic, with `r = L'/L`:

        softmax       R_DGD(eta*_DGD(L); L')
        linear_mean   R_GD(eta*_GD(L); L')
        linear_sum    s2 + 1 - 2 eta r + eta^2 r^2 (1 + (d + 1 + d s2) / L'),   eta = eta*_GD(L)

    Args:
      setting: the data of training; test prompts differ in length only.
      lengths: numbers of pairs at test time.
      attention: as in `trained_step`.

    Returns:
      `[N]`.
    """
    risk = dgd_risk if attention == "softmax" else gd_risk
    steps = trained_step(setting, lengths, attention)
    return np.array([float(risk(eta, setting.at(n))) for eta, n in zip(steps, lengths, strict=True)])


def length_regret(
    setting: Setting, lengths: Sequence[int], attention: Normalisation = "softmax"
) -> Float[np.ndarray, " N"]:
    """What the step of training costs against the best step of the test length: `length_risk` minus its optimum.

    Args: as for `length_risk`.

    Returns:
      `[N]`, not negative.
    """
    best = dgd_optimum if attention == "softmax" else gd_optimum
    return length_risk(setting, lengths, attention) - np.array([best(setting.at(n)).risk for n in lengths])
