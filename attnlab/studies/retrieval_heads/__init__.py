"""Retrieval heads (2404.15574) where everything is known: which heads score, which are missed. Loads no jax."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.studies.base import Check, Interval, Preset, check
from attnlab.studies.measured import study, theory
from attnlab.studies.sinks_by_mechanism.measures import loss_drop

EVERY, SIZES = ("smoke", "laptop", "evening"), ("laptop", "evening")
PAPER = "Wu et al., 2404.15574"
_BEFORE = "measured before at these sizes, two seeds"


def _claim(id: str, statement: str, quantity: str, measure: Any, allowed: Interval, why: str, **options: Any) -> Check:
    settings = {"source": _BEFORE, "trust": "measured", "presets": SIZES, "why": why, **options}
    return check(id, statement, quantity, measure, allowed, **settings)


def _m(function: str, name: str, *rest: Any, less: bool = False) -> Any:
    """A function of `masks`; `less`: what it is below the accuracy of the whole model."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.studies.retrieval_heads import masks

        found = getattr(masks, function)(lab, name, *rest)
        return masks.plain(lab, name) - found if less else found

    return measure


def _layer(name: str, layers: tuple[int, ...], what: str) -> Any:
    """Over the heads of some layers: `least` or `most` score, or the most that one of them is missed (`cost`)."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.studies.retrieval_heads import masks

        if what == "cost":
            left = masks.singles(lab, name)[:, layers].reshape(lab_seeds(lab, name), -1)
            return masks.plain(lab, name) - left.min(axis=1)
        found = masks.scores(lab, name)[:, layers].reshape(lab_seeds(lab, name), -1)
        return found.min(axis=1) if what == "least" else found.max(axis=1)

    return measure


def lab_seeds(lab: Any, name: str) -> int:
    """How many seeds the run has."""
    from attnlab.studies.retrieval_heads import masks

    return len(masks.scores(lab, name))


def _scored_cost(lab: Any) -> np.ndarray:
    """The most that one head with a score of .5 or more is missed, needle."""
    from attnlab.studies.retrieval_heads import masks

    scores, left = masks.scores(lab, "needle"), masks.singles(lab, "needle")
    return masks.plain(lab, "needle") - np.where(scores >= masks.SCORED, left, np.inf).min(axis=(1, 2))


def _kinds(lab: Any) -> np.ndarray:
    """The first layer's worst head: spread of the accuracies that four kinds of ablation leave."""
    from attnlab.studies.retrieval_heads import masks

    left = np.stack([masks.singles(lab, "needle", kind)[:, 0].min(axis=1) for kind in masks.KINDS])
    return left.max(axis=0) - left.min(axis=0)


def _decoding(lab: Any) -> np.ndarray:
    """The most that a head of the first layer is missed if it is masked only while decoding."""
    from attnlab.studies.retrieval_heads import masks

    left = masks.singles(lab, "needle", "uniform", True)[:, 0].min(axis=1)
    return masks.plain(lab, "needle") - left


def _share(name: str) -> Any:
    """Share of heads with a score of at least .1."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.studies.retrieval_heads import masks

        return (masks.scores(lab, name) >= 0.1).mean(axis=(1, 2))

    return measure


def _contrast(name: str, count: int) -> Any:
    """Accuracy with `count` idle heads masked at random less that with the `count` best."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.studies.retrieval_heads import masks

        return masks.idle_at_random(lab, name, count) - masks.by_score(lab, name, count)

    return measure


HAND = (
    check(
        "hand.matching", "The score finds the matching head of a model built by hand.", "its retrieval score",
        theory("by_hand", "matching"), (1, 1), predicted=1, source="derived", trust="derived", presets=EVERY,
        why="exact: a share of tokens hit",
    ),
    check(
        "hand.others", "And no other head.", "largest score of the others", theory("by_hand", "others"), (0, 0.2),
        source="derived", trust="derived", presets=EVERY,
        why="the head that looks one back hits where a token of the needle repeats its neighbour: chance",
    ),
)  # fmt: skip

NEEDLE = (
    _claim(
        "needle.learns", "Three layers of attention copy a needle from any depth.", "accuracy", _m("plain", "needle"),
        (0.99, None), "1.00 before",
    ),
    _claim(
        "needle.late", "Every head of the later layers retrieves.", "least score, layers 1 and 2",
        _layer("needle", (1, 2), "least"), (0.9, None), ".94 to 1.00 before",
        presets=(), reported=SIZES,
    ),
    _claim(
        "needle.early", "No head of the first layer does.", "largest score, layer 0", _layer("needle", (0,), "most"),
        (None, 0.1), "at most .05 before",
    ),
    _claim(
        "needle.redundant", "No head that retrieves is missed alone.", "largest loss of accuracy, scores >= .5",
        _scored_cost, (None, 0.05), "at most .021 before; asked: 5 points",
    ),
    _claim(
        "needle.first_layer", "A head of the first layer, score near 0, is.", "largest loss of accuracy, layer 0",
        _layer("needle", (0,), "cost"), (0.15, None), ".39 and .27 before",
    ),
    _claim(
        "needle.top3", "Three of them together are missed.", "loss of accuracy, the three best made uniform",
        _m("by_score", "needle", 3, less=True), (0.35, None), ".41 and .47 before", presets=(), reported=SIZES,
    ),
    _claim(
        "needle.all", "Without all heads that score there is nothing but chance.", "accuracy, all scores >= .5 masked",
        _m("all_scored", "needle"), (None, 0.082), "chance 1/32 and 5 points",
    ),
    _claim(
        "needle.rank", "Heads with a higher score are missed less.",
        "Spearman's correlation, score and loss of accuracy", _m("rank_correlation", "needle"),
        (None, 0.0), "-.43 and -.45 before; the sign is the claim",
    ),
    _claim(
        "needle.kinds", "What a head is replaced by matters.", "spread of the accuracy over four kinds of ablation",
        _kinds, (0.1, None), ".23 and .24 before (.41 to .64, .55 to .79)",
    ),
    _claim(
        "needle.decoding", "Masked only while it decodes, as published, the first layer looks harmless.",
        "largest loss of accuracy, layer 0, answering queries only", _decoding, (None, 0.05),
        "its work is done where the needle is read, so this masking cannot see it", source="derived", trust="derived",
    ),
)  # fmt: skip

