"""Efficient probing (2506.10178): what a probe that attends gains over the mean, and how little it needs. No jax."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.studies.base import Interval, Preset, check
from attnlab.studies.measured import study, theory

PAPER = "Psomas et al., arXiv 2506.10178"
ALL, SIZES = ("smoke", "laptop", "evening"), ("laptop", "evening")
PROBES = ("mean", "efficient 1", "efficient 4", "efficient 8", "attention")
_ACCURACY = "accuracy on fresh bags"


def _claim(id: str, statement: str, quantity: str, measure: Any, allowed: Interval, why: str, **options: Any):
    settings = {"source": "this project", "trust": "measured", "why": why, "presets": SIZES, **options}
    return check(id, statement, quantity, measure, allowed, **settings)


def _bag(function: str, *rest: Any) -> Any:
    """A function of `bags`."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.studies.probing import bags

        return np.asarray(getattr(bags, function)(lab, *rest))

    return measure


def _less(marks: int, one: str, two: str) -> Any:
    return lambda lab: _bag("accuracy", marks, one)(lab) - _bag("accuracy", marks, two)(lab)


def _below_best(marks: int, name: str) -> Any:
    return lambda lab: _bag("best", marks)(lab) - _bag("accuracy", marks, name)(lab)


def _tap(site: str, one: str, two: str) -> Any:
    return lambda lab: _bag("tapped", site, one)(lab) - _bag("tapped", site, two)(lab)


EXACT = (
    _claim(
        "exact.order", "The order of tokens means nothing.", "largest change of a logit", theory("exact", "order"),
        (0, 1e-10), "float64, sums in another order", trust="derived", presets=ALL,
    ),
    _claim(
        "exact.one", "One query is a head whose key, query and output matrices are the identity.",
        "largest difference of logits", theory("exact", "one"), (0, 1e-10), "float64", trust="derived", presets=ALL,
    ),
    _claim(
        "exact.class", "Attention of H heads with one learned query is efficient probing with H queries, rewritten.",
        "largest difference of logits, H = 4", theory("exact", "class"), (0, 1e-9), "float64, products of matrices",
        trust="derived", presets=ALL,
    ),
    _claim(
        "exact.share", "It needs a third of the parameters.", "parameters, 8 queries over full attention",
        theory("exact", "share"), (None, 0.36), "counted: 1544 of 4392", source=PAPER, trust="derived", presets=ALL,
        predicted=1544 / 4392,
    ),
)  # fmt: skip

MARKS = (
    *(
        _claim(
            f"one.gain_{q}", f"One mark of 49: a probe with {told} beats the mean by far.",
            f"{_ACCURACY}, efficient less mean", _less(1, f"efficient {q}", "mean"), (0.35, None),
            "asked in advance; chance is .125, the exact law .68",
        )
        for q, told in ((1, "one query"), (4, "four queries"), (8, "eight queries"))
    ),
    *(
        _claim(
            f"one.same_{q}", f"And with {told} nearly as good as full attention.",
            f"{_ACCURACY}, efficient less full attention", _less(1, f"efficient {q}", "attention"), (-0.02, 0.02),
            "asked in advance; 8,192 bags, the same for both",
        )
        for q, told in ((1, "one query"), (4, "four queries"), (8, "eight queries"))
    ),
    _claim(
        "one.best", "Full attention is a little short of the exact law, which adds the likelihoods of all places.",
        f"{_ACCURACY}, exact law less full attention", _below_best(1, "attention"), (0.02, 0.12),
        "above sampling; at most a tenth, as attention that is linear in values should",
    ),
    *(
        _claim(
            f"many.{name.replace(' ', '_')}", f"24 marks: the probe `{name}` is right, no false gain.", _ACCURACY,
            _bag("accuracy", 24, name), (0.99, None), "asked in advance",
        )
        for name in PROBES
    ),
)  # fmt: skip

