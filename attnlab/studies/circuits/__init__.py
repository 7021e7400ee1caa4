"""Circuit component reuse (2310.08744) on small tasks: do two tasks use the same heads, and a control? No jax here."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.studies.base import Check, Interval, Preset, check
from attnlab.studies.measured import study, theory
from attnlab.studies.sinks_by_mechanism.measures import loss_drop

EVERY, SIZES = ("smoke", "laptop", "evening"), ("laptop", "evening")
PAPER = "Merullo et al., 2310.08744"


def _claim(id: str, statement: str, quantity: str, measure: Any, allowed: Interval, why: str, **options: Any) -> Check:
    settings = {"source": PAPER, "trust": "paper", "presets": SIZES, "why": why, **options}
    return check(id, statement, quantity, measure, allowed, **settings)


def _p(function: str, *rest: Any) -> Any:
    """A function of `parts`."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.studies.circuits import parts

        return np.asarray(getattr(parts, function)(lab, *rest))

    return measure


def _exact(key: str, statement: str, quantity: str, error: float, why: str) -> Check:
    return _claim(
        f"exact.{key}", statement, quantity, theory("exact", key), (0, error), why, source="derived",
        trust="derived", presets=EVERY,
    )  # fmt: skip


EXACT = (
    _exact(
        "arrives", "With frozen heads and no norms a query hears Δz W_O W_Q of a sender, no more.", "largest error",
        1e-5, "float32, entries of size 1",
    ),
    _exact("direct", "The direct effects of all parts are the whole effect.", "error of the sum", 1e-5, "the same"),
    _exact("parts", "Embedding, heads, MLPs and bias sum to the logits.", "largest error", 1e-5, "the same"),
    _exact("itself", "A run patched with itself does not change.", "largest change, all paths", 1e-6,
        "rounding of one program against another"),
    _exact(
        "everything", "All parts from the other run are the other run.", "effect less 1", 1e-5, "float32 quotient",
    ),
)  # fmt: skip


def _p_value(lab: Any) -> float:
    """One-sided p of the overlap above the control's, by flipping signs over seeds."""
    from attnlab.analysis.circuit_overlap import paired_p
    from attnlab.studies.circuits import parts

    return paired_p(parts.above_control(lab))


def _above_chance(one: str, two: str) -> Any:
    """Jaccard index less that of random sets."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.studies.circuits import parts

        return np.array([found.jaccard - found.chance_jaccard for found in parts.overlaps(lab, one, two)])

    return measure


def _more(part: str) -> Any:
    """What the shared heads cost above as many others."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.studies.circuits import parts

        return parts.without(lab, "shared", part) - parts.without(lab, "random", part)

    return measure


_LATER: dict[str, Any] = {"presets": (), "reported": SIZES}

LEARNS = (
    *(
        _claim(
            f"learns.{part}", f"One model does it: {told}.", "accuracy", _p("accuracy", part), (0.95, None),
            "solvable exactly; a circuit is asked of a model that does the task", source="this project",
            trust="expected",
        )
        for part, told in (("indirect", "indirect objects"), ("coloured", "coloured objects"))
    ),
    _claim(
        "learns.control", "And Markov text.", "loss above the entropy, nats", _p("excess"), (None, 0.1),
        "a tenth of a nat", source="this project", trust="expected",
    ),
)  # fmt: skip

OVERLAP = (
    _claim(
        "overlap.chance", "The circuits of the two recall tasks share more than chance.",
        "Jaccard index above that of random sets", _above_chance("indirect", "coloured"), (0.0, None),
        "the sign; 78 % of members in GPT2-Medium", **_LATER,
    ),
    _claim(
        "overlap.control", "And more than either shares with Markov text.", "Jaccard index above the controls' mean",
        _p("above_control"), (0.0, None), "the sign is the claim", source=f"{PAPER}; control asked by 2605.08348",
        **_LATER,
    ),
    _claim(
        "overlap.p", "In all seeds alike.", "p, signs of the seeds flipped", _p_value, (0, 0.05), "the usual level",
        source="this project", trust="expected", **_LATER,
    ),
    *(
        _claim(
            f"overlap.{part}_control", f"Chance: {told} and Markov text.", "Jaccard index above that of random sets",
            _above_chance(part, "control"), (-0.15, 0.15), "no more than chance, within two standard deviations of it",
            source="2605.08348", **_LATER,
        )
        for part, told in (("indirect", "indirect objects"), ("coloured", "coloured objects"))
    ),
)  # fmt: skip

SHARED = (
    *(
        _claim(
            f"shared.{part}", f"The shared heads are needed for {told}.", "accuracy lost, set to their means",
            _p("without", "shared", part), (0.3, None), "30 points, as asked", source="this project",
            trust="expected", **_LATER,
        )
        for part, told in (("indirect", "indirect objects"), ("coloured", "coloured objects"))
    ),
    _claim(
        "shared.control", "Not for Markov text.", "nats more, set to their means", _p("without", "shared", "control"),
        (None, 0.1), ".1 nat, as asked", source="this project", trust="expected", **_LATER,
    ),
    *(
        _claim(
            f"shared.more_{part}", f"More than as many others of the same layers: {told}.", "accuracy lost, difference",
            _more(part), (0.0, None), "the sign is the claim", source="2605.08348", **_LATER,
        )
        for part, told in (("indirect", "indirect objects"), ("coloured", "coloured objects"))
    ),
)  # fmt: skip