JOINT = (
    _claim(
        "joint.learns", "Two layers learn a language and the needle.", "accuracy of the needle", _m("plain", "joint"),
        (0.99, None), "1.00 before",
    ),
    _claim(
        "joint.sparse", "Less than 5 % of heads retrieve.", "share of heads with a score >= .1", _share("joint"),
        (None, 0.05), "the paper's figure, for models of 32 layers", source=PAPER, trust="paper",
        presets=(), reported=SIZES,
    ),
    _claim(
        "joint.top8", "Without the eight best nothing is found.", "accuracy, 8 best masked",
        _m("by_score", "joint", 8), (None, 0.2), ".05 and .06 before (chance .03)",
    ),
    *(
        _claim(
            f"joint.contrast.{count}", f"{count} heads without a score can be masked at random.",
            "loss of accuracy, mean over draws", _m("idle_at_random", "joint", count, less=True), (None, 0.1),
            told, source=PAPER, trust="paper", presets=(), reported=SIZES,
        )
        for count, told in ((4, "before: .66 lost"), (8, "before: .83 and .93 lost"))
    ),
    _claim(
        "joint.idle_hurts", "They cannot: the first layer's heads have no score and are needed.",
        "loss of accuracy, 4 idle heads masked, mean over draws", _m("idle_at_random", "joint", 4, less=True),
        (0.2, None), ".66 lost before; the direction is the claim",
    ),
    _claim(
        "joint.rank", "Among all heads, too, the score does not say what is missed.", "Spearman's correlation",
        _m("rank_correlation", "joint"), (None, 0.3), "below a weak correlation", source="this project",
        presets=(), reported=SIZES,
    ),
)  # fmt: skip

SURPLUS = (
    _claim(
        "surplus.contrast", "With a surplus of heads, idle ones can be masked at random and the best cannot.",
        "accuracy, 16 idle heads masked less 16 best masked", _contrast("surplus", 16), (0.3, None),
        "the paper's contrast needs more heads than the task does", source=PAPER, trust="paper", presets=(),
        reported=("evening",),
    ),
)  # fmt: skip

SMOKE = (
    check(
        "smoke.learns", "A few steps lower the loss.", "loss, last over first", loss_drop, (None, 0.999),
        source="this project", trust="measured", presets=("smoke",), why="a model that does not train stays at 1",
    ),
    check(
        "smoke.masks", "Masking no head changes nothing, masking all leaves no more than chance has.",
        "accuracy, all heads at 0", lambda lab: _all_zero(lab), (0, 0.5), source="definition", trust="derived",
        presets=("smoke",), why="chance is 1/6; a batch of 64 sequences, two answers each",
    ),
)  # fmt: skip


def _all_zero(lab: Any) -> np.ndarray:
    from attnlab.studies.retrieval_heads import masks

    shape = masks.scores(lab, "needle").shape
    return masks.masked(lab, "needle", np.ones((shape[0], 1, *shape[1:]), bool), "zero")[:, 0]


NOTES = """
# What is compared with what
- **Masking is not zeroing.** The published code sets a head's query, or its logits after the mask, to 0: the head then
  writes the mean of the values it sees. That is the kind `uniform` here; every figure names its kind.
- Scores and accuracies are measured on different fresh sequences. The published control draws its random heads from all
  heads: its filter compares tuples with lists and excludes none. Here the control is drawn from scores below .1.
- The score is the paper's (each key of the needle once). Its code counts repeats, so that scores can exceed 1.
"""

STUDY = study(
    "retrieval-heads",
    "Retrieval heads: what a score says of an effect",
    "Wu et al.: Retrieval Head Mechanistically Explains Long-Context Factuality, arXiv 2404.15574 (2024).",
    (
        Preset("smoke", "two tiny layers, 30 steps", None, 2),
        Preset(
            "laptop", "needles of four in 24 tokens: three layers of four heads; two of eight in a language", None, 5
        ),
        Preset("evening", "the same for longer, and a model with a surplus of heads; 2 CPU cores", None, 5),
    ),
    (*HAND, *NEEDLE, *JOINT, *SURPLUS, *SMOKE),
    home=__name__,
    notes=NOTES,
)
