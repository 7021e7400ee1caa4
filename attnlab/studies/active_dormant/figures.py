"""The figures of the study, each from what the lab has measured, theory beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import theory
from attnlab import analysis, report
from attnlab.studies.active_dormant import theory_side
from attnlab.studies.active_dormant.lab import Lab, pick

Drawn = dict[str, tuple[str, Any]]
SHOWN = 28  # positions of a sequence in a drawn attention map: labels stay legible


def figures(lab: Lab) -> Drawn:
    """File name -> (caption, figure), for the runs that the preset has."""
    have = set(lab.trained())
    drawn: Drawn = {}
    if lab.preset in ("smoke", "laptop", "paper"):
        drawn |= {
            "F-theorems": ("The three flow theorems: solved flow against closed form", _flows()),
            "F11-residual-peak": _peak(),
        }
    for needs, make in _MEASURED:
        if needs <= have:
            drawn |= make(lab)
    variants = [name for name in lab.trained() if lab.preset == "evening"]
    if variants:
        drawn |= _variants(lab, variants)
    return drawn


def _flows() -> Any:
    return report.flow_theory(**theory_side.flow_curves())


def _peak() -> tuple[str, Any]:
    steps = np.unique(np.geomspace(10, 20_000, 80).astype(int))
    curves = {
        "Adam": theory.residual_peak_dynamics(steps, optimizer="adam"),
        "SGD": theory.residual_peak_dynamics(steps, optimizer="sgd"),
    }
    formula = {"SGD": theory.residual_peak_sgd(steps, 10.0, 0.3)}
    points = {"Adam": {1000: 27.86, 10_000: 63.98}, "SGD": {10_000: 10.0127}}
    caption = "F11. Residual peaks: Adam grows them linearly, SGD does not; circles are the paper's values"
    return caption, report.residual_peak_theory(steps, curves, formula, points=points)


def _dynamics(run: str, name: str, caption: str, sink: str = "bos_attention") -> Callable[[Lab], Drawn]:
    def draw(lab: Lab) -> Drawn:
        shown = {
            "backcopy risk (nats)": "backcopy",
            "excess bigram risk (nats)": "excess_bigram",
            "attention on <s>" + (" (positions ≥ 1)" if sink != "bos_attention" else ""): sink,
            "sink logit": "sink_logit",
            "‖value of <s>‖": "value_norm_bos",
            "‖residual at <s>‖": "residual_norm_bos",
        }
        steps, _ = lab.curve(run, "backcopy")
        curves = {label: lab.curve(run, metric)[1] for label, metric in shown.items()}
        plateau = {"attention-free plateau": _plateau(lab, run)}
        figure = report.dynamics(
            steps,
            curves,
            log_y=("backcopy risk (nats)", "excess bigram risk (nats)"),
            levels={"backcopy risk (nats)": plateau},
            title=caption,
        )
        return {name: (caption, figure)}

    return draw


def _plateau(lab: Lab, run: str) -> float:
    """Backcopy risk of the best predictor without attention, from the exact law of the run's own task."""
    import toy_tasks as tt

    return tt.expected_risks(lab.experiments[run].task).plateau


def _maps(lab: Lab) -> Drawn:
    task = lab.experiments["softmax"].task
    maps = lab.run("softmax").trajectory["maps"]
    weights = np.asarray(maps["weights"].isel(step=-1, seed=0))  # [n, L, H, T, T]
    tokens = np.asarray(maps["tokens"].isel(step=-1, seed=0))
    size = min(SHOWN, weights.shape[-1])
    names = [[task.names[t] for t in row[:size]] for row in tokens]
    figure = report.attention_maps(
        [w[0].mean(axis=0)[:size, :size] for w in weights],
        names,
        [f"sequence {i + 1}" for i in range(len(names))],
        triggers=[task.names[t] for t in task.triggers],
    )
    return {
        "F1-attention": ("F1. Attention at the end of training (seed 0); rows are queries, triggers in red", figure)
    }


def _value_bars(lab: Lab) -> Drawn:
    task = lab.experiments["softmax"].task
    norms = pick_tokens(lab.final_measures("softmax")["value_norm_by_token"])
    seen = np.flatnonzero(np.isfinite(norms).all(axis=0))
    order = seen[np.argsort(np.median(norms[:, seen], axis=0))]
    figure = report.value_norm_bars(
        norms[:, order],
        [task.names[i] for i in order],
        triggers=[task.names[t] for t in task.triggers],
        ylabel="‖value‖ (W_O W_V LN h)",
    )
    return {"F2-values": ("F2. Norm of the value state by token; the value of <s> has drained", figure)}


def _interventions(lab: Lab) -> Drawn:
    task = lab.experiments["softmax"].task
    found = lab.interventions("softmax")
    shown = {"full": "full", "no attention": "no_attention", "no MLP": "no_mlp"}
    values = {
        title: {label: found[part][risk] for label, part in shown.items()}
        for title, risk in (("backcopy risk", "backcopy"), ("excess bigram risk", "excess_bigram"))
    }
    references = {"backcopy risk": {"guessing, ln V": float(np.log(task.vocab_size))}}
    return {
        "F3-interventions": (
            "F3. What each part is needed for (zero ablation)",
            report.intervention_bars(values, references),
        )
    }


