"""Attention as an associative memory (2508.08289): capacity, conditioning, regression in context. Loads no jax."""

from __future__ import annotations

from typing import Any

from attnlab.studies.base import Interval, Preset, check
from attnlab.studies.measured import study, theory

SIZES = ("laptop", "evening")
PAPER = "2508.08289"
_DERIVED: dict[str, Any] = {"source": f"{PAPER}; law derived", "trust": "derived", "presets": SIZES}
_TOLD = {
    "hebb": "Hebb's memory",
    "oja": "Oja's memory",
    "delta": "the delta rule",
    "delta_2": "the delta rule in two passes",
    "ridge": "the ridge solution",
    "softmax": "softmax",
    "hedgehog": "Hedgehog with W = I",
    "elu": "the ELU + 1 kernel",
}
_FOUR_ERRORS = "four standard errors: once in 16000 by chance"


def _claim(id: str, statement: str, quantity: str, measure: Any, allowed: Interval, why: str, **options: Any):
    return check(id, statement, quantity, measure, allowed, why=why, **{**_DERIVED, **options})


TABLE = tuple(
    claim
    for name, told in _TOLD.items()
    for claim in (
        _claim(
            f"cosine.{name}", f"Read-outs of {told} have the tabled cosines, 16 to 256 pairs at width 64.",
            "largest distance of the mean cosine from the table", theory("cosines", name), (0, 0.02),
            "the table has 6 draws, standard errors up to .006, and three digits", source="measured before",
            trust="measured",
        ),
        _claim(
            f"nearest.{name}", f"The value nearest to what {told} gives is as often right as tabled.",
            "largest distance of the accuracy from the table", theory("rights", name), (0, 0.05),
            "the table has 6 draws and two digits", source="measured before", trust="measured",
        ),
    )
)  # fmt: skip

LAWS = (
    *(
        _claim(
            f"law.{name}", f"{told} {has}.", "largest distance of the fidelity from the law, 16 to 256 pairs",
            theory("cosines", f"{name}.law"), (0, high), why,
        )
        for name, told, has, high, why in (
            ("hebb", "Hebb's memory", "has fidelity (1 + (n - 1)/d)^(-1/2)", 0.01, "four standard errors at 16 pairs"),
            ("delta", "One pass of the delta rule", "has its law by age, averaged", 0.01, "as for Hebb's"),
            ("oja", "One pass of Oja's rule", "has its law by age, averaged", 0.01, "as for Hebb's"),
            ("ridge", "The ridge solution", "has the limit of n/d held", 0.01, "as for Hebb's, and terms of order 1/d"),
        )
    ),
    _claim(
        "law.nearest", "How often the nearest value is right follows from the law of the cosine.",
        "largest distance of the accuracy of Hebb's memory from the law, signed", theory("rights", "law"),
        (-0.01, 0.04), "the law is low by up to .04 at width 64 (others' scores taken as independent)",
    ),
    _claim(
        "law.error", "The table is known well enough.", "largest standard error of a mean cosine",
        theory("cosines", "error"), (0, 0.008), "a third of what the table is asserted to",
    ),
)  # fmt: skip

ORDER = (
    _claim(
        "order.below", "With fewer pairs than dimensions the delta rule reads better than Hebb's.",
        "mean cosine of delta less Hebb, 16 pairs", theory("order", "below"), (0.01, None),
        "law .030; the standard error of the difference is at most .005", predicted=0.0298,
        presets=("smoke", *SIZES),
    ),
    _claim(
        "order.above", "With more pairs it reads worse.",
        "mean cosine of delta less Hebb, 128 and 256 pairs, the larger",
        theory("order", "above"), (None, -0.1), "laws: -.13 and -.20",
    ),
    _claim(
        "recency.latest", "The delta rule gives the latest pair back exactly.", "largest distance of its cosine from 1",
        theory("order", "latest"), (0, 1e-5), "float32 through 256 updates", presets=("smoke", *SIZES),
    ),
    _claim(
        "recency.oldest", "And has forgotten the first of 256.", "mean cosine of the first pair",
        theory("order", "oldest"), (-0.1, 0.1), "law .018; four standard errors of 32 draws are .09",
    ),
    _claim(
        "recency.hebb", "Hebb's memory has no age.", "cosine of the later half less the earlier, in standard errors",
        theory("order", "hebb_trend"), (-4, 4), _FOUR_ERRORS,
    ),
    _claim(
        "order.ridge", "The ridge solution reads best of the linear memories, at every load.",
        "least lead of its mean cosine", theory("order", "ridge"), (0, None), "the same pairs: no chance between them",
    ),
    _claim(
        "heads", "Averaging R heads is one head of R times the width.",
        "distance from (1 + (n - 1)/(R d))^(-1/2), R = 1, 2, 4, in standard errors", theory("chain_gaps", "redundancy"),
        (0, 4), _FOUR_ERRORS, presets=("smoke", *SIZES),
    ),
    _claim(
        "chain.shared", "In a chain of memories of the same items fidelities multiply.",
        "distance from rho^L, L = 1 to 4, in standard errors", theory("chain_gaps", "shared"), (0, 4), _FOUR_ERRORS,
        presets=("smoke", *SIZES),
    ),
    _claim(
        "chain.separate", "If the memories share the item alone, what went wrong before is mostly not kept.",
        "distance from the law of separate memories, L = 1 to 4, in standard errors",
        theory("chain_gaps", "separate"), (0, 4), _FOUR_ERRORS, presets=("smoke", *SIZES),
    ),
)  # fmt: skip

