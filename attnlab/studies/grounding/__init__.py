"""Fixes of hallucination against the exact frontier of a task with a picture, a question and a prior. Loads no jax."""

from __future__ import annotations

from typing import Any

from attnlab.studies.base import Interval, Preset, check
from attnlab.studies.measured import study

SIZES = ("laptop", "evening")
_TOY = "measured before on the same task, three seeds or fewer"
_HALL = "hallucination: share of canonical answers where the colour is another"


def _m(name: str, *arguments: Any) -> Any:
    """A measure of the module `measures`, which loads jax; with arguments it is made by them."""

    def measure(lab: Any) -> Any:
        from attnlab.studies.grounding import measures

        found = getattr(measures, name)
        return found(*arguments)(lab) if arguments else found(lab)

    return measure


def _claim(id: str, statement: str, quantity: str, measure: Any, allowed: Interval, why: str, **options: Any):
    settings = {"source": _TOY, "trust": "measured", "presets": SIZES, "why": why, **options}
    return check(id, statement, quantity, measure, allowed, **settings)


_OPEN: dict[str, Any] = {"presets": (), "reported": SIZES}

OPTIMUM = (
    _claim(
        "bayes.accuracy", "The model is on the optimum: right as often as the exact best rule.",
        "accuracy less that of the best rule (.715)", _m("from_bayes", "accuracy"), (-0.015, 0.015),
        "8,192 pictures: three standard errors of .005", predicted=0.0,
    ),
    _claim(
        "bayes.hallucination", "Its hallucination is that of the best rule: reliance on the prior, as much as pays.",
        f"{_HALL}, less that of the best rule (.406)", _m("from_bayes", "hallucination"), (-0.04, 0.04),
        "-.022 to .002 before, and two standard errors of .009", predicted=0.0,
    ),
    _claim(
        "frontier.none_above", "No dose of any method is above the frontier.",
        "accuracy above the frontier at equal hallucination, the most of all doses",
        _m("above_all", ("vhr", "boost", "paint", "zerotuning", "act", "softpag", "softpag_all", "contrast",
                         "harsanyi")), (None, 0.015),
        "8,192 pictures: three standard errors of .005", source="derived",
    ),
)  # fmt: skip

_VHR = "VHR (2412.13949); ours: upper half of each layer by divergence, no head dropped, every query"

REINFORCED = (
    _claim(
        "vhr.drop", "VHR at 2 lowers hallucination.", f"{_HALL}, at 1 less at 2",
        lambda lab: -_m("moved", "vhr", 2.0, "hallucination")(lab), (0.05, 0.12), ".078 to .083 before",
        source=f"{_VHR}; {_TOY}",
    ),
    _claim(
        "vhr.consistent", "It pays where the colour is canonical.", "accuracy there, at 1 less at 2",
        lambda lab: -_m("moved", "vhr", 2.0, "consistent")(lab), (0.02, 0.08), ".039 to .056 before",
    ),
    _claim(
        "vhr.total", "So that on the whole nothing is gained or lost.", "accuracy at 2 less at 1",
        _m("moved", "vhr", 2.0, "accuracy"), (-0.02, 0.02), "-.003 to -.012 before",
    ),
    _claim(
        "vhr.control", "The same factor on the lower half of heads is no fix.", f"{_HALL}, at 2 less at 1",
        _m("moved", "vhr_lower", 2.0, "hallucination"), (-0.01, None), "-.002 to .030 before",
    ),
    _claim(
        "vhr.half", "Half of the upper heads' outputs raises it.", f"{_HALL}, at .5 less at 1",
        _m("moved", "vhr", 0.5, "hallucination"), (0.10, None), ".135 to .218 before",
    ),
    _claim(
        "vhr.monotone", "It falls with every dose up to 4.", "smallest fall from dose to dose",
        _m("rises", "vhr", "hallucination", -1.0), (0, None), "the sign is the claim",
    ),
    _claim(
        "vhr.last", "In the answering row alone it does the same.", f"{_HALL}, at 1 less at 2, that row",
        lambda lab: -_m("moved", "vhr_last", 2.0, "hallucination")(lab), (0.05, 0.12), "the band of vhr.drop", **_OPEN,
    ),
    _claim(
        "vhr.rank", "Divergence ranks heads by what their ablation costs.",
        "Spearman's correlation over 8 heads, mean ablation at every query", _m("ranks", "divergence"), (0.5, None),
        ".56 to .75 before",
    ),
    _claim(
        "vhr.mass", "It does so better than the mass on the picture does.",
        "Spearman's correlation with the effect, divergence less mass",
        lambda lab: _m("ranks", "divergence")(lab) - _m("ranks", "mass")(lab), (0, None),
        "the sign: .07 to .77 for the mass before, in one of three seeds more than the divergence", **_OPEN,
    ),
)  # fmt: skip

