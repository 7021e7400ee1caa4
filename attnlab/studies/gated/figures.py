"""Figures: what gates do to a sink, gates on dormant and active queries, dose and response, columns as gates."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.report.figures_comparison import curves_by_model, seeds_by_model
from attnlab.studies.gated.dose import DOSES, response
from attnlab.studies.gated.identities import measured
from attnlab.studies.sinks_by_mechanism.figures import LABELS, finding, panels
from attnlab.studies.sinks_by_mechanism.measures import MAPS, of, written

OURS = LABELS | {
    "g1": "G1, output",
    "g1_head": "G1, per head",
    "g2": "G2, value",
    "g2_head": "G2, per head",
    "g3": "G3, key",
    "g4": "G4, query",
    "g5": "G5, dense",
    "g1_ns_head": "G1, from 1/2 to 1",
    "g1_constant": "G1, constant",
    "g1_added": "G1, added SiLU",
    "g1_shared": "G1, shared",
    "sink_logit": "sink logit",
}


def label(name: str) -> str:
    """How a figure calls a run."""
    plain = name.removeprefix("no_bos_").removeprefix("two_")
    ends = ", no <s>" * name.startswith("no_bos_") + ", 2 heads" * name.startswith("two_")
    return OURS.get(plain, plain) + ends


def figures(lab: Any) -> dict[str, Any]:
    """Of the runs that exist."""
    trained = lab.trained()
    with_bos = [n for n in trained if not n.startswith("no_bos_") and n not in ("sink_logit", "key_bias")]
    columns = [n for n in trained if n.startswith("no_bos_") and n.endswith(("sink_logit", "key_bias"))]
    columns += [n for n in trained if n in ("sink_logit", "key_bias")]
    drawn = {}
    if with_bos:
        drawn["f1-gates"] = ("Gates at every place", _gates(lab, with_bos))
    if held := [n for n in ("softmax", "g1_head") if n in trained]:
        drawn["f2-dose"] = ("Dose and response", _dose(lab, held))
    if columns:
        drawn["f3-columns"] = ("Null columns as gates", _columns(lab, columns))
    return drawn


def _gates(lab: Any, names: list[str]) -> Any:
    def gate(which: str) -> Any:
        def measure(name: str) -> Any:
            if not label(name).startswith("G"):
                return lambda lab: np.full(lab.seeds, np.nan)
            return lambda lab: lab.mixing(name, f"gate_{which}", **MAPS)

        return measure

    measures = {
        "share of dormant rows on <s>": lambda n: of(n, "bos_share_dormant"),
        "mass on <s> that gets out": written,
        "mean gate at dormant queries": gate("dormant"),
        "mean gate at triggers": gate("active"),
        "value of <s> over the mean of the others": lambda n: of(n, "value_drain"),
        "largest coordinate of the stream": lambda n: of(n, "stream_peak"),
    }
    title = "A gate that can close, and knows when, takes the mass of the sink and gives its value back"
    return seeds_by_model(panels(lab, names, measures, label), title=finding(lab, title))


def _dose(lab: Any, names: list[str]) -> Any:
    found = {n: response(lab, n) for n in names}
    curves = {f"{label(n)}: no trigger": found[n]["excess_bigram"] for n in names}
    curves |= {f"{label(n)}: triggers": found[n]["excess_backcopy"] for n in names}
    title = "Held open on every query, the gated head disturbs dormant queries; the drained softmax head does not"
    return curves_by_model(
        DOSES,
        curves,
        title=finding(lab, title),
        xlabel="gate held at (softmax: output times)",
        ylabel="excess risk, nats",
        log_y=True,
    )


def _columns(lab: Any, names: list[str]) -> Any:
    measures = {
        "largest difference from softmax times gate, 1e-7": lambda n: lambda lab: 1e7 * measured(lab, n)["weights"],
        "implied gate on dormant queries": lambda n: lambda lab: measured(lab, n)["dormant"],
        "implied gate on triggers": lambda n: lambda lab: measured(lab, n)["active"],
        "mass of dormant rows on tokens": lambda n: of(n, "absolute_mass_dormant"),
    }
    title = "A null column is a gate per head: its mass is what the gate σ(lse − b) leaves out"
    return seeds_by_model(panels(lab, names, measures, label), title=finding(lab, title))