# What a prototype gave at 1,500 steps, besides the marks above: mean, efficient 1, 4, 8, attention.
_BETWEEN = {2: (0.239, 0.827, 0.838, 0.842, 0.845), 8: (0.798, 0.999, 0.999, 0.999, 1.0)}
TABLE = tuple(
    _claim(
        f"table.{marks}.{name.replace(' ', '_')}", f"{marks} marks, {name}.", _ACCURACY,
        _bag("accuracy", marks, name), (value - 0.04, value + 0.04),
        "four hundredths: a prototype on 4,000 bags, another optimizer", predicted=value, presets=(), reported=SIZES,
    )
    for marks, values in _BETWEEN.items()
    for name, value in zip(PROBES, values, strict=True)
)  # fmt: skip

TAPS = (
    _claim(
        "taps.embed", "At the embedding of a trained transformer the class is in few tokens.",
        "accuracy, efficient less mean", _tap("embed", "efficient", "mean"), (0.3, None),
        "as on the bags themselves: .6 for two marks",
    ),
    _claim(
        "taps.last", "After its layers the last place alone says what four queries find.",
        "accuracy, efficient less the last place, after block 1", _tap("blocks.1.out", "efficient", "last"),
        (None, 0.05), "the model was trained to bring it there",
    ),
    _claim(
        "taps.mean", "There the mean over places says much more than at the embedding.",
        "accuracy of the mean, block 1 less embedding",
        lambda lab: _bag("tapped", "blocks.1.out", "mean")(lab) - _bag("tapped", "embed", "mean")(lab),
        (0.1, None), "layers gather what was in two tokens", presets=(), reported=SIZES,
    ),
)  # fmt: skip

SMOKE = (
    _claim(
        "smoke.learns", "A few steps lower the loss.", "training loss, first less last",
        lambda lab: (lambda curve: curve[:, 1] - curve[:, -1])(lab.loss_curve("24 mean")[1]), (0.5, None),
        "24 marks of 49 are easy", presets=("smoke",),
    ),
    _claim(
        "smoke.many", "24 marks: the mean is right soon.", _ACCURACY, _bag("accuracy", 24, "mean"), (0.9, None),
        "forty steps", presets=("smoke",),
    ),
    _claim(
        "smoke.taps", "Taps can be probed.", "accuracy, the mean after block 1",
        _bag("tapped", "blocks.1.out", "mean"), (0.05, 1), "a share, near chance or above", presets=("smoke",),
    ),
)  # fmt: skip

NOTES = """
# What is compared with what
- Bags of 49 vectors in R^32, eight classes, `toy_tasks.MarkedBag`: the marked vectors carry the class, all others any.
  The exact law of the class is known, so every accuracy stands beside the best there is.
- Every probe ends in BatchNorm without gain and shift and a linear classifier. Measured are probes with the norm folded
  in (statistics of 1,024 bags apart), each bag by itself.

# What was found (`attnlab reproduce probing --preset laptop`, seeds 0 to 2)
- **One mark: attending is worth .46**, and a single query takes it: .46 above the mean with one, four or eight queries.
  With 24 marks every probe is always right.
- **Between**: with two marks .245 for the mean, .838 to .840 for efficient probing, .843 for full attention; with eight
  .800 for the mean and more than .998 for all others.
- **Full attention with one learned query is efficient probing in other parameters**, shown exactly: H heads are H
  queries. It can do nothing more, and yet ends .010 to .018 higher on every seed: the same functions, but products of
  matrices train differently. The exact law is .034 to .036 above full attention.
- **Probes show where a model keeps the class.** On bags of two marks, at the embedding four queries beat the mean by
  .585 to .592. After the model's two layers the last place alone says what four queries find (within .009); the mean
  over places gains .12 to .25.
"""

STUDY = study(
    "probing",
    "Efficient probing of frozen tokens",
    "Psomas et al.: Attention, Please! Revisiting Attentive Probing for Masked Image Modeling, arXiv 2506.10178 "
    "(2025).",
    (
        Preset("smoke", "identities in full, probes for 40 steps", None, 2),
        Preset("laptop", "five probes by four numbers of marks, and taps of a small transformer; 2 CPU cores", 6, 3),
        Preset("evening", "the same, four times as long; 2 CPU cores", None, 5),
    ),
    (*EXACT, *MARKS, *TABLE, *TAPS, *SMOKE),
    home=__name__,
    notes=NOTES,
)
