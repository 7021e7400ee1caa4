"""Figures: where dormant queries look and what they get from there, the price in risk, training, life without `<s>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.studies.sinks_by_mechanism.measures import MAPS, gated, of, risk, written

LABELS = {
    "g1": "output gate (G1)",
    "g1_head": "output gate per head (G1)",
    "g2": "value gate (G2)",
    "g5": "dense gate (G5)",
    "off_by_one": "softmax-off-by-one",
    "key_bias": "key bias",
    "sigmoid": "sigmoid, bias −log T",
    "sigmoid_0": "sigmoid, bias 0",
    "sigmoid_normalized": "sigmoid, rows normalised",
    "relu": "ReLU / n",
    "elu": "ELU + 1, over T",
    "elu_kernel": "ELU + 1 kernel, normalised",
    "identity_kernel": "identity kernel, head norm",
    "inline": "InLine",
    "ssa": "SSA",
    "lssar_3": "LSSAR, p = 3",
    "lssar_15": "LSSAR, p = 15",
}


def label(name: str) -> str:
    """How a figure calls a run."""
    plain = name.removeprefix("no_bos_")
    return LABELS.get(plain, plain)


def panels(
    lab: Any, names: Sequence[str], measures: Mapping[str, Any], called: Callable[[str], str] = label
) -> dict[str, dict[str, np.ndarray]]:
    """Quantity -> label -> `[S]`, for `seeds_by_model`; `measures` is quantity -> function of a run's name."""
    return {told: {called(n): measure(n)(lab) for n in names} for told, measure in measures.items()}


def finding(lab: Any, title: str) -> str:
    """A figure's title: what was found, where the runs are long enough to find it."""
    return "Sixty steps of tiny models, too few for a finding" if lab.preset == "smoke" else title


def figures(lab: Any) -> dict[str, Any]:
    """Of the runs that exist."""
    trained = lab.trained()
    with_bos = [n for n in trained if not n.startswith("no_bos_")]
    without = [n for n in trained if n.startswith("no_bos_")]
    drawn = {}
    if with_bos:
        drawn["f1-share-and-mass"] = ("Sinks by share and by what they give", _sinks(lab, with_bos))
        drawn["f2-risks"] = ("What the mechanisms learn", _risks(lab, with_bos))
        drawn["f3-training"] = ("The mass on <s> over training", _training(lab, with_bos))
    if without:
        drawn["f4-without"] = ("Without <s>", _without(lab, without))
    return drawn


def _sinks(lab: Any, names: Sequence[str]) -> Any:
    measures = {
        "share of dormant rows on <s>": lambda n: of(n, "bos_share_dormant"),
        "mass on <s> that gets out (times an output gate)": written,
        "mass of dormant rows": lambda n: of(n, "absolute_mass_dormant"),
        "value of <s> over the mean of the others": lambda n: of(n, "value_drain"),
    }
    title = "A large share on <s> need not be a large mass: a head that can write nothing keeps the value of <s>"
    return seeds_by_model(panels(lab, names, measures), title=finding(lab, title))


def _risks(lab: Any, names: Sequence[str]) -> Any:
    measures = {
        "excess bigram risk, nats": lambda n: risk(n, "excess_bigram"),
        "backcopy risk, nats": lambda n: risk(n, "backcopy"),
        "share of trigger rows on the token before": lambda n: of(n, "previous_share_active"),
        "share of trigger rows on <s>": lambda n: of(n, "bos_share_active"),
    }
    title = "With sinks and without, the task is learned (LSSAR with p = 15 more slowly)"
    return seeds_by_model(panels(lab, names, measures), title=finding(lab, title), log=("backcopy risk, nats",))


def _training(lab: Any, names: Sequence[str]) -> Any:
    steps, curves = None, {}
    for name in names:
        data = lab.run(name).trajectory["mixing"]
        values = data["bos_gated_mass_dormant" if gated(name) else "bos_mass_dormant"]
        steps = np.asarray(values.step)
        curves[label(name)] = np.asarray(values).reshape(*values.shape[:2], -1).mean(axis=-1)
    title = "Softmax keeps feeding on <s>; what needs not sum to one does not"
    return curves_by_model(
        steps,
        curves,
        title=finding(lab, title),
        xlabel="training step",
        ylabel="mass on <s> that gets out, dormant queries",
    )


def _without(lab: Any, names: Sequence[str]) -> Any:
    def null(name: str) -> Any:
        if not name.endswith(("key_bias", "off_by_one")):
            return lambda lab: np.full(lab.seeds, np.nan)
        return lambda lab: lab.mixing(name, "null_mass_dormant", **MAPS)

    measures = {
        "mass of dormant rows on tokens": lambda n: of(n, "absolute_mass_dormant"),
        "mass on the bias": null,
        "share of dormant rows on position 0": lambda n: of(n, "bos_share_dormant"),
        "backcopy risk, nats": lambda n: risk(n, "backcopy"),
    }
    title = "Without <s> a key bias takes a part of the mass that no token should have"
    return seeds_by_model(panels(lab, names, measures), title=finding(lab, title), log=("backcopy risk, nats",))
