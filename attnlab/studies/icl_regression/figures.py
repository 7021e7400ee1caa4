"""The figures of the study, each from what the lab has measured, theory beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnlab import analysis, report
from attnlab.studies.icl_regression import theory_side
from attnlab.studies.icl_regression.lab import Lab
from attnlab.studies.icl_regression.theory_side import SETTING
from theory import icl

Drawn = dict[str, tuple[str, Any]]
SNAPSHOTS = (1, 1_000, 2_000, 10_000, 10**9)  # the last stands for the last recorded step
PUBLISHED_END = (0.130, 3.35)  # |omega| (their scale corrected), |mu| of He et al. after 500,000 steps
# The run that stands for so many heads, whatever the preset calls it.
HEADS = {
    1: ("one_head", "published_1"),
    2: ("two_heads", "two_heads_long", "published_2"),
    4: ("four_heads", "published_4"),
    8: ("eight_heads", "published_8"),
}
WORDS = {1: "one head", 2: "two heads", 4: "four heads", 8: "eight heads"}
ESTIMATORS = {
    "two_heads": "two-head softmax",
    "dgd": "debiased step",
    "gd": "plain step",
    "one_head": "one-head softmax",
    "ridge": "ridge (Bayes)",
}


def figures(lab: Lab) -> Drawn:
    """File name -> (caption, figure), for the runs that the preset has."""
    have = set(lab.trained())
    by_heads = {h: next(n for n in names if n in have) for h, names in HEADS.items() if have & set(names)}
    drawn: Drawn = {}
    for make in (_circuits, _dynamics, _snapshots):
        if by_heads:
            drawn |= make(lab, by_heads)
    if lab.preset != "evening":
        drawn |= _estimators(lab)
    trained = by_heads if lab.preset != "smoke" else {}  # what follows tells nothing of hardly trained models
    if trained and lab.preset != "evening":
        drawn |= _head_counts(lab, by_heads)
    if lab.preset != "evening":
        drawn |= {**_flow(), **_limit(lab), **_lengths(lab, have)}
    if "anisotropic" in have:
        drawn |= _preconditioner(lab)
    tasks = [n for n in lab.experiments if n in have and lab.experiments[n].task.num_outputs > 1]
    if tasks:
        drawn |= _tasks(lab, tasks)
    for make in (_concentration, _signs):
        if trained:
            drawn |= make(lab, by_heads)
    if {"shifted_two", "shifted_four"} <= have:
        drawn |= _shifted(lab)
    prefixes = [n for n in lab.experiments if n in have and lab.experiments[n].task.layout == "interleaved"]
    if prefixes:
        drawn |= _prefixes(lab, prefixes)
    return drawn


# ---- circuits


def _circuits(lab: Lab, by_heads: dict[int, str]) -> Drawn:
    chosen = [name for h, name in by_heads.items() if h <= 4]
    steps = {lab.experiments[name].steps for name in chosen}
    if not chosen:
        return {}
    groups, notes = {}, {}
    for h, name in by_heads.items():
        if h <= 4:
            found = lab.matrices(name)
            groups[WORDS[h]] = found["kq"][0], found["ov"][0]
            types = lab.patterns(name)["head_type"][0, :, 0]
            kinds = [analysis.HEAD_TYPES[k] if k > 1 else "" for k in types]  # 0 and 1 are active, as their signs show
            pairs = zip(found["omega"][0], found["mu"][0, :, 0], kinds, strict=True)
            notes[WORDS[h]] = [f"ω = {_short(w)}, μ = {_short(m)} {kind}".strip() for w, m, kind in pairs]
    figure = report.circuit_maps(
        groups, _coordinates(lab, chosen[0]), unread=1, notes=notes,
        title=_finding(lab, "KQ of active heads is ω times the identity, OV reads the label", "KQ and OV at the end")
        + f" (seed 0, step {_steps(steps)})",
    )  # fmt: skip
    one, limit = icl.one_head_optimum(SETTING), icl.step_size_limit(SETTING)
    caption = (
        "F1. KQ and OV at the end, seed 0. Theory: KQ = ω I on the inputs, OV = μ on the label; "
        f"for one head the approximate loss has ω = {one.omega:.3f}, μ = {one.mu:.2f}; for more, only "
        f"Σ μ ω = {limit:.3f} and Σ μ = 0 are fixed"
    )
    return {"F1-circuits": (caption, figure)}


def _dynamics(lab: Lab, by_heads: dict[int, str]) -> Drawn:
    runs, guesses = {}, {}
    for h, name in by_heads.items():
        if h in (2, 4):
            steps, omega = lab.recorded(name, "omega")
            mu = lab.recorded(name, "mu")[1][..., 0]
            runs[WORDS[h]] = steps, omega, mu
            guesses[WORDS[h]] = _valley_mu(steps, omega, mu)
    if not runs:
        return {}
    figure = report.head_dynamics(
        runs,
        step_size=icl.step_size_limit(SETTING),
        predicted_mu=guesses,
        published=PUBLISHED_END,
        title=_finding(
            lab,
            "Heads of either sign come to cancel; only the product Σ μ ω settles, ω goes on falling",
            "Attention and output weights during training",
        ),
    )
    caption = (
        "F2. Attention and output weights during training. Dashed: the sum of μ that the valley η(ω) / 2ω asks for, "
        "given the measured ω. Grey dash-dotted: the authors' end after 500,000 steps (scale of ω corrected)"
    )
    return {"F2-dynamics": (caption, figure)}


def _valley_mu(steps: np.ndarray, omega: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """`eta(w) / 2 w` of the median over seeds of `w = sum |mu omega| / sum |mu|`, where heads of both signs balance."""
    total = np.abs(mu).sum(axis=2)
    w = np.abs(mu * omega).sum(axis=2) / total
    balanced = np.abs(mu.sum(axis=2)) < 0.1 * total
    most = balanced.mean(axis=0) >= 0.5
    lasting = np.logical_and.accumulate(most[::-1])[::-1] & (steps >= 100)  # at the start it is small by chance
    kept = np.where(balanced & lasting, w, np.nan)
    some = np.isfinite(kept).any(axis=0)
    size = np.full(kept.shape[1], np.nan)
    size[some] = np.nanmedian(kept[:, some], axis=0)
    found = np.full_like(size, np.nan)
    found[some] = icl.valley_step(size[some], SETTING) / (2 * size[some])
    return found


def _snapshots(lab: Lab, by_heads: dict[int, str]) -> Drawn:
    heads = max((h for h in by_heads if h <= 4), default=0)
    if heads < 2:
        return {}
    name = by_heads[heads]
    steps = lab.run(name).trajectory.steps("params")
    places = sorted({int(np.argmin(np.abs(steps - s))) for s in SNAPSHOTS})
    found = [lab.matrices(name, int(steps[i])) for i in places]
    notes = [[f"ω {_short(w)}" for w in one["omega"][0]] for one in found]
    figure = report.circuit_evolution(
        steps[places], np.stack([one["kq"][0] for one in found]), unread=1, notes=notes,
        title=f"{WORDS[heads].capitalize()}, seed 0: {_finding(lab, 'KQ becomes a multiple of the identity', 'KQ')}",
    )  # fmt: skip
    caption = (
        f"F3. KQ of {WORDS[heads]} during training, seed 0, with the mean ω of its diagonal. Theory: a multiple of the "
        "identity, of either sign; the crossed-out column is not identified"
    )
    return {"F3-snapshots": (caption, figure)}


# ---- risks


def _estimators(lab: Lab) -> Drawn:
    table = lab.theory("estimators")
    lengths = np.array(sorted(table))
    eta, one = 2 * 0.13 * 3.45, icl.one_head_optimum(SETTING)
    fine = np.array([*range(10, 30, 2), *range(30, 101, 5)])
    at = [SETTING.at(int(n)) for n in fine]
    exact = {
        "debiased step": [float(icl.dgd_risk(eta, s)) for s in at],
        "plain step": [float(icl.gd_risk(eta, s)) for s in at],
        "one-head softmax": [icl.exact_head_risk([one.omega], [one.mu], s, 20_000).value for s in at],
        "ridge (Bayes)": [icl.bayes_risk(s, 1000).value for s in at],
    }
    theory = {name: (fine, values) for name, values in exact.items()}
    measured = {label: (lengths, [table[n][key][0] for n in lengths]) for key, label in ESTIMATORS.items()}
    errors = {label: [2 * table[n][key][1] for n in lengths] for key, label in ESTIMATORS.items()}
    rows = theory_side.PUBLISHED
    columns = {label: theory_side.ESTIMATORS.index(key) for key, label in ESTIMATORS.items()}
    published = {label: (list(rows), [row[i] for row in rows.values()]) for label, i in columns.items()}
    close = tuple(ESTIMATORS[key] for key in ("two_heads", "dgd", "gd"))
    base = np.array([table[n]["dgd"][0] for n in lengths])
    difference = {n: (lengths, np.array(measured[n][1]) - base) for n in close[::2]}
    gap = np.array(exact["plain step"]) - exact["debiased step"]
    lines = {"debiased step": (fine, 0 * gap), "plain step": (fine, gap)}
    printed = np.array([row[columns["debiased step"]] for row in rows.values()])
    rings = {n: (list(rows), np.array(published[n][1]) - printed) for n in close[::2]}
    figure = report.risk_panels(
        {
            "Risk": report.RiskPanel(measured, theory, published, errors, log_y=True, note="bars: ± 2 standard errors"),
            "Risk minus that of the debiased step": report.RiskPanel(
                difference, lines, rings, ylabel="difference", note="on the same prompts"
            ),
        },
        title="Two softmax heads are one debiased step of gradient descent; one head and Bayes are elsewhere",
    )
    caption = (
        "F4. Risk against context length of the authors' estimators (ω = .13, μ = 3.45). Points: our Monte Carlo; "
        "circles: their table; lines: exact risks (one head and ridge: averages over inputs)"
    )
    return {"F4-estimators": (caption, figure)}


def _head_counts(lab: Lab, by_heads: dict[int, str]) -> Drawn:
    lengths = np.array(theory_side.TEST_LENGTHS)
    runs = {WORDS[h]: np.stack([lab.risk(name, int(n)) for n in lengths], axis=1) for h, name in by_heads.items()}
    fine = np.array([*range(10, 30, 2), *range(30, 101, 5)])
    descent = np.asarray(icl.length_risk(SETTING, [int(n) for n in fine], "softmax"))
    one = icl.exact_one_head(SETTING, 4000)
    heads = [icl.exact_head_risk(one.omega, one.mu, SETTING.at(int(n)), 20_000).value for n in fine]
    theory = {"debiased step, trained at L = 40": (fine, descent), "best single head at L = 40": (fine, heads)}
    low = np.asarray(icl.length_risk(SETTING, [int(n) for n in lengths], "softmax"))
    both = {WORDS[h]: lab.opposite(name) > 0 for h, name in by_heads.items() if h > 1}
    many = {name: (lengths, runs[name][kept] - low) for name, kept in both.items() if kept.any()}
    panels = {
        "Risk": report.RiskPanel(
            {name: (lengths, r) for name, r in runs.items()}, theory, log_y=True, note="bars: range over all seeds"
        )
    }
    if many:
        zero = {"debiased step, trained at L = 40": (fine, np.zeros(fine.size))}
        panels["Risk minus that of the debiased step"] = report.RiskPanel(
            many, zero, ylabel="difference", dodge=1.6, note="seeds with heads of both signs"
        )
    finding = "Two, four and eight trained heads do the same; one head cannot"
    figure = report.risk_panels(panels, title=finding)
    caption = (
        "F5. Risk of trained models by number of heads, at other context lengths than the 40 pairs of training (the "
        "authors' figure adds the noise variance .1 once too often). A seed whose two heads share a sign has the risk "
        "of one head"
    )
    return {"F5-head-count": (caption, figure)}


def _limit(lab: Lab) -> Drawn:
    found = lab.theory("bayes")
    xi = np.geomspace(0.05, 5, 80)
    levels = {f"σ² = {s2:g}": s2 for s2 in theory_side.BAYES_NOISE}
    at = np.array(theory_side.BAYES_XI)
    figure = report.limit_curves(
        xi,
        {name: icl.gd_limit_risk(xi, s2) for name, s2 in levels.items()},
        {name: icl.bayes_limit_risk(xi, s2) for name, s2 in levels.items()},
        {name: (at, found["finite"][i]) for i, name in enumerate(levels)},
        title="One step is nearly Bayes under strong noise, and off by a factor of 2.5 under little",
    )
    caption = "F7. Proportional limit, d / L = ξ. Points: exact step over sampled Bayes risk at L = 100"
    return {"F7-proportional": (caption, figure)}


def _lengths(lab: Lab, have: set[str]) -> Drawn:
    few = slice(0, 3, 2) if lab.preset == "smoke" else slice(None)  # every length compiles anew
    lengths, fine = np.array(theory_side.TEST_LENGTHS)[few], np.arange(10, 101, 2)
    counts = [int(n) for n in fine]
    kinds: dict[str, Any] = {
        "two softmax heads": ("two_heads", "softmax"),
        "linear, sum / training length": ("unnormalised", "linear_sum"),
        "linear, sum / actual length": ("", "linear_mean"),
    }
    theory = {name: (fine, icl.length_risk(SETTING, counts, kind)) for name, (_, kind) in kinds.items()}
    measured = {
        name: (lengths, np.stack([lab.risk(run, int(n)) for n in lengths], axis=1))
        for name, (run, _) in kinds.items()
        if run in have
    }
    panels = {
        "Trained at L = 40": report.RiskPanel(
            measured, theory, levels={"answer 0: 1.1": 1.1}, log_y=True, ylabel="risk",
            dashed=("linear, sum / actual length",),
            xlabel="pairs in the context L′ at test", note="noise σ² = .1; bars: range over seeds",
        )
    }  # fmt: skip
    built = lab.theory("lengths")
    at, wide = np.array(built["lengths"]), np.unique(np.geomspace(5, 160, 40).astype(int))
    s = icl.Setting(theory_side.DIM, 20, 0.0, prior_covariance=1.0, noisy_query=False)
    kinds = {"linear, sum / training length": ("sum", "linear_sum")}
    kinds["linear, sum / actual length"] = ("mean", "linear_mean")
    counts = [int(n) for n in wide]
    points = {name: (at, built[key]) for name, (key, _) in kinds.items()}
    lines = {name: (wide, icl.length_risk(s, counts, kind) / theory_side.DIM) for name, (_, kind) in kinds.items()}
    if "zhang" in have:
        name = "Zhang et al., trained, / actual length"
        z = lab.setting("zhang")
        best = icl.best_preconditioner(z, "plain")
        points[name] = at[few], np.stack([lab.risk("zhang", int(n)) for n in at[few]], axis=1) / z.signal
        lines[name] = wide, np.array([icl.population_risk(best, z.at(n), "plain") / z.signal for n in counts])
    panels["Linear attention of N = 20, no noise"] = report.RiskPanel(
        points, lines, levels={"answer 0": 1.0}, log_x=True, log_y=True, ylabel="risk over that of the answer 0",
        dashed=("linear, sum / actual length",),
        xlabel="pairs in the context M at test", note="constructed; Zhang: trained, bars: range over seeds",
    )  # fmt: skip
    finding = "Softmax takes the same step at every length; an unnormalised sum blows up on longer prompts"
    figure = report.risk_panels(panels, title=_finding(lab, finding, "Risk at other lengths than that of training"))
    caption = (
        "F8. Length generalisation of softmax and of linear attention in both normalisations; lines: closed forms. "
        "The upper end of a bar of two heads is a seed whose heads have one sign"
    )
    return {"F8-lengths": (caption, figure)}


def _shifted(lab: Lab) -> Drawn:
    found = lab.theory("shifted")
    risks = {
        "two heads,\ntrained": lab.risk("shifted_two"),
        "four heads,\ntrained": lab.risk("shifted_four"),
        "two opposite\nheads, built": [found["heads"]],
    }
    levels = {
        "best plain step": found["gd_exact"],
        "best debiased step": found["dgd_exact"],
        "best small weights": found["small_weights"],
    }
    figure = report.seed_levels(
        risks, levels, title="On shifted inputs debiasing pays, and two heads often stick at one sign"
    )
    caption = "F13. Inputs with mean 1 in every coordinate. Lines: exact optima; dots: seeds"
    return {"F13-shifted": (caption, figure)}


def _prefixes(lab: Lab, names: Sequence[str]) -> Drawn:
    panels = {}
    for name in names:
        curve, dim = lab.prefix_curve(name), lab.experiments[name].task.dim
        n = np.arange(curve.shape[1])
        panels[f"{name}, d = {dim}"] = report.RiskPanel(
            {"small GPT": (n, curve)}, {"least squares: max(0, 1 − n / d)": (n, np.maximum(0, 1 - n / dim))},
            ylabel="squared error over that of the answer 0", xlabel="examples n in the context",
            note="bars: range over seeds",
        )  # fmt: skip
    figure = report.risk_panels(panels, title="A small GPT on all prefixes of noiseless regression")
    return {"F14-prefixes": ("F14. Error after n examples against least squares, the optimum without noise", figure)}


# ---- the reduced model


def _flow() -> Drawn:
    found = _flows()
    bottom = icl.loss_infimum(SETTING)
    top = 1 + SETTING.noise_variance - bottom
    one = icl.one_head_optimum(SETTING)
    phases, predicted = {}, {}
    for name, flow in found.items():
        end = icl.find_phases(flow, SETTING)
        phases[name] = {"1": end.plateau, "2": end.rise, "3": end.zero_sum, "4": end.valley}
        if np.isfinite(end.valley):
            mu = flow.mu[-1]
            active = np.abs(mu) > 0.1 * np.abs(mu).max()
            signs = int((mu[active] > 0).sum()), int((mu[active] < 0).sum())
            t = np.geomspace(max(end.valley, 100.0), flow.times[-1], 60)
            w = np.asarray(icl.valley_omega(t, SETTING, *signs))
            predicted[name] = {"omega": (t, w), "loss": (t, icl.valley_loss(w, SETTING) - bottom)}
            if signs == (1, 1):
                predicted[name]["mu"] = t, icl.valley_step(w, SETTING) / (2 * w)
    shown = {name: _Above(f.times[1:], f.omega[1:], f.mu[1:], f.loss[1:] - bottom) for name, f in found.items()}
    figure = report.flow_phases(
        shown,
        phases=phases,
        predicted=predicted,
        levels={"plateau 1 + σ²": top, "one-head optimum": float(one.risk) - bottom},
        note="1 plateau ends, 2 Σ μ ω = .8 η*, 3 zero-sum, 4 loss within 1 % of its infimum",
        title="Gradient flow: plateau, rise, zero-sum, slow valley ω ~ t^(−1/6), or a stop with one sign",
    )
    caption = (
        "F6. Gradient flow of the reduced model from small starts. Dotted: where its phases begin; dashed: the valley "
        f"law without a fitted constant. Of random starts of two heads {icl.same_sign_probability(SETTING):.0%} end "
        "with one sign, at the loss of one head"
    )
    return {"F6-flow": (caption, figure)}


class _Above:
    """A flow whose loss is measured from the infimum."""

    def __init__(self, times: np.ndarray, omega: np.ndarray, mu: np.ndarray, loss: np.ndarray):
        self.times, self.omega, self.mu, self.loss = times, omega, mu, loss


def _flows() -> dict[str, icl.HeadsFlow]:
    """Two heads that become opposite, four heads, two heads that keep one sign: the first such starts."""
    times = theory_side.FLOW_TIMES
    found = {}
    for name, heads in (("two heads, opposite signs", 2), ("four heads", 4)):
        start = theory_side.flow_starts(heads, 1)[0]
        found[name] = icl.integrate_heads(*start, times, SETTING)
    balance = (1 + icl.critical_balance(SETTING)) / 2
    start = theory_side.FLOW_SCALE * np.array([1.0, balance])
    found["two heads, one sign"] = icl.integrate_heads(start, start, times, SETTING)
    return found


def _concentration(lab: Lab, by_heads: dict[int, str]) -> Drawn:
    prompts, heads = {}, {}
    for h, name in by_heads.items():
        e = lab.experiments[name]
        probe = analysis.concentration(e.task, batch_size=1024, by_prompt=True)
        found = lab.once(("concentration", name), lambda name=name, probe=probe: lab.probe(name, probe))
        omega = lab.patterns(name)["omega"]
        predicted = np.asarray(icl.attention_overlap(omega, omega, lab.setting(name)))
        heads[WORDS[h]] = predicted, found["concentration"]
        if h <= 2:
            label = f"{WORDS[h]}, ω = {_short(omega[0, 0])}"
            prompts[label] = found["concentration_by_prompt"][0, :, 0], predicted[0, 0]
    if not prompts:
        return {}
    figure = report.concentration_theory(
        prompts,
        heads,
        title="Two heads attend to nearly everything, one head to fewer",
    )
    caption = (
        "F11. ‖softmax‖² of trained heads (left: seed 0, head 1) against the large-L formula of the paper; "
        "for small ω it holds, at large ω it overstates the mean over prompts of 40 keys; points above the line are "
        "dummy heads, whose KQ is no multiple of the identity"
    )
    return {"F11-concentration": (caption, figure)}


def _signs(lab: Lab, by_heads: dict[int, str]) -> Drawn:
    many = {h: name for h, name in by_heads.items() if h in (2, 4)}
    if 2 not in many:
        return {}
    points = {WORDS[2]: (lab.patterns(many[2])["omega"], lab.patterns(many[2])["mu"][..., 0])}
    if 1 in by_heads:
        found = lab.patterns(by_heads[1])
        points[WORDS[1]] = found["omega"], found["mu"][..., 0]
    shares = {}
    for h, name in many.items():
        steps, found = lab.recorded(name, "same_sign")
        shares[WORDS[h]] = steps, found[..., 0].astype(float).mean(axis=0)
    largest = max(0.2, *(float(np.abs(w).max()) for w, _ in points.values()))
    w = np.linspace(0.13, 1.05 * largest, 200)
    mu = icl.valley_step(w, SETTING) / (2 * w)
    exact = lab.theory("one_head")
    curves = {
        "valley: two opposite heads": (np.concatenate([w, [np.nan], -w]), np.concatenate([mu, [np.nan], -mu])),
        "one-sign valley: μ₁ + μ₂ = μ of one head": (
            np.array([1, 1, np.nan, -1, -1]) * exact["omega"], np.array([0, 1, np.nan, 0, -1]) * exact["mu"],
        ),
    }  # fmt: skip
    figure = report.sign_endpoints(
        points, curves, shares, probability=icl.same_sign_probability(SETTING), seeds=lab.seeds,
        title="Some seeds begin with heads of one sign; gradient noise turns most of them",
    )  # fmt: skip
    caption = (
        "F12. Where heads end, and how many seeds have heads of one sign. Lines at the left: what theory allows; at "
        "the right: the share of random starts whose noiseless flow ends with one sign"
    )
    return {"F12-signs": (caption, figure)}


# ---- other data


def _preconditioner(lab: Lab) -> Drawn:
    gamma, best = lab.patterns("anisotropic")["step_matrix"][:, 0], lab.best_preconditioner("anisotropic")
    median = np.median(gamma, axis=0)
    matrices = {
        f"Σ μ KQᵀ, median of {len(gamma)} seeds": median,
        "theory: Γ* of the debiased step": best,
        "difference": median - best,
        "half interquartile range": np.subtract(*np.quantile(gamma, [0.75, 0.25], axis=0)) / 2,
    }
    names = _coordinates(lab, "anisotropic")[:-1]
    errors = lab.preconditioner_error("anisotropic")
    figure = report.matrix_comparison(
        matrices, names, names, ylabel="query", xlabel="key",
        title=f"Correlated inputs: relative distance from the best preconditioner {np.median(errors):.3f} "
        f"(seeds: {errors.min():.3f} to {errors.max():.3f})",
    )  # fmt: skip
    return {
        "F9-preconditioner": ("F9. Covariance .5^|i−j|: the heads together, Σ μ KQᵀ, against the Γ* of theory", figure)
    }


def _tasks(lab: Lab, names: Sequence[str]) -> Drawn:
    drawn: Drawn = {}
    e = lab.experiments[names[0]].task
    sizes = {name: lab.experiments[name].model.num_heads for name in names}
    shown = [n for n in names if sizes[n] > 2] or list(names)
    groups = {f"H = {sizes[n]}": (lab.matrices(n)["kq"][0], lab.matrices(n)["ov"][0]) for n in shown}
    figure = report.circuit_maps(
        groups, _coordinates(lab, names[0]), unread=e.num_outputs,
        title="Two tasks: three heads share them (superposition), four heads split them (seed 0)",
    )  # fmt: skip
    drawn["F10-superposition"] = (
        "F10. KQ and OV of two tasks at once, on x₁–x₄ and on x₃–x₆. Theory: H ≥ 3 suffices", figure,
    )  # fmt: skip
    support = [len(s) for s in e.supports]
    eta = [float(icl.dgd_optimum(icl.task_setting(k, e.context)).eta) for k in support]
    target = np.array(eta)[:, None] * icl.support_matrix(e.supports, e.dim)
    matrices: dict[str, np.ndarray] = {}
    for name in names:
        found = lab.sharing(name)["effective"]
        matrices[f"H = {sizes[name]}, median of {len(found)} seeds"] = np.median(found, axis=0)
        matrices[f"H = {sizes[name]}, half the range"] = np.ptp(found, axis=0) / 2
    matrices["theory: η* on the task's coordinates"] = target
    rows = [f"task {i + 1}" for i in range(e.num_outputs)]
    figure = report.matrix_comparison(
        matrices, rows, _coordinates(lab, names[0])[: e.dim], columns=2, xlabel="coordinate",
        title="What the heads add up to, task by task: Σ μ diag(KQ)",
    )  # fmt: skip
    drawn["F10-effective"] = ("F10. Effective step of each task along each coordinate, against theory", figure)
    return drawn


# ---- scrubbers


def scrubbers(lab: Lab) -> dict[str, Any]:
    """KQ (its identified part) and OV over training, of two and of four heads."""
    from attnlab.report.quick import scrubber

    have = lab.trained()
    shown = {h: next((n for n in HEADS[h] if n in have), None) for h in (2, 4)}
    runs = [lab.run(name) for name in shown.values() if name]
    titles = [f"{WORDS[h]}: KQ and OV over training" for h, name in shown.items() if name]
    models = [lab.experiments[name] for name in shown.values() if name]
    return {t: scrubber(r.trajectory, e.model, e.task) for t, r, e in zip(titles, runs, models, strict=True)}


def _coordinates(lab: Lab, name: str) -> list[str]:
    """Names of the coordinates of a token: x₁ ... x_d, y."""
    task = lab.experiments[name].task
    below = lambda i: "".join(chr(0x2080 + int(c)) for c in str(i))  # noqa: E731
    labels = [f"y{below(i + 1)}" if task.num_outputs > 1 else "y" for i in range(task.num_outputs)]
    return [f"x{below(i + 1)}" for i in range(task.dim)] + labels


def _finding(lab: Lab, text: str, plain: str) -> str:
    """What a figure shows of trained models; of the smoke preset, whose models are hardly trained, only its subject."""
    return plain if lab.preset == "smoke" else text


def _short(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if abs(value) < 1 else f"{value:.2f}".replace("-", "−")


def _steps(steps: set[int]) -> str:
    return " / ".join(f"{s:,}" for s in sorted(steps))


__all__ = ["figures", "scrubbers"]
