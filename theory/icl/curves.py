"""The closed forms of in-context regression as `Prediction` values, ready to be laid beside a measured curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.base import Prediction
from theory.icl.estimators import dgd_optimum, gd_optimum
from theory.icl.exact_heads import exact_one_head
from theory.icl.heads_flow import integrate_heads
from theory.icl.lengths import Normalisation, length_risk
from theory.icl.proportional import Estimate, bayes_limit_risk, bayes_risk, gd_limit_risk
from theory.icl.reduced import loss_infimum, one_head_optimum
from theory.icl.setting import Setting
from theory.icl.valley import valley_constants, valley_loss, valley_omega
from theory.references import ONE_STEP_OPTIMAL, REGRESSION_DEMYSTIFIED

Predictor = Literal["gd", "dgd", "one_head", "reduced_one_head", "reduced_heads", "bayes"]

_FLOW = REGRESSION_DEMYSTIFIED.at("gradient flow of the approximate loss")
_VALLEY = REGRESSION_DEMYSTIFIED.at("gradient flow of the approximate loss; law of the valley derived here")
_LENGTH = REGRESSION_DEMYSTIFIED.at("length generalisation")
_RISK = REGRESSION_DEMYSTIFIED.at("debiased gradient descent; finite-sample forms derived here")
_SOURCES = {"gd": ONE_STEP_OPTIMAL} | {k: _RISK for k in get_args(Predictor) if k != "gd"}
_LARGE = (
    "isotropic inputs, many pairs: softmax sums are replaced by Gaussian averages",
    "attention is omega_h I, values read the label only",
)
_TIME = "steps are times of the gradient flow of half the loss (learning rate times steps of small gradient descent)"


def predict_flow(
    omega: ArrayLike, mu: ArrayLike, times: ArrayLike, setting: Setting
) -> tuple[Prediction, Prediction, Prediction]:
    """The reduced flow from a given start: `omega [N, H]`, `mu [N, H]` and the loss `[N]`.

    Args:
      omega: `[H]` start.
      mu: `[H]` start.
      times: `[N]` increasing flow times.
      setting: an isotropic setting.
    """
    flow = integrate_heads(omega, mu, times, setting)
    named = (("attention weight", flow.omega), ("output weight", flow.mu), ("approximate risk", flow.loss))
    assumptions = (*_LARGE, _TIME)
    w, out, loss = (Prediction(name, flow.times, values, None, _FLOW, assumptions) for name, values in named)
    return w, out, loss


def predict_valley(
    times: ArrayLike,
    setting: Setting,
    positive: int = 1,
    negative: int = 1,
    start: tuple[float, float] | None = None,
) -> tuple[Prediction, Prediction]:
    """The late flow: `|omega|(t) ~ t^(-1/6)`, `[N]`, and the loss there, `[N]`.

    The band is twice the second term of the law to either side, or of the loss what follows from it.

    Args: as for `theory.icl.valley_omega`.
    """
    when = check.times("times", times, strict=True)
    size = valley_omega(when, setting, positive, negative, start)
    _, bend = valley_constants(setting, positive, negative)
    slack = np.minimum(np.abs(bend) * size**4, 1.0) * size
    low, high = size - slack, size + slack
    assumptions = (*_LARGE, _TIME, "heads of both signs, of one |omega|, with m_1 relaxed", "late times: d omega^2 < 1")
    edges = (valley_loss(low, setting), valley_loss(high, setting))
    return (
        Prediction("size of the attention weights", when, size, (low, high), _VALLEY, assumptions),
        Prediction("approximate risk", when, valley_loss(size, setting), edges, _VALLEY, assumptions),
    )


def predict_context_risk(
    setting: Setting, contexts: Sequence[int], predictor: Predictor = "dgd", prompts: int = 5000, *, seed: int = 0
) -> Prediction:
    """Risk of a predictor that is best at each context length: steps are lengths, values `[N]`.

    Args:
      setting: the data; its context is replaced by each of `contexts`.
      contexts: increasing numbers of pairs.
      predictor: `gd`, `dgd`: exact. `one_head`: the best softmax head, `bayes`: the Bayes predictor, both by Monte
        Carlo, with a band of four standard errors. `reduced_one_head`, `reduced_heads`: of the reduced model.
      prompts: draws for each Monte Carlo value.
      seed: of these draws.
    """
    check.choice("predictor", predictor, get_args(Predictor))
    lengths = check.times("contexts", [check.count("contexts", n) for n in contexts], 1.0)

    def risk(data: Setting) -> Estimate:
        if predictor == "one_head":
            return exact_one_head(data, prompts, seed=seed).risk
        if predictor == "bayes":
            return bayes_risk(data, prompts, seed=seed)
        if predictor == "reduced_one_head":
            return Estimate(one_head_optimum(data).risk, 0.0)
        if predictor == "reduced_heads":
            return Estimate(loss_infimum(data), 0.0)
        return Estimate((gd_optimum if predictor == "gd" else dgd_optimum)(data).risk, 0.0)

    found = np.array([risk(setting.at(int(n))) for n in lengths])
    values, slack = found[:, 0], 4 * found[:, 1]
    band = (values - slack, values + slack) if slack.any() else None
    assumptions = ["steps are numbers of pairs in the prompt, in training and test"]
    if predictor.startswith("reduced"):
        assumptions += _LARGE
    return Prediction(f"risk of {predictor}", lengths, values, band, _SOURCES[predictor], tuple(assumptions))


def predict_length_risk(setting: Setting, lengths: Sequence[int], attention: Normalisation = "softmax") -> Prediction:
    """Risk at other prompt lengths of what was trained at `setting.context`: steps are test lengths, values `[N]`.

    Args: as for `theory.icl.length_risk`, with increasing `lengths`.
    """
    tested = check.times("lengths", [check.count("lengths", n) for n in lengths], 1.0)
    values = length_risk(setting, [int(n) for n in tested], attention)
    assumptions = (
        f"steps are numbers of pairs at test time; training had {setting.context}",
        "the trained model is the best single step of its kind, in the limit of small attention weights",
    )
    return Prediction(f"risk of {attention} attention", tested, values, None, _LENGTH, assumptions)


def predict_limit_risk(xi: ArrayLike, noise_variance: float, predictor: Literal["gd", "bayes"] = "gd") -> Prediction:
    """Risk in the proportional limit: steps are `xi = d / L`, values `[N]`.

    Args:
      xi: `[N]` increasing, above 0.
      noise_variance: `s2`.
      predictor: `gd` (plain or debiased, there is no difference) or `bayes`.
    """
    check.choice("predictor", predictor, ("gd", "bayes"))
    ratios = check.times("xi", xi, strict=True)
    values = (gd_limit_risk if predictor == "gd" else bayes_limit_risk)(ratios, noise_variance)
    assumptions = ("steps are ratios d / L, both large", "isotropic inputs, prior N(0, I / d), a noisy query")
    return Prediction(f"limit risk of {predictor}", ratios, values, None, _RISK, assumptions)
