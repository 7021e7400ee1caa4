"""Claims about guidance and decoding, about where the model looks, and about planted sinks. Loads no jax."""

from __future__ import annotations

from attnlab.studies.grounding.claims import HALL, OPEN, TOY, by, claim

GUIDED = (
    claim(
        "softpag.monotone", "Guidance away from one softened head lowers hallucination with every dose.",
        "smallest fall from dose to dose, w = 1", by("rises", "softpag", "hallucination", -1.0), (0, None),
        "the sign is the claim", source=f"SoftPAG, HeadHunter (2506.10978); {TOY}",
    ),
    claim(
        "softpag.head", "One head, found by search, reaches what its layer reaches.",
        "accuracy in conflict, head less layer, u = 1", by("group", 1, 4, "conflict"), (-0.005, None),
        ".018 and -.001 before",
    ),
    claim(
        "softpag.head_nll", "At a lower loss.", "loss, layer less head, nats", by("group", 4, 1, "nll"), (0, None),
        ".025 and .044 before",
    ),
    claim(
        "softpag.first", "The first pick of the search is the head with the largest effect of ablation.",
        "share of seeds", by("agreement"), (0.8, 1.0), "four of five seeds were asked for",
    ),
    claim(
        "softpag.gain", "Its gain is no luck of the search.", "gain of the best of 8 on other sequences, over chance",
        lambda lab: by("search_null", "softpag", "held")(lab) / by("search_null", "softpag", "null")(lab), (1.0, None),
        "95 % point of the best of 8 by chance",
    ),
    claim(
        "softpag.loss", "The loss rises with the weight: no free lunch on the optimum.",
        "smallest rise from weight to weight, nats", by("rises", "softpag_weight", "nll", 1.0), (0, None),
        "the sign is the claim",
    ),
    claim(
        "softpag.weak", "The weak model relies on the prior.", f"{HALL}, all heads at u = .5",
        by("level", "weak", 0.5, "hallucination"), (0.5, 0.8), ".653 to .670 before",
    ),
    claim(
        "inter.drop", "INTER lowers hallucination.", f"{HALL}, w = 0 less w = 1",
        lambda lab: -by("moved", "harsanyi", 1.0, "hallucination")(lab), (0.1, None), ".176 before, one seed",
        source=f"INTER (2507.05056); {TOY}",
    ),
    claim(
        "inter.contrast", "Plain contrast, without its two corrections, does so at higher accuracy.",
        "accuracy at hallucination .28, contrast less Harsanyi", by("at_equal", "contrast", "harsanyi", 0.28),
        (0.002, None), ".014 before, one seed; the sign on three", source=TOY,
    ),
    claim(
        "inter.silent", "So it does if a missing question is a vector of zeros.",
        "accuracy at hallucination .28, contrast less Harsanyi", by("at_equal", "contrast", "harsanyi_silent", 0.28),
        (0.002, None), "as before: what a missing question is, is not known", source=TOY, **OPEN,
    ),
)  # fmt: skip

LOOKING = (
    claim(
        "look.wrong", "The model looks at the right patch when its answer is wrong.",
        "share of wrong answers whose largest attention is the patch asked for", by("looked", "wrong"), (0.95, None),
        "1.000 before", source=f"MLLMs know where to look (2502.17422); {TOY}",
    ),
    claim(
        "look.same", "As often as when it is right.", "share on right less on wrong answers",
        lambda lab: by("looked", "right")(lab) - by("looked", "wrong")(lab), (-0.02, 0.02), "0 before",
    ),
    claim(
        "look.gradient", "grad-att finds it less often than attention itself.", "share, grad-att less attention",
        lambda lab: by("looked", "gradient_hit")(lab) - by("looked", "hit")(lab), (None, 0), ".98, .82, .93 before",
    ),
    claim(
        "look.general", "Under the general question there is nothing to find.", "share, general question",
        by("looked", "general"), (None, 0.5), "control: chance is about 1/5", source="this project",
    ),
    claim(
        "look.entropy", "The map spreads with the number of objects.",
        "rank correlation of its entropy with their number", by("entropy_rank"), (0.5, None), "as asked",
        source="CARVE (2509.06461)", trust="memory", **OPEN,
    ),
    claim(
        "look.size", "Errors are errors of sight: with half the noise accuracy rises by ten points.",
        "accuracy at noise .4 less at .8", by("sharper", 0.4), (0.1, None), "the best rule gains .209",
        source="derived", trust="derived", **OPEN,
    ),
    *(
        claim(
            f"look.frozen_{which}", told, f"{quantity} at noise .4 less at .8", by("sharper", 0.4, which), allowed,
            "two standard errors of a difference of independent pictures", source="derived", trust="derived",
            predicted=by("sharper_rule", 0.4, which),
        )
        for which, told, quantity, allowed in (
            ("accuracy", "It rises by what a rule gains that still weighs the prior as for the old noise.",
             "accuracy", (0.0707, 0.1107)),
            ("hallucination", "And hallucination rises: better sight, the prior as heavy as before.",
             "hallucination", (0.015, 0.085)),
        )
    ),
)  # fmt: skip