LOGITS = (
    _claim(
        "zerotuning.null", "Tuning the first token changes nothing, for no sink has formed.",
        "largest change of accuracy, γ from .1 to 4", _m("largest", "zerotuning", "accuracy"), (None, 0.01),
        "within .003 before; a point was asked for", source=f"ZeroTuning (2505.11739); {_TOY}",
    ),
    _claim(
        "zerotuning.search", "Nor does the best of single heads and doses gain anything on other sequences.",
        "gain of the best of 32 on sequences that did not choose it", _m("search_null", "zerotuning", "held"),
        (None, 0.01), "a point was asked for",
    ),
    _claim(
        "zerotuning.entropy", "What a row says among the other tokens does not change.",
        "largest change of its entropy, γ from .1 to 4, nats", _m("entropy_kept"), (None, 1e-4),
        "float32: entropies of about 1, logits of some tens", source="derived", trust="checked",
    ),
    _claim(
        "boost.drop", "A boost of the picture by 16 lowers hallucination a little.", f"{_HALL}, at 1 less at 16",
        lambda lab: -_m("moved", "boost", 16.0, "hallucination")(lab), (-0.005, 0.06),
        ".009 to .045 before; sampling of differences", source=f"PAI, PAINT (2501.12206); {_TOY}",
    ),
    _claim(
        "boost.less", "By less than VHR does at 2.", "fall of hallucination, VHR at 2 less boost at 16",
        lambda lab: _m("moved", "boost", 16.0, "hallucination")(lab) - _m("moved", "vhr", 2.0, "hallucination")(lab),
        (0, None), "the sign is the claim",
    ),
    _claim(
        "boost.total", "It does not make the model right more often.", "accuracy at 16 less at 1",
        _m("moved", "boost", 16.0, "accuracy"), (None, 0.005), "half a point was asked for",
    ),
    *(
        _claim(
            f"gauge.{kind}", told, "change of the boosted mass when a row's logits shift by -5",
            _m("gauge", kind), allowed, why, source="derived", trust="checked", predicted=predicted,
        )
        for kind, told, allowed, why, predicted in (
            ("log", "A logarithmic boost does not see a shift that softmax does not see.", (None, 1e-5),
             "float32", 0.0),
            ("centred", "Nor does a centred one.", (None, 1e-5), "float32", 0.0),
            ("paint", "PAINT's boost does: it is not well defined.", (0.05, None), ".63 in an example by hand", None),
        )
    ),
    _claim(
        "act.search", "ACT on the best of single heads gains nothing on other sequences.",
        "gain of the best of 16 (β 0, .4) on sequences that did not choose it", _m("search_null", "act", "held"),
        (None, 0.005), "half a point was asked for", source="ACT (2406.15765)",
    ),
    _claim(
        "act.chance", "What it gained in the search is what the best of 16 gains by chance.",
        "gain in the search, over the 95 % point of chance",
        lambda lab: _m("search_null", "act", "gain")(lab) / _m("search_null", "act", "null")(lab), (None, 1.0),
        "signs of the differences flipped, 500 draws", source="ACT (2406.15765), head search", **_OPEN,
    ),
)  # fmt: skip

