"""What the study measures without training: estimators on prompts against exact risks, flows, limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from scipy.optimize import minimize

import toy_tasks as tt
from attnlab.models import LinearAttention
from attnlab.studies.icl_regression import evaluate
from attnlab.studies.icl_regression.evaluate import predictor_risks
from attnlab.studies.icl_regression.experiments import CONTEXT, DIM, NOISE
from theory import icl

LENGTHS = tuple(range(10, 101, 10))
TEST_LENGTHS = (10, 20, 40, 70, 100)
SETTING = icl.Setting(DIM, CONTEXT, NOISE)
# He et al., table of the notebook (50,000 prompts each): context -> two heads, GD, debiased GD, one head, ridge.
PUBLISHED = {
    10: (0.604, 0.643, 0.614, 0.875, 0.194),
    20: (0.367, 0.371, 0.369, 0.586, 0.135),
    40: (0.2430, 0.2407, 0.2431, 0.4048, 0.1146),
    60: (0.1997, 0.1976, 0.1993, 0.3389, 0.1087),
    80: (0.1759, 0.1740, 0.1757, 0.3016, 0.1056),
    100: (0.1638, 0.1622, 0.1635, 0.2844, 0.1041),
}
ESTIMATORS = ("two_heads", "gd", "dgd", "one_head", "ridge")
RISK_SETTINGS = ((5, 40, 0.1), (10, 30, 0.5), (3, 100, 1.0))
BAYES_XI = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
BAYES_NOISE = (0.1, 1.0, 3.0)


def published_estimators() -> dict[str, Any]:
    """The five estimators of the authors' table: `omega = .13`, `mu = 3.45`, the step `2 omega mu` and the single head
    of `L = 40` at every context; ridge is the Bayes predictor."""
    eta, one = 2 * 0.13 * 3.45, icl.one_head_optimum(SETTING)
    return {
        "two_heads": tt.SoftmaxHeads((0.13, -0.13), (3.45, -3.45)),
        "gd": tt.GradientStep(eta),
        "dgd": tt.DebiasedStep(eta),
        "one_head": tt.SoftmaxHeads((one.omega,), (one.mu,)),
        "ridge": tt.Ridge(DIM * NOISE),
    }


Table = dict[int, dict[str, tuple[float, float]]]


def estimator_table(lengths: Sequence[int] = LENGTHS, prompts: int = 50_000) -> Table:
    """Context -> estimator -> (risk, standard error), on common prompts."""
    return {n: predictor_risks(tt.LinearRegression(DIM, n, NOISE), published_estimators(), prompts) for n in lengths}


def table_errors(table: Table) -> dict[str, float]:
    """Largest distance of each column from the published one, relative (ridge: absolute); and of TF from DGD."""
    found = {}
    for column, name in enumerate(ESTIMATORS):
        gaps = [(table[n][name][0] - row[column], row[column]) for n, row in PUBLISHED.items() if n in table]
        found[name] = max(abs(gap) / (1 if name == "ridge" else value) for gap, value in gaps)
    found["tf_dgd"] = max(abs(table[n]["two_heads"][0] - table[n]["dgd"][0]) for n in table if n >= 20)
    return found


def exact_risks(prompts: int = 300_000) -> dict[str, float]:
    """Relative difference of excess risk, formula against Monte Carlo, `gd_0` ... `dgd_2`.

    The label that is asked for is taken without noise: the noise adds exactly its variance, and much scatter.
    """
    found = {}
    for number, (d, context, noise) in enumerate(RISK_SETTINGS):
        s = icl.Setting(d, context, noise)
        gd, dgd = icl.gd_optimum(s), icl.dgd_optimum(s)
        steps = {"gd": tt.GradientStep(gd.eta), "dgd": tt.DebiasedStep(dgd.eta)}
        risks = predictor_risks(tt.LinearRegression(d, context, noise, noisy_query=False), steps, prompts)
        for name, best in (("gd", gd), ("dgd", dgd)):
            found[f"{name}_{number}"] = abs(risks[name][0] / (best.risk - noise) - 1)
    return found


def gd_over_bayes(
    context: int, noise: Sequence[float] = BAYES_NOISE, xi: Sequence[float] = BAYES_XI, samples: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of the best DGD risk to the Bayes risk, `[noise, xi]`: in the proportional limit, and at `L = context`."""
    limit = np.array([[float(icl.limit_risk_ratio(x, s2)) for x in xi] for s2 in noise])
    finite = np.empty_like(limit)
    for i, s2 in enumerate(noise):
        for j, x in enumerate(xi):
            s = icl.Setting(round(x * context), context, s2)
            finite[i, j] = icl.dgd_optimum(s).risk / icl.bayes_risk(s, samples, seed=j).value
    return limit, finite