def _residual_by_token(lab: Lab) -> Drawn:
    task = lab.experiments["softmax"].task
    data = lab.run("softmax").trajectory["sinks"]
    norms = np.asarray(data["residual_norm_by_token"])[:, :, 0]  # [S, N, V]
    seen = np.flatnonzero(np.isfinite(norms).all(axis=(0, 1)))
    figure = report.residual_norms(
        np.asarray(data.step),
        norms[:, :, seen],
        [task.names[i] for i in seen],
        triggers=[task.names[t] for t in task.triggers],
    )
    caption = "F9. Residual norm by token in one layer: <s> is no outlier, so there is no residual peak"
    return {"F9-residuals": (caption, figure)}


def _reduced(lab: Lab) -> Drawn:
    steps, attention = lab.curve("reduced", "bos_attention")
    late = steps > 0
    figure = report.reduced_model(
        steps[late],
        attention[:, late],
        lab.reduced_drain()[1][:, late],
        lab.curve("reduced", "sink_logit")[1][:, late],
        title="The reduced model under AdamW 0.03 (the value without its mean over the vocabulary)",
    )
    return {
        "F10-reduced": (
            "F10. The reduced model, without positions, norms or residuals: every seed sinks, not every one drains",
            figure,
        )
    }


def _entropy(lab: Lab) -> Drawn:
    task = lab.experiments["softmax"].task
    entropy, logits = analysis.row_entropy(task.kernel), lab.logits_by_token("softmax")
    keep, rho = np.flatnonzero(np.isfinite(logits).any(axis=0)), lab.entropy_correlation("softmax")
    figure = report.entropy_vs_sink_logit(
        entropy[keep],
        logits[:, keep],
        [task.names[i] for i in keep],
        rho,
        title=f"Sink logit against row entropy: Spearman ρ = {np.median(rho):.2f} ({rho.min():.2f} … {rho.max():.2f})",
    )
    caption = "Does a token with a nearly certain successor stay least dormant? The paper's size says yes (ρ > .35)"
    return {"F-entropy": (caption, figure)}


def _variants(lab: Lab, names: list[str]) -> Drawn:
    with_bos = [n for n in names if not n.startswith("no_bos")]
    quantities = {"raw attention on <s>": "bos_attention", "value ratio <s> / ordinary": "value_ratio"}
    values = {title: {n: lab.final(n, metric) for n in with_bos} for title, metric in quantities.items()}
    proxy = {n: pick(lab.final_measures(n)["sink_rate_proxy"][..., 0], 1, 0) for n in with_bos}
    values = {"raw attention on <s>": values["raw attention on <s>"], "proxy Sink_1": proxy, **values}
    drawn: Drawn = {
        "F-variants": (
            "Attention variants with <s>: the raw mass, the proxy metric and the value ratio, read together",
            report.intervention_bars(values, ylabel="", title="Three measures of one sink"),
        )
    }
    without = {n.removeprefix("no_bos_"): n for n in names if n.startswith("no_bos")}
    if without:
        values = {
            "mass on tokens": {label: lab.final(n, "dormant_mass_tokens") for label, n in without.items()},
            "of which triggers and newline": {label: lab.low_information_mass(n) for label, n in without.items()},
        }
        figure = report.intervention_bars(values, ylabel="", title="Without <s> the sink goes elsewhere")
        drawn["F-variants-without-bos"] = ("Attention variants without <s>: where non-trigger queries look", figure)
    return drawn


def pick_tokens(values: Any) -> np.ndarray:
    """A measure by token `[S, L, H, V]` of layer 0, heads averaged: `[S, V]`."""
    return np.asarray(values)[:, 0].mean(axis=1)


_MEASURED: tuple[tuple[set[str], Callable[[Lab], Drawn]], ...] = (
    (
        {"softmax"},
        _dynamics(
            "softmax", "F4-dynamics", "F4. Softmax attention: first the bigram law, then backcopy, sink and drain"
        ),
    ),
    (
        {"relu"},
        _dynamics(
            "relu", "F5-relu", "F5. ReLU attention learns backcopy; its value does not drain", "bos_attention_later"
        ),
    ),
    ({"softmax"}, _maps),
    ({"softmax"}, _value_bars),
    ({"softmax"}, _interventions),
    ({"softmax"}, _residual_by_token),
    ({"reduced"}, _reduced),
    ({"softmax"}, _entropy),
)


def scrubbers(lab: Lab) -> dict[str, Any]:
    """Attention, KQ and OV over training, for the first runs of the preset."""
    names = [n for n in lab.trained() if n in ("softmax", "relu")]
    return {f"{name}: attention, KQ and OV over training": analysis_scrubber(lab, name) for name in names}


def analysis_scrubber(lab: Lab, name: str) -> Any:
    from attnlab.report.quick import scrubber

    return scrubber(lab.run(name).trajectory, lab.experiments[name].model, lab.experiments[name].task)


__all__ = ["figures", "scrubbers"]