GUIDED = (
    _claim(
        "softpag.monotone", "Guidance away from one softened head lowers hallucination with every dose.",
        "smallest fall from dose to dose, w = 1", _m("rises", "softpag", "hallucination", -1.0), (0, None),
        "the sign is the claim", source=f"SoftPAG, HeadHunter (2506.10978); {_TOY}",
    ),
    _claim(
        "softpag.head", "One head, found by search, reaches what its layer reaches.",
        "accuracy in conflict, head less layer, u = 1", _m("group", 1, 4, "conflict"), (-0.005, None),
        ".018 and -.001 before",
    ),
    _claim(
        "softpag.head_nll", "At a lower loss.", "loss, layer less head, nats", _m("group", 4, 1, "nll"), (0, None),
        ".025 and .044 before",
    ),
    _claim(
        "softpag.first", "The first pick of the search is the head with the largest effect of ablation.",
        "share of seeds", _m("agreement"), (0.8, 1.0), "four of five seeds were asked for",
    ),
    _claim(
        "softpag.gain", "Its gain is no luck of the search.", "gain of the best of 8 on other sequences, over chance",
        lambda lab: _m("search_null", "softpag", "held")(lab) / _m("search_null", "softpag", "null")(lab), (1.0, None),
        "95 % point of the best of 8 by chance",
    ),
    _claim(
        "softpag.loss", "The loss rises with the weight: no free lunch on the optimum.",
        "smallest rise from weight to weight, nats", _m("rises", "softpag_weight", "nll", 1.0), (0, None),
        "the sign is the claim",
    ),
    _claim(
        "softpag.weak", "The weak model relies on the prior.", f"{_HALL}, all heads at u = .5",
        _m("level", "weak", 0.5, "hallucination"), (0.5, 0.8), ".653 to .670 before",
    ),
    _claim(
        "inter.drop", "INTER lowers hallucination.", f"{_HALL}, w = 0 less w = 1",
        lambda lab: -_m("moved", "harsanyi", 1.0, "hallucination")(lab), (0.1, None), ".176 before, one seed",
        source=f"INTER (2507.05056); {_TOY}",
    ),
    _claim(
        "inter.contrast", "Plain contrast, without its two corrections, does so at higher accuracy.",
        "accuracy at hallucination .28, contrast less Harsanyi", _m("at_equal", "contrast", "harsanyi", 0.28),
        (0.002, None), ".014 before, one seed; the sign on three", source=_TOY,
    ),
    _claim(
        "inter.silent", "So it does if a missing question is a vector of zeros.",
        "accuracy at hallucination .28, contrast less Harsanyi", _m("at_equal", "contrast", "harsanyi_silent", 0.28),
        (0.002, None), "as before: what a missing question is, is not known", source=_TOY, **_OPEN,
    ),
)  # fmt: skip

LOOKING = (
    _claim(
        "look.wrong", "The model looks at the right patch when its answer is wrong.",
        "share of wrong answers whose largest attention is the patch asked for", _m("looked", "wrong"), (0.95, None),
        "1.000 before", source=f"MLLMs know where to look (2502.17422); {_TOY}",
    ),
    _claim(
        "look.same", "As often as when it is right.", "share on right less on wrong answers",
        lambda lab: _m("looked", "right")(lab) - _m("looked", "wrong")(lab), (-0.02, 0.02), "0 before",
    ),
    _claim(
        "look.gradient", "grad-att finds it less often than attention itself.", "share, grad-att less attention",
        lambda lab: _m("looked", "gradient_hit")(lab) - _m("looked", "hit")(lab), (None, 0), ".98, .82, .93 before",
    ),
    _claim(
        "look.general", "Under the general question there is nothing to find.", "share, general question",
        _m("looked", "general"), (None, 0.5), "control: chance is about 1/5", source="this project",
    ),
    _claim(
        "look.entropy", "The map spreads with the number of objects.",
        "rank correlation of its entropy with their number", _m("entropy_rank"), (0.5, None), "as asked",
        source="CARVE (2509.06461)", trust="memory", **_OPEN,
    ),
    _claim(
        "look.size", "Errors are errors of sight: with half the noise accuracy rises.",
        "accuracy at noise .4 less at .8", _m("sharper", 0.4), (0.1, None), "the best rule gains more than that",
        source="derived", trust="derived",
    ),
)  # fmt: skip