def bayes_gap() -> dict[str, Any]:
    """How far the ratio at `L = 100` is from its limit, and how that distance falls to `L = 400`.

    The limit is far where noise is low and there are few dimensions.
    """
    limit, finite = gd_over_bayes(100)
    gap = np.abs(finite / limit - 1)
    low, few = BAYES_NOISE.index(0.1), np.array(BAYES_XI) <= 0.2
    at_400, larger = gd_over_bayes(400, (0.1,), tuple(np.array(BAYES_XI)[few]))
    far = np.zeros_like(gap, bool)
    far[low, few] = True
    return {
        "limit": limit,
        "finite": finite,
        "difference": float(gap.max()),
        "difference_elsewhere": float(gap[~far].max()),
        "fall": float(np.mean(gap[low, few] / np.abs(larger / at_400 - 1)[0])),
        "noisy_ratio": float(limit[BAYES_NOISE.index(3.0)].max()),
    }


def shifted(prompts: int = 100_000) -> dict[str, float]:
    """Risks at mean 1: the best GD and DGD steps by formula and by Monte Carlo, two opposite heads at the same step."""
    s = dataclasses.replace(SETTING, mean=np.ones(DIM))
    gd, dgd = icl.gd_optimum(s), icl.dgd_optimum(s)
    omega = 0.05
    mu = dgd.eta / (2 * omega)
    law = tt.LinearRegression(DIM, CONTEXT, NOISE, mean=1.0)
    predictors = {
        "gd": tt.GradientStep(gd.eta),
        "dgd": tt.DebiasedStep(dgd.eta),
        "heads": tt.SoftmaxHeads((omega, -omega), (mu, -mu)),
    }
    risks = predictor_risks(law, predictors, prompts)
    exact = {"gd_exact": gd.risk, "dgd_exact": dgd.risk, "small_weights": icl.best_small_weights(s).risk}
    return {name: value for name, (value, _) in risks.items()} | exact


# ---- gradient flow of the reduced model

FLOW_HEADS = (1, 2, 4, 8)
FLOW_SCALE = 0.02
FLOW_TIMES = np.unique(np.concatenate([[0.0], np.geomspace(0.1, 1e4, 400), [400.0, 2000.0]]))


