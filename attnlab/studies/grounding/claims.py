"""Claims about the model as it is and about edits of heads and logits; how a claim names its measure. Loads no jax."""

from __future__ import annotations

from typing import Any

from attnlab.studies.base import Interval, check

SIZES = ("laptop", "evening")
TOY = "measured before on the same task, three seeds or fewer"
HALL = "hallucination: share of canonical answers where the colour is another"
OPEN: dict[str, Any] = {"presets": (), "reported": SIZES}


def by(name: str, *arguments: Any) -> Any:
    """A measure of the module `measures`, which loads jax; with arguments it is made by them."""

    def measure(lab: Any) -> Any:
        from attnlab.studies.grounding import measures

        found = getattr(measures, name)
        return found(*arguments)(lab) if arguments else found(lab)

    return measure


def claim(id: str, statement: str, quantity: str, measure: Any, allowed: Interval, why: str, **options: Any):
    """A check at laptop and evening, measured before unless said otherwise."""
    settings = {"source": TOY, "trust": "measured", "presets": SIZES, "why": why, **options}
    return check(id, statement, quantity, measure, allowed, **settings)


OPTIMUM = (
    claim(
        "bayes.accuracy", "The model is on the optimum: right as often as the exact best rule.",
        "accuracy less that of the best rule (.715)", by("from_bayes", "accuracy"), (-0.015, 0.015),
        "the same 4,096 pictures for both; half a standard error of their number is left", predicted=0.0,
    ),
    claim(
        "bayes.hallucination", "Its hallucination is that of the best rule: reliance on the prior, as much as pays.",
        f"{HALL}, less that of the best rule (.406)", by("from_bayes", "hallucination"), (-0.04, 0.04),
        "-.022 to .002 before, on other pictures than the rule's", predicted=0.0,
    ),
    claim(
        "frontier.none_above", "No dose of any method is above the frontier.",
        "accuracy above the frontier at equal hallucination, the most of all doses",
        by("above_all", ("vhr", "boost", "paint", "zerotuning", "act", "softpag", "softpag_all", "contrast",
                         "harsanyi")), (None, 0.015),
        "two standard errors of .007, 4,096 pictures, less what the same pictures save", source="derived",
    ),
)  # fmt: skip

_VHR = "VHR (2412.13949); ours: upper half of each layer by divergence, no head dropped, every query"

REINFORCED = (
    claim(
        "vhr.drop", "VHR at 2 lowers hallucination.", f"{HALL}, at 1 less at 2",
        lambda lab: -by("moved", "vhr", 2.0, "hallucination")(lab), (0.05, None), ".078 to .083 before",
        source=f"{_VHR}; {TOY}",
    ),
    claim(
        "vhr.band", "By no more than it did before.", f"{HALL}, at 1 less at 2",
        lambda lab: -by("moved", "vhr", 2.0, "hallucination")(lab), (0.05, 0.12), ".078 to .083 on three seeds before",
        **OPEN,
    ),
    claim(
        "vhr.consistent", "It pays where the colour is canonical.", "accuracy there, at 1 less at 2",
        lambda lab: -by("moved", "vhr", 2.0, "consistent")(lab), (0.02, 0.08), ".039 to .056 before",
    ),
    claim(
        "vhr.total", "So that on the whole nothing is gained or lost.", "accuracy at 2 less at 1",
        by("moved", "vhr", 2.0, "accuracy"), (-0.02, 0.02), "-.003 to -.012 before",
    ),
    claim(
        "vhr.control", "The same factor on the lower half of heads is no fix.", f"{HALL}, at 2 less at 1",
        by("moved", "vhr_lower", 2.0, "hallucination"), (-0.01, None), "-.002 to .030 before",
    ),
    claim(
        "vhr.half", "Half of the upper heads' outputs raises it.", f"{HALL}, at .5 less at 1",
        by("moved", "vhr", 0.5, "hallucination"), (0.10, None), ".135 to .218 before",
    ),
    claim(
        "vhr.monotone", "It falls with every dose up to 4.", "smallest fall from dose to dose",
        by("rises", "vhr", "hallucination", -1.0), (0, None), "the sign is the claim",
    ),
    claim(
        "vhr.last", "In the answering row alone it does the same.", f"{HALL}, at 1 less at 2, that row",
        lambda lab: -by("moved", "vhr_last", 2.0, "hallucination")(lab), (0.05, None), "the end of vhr.drop", **OPEN,
    ),
    claim(
        "vhr.top", "The head whose output differs the most is the one whose ablation costs the most.",
        "share of seeds, mean ablation at every query", by("top_agreement"), (0.8, 1.0),
        "two of three before; four of five, as for the search",
    ),
    claim(
        "vhr.rank", "Divergence ranks all heads by what their ablation costs.",
        "Spearman's correlation over 8 heads, mean ablation at every query", by("ranks", "divergence"), (0.5, None),
        ".56 to .75 before", **OPEN,
    ),
    claim(
        "vhr.mass", "It does so better than the mass on the picture does.",
        "Spearman's correlation with the effect, divergence less mass",
        lambda lab: by("ranks", "divergence")(lab) - by("ranks", "mass")(lab), (0, None),
        "the sign: .07 to .77 for the mass before, in one of three seeds more than the divergence", **OPEN,
    ),
)  # fmt: skip