CERTAIN = (
    _claim(
        "certain.right", "If (n - 1) max |k_i . k_j| is below the margin, every read is right.",
        "share of right reads of keys that pass, least of three widths", theory("certain", "right"), (1, 1),
        "a theorem", presets=("smoke", *SIZES),
    ),
    _claim(
        "certain.share", "How many sets of random keys pass lies between its bounds: n grows like sqrt(d).",
        "distance outside the bounds, in standard errors, widths 64, 256, 1024 (4, 6, 9 pairs)",
        theory("certain", "outside"), (0, 4), _FOUR_ERRORS, presets=("smoke", *SIZES),
    ),
    _claim(
        "certain.none", "Sixteen keys of width 64 never pass.", "share that passes", theory("certain", "passes_beyond"),
        (0, 0), "coherence below .047 of 120 pairs of keys: chance below 1e-20",
    ),
    _claim(
        "certain.beyond", "Yet their reads are right: the worst case is not the capacity.", "share of right reads",
        theory("certain", "beyond"), (0.99, None), "orthonormal values; margin of eight standard deviations",
    ),
)  # fmt: skip

_RULES = {
    "hebb": "Hebb's rule",
    "forgetting": "Hebb's rule with forgetting",
    "delta": "the delta rule",
    "nlms": "the normalised delta rule",
    "rls": "recursive least squares",
    "oja": "Oja's rule",
}
_EVERY: dict[str, Any] = {"presets": ("smoke", *SIZES)}

CONDITIONING = (
    *(
        _claim(
            f"rule.{name}", f"In five conditioning experiments the recurrence is {told}.",
            "largest distance of a strength from the closed form", theory("effects", f"{name}.law"), (0, 1e-5),
            "float32 through 40 trials; Hebb's strength reaches 8", **_EVERY,
        )
        for name, told in _RULES.items()
    ),
    *(
        _claim(
            f"effect.{effect}.{name}", f"{what} {told}.", quantity, theory("effects", f"{name}.{effect}"),
            (value - 1e-4, value + 1e-4), "float32; the number follows from the rule", predicted=value, **_EVERY,
        )
        for effect, what, quantity, rows in (
            (
                "kept", "Trials without outcome extinguish by", "strength left after 20 of them, over that before",
                (("hebb", 1.0), ("oja", 1.0), ("delta", 0.8**20), ("rls", 21 / 41)),
            ),
            (
                "blocked", "What is known already blocks what is new by",
                "strength of B after blocking, over its control", (("hebb", 1.0), ("oja", 1.0), ("delta", 0.8**20)),
            ),
            (
                "shared", "A stronger cue overshadows a weaker one by",
                "strength of B learned with A, over B alone (salience 1/2)", (
                    ("hebb", 1.0), ("oja", 1.0),
                    ("delta", 0.2 * (1 - 0.75**20) / (1 - 0.95**20)), ("nlms", 0.2),
                ),
            ),
        )
        for name, value in rows
        for told in (_RULES[name],)
    ),
)  # fmt: skip

_RUNGS = {
    "mean": "Uniform attention answers the mean label",
    "gd": "Linear attention is one step of gradient descent",
    "inline": "InLine is one debiased step from the mean label",
    "debiased": "InLine less uniform attention is the debiased step",
    "delta": "The delta rule is online descent",
    "softmax": "A softmax head is a kernel smoother",
    "ridge": "Mesa is ridge regression",
}

