"""The lines of the picture: a method, its doses, and on which model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from attnlab.edits.calibrate import VarRule
from attnlab.studies.grounding import heads, methods, planted
from attnlab.studies.grounding import planted_methods as on_sinks
from attnlab.studies.grounding.subject import Curve, Subject, asked, nothing

SIZES = {"smoke": (128, 512)}  # sequences to choose on and to report on
CHOSEN, REPORTED = 1024, 4096


def _first(subject: Subject) -> Any:
    return heads.search(subject, 1)["sets"][0]


def _layer(subject: Subject) -> Any:
    return heads.groups(subject)[4]


def _all(subject: Subject) -> Any:
    return jnp.ones((subject.model.num_layers, subject.model.num_heads))


@dataclass(frozen=True)
class Line:
    """One method.

    Attributes:
      label: in the picture, with what the dose is.
      method, doses, find: of `Curve`. neutral: the dose that leaves the model as it is.
      run: the trained model; roomy: pictures with two patches of background at least.
    """

    label: str
    method: Callable[..., Any]
    doses: tuple[float, ...]
    find: Callable[[Subject], Any] = nothing
    neutral: float = 1.0
    run: str = "plain"
    roomy: bool = False


FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
BOOSTS = (1.0, 4.0, 16.0, 64.0)
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
AMOUNTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
SHARES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
GAMMAS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
STEPS = (0.0, 0.35, 0.7, 1.4, 2.8)
SALIENCIES = (0.0, 1.0, 4.0, 16.0, 64.0)
CROPS = (8.0, 6.0, 4.0, 2.0, 1.0)

RULES = tuple(np.linspace(-2, 8, 81).tolist())
EVERY_ROW = VarRule(most_on_sinks=1.0, least_visual=0.0)
LINES: dict[str, Line] = {
    "rule": Line("argmax [w log prior + evidence]", methods.rule, RULES),
    "vhr": Line("VHR, upper half of heads (factor)", methods.reinforced, FACTORS, heads.upper),
    "vhr_lower": Line("VHR, lower half (control)", methods.reinforced, FACTORS, heads.lower),
    "vhr_last": Line("VHR in the answering row", methods.reinforced_last, FACTORS, heads.upper),
    "boost": Line("log boost of the image (factor)", methods.boosted("log"), BOOSTS),
    "centred": Line("centred boost (a)", methods.boosted("centred"), STEPS, neutral=0.0),
    "paint": Line("PAINT (a)", methods.painted, STEPS, neutral=0.0),
    "zerotuning": Line("ZeroTuning (γ)", methods.tuned, GAMMAS),
    "act": Line("ACT (β)", methods.calibrated, SHARES),
    "var": Line("VAR (p)", on_sinks.redistributed_unplanted, SHARES, nothing),
    "softpag": Line("SoftPAG, head found by search (u)", methods.led(1.0), AMOUNTS, _first, neutral=0.0),
    "softpag_layer": Line("SoftPAG, its layer (u)", methods.led(1.0), AMOUNTS, _layer, neutral=0.0),
    "softpag_all": Line("SoftPAG, all heads (u)", methods.led(1.0), AMOUNTS, _all, neutral=0.0),
    "softpag_weight": Line("SoftPAG, the head, u = 1 (w)", methods.led(), WEIGHTS, _first, neutral=0.0),
    "softpag_groups": Line("groups of heads", methods.led_by_group, (0, 1, 2, 3, 4, 5), heads.groups, neutral=0.0),
    "weak": Line("SoftPAG's weak model (u)", methods.weak, AMOUNTS, neutral=0.0),
    "contrast": Line("contrast with a blank picture (w)", methods.contrasted, WEIGHTS, neutral=0.0),
    "harsanyi": Line("INTER, Harsanyi (w)", methods.interacted(), WEIGHTS, neutral=0.0),
    "harsanyi_silent": Line("INTER, no question at all (w)", methods.interacted(True), WEIGHTS, neutral=0.0),
    "planted_var": Line("VAR (p)", on_sinks.redistributed(VarRule()), SHARES, planted.prepare, roomy=True),
    "planted_var_all": Line("VAR without its rule (p)", on_sinks.redistributed(EVERY_ROW), SHARES, planted.prepare,
                            roomy=True),
    "planted_act": Line("ACT (β)", on_sinks.calibrated, SHARES, planted.prepare, roomy=True),
    "planted_deleted": Line("keys taken out", on_sinks.deleted, (0, 1, 2), planted.prepare, 0.0, roomy=True),
    "gift": Line("GIFT (α)", on_sinks.followed, SALIENCIES, planted.prepare_one, 0.0,
                 "two tokens", True),
    "gift_raw": Line("GIFT by raw attention (control)", on_sinks.followed_raw, SALIENCIES, planted.prepare_one, 0.0,
                     "two tokens", True),
    "carve": Line("CARVE, patches kept", on_sinks.cropped(1), CROPS, planted.prepare_salient, 8.0, roomy=True),
    "carve_raw": Line("kept by raw attention (control)", on_sinks.cropped(0), CROPS, planted.prepare_salient, 8.0,
                      roomy=True),
}  # fmt: skip

UNPLANTED = (
    "vhr",
    "vhr_lower",
    "boost",
    "paint",
    "zerotuning",
    "act",
    "softpag",
    "softpag_all",
    "contrast",
    "harsanyi",
)
PLANTED = ("planted_var", "planted_var_all", "planted_act", "gift", "gift_raw", "carve", "carve_raw")
SMOKE = ("rule", "vhr", "contrast")


def shown(lab: Any, names: Iterable[str]) -> tuple[str, ...]:
    """The lines of a preset: smoke has few."""
    return tuple(name for name in names if lab.preset != "smoke" or name in SMOKE)


def line(lab: Any, name: str) -> dict[str, np.ndarray]:
    """`summary` of every seed and dose, leaves `[S, N]`."""
    one = LINES[name]
    chosen, reported = SIZES.get(lab.preset, (CHOSEN, REPORTED))
    task = asked(lab.experiments[one.run].task)
    curve = Curve(task, one.method, one.doses, one.find, one.roomy, chosen, reported)
    return lab.probe(one.run, curve, label=("line", name))


def at(lab: Any, name: str, dose: float, which: str) -> np.ndarray:
    """One number of a line, `[S]`."""
    return line(lab, name)[which][:, LINES[name].doses.index(dose)]


def change(lab: Any, name: str, dose: float, which: str) -> np.ndarray:
    """The same less that of the neutral dose, `[S]`."""
    return at(lab, name, dose, which) - at(lab, name, LINES[name].neutral, which)


def reported(lab: Any, label: str, probe: Callable[..., Any], run: str = "plain", **options: Any) -> Any:
    """A probe `(model, params, task, sequences, **options)` of every seed, once."""
    task, sequences = asked(lab.experiments[run].task), SIZES.get(lab.preset, (CHOSEN, REPORTED))[0]
    return lab.probe(run, lambda model, params: probe(model, params, task, sequences, **options), label=label)
