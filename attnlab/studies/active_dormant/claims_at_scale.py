"""Claims that need an evening or an accelerator: attention variants (A20), the paper's size (A9-A15, A21, A22)."""

from __future__ import annotations

from typing import Any

from attnlab.studies.active_dormant.claims import ACCELERATOR, EVENING, PAPER, SINKS, after, final
from attnlab.studies.base import check

_A20: dict[str, Any] = {
    "source": f"{SINKS}, attention variants; carried over to Bigram-Backcopy by the specification, 6.2",
    "trust": "measured, one seed",
    "presets": EVENING,
    "why": "spec band from one seed: the direction is the claim",
}


# Over four seeds sigmoid attention comes out otherwise (.02 to .43 on <s>, values from .45 of an ordinary one): the
# specification's one seed lies inside this spread. The two claims are reported, not asserted; see the study's notes.
_SIGMOID: dict[str, Any] = {**_A20, "presets": (), "reported": EVENING}


def _sink(name: str, low: float | None, high: float | None, metric: str = "bos_attention", how=_A20):
    return check(
        f"A20.sink.{name}", f"With <s>, {name.replace('_', ' ')} attention {'sinks' if low else 'forms no sink'}.",
        "raw attention of non-trigger queries on <s>", final(name, metric), (low, high), **how,
    )  # fmt: skip


def _value(name: str, low: float | None, high: float | None, how=_A20):
    return check(
        f"A20.value.{name}", f"With <s>, {name.replace('_', ' ')} attention {'keeps' if low else 'drains'} its value.",
        "norm of the value of <s> over ordinary tokens", final(name, "value_ratio"), (low, high), **how,
    )  # fmt: skip


VARIANTS = (
    *(_sink(name, 0.6, None) for name in ("softmax", "softmax_off_by_one", "key_bias")),
    _sink("sigmoid", None, 0.10, how=_SIGMOID),
    _sink("relu", None, 0.005, "bos_attention_later"),
    *(_value(name, None, 0.30) for name in ("softmax", "softmax_off_by_one", "key_bias")),
    _value("sigmoid", 0.7, None, how=_SIGMOID),
    _value("relu", 0.7, None),
    check(
        "A20b.softmax", "Without <s>, softmax rows sum to one, most of it on triggers and newline.",
        "mass of non-trigger rows on triggers and newline",
        lambda lab: lab.low_information_mass("no_bos_softmax"), (0.5, None),
        **_A20,
    ),
    check(
        "A20b.key_bias", "Without <s>, a key bias takes over the sink.", "mass of non-trigger rows left on tokens",
        final("no_bos_key_bias", "dormant_mass_tokens"), (None, 0.6), **_A20,
    ),
    check(
        "A20b.sigmoid", "Without <s>, sigmoid rows are nearly empty.", "mass of non-trigger rows on tokens",
        final("no_bos_sigmoid", "dormant_mass_tokens"), (None, 0.05), **_A20,
    ),
    *(
        check(
            f"A20b.backcopy.{name}", f"Without <s>, {name.replace('_', ' ')} attention still learns to backcopy.",
            "backcopy risk, nats", final(f"no_bos_{name}", "backcopy"), (None, 0.05), **_A20,
        )
        for name in ("softmax", "key_bias", "sigmoid")
    ),
)  # fmt: skip

_STORED: dict[str, Any] = {"trust": "stored, one seed", "presets": ACCELERATOR}
_TABLE: dict[str, Any] = {
    "source": f"{PAPER}, dynamics figure, one layer",
    "why": "spec band around the stored curve",
    **_STORED,
}