def flow_starts(num_heads: int, count: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
    """Starts `N(0, .02^2)`, of which, for two heads or more, those whose growing modes have both signs.

    The others are the subject of `same_sign`.
    """
    found, seed = [], 0
    while len(found) < count:
        omega, mu = icl.small_start(num_heads, FLOW_SCALE, seed=seed)
        seed += 1
        if num_heads == 1 or len(set(np.sign(omega + mu))) == 2:
            found.append((omega, mu))
    return found


def flows(count: int = 8) -> dict[int, list[icl.HeadsFlow]]:
    """Number of heads -> solved flows."""
    return {
        h: [icl.integrate_heads(*start, FLOW_TIMES, SETTING) for start in flow_starts(h, count)] for h in FLOW_HEADS
    }


def at_time(flow: icl.HeadsFlow, time: float) -> int:
    """Place of `time` among the flow's times."""
    return int(np.argmin(np.abs(flow.times - time)))


def flow_signs(found: list[icl.HeadsFlow]) -> list[float]:
    """Share of active heads (a tenth of the largest or more) with `sign omega = sign mu` at the end, per flow."""
    shares = []
    for flow in found:
        omega, mu = flow.omega[-1], flow.mu[-1]
        active = np.abs(omega * mu) > 0.01 * np.max(np.abs(omega * mu))
        shares.append(float(np.mean(np.sign(omega) == np.sign(mu), where=active)))
    return shares


def flow_spread(found: list[icl.HeadsFlow], time: float) -> list[float]:
    """`max |omega| / min |omega| - 1` over heads at `time`, per flow."""
    sizes = [np.abs(flow.omega[at_time(flow, time)]) for flow in found]
    return [float(size.max() / size.min() - 1) for size in sizes]


def flow_slope(found: list[icl.HeadsFlow], start: float, end: float) -> list[float]:
    """Slope of `log mean |omega|` in `log t` over `[start, end]`, per flow."""
    slopes = []
    for flow in found:
        late = (flow.times >= start) & (flow.times <= end)
        size = np.abs(flow.omega[late]).mean(axis=1)
        slopes.append(float(np.polyfit(np.log(flow.times[late]), np.log(size), 1)[0]))
    return slopes


def same_sign_share(starts: int = 150) -> dict[str, float]:
    """How often a random start of two heads ends in the valley of same-sign solutions."""
    ended = []
    for seed in range(starts):
        omega, mu = icl.small_start(2, FLOW_SCALE, seed=10_000 + seed)
        end = icl.integrate_heads(omega, mu, [0.0, 300.0], SETTING, rtol=1e-8).mu[-1]
        ended.append(end[0] * end[1] > 0)
    return {"share": float(np.mean(ended))}


def curvature() -> dict[str, float]:
    """The curvature of that valley, and how often a random start should end in it."""
    inside, outside = (icl.same_sign_curvature(SETTING, share) for share in (0.7, 1.05))
    return {
        "probability": icl.same_sign_probability(SETTING, FLOW_SCALE),
        "balance": icl.critical_balance(SETTING, FLOW_SCALE),
        "inside": float(inside[0]),
        "flat": float(np.abs(inside).min()),
        "outside": float(outside[0]),
    }


# ---- linear attention, constructed


def constructed_lengths(prompts: int = 100_000) -> dict[str, Any]:
    """The trained step of spec 2.2 at `N = 20`, tested at other lengths: Monte Carlo against its closed form."""
    s = icl.Setting(DIM, 20, 0.0, prior_covariance=1.0, noisy_query=False)
    lengths = (5, 10, 20, 40, 80, 160)
    found: dict[str, Any] = {"lengths": lengths}
    kinds: tuple[tuple[str, Literal["linear_mean", "linear_sum"]], ...] = (
        ("mean", "linear_mean"),
        ("sum", "linear_sum"),
    )
    for name, kind in kinds:
        exact = icl.length_risk(s, lengths, kind) / DIM
        eta = icl.trained_step(s, lengths, kind)
        measured = []
        for step, context in zip(eta, lengths, strict=True):
            law = tt.LinearRegression(DIM, context, 0.0, noisy_query=False, prior_covariance=1.0)
            measured.append(predictor_risks(law, {"step": tt.GradientStep(float(step))}, prompts)["step"][0] / DIM)
        found[name], found[f"{name}_exact"] = np.array(measured), np.asarray(exact)
        found[f"{name}_error"] = float(np.max(np.abs(found[name] / found[f"{name}_exact"] - 1)))
    return found


def von_oswald(prompts: int = 100_000) -> dict[str, float]:
    """Half squared error of one step of gradient descent on uniform inputs: exact, and by constructed weights."""
    law = tt.LinearRegression.von_oswald()
    best = icl.uniform_optimum(law.dim, law.context)
    model = LinearAttention(law.dim, form="separate", rho="none")
    params = jax.tree.map(lambda x: x[None], model.gradient_descent(best.eta / law.context))
    measured, _ = evaluate.model_risk(law, model, params, prompts)
    return {"exact": best.risk, "construction": float(measured[0]) / 2, "eta": best.eta}


def flow_facts(count: int = 8) -> dict[str, Any]:
    """What the claims say of the solved flows of `count` starts; a value per start."""
    found = flows(count)
    rng = np.random.default_rng(0)
    pairs = [rng.standard_normal((2, 4)) * 0.3 for _ in range(20)]
    forms = [(icl.reduced_loss(w, mu, SETTING), icl.reduced_loss_moments(w, mu, SETTING)) for w, mu in pairs]
    facts: dict[str, Any] = {"forms": max(abs(a / b - 1) for a, b in forms), "flows": found}
    for h, solved in found.items():
        late = [at_time(flow, 2000.0) for flow in solved]
        facts[f"signs_{h}"] = flow_signs(solved)
        facts[f"zero_sum_{h}"] = [abs(float(f.mu[i].sum())) for f, i in zip(solved, late, strict=True)]
        facts[f"loss_{h}"] = [float(f.loss[i]) for f, i in zip(solved, late, strict=True)]
        if h > 1:
            valley = [valley_excess(f) for f in solved]
            bottom = icl.loss_infimum(SETTING)
            facts[f"valley_loss_{h}"] = bottom + float(np.median(valley))
            pairs_of = zip(facts[f"loss_{h}"], valley, strict=True)
            facts[f"valley_excess_{h}"] = [(loss - bottom) / excess for loss, excess in pairs_of]
    facts["spread"] = flow_spread(found[2], 400.0)
    facts["slope"] = flow_slope(found[2], 400.0, 1e4)
    facts["valley"] = [
        abs(float(icl.valley_omega([1e4], SETTING)[0] / np.abs(f.omega[-1]).mean()) - 1) for f in found[2]
    ]
    one = [f for f in found[1]]
    facts["one_omega"] = [abs(float(f.omega[-1, 0])) for f in one]
    facts["one_mu"] = [abs(float(f.mu[-1, 0])) for f in one]
    facts["one_loss"] = [float(f.loss[-1]) for f in one]
    return facts


def valley_excess(flow: icl.HeadsFlow, time: float = 2000.0) -> float:
    """Excess loss that the valley law predicts at `time` for the flow's number of heads of either sign."""
    mu = flow.mu[at_time(flow, time)]
    active = np.abs(mu) > 0.1 * np.abs(mu).max()
    positive, negative = int(np.sum(mu[active] > 0)), int(np.sum(mu[active] < 0))
    omega = icl.valley_omega([time], SETTING, positive, negative)
    return float(icl.valley_loss(omega, SETTING)[0]) - icl.loss_infimum(SETTING)


def exact_values() -> dict[str, Any]:
    """Closed forms that tables and figures show beside measurements."""
    return {
        "gd": icl.gd_optimum(SETTING).risk,
        "dgd": icl.dgd_optimum(SETTING).risk,
        "bayes": icl.bayes_risk(SETTING).value,
        "softmax_lengths": dict(zip(TEST_LENGTHS, icl.length_risk(SETTING, TEST_LENGTHS, "softmax"), strict=True)),
        "sum_lengths": dict(zip(TEST_LENGTHS, icl.length_risk(SETTING, TEST_LENGTHS, "linear_sum"), strict=True)),
    }


def one_head() -> dict[str, float]:
    """The exact one-head optimum, by a search on common random prompts, and where the approximate loss puts it."""
    best = icl.exact_one_head(SETTING)
    approximate = icl.one_head_optimum(SETTING).omega
    return {
        "omega": float(best.omega[0]),
        "mu": float(best.mu[0]),
        "risk": best.risk.value,
        "approximate": approximate,
    }


def shared_step() -> float:
    """Risk of the best debiased step that two tasks with overlapping supports share, a number per group of coordinates.

    What two opposite heads can do for both at once: one number on the coordinates of one task, one on the common ones.
    """
    law = tt.LinearRegression.multi_task()
    own = law.support_mask.sum(axis=0) == 1
    rest = {"noise_variance": float(law.label_noise[0]), "noisy_query": False}
    settings = [icl.Setting(law.dim, law.context, prior_covariance=prior, **rest) for prior in law.priors]

    def risk(steps: np.ndarray) -> float:
        gamma = np.diag(np.where(own, *steps))
        return float(np.mean([icl.population_risk(gamma, s, "debiased") for s in settings]))

    return float(minimize(risk, [0.8, 0.8]).fun)