PLANTED = (
    claim(
        "sink.coordinate", "The planted coordinate is found by the coordinates of the most attended token.",
        "share of seeds", by("sinks", "coordinate"), (1, 1), "planted far outside",
        source="VAR (2503.03321); the search for coordinates is ours", **OPEN,
    ),
    claim(
        "sink.delete", "VAR (a): taking planted sinks out does not change accuracy.",
        "size of the change", lambda lab: abs(by("moved", "planted_deleted", 1, "accuracy")(lab)), (None, 0.005),
        "half a point was asked for", source="VAR (2503.03321)", **OPEN,
    ),
    claim(
        "sink.objects", "Taking two objects out does.", "fall of accuracy",
        lambda lab: -by("moved", "planted_deleted", 2, "accuracy")(lab), (0.05, None), "as asked",
        source="VAR (2503.03321)", **OPEN,
    ),
    claim(
        "sink.rule", "VAR (b): its rule selects the head with the largest effect most often of all.",
        "share of seeds", by("rule_agreement"), (0.8, None), "four of five seeds were asked for",
        source="VAR (2503.03321)", **OPEN,
    ),
    claim(
        "var.unplanted", "VAR (c): without a sink VAR moves nothing.", f"largest change, {HALL}",
        by("largest", "var", "hallucination"), (None, 0.02), "as asked", source="VAR (2503.03321)",
    ),
    claim(
        "var.planted", "With one that takes a fifth of the head's mass or more it does.",
        f"{HALL}, at p = 1 less at .6", lambda lab: -by("moved", "planted_var", 0.6, "hallucination")(lab),
        (0.02, None), "as asked", source="VAR (2503.03321)", **OPEN,
    ),
    claim(
        "var.rule", "It takes back little: a row that sinks have captured fails the rule and is left alone.",
        "share of the rise of hallucination, p = 0", by("recovered", "planted_var", 0.0), (None, 0.25),
        "the rule leaves out rows with more than half of their visual mass on sinks", source="this project", **OPEN,
    ),
    claim(
        "var.no_rule", "In every row it takes most of it back.", "share of the rise of hallucination, p = 0",
        by("recovered", "planted_var_all", 0.0), (0.5, None), "as was asked of ACT", source="this project", **OPEN,
    ),
    claim(
        "act.planted", "ACT on planted sinks takes back most of what they did.",
        "share of the rise of hallucination, β = 0", by("recovered", "planted_act", 0.0), (0.5, None),
        "half was asked for (of accuracy, another task)", source="ACT (2406.15765)",
    ),
    claim(
        "gift.captured", "A planted sink has the largest attention.", "share of sequences", by("gift", "captured"),
        (0.8, None), "it was chosen so", source="GIFT (2510.22067)", **OPEN,
    ),
    claim(
        "gift.hit", "The shift of gaze is largest at the patch asked for all the same.", "share of sequences",
        by("gift", "shift"), (0.95, None), "as asked", source="GIFT (2510.22067)", **OPEN,
    ),
    claim(
        "gift.drop", "Following it lowers hallucination more than following attention itself does.",
        f"{HALL}, attention less shift, α = 16",
        lambda lab: by("level", "gift_raw", 16.0, "hallucination")(lab)
        - by("level", "gift", 16.0, "hallucination")(lab),
        (0, None), "the sign", source="GIFT (2510.22067)", **OPEN,
    ),
    claim(
        "carve.gain", "With salient patches relative attention finds the patch more often than attention.",
        "share of sequences, relative less attention",
        lambda lab: by("carve", "salient_relative")(lab) - by("carve", "salient_raw")(lab), (0.3, None), "as asked",
        source="CARVE (2509.06461)",
    ),
    claim(
        "carve.control", "The question of another sequence in place of the general one gains less.",
        "share of sequences, relative less control",
        lambda lab: by("carve", "salient_relative")(lab) - by("carve", "salient_control")(lab), (0, None), "the sign",
        source="CARVE (2509.06461)",
    ),
    claim(
        "carve.plain", "Without them there is nothing to gain.", "share of sequences, relative less attention",
        lambda lab: by("carve", "plain_relative")(lab) - by("carve", "plain_raw")(lab), (-0.02, 0.02),
        "1.00 and 1.00 before", source=f"CARVE (2509.06461); {TOY}",
    ),
)  # fmt: skip