PAPER_SIZE = (
    check(
        "A9.plateau", "First the bigram law is learned; backcopy waits at the attention-free plateau.",
        "backcopy risk at step 90, nats", after("softmax", 90, "backcopy"), (2.55, 2.75),
        predicted=lambda lab: lab.expected.plateau, **_TABLE,
    ),
    check("A9.sink", "After 1,000 steps the sink stands.", "attention on <s> at step 1,000",
          after("softmax", 1000, "bos_attention"), (0.60, 0.98), **_TABLE),
    check("A9.backcopy", "And backcopy is learned.", "backcopy risk at step 1,000, nats",
          after("softmax", 1000, "backcopy"), (None, 0.05), **_TABLE),
    check("A9.bigram", "And the bigram law.", "excess bigram risk at step 1,000, nats",
          after("softmax", 1000, "excess_bigram"), (None, 0.02), **_TABLE),
    check("A9.sink_logit", "And the sink logit.", "mean sink logit at step 1,000",
          after("softmax", 1000, "sink_logit"), (6, 14), **_TABLE),
    check("A10.sink", "The sink stays.", "attention on <s> at step 10,000",
          final("softmax", "bos_attention"), (0.70, 1.0), **_TABLE),
    check("A10.sink_logit", "The sink logit keeps growing.", "mean sink logit at step 10,000",
          final("softmax", "sink_logit"), (11, 23), **_TABLE),
    check("A10.value", "The value of <s> drains.", "norm of the value of <s> at step 10,000",
          final("softmax", "value_norm_bos"), (None, 2.5), **_TABLE),
    check("A10.value_ratio", "To a small part of an ordinary token's.", "norm over ordinary tokens at step 10,000",
          final("softmax", "value_ratio"), (None, 0.15), **_TABLE),
    check("A10.log_slope", "It grows with the logarithm of time.", "slope of the sink logit in ln t, 1,000 to 10,000",
          lambda lab: lab.log_slope("softmax")[0], (2, 5), **_TABLE),
    check("A10.log_line", "In a straight line.", "correlation of the sink logit with ln t, 1,000 to 10,000",
          lambda lab: lab.log_slope("softmax")[1], (0.95, 1.0), **_TABLE),
    check("A10.concentration", "Sink logits concentrate.", "sd / mean over tokens at 10,000 over that at 1,000",
          lambda lab: lab.concentration("softmax"), (None, 1.0), **_TABLE),
    check("A12.no_sink", "ReLU attention forms no sink.", "largest attention on <s> from step 100 on",
          lambda lab: lab.largest_after("relu", 100, "bos_attention"), (None, 0.005),
          source=f"{PAPER}, ReLU dynamics", why="spec band around the stored curve", **_STORED),
    check("A12.backcopy", "And learns faster.", "backcopy risk at step 1,000, nats",
          final("relu", "backcopy"), (None, 0.01),
          source=f"{PAPER}, ReLU dynamics", why="spec band around the stored curve", **_STORED),
    check("A12.no_drain", "And its value of <s> does not drain.", "final norm of the value of <s> over the initial one",
          lambda lab: lab.final("relu", "value_norm_bos") / lab.at("relu", 0, "value_norm_bos"), (1.0, None),
          source=f"{PAPER}, ReLU dynamics", why="spec band: not below its start", **_STORED),
    check("A13.adam", "With Adam three layers grow a residual peak on <s>.", "residual norm of <s> after block 0",
          final("three_adam", "residual_norm_bos"), (90, 200),
          source=f"{PAPER}, optimizer figure", why="spec band around the stored curve", **_STORED),
    check("A13.linear", "It grows in a straight line.", "correlation with the step, 2,000 to 10,000",
          lambda lab: lab.line("three_adam", "residual_norm_bos", 2000), (0.97, 1.0),
          source=f"{PAPER}, optimizer figure", why="spec band around the stored curve", **_STORED),
    check("A13.sgd", "With SGD there is none.", "residual norm of <s> after block 0",
          final("three_sgd", "residual_norm_bos"), (None, 40), source=f"{PAPER}, optimizer figure",
          why="spec band; SGD is less trained at equal steps, compare the risks in the report", **_STORED),
    check("A13.relu", "With ReLU attention there is none.", "residual norm of <s> after block 0",
          final("three_relu", "residual_norm_bos"), (None, 40),
          source=f"{PAPER}, optimizer figure", why="spec band around the stored curve", **_STORED),
    check("A14.peak", "Block 0 writes the peak.", "excess residual norm, full over block 0 zeroed",
          lambda lab: lab.block_effect("three_no_attention_2", "residual_peak", 0), (20, None),
          source=f"{PAPER}, causal figure", why="spec band: factor 20", **_STORED),
    check("A14.sink", "It makes the sink of block 1.", "sink logit of block 1, full over block 0 zeroed",
          lambda lab: lab.block_effect("three_no_attention_2", "sink_logit", 1), (4, None),
          source=f"{PAPER}, causal figure", why="spec band: factor 4", **_STORED),
    check("A14.value", "And the drained value of block 1.", "value norm of block 1, block 0 zeroed over full",
          lambda lab: 1 / lab.block_effect("three_no_attention_2", "value_norm_bos", 1), (4, None),
          source=f"{PAPER}, causal figure", why="spec band: factor 4", **_STORED),
    check("A15.order", "The peak needs attention and MLP in block 0, and a block behind.",
          "1 if 3 TF > 2 TF + MLP > both 2 TF and MLP + TF + MLP > Attn + TF + MLP",
          lambda lab: lab.structure_order(), (1, 1), source=f"{PAPER}, structures figure", trust="img",
          presets=ACCELERATOR, why="spec: rank only"),
    check("A21.values", "Without <s>, triggers drain instead.", "value norm of triggers over ordinary tokens",
          lambda lab: lab.trigger_value_ratio("no_bos"), (None, 0.4),
          source=f"{PAPER}, no-<s> figure", trust="img", presets=ACCELERATOR,
          why="spec band; control: .63 with sigmoid"),
    check("A21.sink", "And dormant queries attend to triggers and newline.", "mass on triggers and newline",
          lambda lab: lab.low_information_mass("no_bos"), (0.5, None),
          source=f"{PAPER}, no-<s> figure", trust="img", presets=ACCELERATOR, why="spec: most"),
    check("A21.backcopy", "And backcopy is learned.", "backcopy risk, nats", final("no_bos", "backcopy"), (None, 1e-3),
          source=f"{PAPER}, no-<s> figure", trust="img", presets=ACCELERATOR, why="spec band"),
    check("A22.entropy", "Tokens with a nearly certain successor stay least dormant.",
          "Spearman correlation of row entropy and sink logit", lambda lab: lab.entropy_correlation("softmax"),
          (0.35, None),
          source=f"{PAPER}, stored arrays", trust="derived from stored", presets=ACCELERATOR, why="spec band"),
    check("A22.bottom", "The certain ones, `q` and `3`, are among the five lowest.", "1 if both are",
          lambda lab: lab.certain_tokens_lowest("softmax"), (1, 1),
          source=f"{PAPER}, stored arrays", trust="derived from stored", presets=ACCELERATOR, why="spec: rank"),
)  # fmt: skip

SMOKE = (
    check(
        "smoke.learns", "Sixty steps of a tiny model lower its loss.", "training loss, last over first record",
        lambda lab: lab.loss_drop("softmax"), (None, 0.9), source="this project", trust="measured", presets=("smoke",),
        why="measured band: .7 to .8; a model that does not train stays at 1",
    ),
    check(
        "smoke.finite", "Every sink measure of the tiny runs is finite.", "share of finite values",
        lambda lab: lab.finite_share(), (1, 1), source="this project", trust="measured", presets=("smoke",),
        why="exact",
    ),
)  # fmt: skip