LADDER = (
    *(
        _claim(
            f"ladder.{title}.{name}", f"{told}, with the risk of its law ({given}).",
            "largest distance from the law over 2 to 64 pairs, in standard errors", theory("ladder", f"{title}.{name}"),
            (0, 4), _FOUR_ERRORS, source="derived; 2503.12734 for the data", **_EVERY,
        )
        for title, given in (("noisy", "label noise .1"), ("clean", "no noise"))
        for name, told in _RUNGS.items()
        if (title, name) != ("clean", "ridge")
    ),
    _claim(
        "ladder.clean.ridge", "Without noise Mesa knows all after d pairs.", "largest risk from 2 d pairs on",
        theory("ladder", "ridge.clean"), (0, 1e-6), "ridge 1e-5 and float32", source="derived", **_EVERY,
    ),
    _claim(
        "ladder.clean.lla", "So does local linear attention.", "largest risk from 2 d pairs on",
        theory("ladder", "lla.clean"), (0, 0.01), "ridge 1e-5 against kernel weights that may be as small",
        source="2510.01450, definition", **_EVERY,
    ),
    _claim(
        "ladder.order", "After 64 pairs: mean label > softmax > one step > ridge.", "least gap between neighbours",
        theory("ladder", "order"), (0.02, None), "laws: 1.02, .30, .13, .01; four standard errors are about .02",
        source="derived", **_EVERY,
    ),
)  # fmt: skip


def _accuracy(name: str, less: str | None = None) -> Any:
    def measure(lab: Any) -> Any:
        return lab.accuracy(name) - (lab.accuracy(less) if less else 0.0)

    return measure


_LEARNED: dict[str, Any] = {
    "source": "measured before, one seed", "trust": "measured", "presets": (), "reported": ("evening",),
}  # fmt: skip

LEARNED = (
    *(
        _claim(
            f"recall.{name}", f"One layer with {name} recalls all of 48 pairs.", "accuracy", _accuracy(name),
            (0.95, None), "1.000 before", **_LEARNED,
        )
        for name in ("softmax", "sigmoid", "relu", "taylor")
    ),
    *(
        _claim(
            f"recall.{more}.{less}", f"{more} recalls more than {less}.", "difference of accuracies",
            _accuracy(more, less), (0.0, None), f"the sign is the claim ({told})", **_LEARNED,
        )
        for more, less, told in (
            ("identity", "delta", ".78 and .62"),
            ("delta", "elu", ".62 and .33"),
            ("elu", "uniform", ".33 and .05"),
            ("hedgehog", "uniform", ".18 and .05"),
            ("inline", "uniform", ".28 and .05"),
        )
    ),
)  # fmt: skip

NOTES = """
Nothing is trained at `smoke` and `laptop`. Pairs go through the decode step of the mechanisms themselves, independent
draws are heads, and the query of the last written token is free: all keys are read from one state.

Keys of the Hedgehog and ELU + 1 columns have entries of variance 1 (norm 8), as queries and keys of a model have; with
keys of norm 1 both maps are nearly constant and read the mean value (cosine .26 and .25 at 16 pairs).

The mean law of the delta rule is that of `theory.catalogue.delta_fidelity`, by age and averaged; it differs from the
table's mean cosine by terms of order 1/d only.

The worst-case criterion certifies 4, 6 and 9 pairs at widths 64, 256 and 1024, growing like the square root of the
width; with a margin in place of a certainty the same memory of width 64 reads 16 pairs right always, and more than 350
at least half of the time.

Recursive least squares extinguishes slowly (half is left after as many trials without the outcome as there were with
it), and Oja's rule not at all: a trial without an outcome has no value that could correct its guess of the cue.

InLine answers the mean label plus the debiased step, so that its risk is that of the step plus `(1 + s2)/L`; at two
pairs it is worse than the answer 0. Subtracting uniform attention gives the step itself.

At `evening` one layer is trained on paired recall with ten mechanisms. Those rows have not been calibrated here and
are reported, not asserted.
"""

STUDY = study(
    "associative-memory",
    "Attention as an associative memory",
    "Mu Qiao: Understanding Transformers through the Lens of Pavlovian Conditioning, arXiv 2508.08289 (2025).",
    (
        Preset("smoke", "no training: 16 and 32 pairs, few draws", None, 1),
        Preset(
            "laptop", "no training: 16 to 256 pairs of width 64, 32 draws; conditioning; the regression ladder", 0.5, 1
        ),
        Preset("evening", "the same, and paired recall of 48 pairs trained with ten mechanisms", None, 3),
    ),
    (*TABLE, *LAWS, *ORDER, *CERTAIN, *CONDITIONING, *LADDER, *LEARNED),
    home="attnlab.studies.associative_memory",
    notes=NOTES,
)