LOGITS = (
    claim(
        "zerotuning.null", "Tuning the first token changes nothing, for no sink has formed.",
        "largest change of accuracy, γ from .1 to 4", by("largest", "zerotuning", "accuracy"), (None, 0.01),
        "within .003 before; a point was asked for", source=f"ZeroTuning (2505.11739); {TOY}",
    ),
    claim(
        "zerotuning.search", "Nor does the best of single heads and doses gain anything on other sequences.",
        "gain of the best of 32 on sequences that did not choose it", by("search_null", "zerotuning", "held"),
        (None, 0.01), "a point was asked for",
    ),
    claim(
        "zerotuning.entropy", "What a row says among the other tokens does not change.",
        "largest change of its entropy, γ from .1 to 4, nats", by("entropy_kept"), (None, 1e-4),
        "float32: entropies of about 1, logits of some tens", source="derived", trust="checked",
    ),
    claim(
        "boost.drop", "A boost of the picture by 16 lowers hallucination a little.", f"{HALL}, at 1 less at 16",
        lambda lab: -by("moved", "boost", 16.0, "hallucination")(lab), (-0.005, 0.06),
        ".009 to .045 before; sampling of differences", source=f"PAI, PAINT (2501.12206); {TOY}",
    ),
    claim(
        "boost.less", "By less than VHR does at 2.", "fall of hallucination, VHR at 2 less boost at 16",
        lambda lab: by("moved", "boost", 16.0, "hallucination")(lab) - by("moved", "vhr", 2.0, "hallucination")(lab),
        (0, None), "the sign is the claim",
    ),
    claim(
        "boost.total", "It does not make the model right more often.", "accuracy at 16 less at 1",
        by("moved", "boost", 16.0, "accuracy"), (None, 0.005), "half a point was asked for",
    ),
    *(
        claim(
            f"gauge.{kind}", told, "change of the boosted mass when a row's logits shift by -5",
            by("gauge", kind), allowed, why, source="derived", trust="checked", predicted=predicted,
        )
        for kind, told, allowed, why, predicted in (
            ("log", "A logarithmic boost does not see a shift that softmax does not see.", (None, 1e-5),
             "float32", 0.0),
            ("centred", "Nor does a centred one.", (None, 1e-5), "float32", 0.0),
            ("paint", "PAINT's boost does: it is not well defined.", (0.05, None), ".63 in an example by hand", None),
        )
    ),
    claim(
        "act.search", "ACT on the best of single heads gains nothing on other sequences.",
        "gain of the best of 16 (β 0, .4) on sequences that did not choose it", by("search_null", "act", "held"),
        (None, 0.005), "half a point was asked for", source="ACT (2406.15765)",
    ),
    claim(
        "act.chance", "What it gained in the search is no more than the best of 16 gains by chance.",
        "gain in the search, over the 95 % point by chance",
        lambda lab: by("search_null", "act", "gain")(lab) / by("search_null", "act", "null")(lab), (None, 1.0),
        "signs of the differences flipped, 500 draws", source="ACT (2406.15765), head search",
    ),
)  # fmt: skip
