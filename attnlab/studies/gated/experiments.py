"""What each preset trains: gates at every place of one head, and null columns that are gates in disguise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attnlab.attention import catalogue as known
from attnlab.attention.gated import Gated, ns_sigmoid, silu
from attnlab.studies.gated.figures import figures as figures
from attnlab.studies.gated.identities import identities, start
from attnlab.studies.measured import Experiment
from attnlab.studies.sinks_by_mechanism.experiments import LAPTOP, SMOKE, Size

THEORY = {"identities": identities, "start": start}

GATES: dict[str, Any] = {
    "softmax": known.softmax,
    "g1": known.output_gated,
    "g1_head": known.head_gated,
    "g2": known.value_gated,
    "g2_head": Gated(known.softmax, "value", per="head"),
    "g3": known.key_gated,
    "g4": known.query_gated,
    "g5": known.dense_gated,
    "g1_ns_head": Gated(known.softmax, per="head", function=ns_sigmoid),
    "g1_constant": Gated(known.softmax, per="head", input_dependent=False),
    "g1_added": Gated(known.softmax, combine="add", function=silu),
    "g1_shared": Gated(known.softmax, shared=True),
    "sink_logit": known.sink_logit,
    "key_bias": known.key_bias,
}
"""G1 output, G2 value, G3 key, G4 query, G5 behind the output matrix (2505.06708); then columns without a value."""

TWO_HEADS = ("g1", "g1_shared")
"""Runs with two heads, `two_...`: with one, a gate shared by the heads is the gate of the head."""

COLUMNS = ("sink_logit", "key_bias")
AT_LAPTOP = ("softmax", "g1", "g1_head", "g1_constant", "g2", "g3", "g4", "g5")


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name; those without `<s>` begin with `no_bos_`, those with two heads with `two_`."""
    if preset == "smoke":
        return {
            "g1_head": SMOKE.make(GATES["g1_head"]),
            "no_bos_key_bias": SMOKE.make(GATES["key_bias"], bos=False),
        }
    gates = AT_LAPTOP if preset == "laptop" else tuple(n for n in GATES if n != "g1_shared")
    found = {name: LAPTOP.make(GATES[name]) for name in gates}
    found |= {f"no_bos_{name}": LAPTOP.make(GATES[name], bos=False) for name in COLUMNS}
    return found if preset == "laptop" else found | _more()


def _more() -> dict[str, Experiment]:
    """Two heads, and gates without `<s>`."""
    two = {f"two_{name}": _two_heads(LAPTOP, GATES[name]) for name in TWO_HEADS}
    return two | {f"no_bos_{name}": LAPTOP.make(GATES[name], bos=False) for name in ("softmax", "g1_head")}


def _two_heads(size: Size, mechanism: Any) -> Experiment:
    e = size.make(mechanism)
    return replace(e, model=replace(e.model, num_heads=2))
