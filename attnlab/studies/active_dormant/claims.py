"""The claims of Active-Dormant Attention Heads (2410.13835) and how each is measured. Loads no jax.

Intervals come from the specification of the reproduction where it has them ("spec band"), else from the spread measured
over seeds ("measured band"); every claim says which in its tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attnlab.studies.base import check

PAPER = "Guo et al. 2410.13835"
SINKS = "Gu et al. 2410.10781"
QUICK = ("smoke", "laptop")
LAPTOP = ("laptop",)
EVENING = ("evening",)
ACCELERATOR = ("paper",)
LN_V = 4.19  # ln 66: guessing uniformly over the vocabulary


def theorem(part: str, name: str) -> Callable[[Any], Any]:
    """The value `name` of the theory computation `part`."""
    return lambda lab: lab.theory(part)[name]


def final(run: str, metric: str, layer: int = 0) -> Callable[[Any], Any]:
    """A sink or risk measure of the final parameters of `run`, over seeds."""
    return lambda lab: lab.final(run, metric, layer)


def after(run: str, step: int, metric: str, layer: int = 0) -> Callable[[Any], Any]:
    """The same at a recorded step."""
    return lambda lab: lab.at(run, step, metric, layer)


def without(run: str, part: str, risk: str) -> Callable[[Any], Any]:
    """A risk of the final parameters of `run` with `part` ablated."""
    return lambda lab: lab.intervened(run, part)[risk]


TASK = (
    check(
        "A1.fraction", "A quarter of the positions hold a trigger.", "share of positions 1..255",
        theorem("task", "fraction"), (0.2535, 0.2595), source=f"{PAPER}, BBM/data.py", trust="checked",
        why="spec band ±.003: five standard errors (.0006) of 20 batches of 64", presets=QUICK,
        predicted=lambda lab: lab.expected.trigger_fraction,
    ),
    check(
        "A1.adjacent", "Two triggers are never adjacent.", "adjacent trigger pairs",
        theorem("task", "adjacent"), (0, 0), source=f"{PAPER}, BBM/data.py", trust="checked",
        why="exact: the first token is no trigger, and a copied token is none by induction", presets=QUICK,
        predicted=0.0,
    ),
    check(
        "A1.copies", "After a trigger the token before it is repeated, always.", "other targets at triggers",
        theorem("task", "wrong_copies"), (0, 0), source=f"{PAPER}, BBM/data.py", trust="checked",
        why="exact by definition of the task", presets=QUICK, predicted=0.0,
    ),
    check(
        "A1.triggers", "The three most frequent characters are space, e and t.", "1 if so",
        theorem("task", "triggers"), (1, 1), source=f"{PAPER}, BBM/data.py", trust="code",
        why="exact counts of Tiny Shakespeare", presets=QUICK, predicted=1.0,
    ),
    check(
        "A1.bigram", "The oracle's bigram risk is the closed form.", "nats, positions >= 1",
        theorem("task", "bigram"), (2.2065, 2.2265), source="exact finite-length law", trust="checked",
        why="spec band ±.01: the standard error of 20 batches of 64 is .003", presets=QUICK,
        predicted=lambda lab: lab.expected.bigram,
    ),
    check(
        "A1.overall", "The optimal loss per position is the closed form.", "nats",
        theorem("task", "overall"), (1.6449, 1.6649), source="exact finite-length law", trust="checked",
        why="spec band ±.01: the standard error of 20 batches of 64 is .003", presets=QUICK,
        predicted=lambda lab: lab.expected.overall,
    ),
    check(
        "A2.text", "The authors' sampler, replayed from its seed, gives the text of their figures.", "1 if so",
        theorem("authors", "text"), (1, 1), source=f"{PAPER}, BBM/data.py, heat maps", trust="checked",
        why="exact: 16 tokens", presets=QUICK, predicted=1.0,
    ),
    check(
        "A2.distinct", "Their evaluation batch holds 64 distinct tokens.", "distinct tokens",
        theorem("authors", "distinct"), (64, 64), source=f"{PAPER}, evaluation batch", trust="checked",
        why="exact", presets=QUICK, predicted=64.0,
    ),
    check(
        "A2.oracle", "Its oracle bigram risk by their definition is 2.2193.", "nats",
        theorem("authors", "oracle"), (2.2192, 2.2194), source=f"{PAPER}, evaluation batch", trust="checked",
        why="spec band ±1e-4: printed digits", presets=QUICK, predicted=2.2193,
    ),
)  # fmt: skip

THEOREMS = (
    check(
        "A3.backcopy", "Theorem 1: explicit weights solve backcopy (sink and copy logits 12, values 20).",
        "backcopy risk, nats", theorem("construction", "backcopy"), (None, 1e-6),
        source=f"{PAPER}, Theorem 1", trust="derived, checked",
        why="spec band: e^-12 of the attention is left over, values of 20 amplify it", presets=QUICK, predicted=1.4e-7,
    ),
    check(
        "A3.bigram", "The same weights give the bigram law.", "excess bigram risk, nats",
        theorem("construction", "excess_bigram"), (None, 1e-6), source=f"{PAPER}, Theorem 1", trust="derived, checked",
        why="spec band, as A3.backcopy", presets=QUICK, predicted=3.8e-7,
    ),
    check(
        "A3.table", "Their risks follow the table over four strengths.", "worst factor between ours and the table",
        theorem("construction", "worst_ratio"), (1, 2), source="specification 3.2", trust="checked",
        why="spec band: factor 2", presets=QUICK, predicted=1.0,
    ),
    check(
        "A4.slope", "Theorem 2a: with the value frozen, sink logits grow as half the logarithm of time.",
        "d alpha / d log t at t = 1e10, worst token", theorem("sink_flow", "slope"), (0.495, 0.505),
        source=f"{PAPER}, Theorem 2", trust="derived, checked", why="spec band 1 %", presets=QUICK, predicted=0.5,
    ),
    check(
        "A4.constant", "Behind the half logarithm stands log(2 pi_v Var_v) / 2.", "largest distance at t = 1e10",
        theorem("sink_flow", "error"), (None, 2e-3), source="derived", trust="derived, checked",
        why="spec band; the next term of the expansion is below it for these instances, not for all", presets=QUICK,
        predicted=0.0,
    ),
    check(
        "A4.loss", "Loss times t tends to a quarter of the vocabulary, whatever the law.",
        "loss t / (V / 4) at t = 1e10",
        theorem("sink_flow", "loss"), (0.99, 1.01), source="derived", trust="derived, checked",
        why="spec band 1 %", presets=QUICK, predicted=1.0,
    ),
    check(
        "A5.value", "Theorem 2b: with the sink frozen, the value drains to its closed form.",
        "largest distance at t = 1e5", theorem("drain_flow", "error"), (None, 1e-6),
        source=f"{PAPER}, Theorem 2", trust="derived, checked", why="spec band; the approach is exponential",
        presets=QUICK, predicted=0.0,
    ),
    check(
        "A5.mean", "Its mean is conserved.", "drift at t = 1e5", theorem("drain_flow", "drift"), (None, 1e-6),
        source="derived", trust="derived, checked", why="spec band; a conservation law, error of the solver only",
        presets=QUICK, predicted=0.0,
    ),
    check(
        "A6.concentration", "Theorem 2c: jointly, all dormant tokens end with one sink logit.",
        "spread over tokens at t = 1e6", theorem("joint_flow", "spread"), (None, 1e-3),
        source=f"{PAPER}, Theorem 2", trust="derived, checked", why="spec band", presets=QUICK, predicted=0.0,
    ),
    check(
        "A6.manifold", "The joint flow ends where the value cancels the visible text.",
        "relative distance from the manifold at t = 1e6", theorem("joint_flow", "residual"), (None, 1e-3),
        source="derived", trust="derived, checked", why="spec band", presets=QUICK, predicted=0.0,
    ),
    check(
        "A7.conserved", "ReLU attention conserves sum a^2 - |beta|^2.", "largest drift up to t = 1e6",
        theorem("relu_flow", "drift"), (None, 1e-5), source="derived", trust="derived, checked",
        why="spec band; error of the solver only", presets=QUICK, predicted=0.0,
    ),
    check(
        "A7.value", "ReLU attention loses its sink and keeps the value's norm.", "final norm over its formula",
        theorem("relu_flow", "norm_ratio"), (0.999, 1.001), source="derived", trust="derived, checked",
        why="spec band 1e-3", presets=QUICK, predicted=1.0,
    ),
    check(
        "A8.sgd", "Gradient descent grows no residual peak.", "m at step 10,000 from m = 10",
        theorem("residual_peak", "sgd"), (10.0127 * 0.99, 10.0127 * 1.01), source=f"{PAPER}, BBM/dynamic_test.ipynb",
        trust="code, checked", why="spec band 1 %", presets=QUICK, predicted=10.0127,
    ),
    check(
        "A8.adam_1k", "Adam grows it linearly.", "m at step 1,000 from m = 10",
        theorem("residual_peak", "adam_1k"), (27.86 * 0.99, 27.86 * 1.01), source=f"{PAPER}, BBM/dynamic_test.ipynb",
        trust="code, checked", why="spec band 1 %", presets=QUICK, predicted=27.86,
    ),
    check(
        "A8.adam_10k", "Adam grows it linearly.", "m at step 10,000 from m = 10",
        theorem("residual_peak", "adam_10k"), (63.98 * 0.99, 63.98 * 1.01), source=f"{PAPER}, BBM/dynamic_test.ipynb",
        trust="code, checked", why="spec band 1 %", presets=QUICK, predicted=63.98,
    ),
)  # fmt: skip

METRIC = (
    check(
        "A18.uniform", "Uniform attention is no sink.", "alpha_1 at T = 64", theorem("metric", "uniform"),
        (0.0740, 0.0742), source=f"{SINKS}, sink metric", trust="derived",
        why="spec band 1e-4 around sum(1/i)/64 = 0.0741", presets=QUICK, predicted=0.0741,
    ),
    check(
        "A18.uniform_rate", "Uniform attention has sink rate 0 at every position.", "largest Sink_k",
        theorem("metric", "uniform_rate"), (0, 1e-4), source=f"{SINKS}, sink metric", trust="derived",
        why="exact; spec band 1e-4", presets=QUICK, predicted=0.0,
    ),
    check(
        "A18.identity", "Identity attention looks like a sink only at the last three positions.",
        "1 if Sink_k > 0 only for k >= T - 2", theorem("metric", "identity"), (1, 1), source=f"{SINKS}, sink metric",
        trust="derived", why="exact", presets=QUICK, predicted=1.0,
    ),
    check(
        "A18.ideal", "The ideal backcopy head is a full sink.", "Sink_1 on Bigram-Backcopy",
        theorem("metric", "ideal"), (0.9999, 1), source=f"{SINKS}, sink metric", trust="derived",
        why="spec band 1e-4: every sequence has a trigger share far below .7", presets=QUICK, predicted=1.0,
    ),
    check(
        "A19.nope", "Repeated tokens without positions: attention is exactly 1/t, for any weights.",
        "largest deviation, 4 layers, T = 64", theorem("repeated", "nope"), (None, 1e-5),
        source=f"{SINKS}, Proposition 1", trust="derived", why="spec band: float32 rounding", presets=QUICK,
        predicted=0.0,
    ),
    check(
        "A19.alibi", "With ALiBi it falls with distance and is softmax of the bias.", "largest deviation",
        theorem("repeated", "alibi"), (None, 1e-5), source=f"{SINKS}, Proposition 3", trust="derived",
        why="spec band: float32 rounding", presets=QUICK, predicted=0.0,
    ),
    check(
        "A19.rope", "With rotary positions attention on the first token obeys its bound.",
        "largest excess over the bound", theorem("repeated", "rope"), (None, 1e-5),
        source=f"{SINKS}, Proposition 4", trust="derived", why="spec band: float32 rounding", presets=QUICK,
    ),
    check(
        "A19.learned", "Learned absolute positions escape: attention is not uniform.", "largest deviation from 1/t",
        theorem("repeated", "learned"), (0.05, None), source=f"{SINKS}, section 3", trust="derived",
        why="measured: .15 to .22 over 4 seeds of random weights; float32 rounding is 1e-7", presets=QUICK,
    ),
)  # fmt: skip

_A16: dict[str, Any] = {"source": f"{PAPER}, section 2; laptop bands of the specification, 6.1", "trust": "measured"}
_BAND = "spec band: wide, since the spread over seeds is large at this size"

SOFTMAX = (
    check(
        "A16.backcopy", "A one-layer softmax transformer learns to backcopy.", "backcopy risk at step 2,000, nats",
        final("softmax", "backcopy"), (None, 0.02), why=_BAND, presets=LAPTOP, **_A16,
    ),
    check(
        "A16.bigram", "It learns the bigram law.", "excess bigram risk (positions >= 1), nats",
        final("softmax", "excess_bigram"), (None, 0.04), why=_BAND, presets=LAPTOP, **_A16,
    ),
    check(
        "A16.sink", "Dormant queries park on <s>.", "mean attention of non-trigger queries on <s>",
        final("softmax", "bos_attention"), (0.6, 1.0), why=_BAND, presets=LAPTOP, **_A16,
    ),
    check(
        "A16.sink_logit", "The logit towards <s> stands far above the others.", "mean sink logit over tokens",
        final("softmax", "sink_logit"), (5, 16), why=_BAND, presets=LAPTOP, **_A16,
    ),
    check(
        "A16.value_drain", "The value of <s> drains.", "norm of the value of <s> over ordinary tokens",
        final("softmax", "value_ratio"), (None, 0.35), why=_BAND, presets=LAPTOP, **_A16,
    ),
    check(
        "A16.no_attention", "Without attention backcopy is lost.", "backcopy risk, attention zeroed",
        without("softmax", "no_attention", "backcopy"), (4.0, None), why=_BAND, presets=LAPTOP, **_A16,
    ),
    check(
        "A16.no_mlp", "Without the MLP the bigram law is lost.", "excess bigram risk, MLP zeroed",
        without("softmax", "no_mlp", "excess_bigram"), (1.0, None), why=_BAND, presets=LAPTOP, **_A16,
    ),
)  # fmt: skip

_A17: dict[str, Any] = {
    "source": f"{PAPER}, section 2 (ReLU attention); laptop bands of the specification, 6.1",
    "trust": "measured",
}

RELU = (
    check(
        "A17.backcopy", "ReLU attention learns to backcopy too.", "backcopy risk at step 2,000, nats",
        final("relu", "backcopy"), (None, 0.02), why=_BAND, presets=LAPTOP, **_A17,
    ),
    check(
        "A17.no_sink", "It forms no sink.", "mean attention of non-trigger queries at positions >= 1 on <s>",
        final("relu", "bos_attention_later"), (None, 0.005), presets=LAPTOP, **_A17,
        why="spec band; position 0 is left out, since its one weight is unbounded under ReLU (see the notes)",
    ),
    check(
        "A17.no_sink_as_published", "Nor by the published average, which includes the weight of <s> on itself.",
        "mean attention of non-trigger queries on <s>", final("relu", "bos_attention"), (None, 0.005),
        presets=(), reported=LAPTOP, why="spec band, from one seed whose weight of <s> on itself was 0", **_A17,
    ),
    check(
        "A17.no_drain", "Its value of <s> does not drain.", "norm of the value of <s> over ordinary tokens",
        final("relu", "value_ratio"), (0.5, None), why=_BAND, presets=LAPTOP, **_A17,
    ),
)  # fmt: skip

_F10: dict[str, Any] = {
    "source": f"{PAPER}, reduced model (figure of its dynamics)", "trust": "code; direction only"
}  # fmt: skip

REDUCED = (
    check(
        "F10.sink", "The reduced model, without positions, norms or residuals, grows the same sink.",
        "attention of non-trigger queries on <s> at step 1,000", final("reduced", "bos_attention"), (0.6, 1.0),
        why="measured band: .74 to .88 over 4 seeds, on its way to 1", presets=LAPTOP, **_F10,
    ),
    check(
        "F10.drain", "And drains the value.", "norm of the value of <s>, mean removed, end over start",
        lambda lab: lab.reduced_drain()[1][:, -1] / lab.reduced_drain()[1][:, 0], (None, 0.5),
        why="direction only: half its start; the mean over the vocabulary is a gauge (softmax ignores it)",
        presets=(), reported=LAPTOP, **_F10,
    ),
    check(
        "F10.log", "Its sink logit grows with the logarithm of time.", "correlation with ln t from step 100 on",
        lambda lab: lab.log_slope("reduced", 100)[1], (0.95, 1.0), why="measured band: .976 to .984 over 4 seeds",
        presets=LAPTOP, **_F10,
    ),
)  # fmt: skip

_A11: dict[str, Any] = {
    "source": f"{PAPER}, intervention figure",
    "trust": "stored",
    "presets": (*LAPTOP, *ACCELERATOR),
}

INTERVENTIONS = (
    check(
        "A11.bigram_kept", "Attention is useless for the bigram law.", "change of bigram risk, attention zeroed",
        lambda lab: lab.intervened("softmax", "no_attention")["bigram"] - lab.intervened("softmax", "full")["bigram"],
        (-0.02, 0.02), why="spec band ±.02", predicted=0.0, **_A11,
    ),
    check(
        "A11.worse_than_chance", "Without attention backcopy is worse than guessing.",
        "backcopy risk, attention zeroed",
        without("softmax", "no_attention", "backcopy"), (LN_V, None),
        why="spec band: ln 66, guessing uniformly", **_A11,
    ),
    check(
        "A11.mlp_for_bigram", "The MLP carries the bigram law.", "excess bigram risk, MLP zeroed",
        without("softmax", "no_mlp", "excess_bigram"), (1.5, None),
        bands={"laptop": (1.0, None)},
        why="spec band 1.5 for the paper's size, 1 at laptop size (6.1: 1.50 to 1.57 after 2,000 steps, still rising)",
        **_A11,
    ),
    check(
        "A11.both_for_backcopy", "Backcopy needs attention and MLP.",
        "smaller of the two ablated backcopy risks over the full one",
        lambda lab: lab.ablation_factor("softmax"), (1e3, None), bands={"laptop": (1e2, None)},
        why="spec band 1e3 for the paper's size; at laptop size 1e2, since the full risk is still .003 (6.1)", **_A11,
    ),
)  # fmt: skip