REPAIR = (
    _claim(
        "repair.learns", "A model of noisy labels knows the right colour.", "share of right colours",
        lambda lab: lab.risk("noisy", "coloured_correct"), (0.9, None), "what is to be repaired is hesitation",
        source="this project", trust="expected", presets=(), reported=SIZES,
    ),
    _claim(
        "repair.others", "Set to look at the other colours, one head makes the true one more likely.",
        "gain in probability, head chosen on other sequences", _p("repair", "others"), (0.1, None),
        "10 points, as asked; 49.6 to 93.7 % in GPT2-Medium", **_LATER,
    ),
    _claim(
        "repair.asked", "Or set to look at the true colour.", "gain in probability, head chosen on other sequences",
        _p("repair", "asked"), (0.1, None), "the same", source="this project", trust="expected", **_LATER,
    ),
    _claim(
        "repair.null", "A head that nobody chose does not.", "gain, mean over all heads", _p("repair", "null"),
        (None, 0.0), "a forced row takes something away", source="this project", trust="expected", **_LATER,
    ),
)  # fmt: skip

SMOKE = (
    check(
        "smoke.learns", "A few steps lower the loss.", "loss, last over first", loss_drop, (None, 0.99),
        source="this project", trust="measured", presets=("smoke",), why="a model that does not train stays at 1",
    ),
    check(
        "smoke.share", "Every head's patch is a share of the whole effect.", "share of finite effects",
        lambda lab: np.isfinite(_p("effects", "indirect")(lab)).mean(axis=(1, 2)), (1, 1), source="definition",
        trust="derived", presets=("smoke",), why="no head is missing",
    ),
)  # fmt: skip

NOTES = """
# What is compared with what
- One model is trained on three tasks at once (`toy_tasks.CircuitMixture`): indirect objects, coloured objects, and
  Markov text as the control. A task's circuit is the quarter of all heads with the largest effects: a head's output,
  at all places, is replaced by that on the minimally flipped sequence (kind `resample`), and the effect is the share of
  the logit difference that goes. The figure shows the direct effects (path patching to the logits, MLPs frozen) beside.
- Two random sets of k among N heads share k / N of their members: every overlap stands beside its chance level and the
  overlap with the control.
- What shared heads are for is asked by mean ablation (means per position), beside as many other heads of the same
  layers. Repair: with three labels of ten wrong the model hesitates among the colours of the list; one head's last row
  is set, and the head is chosen on other sequences than those reported.
- Eight names and six colours, coloured objects twice as often as the rest, three layers. With 20 and 12 words and four
  layers (tried first, 2,500 steps at a rate of 1e-3) three colours were guessed among to the end, .28 to .78 right.

# What was found (`attnlab reproduce circuits`, seeds 0 to 4)
- **The paper's reuse is not seen at this size.** The circuits of the two recall tasks overlap by a Jaccard index of .09
  to .33, median .20, where chance is .15; coloured objects share *more* with Markov text (median .33), and indirect
  objects less (.09). Above the controls: -.20 to .19, p = .75. Without the control, .20 against .15 would have read as
  reuse: that is the caution of 2605.08348.
- **The shared heads carry little.** Set to their means they cost 0 to .08 (indirect) and -.01 to .33 (coloured) of the
  accuracy; as many others of the same layers cost as much within .013 in the median. Markov text loses nothing.
- Circuits are of different kinds: in the first seed coloured objects hang on one head (all of the effect), indirect
  objects are spread over all layers; Markov text's effects are at most .004 there, so that its "circuit" is a ranking
  of near zeros.
- **Repair.** With noisy labels the task is learned in part (.32 to .90 right, median .65). Looking at the
  *other* colours changes nothing (-.001 to .005): these models have no heads that inhibit, as the paper's do.
  Looking at the right colour makes it .04 to .23 more likely, the head chosen on other sequences.
"""

STUDY = study(
    "circuits",
    "Circuits: do two tasks use the same heads?",
    "Merullo, Eickhoff, Pavlick: Circuit Component Reuse Across Tasks in Transformer Language Models, arXiv 2310.08744 "
    "(2023).",
    (
        Preset("smoke", "two tiny layers, 30 steps", None, 2),
        Preset(
            "laptop",
            "three layers of eight heads on three tasks; and on one of them with noisy labels; 2 CPU cores",
            8,
            5,
        ),
        Preset("evening", "the same for longer; 2 CPU cores", None, 5),
    ),
    (*EXACT, *LEARNS, *OVERLAP, *SHARED, *REPAIR, *SMOKE),
    home=__name__,
    notes=NOTES,
)