PLANTED = (
    _claim(
        "sink.coordinate", "The planted coordinate is found by the coordinates of the most attended token.",
        "share of seeds", _m("sinks", "coordinate"), (1, 1), "planted far outside",
        source="VAR (2503.03321); the search for coordinates is ours", **_OPEN,
    ),
    _claim(
        "sink.delete", "VAR (a): taking planted sinks out does not change accuracy.",
        "size of the change", lambda lab: abs(_m("moved", "planted_deleted", 1, "accuracy")(lab)), (None, 0.005),
        "half a point was asked for", source="VAR (2503.03321)", **_OPEN,
    ),
    _claim(
        "sink.objects", "Taking two objects out does.", "fall of accuracy",
        lambda lab: -_m("moved", "planted_deleted", 2, "accuracy")(lab), (0.05, None), "as asked",
        source="VAR (2503.03321)", **_OPEN,
    ),
    _claim(
        "sink.rule", "VAR (b): its rule selects the head with the largest effect most often of all.",
        "share of seeds", _m("rule_agreement"), (0.8, None), "four of five seeds were asked for",
        source="VAR (2503.03321)", **_OPEN,
    ),
    _claim(
        "var.unplanted", "VAR (c): without a sink VAR moves nothing.", f"largest change, {_HALL}",
        _m("largest", "var", "hallucination"), (None, 0.02), "as asked", source="VAR (2503.03321)", **_OPEN,
    ),
    _claim(
        "var.planted", "With one that takes a fifth of the head's mass or more it does.",
        f"{_HALL}, at p = 1 less at .6", lambda lab: -_m("moved", "planted_var", 0.6, "hallucination")(lab),
        (0.02, None), "as asked", source="VAR (2503.03321)", **_OPEN,
    ),
    _claim(
        "act.planted", "ACT on planted sinks takes back most of what they did.",
        "share of the rise of hallucination, β = 0", _m("recovered", "planted_act", 0.0), (0.5, None),
        "half was asked for (of accuracy, another task)", source="ACT (2406.15765)", **_OPEN,
    ),
    _claim(
        "gift.captured", "A planted sink has the largest attention.", "share of sequences", _m("gift", "captured"),
        (0.8, None), "it was chosen so", source="GIFT (2510.22067)", **_OPEN,
    ),
    _claim(
        "gift.hit", "The shift of gaze is largest at the patch asked for all the same.", "share of sequences",
        _m("gift", "shift"), (0.95, None), "as asked", source="GIFT (2510.22067)", **_OPEN,
    ),
    _claim(
        "gift.drop", "Following it lowers hallucination more than following attention itself does.",
        f"{_HALL}, attention less shift, α = 16",
        lambda lab: _m("level", "gift_raw", 16.0, "hallucination")(lab)
        - _m("level", "gift", 16.0, "hallucination")(lab),
        (0, None), "the sign", source="GIFT (2510.22067)", **_OPEN,
    ),
    _claim(
        "carve.gain", "With salient patches relative attention finds the patch more often than attention.",
        "share of sequences, relative less attention",
        lambda lab: _m("carve", "salient_relative")(lab) - _m("carve", "salient_raw")(lab), (0.3, None), "as asked",
        source="CARVE (2509.06461)", **_OPEN,
    ),
    _claim(
        "carve.control", "The question of another sequence in place of the general one gains less.",
        "share of sequences, relative less control",
        lambda lab: _m("carve", "salient_relative")(lab) - _m("carve", "salient_control")(lab), (0, None), "the sign",
        source="CARVE (2509.06461)", **_OPEN,
    ),
    _claim(
        "carve.plain", "Without them there is nothing to gain.", "share of sequences, relative less attention",
        lambda lab: _m("carve", "plain_relative")(lab) - _m("carve", "plain_raw")(lab), (-0.02, 0.02),
        "1.00 and 1.00 before", source=f"CARVE (2509.06461); {_TOY}", **_OPEN,
    ),
)  # fmt: skip

SMOKE = (
    _claim(
        "smoke.loss", "Training works.", "training loss, first less last", _m("loss_drop"), (0.02, None),
        "any learning at all", source="this project", presets=("smoke",),
    ),
    _claim(
        "smoke.finite", "Four lines are measured.", "share of finite numbers", _m("finite"), (1, 1), "all of them",
        source="this project", presets=("smoke",),
    ),
    _claim(
        "smoke.gauge", "A logarithmic boost does not see a shift that softmax does not see.",
        "change of the boosted mass when a row's logits shift by -5", _m("gauge", "log"), (None, 1e-5), "float32",
        source="derived", trust="checked", presets=("smoke",),
    ),
)  # fmt: skip

NOTES = """
"""

STUDY = study(
    "grounding",
    "Fixes of hallucination on one frontier",
    "He et al.: Vision-aware Head Divergence, arXiv 2412.13949; and 2503.03321, 2406.15765, 2505.11739, 2501.12206, "
    "2510.22067, 2509.06461, 2502.17422, 2506.10978, 2507.05056.",
    (
        Preset("smoke", "two tiny models for 30 steps, four lines on 512 pictures", None, 2),
        Preset("laptop", "two layers of four heads, width 32, 3,000 steps, two questions; 2 CPU cores", None, 5),
        Preset("evening", "the same for 12,000 steps; 2 CPU cores", None, 5),
    ),
    (*OPTIMUM, *REINFORCED, *LOGITS, *GUIDED, *LOOKING, *PLANTED, *SMOKE),
    home=__name__,
    notes=NOTES,
)
