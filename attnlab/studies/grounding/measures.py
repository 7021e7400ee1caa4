"""What the claims of the study measure: `lab -> [S]`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from attnlab.studies.grounding import heads, maps, methods, nulls, planted_reports
from attnlab.studies.grounding.lines import LINES, at, change, line, reported, shown
from attnlab.studies.grounding.subject import Curve, asked


def bayes(lab: Any, weights: Any = (1.0,)) -> Any:
    """The exact frontier at the given weights of the prior."""
    return lab.experiments["plain"].task.bayes_frontier(np.asarray(weights, float))


def base(lab: Any, which: str) -> np.ndarray:
    """The trained model as it is, `[S]`."""
    return at(lab, "vhr", 1.0, which)


def from_bayes(which: str) -> Any:
    """The trained model less the best rule on the same pictures."""
    return lambda lab: base(lab, which) - at(lab, "rule", 1.0, which)


def level(name: str, dose: float, which: str) -> Any:
    """A number at a dose."""
    return lambda lab: at(lab, name, dose, which)


def moved(name: str, dose: float, which: str) -> Any:
    """By how much a dose moves a number."""
    return lambda lab: change(lab, name, dose, which)


def largest(name: str, which: str) -> Any:
    """The largest size of `moved` over all doses."""
    return lambda lab: np.max(np.abs([change(lab, name, dose, which) for dose in LINES[name].doses]), axis=0)


def rises(name: str, which: str, sign: float) -> Any:
    """The smallest step (times `sign`) from dose to dose: not negative if it is monotone."""
    return lambda lab: np.min(sign * np.diff(line(lab, name)[which], axis=1), axis=1)


def gap(lab: Any, name: str) -> np.ndarray:
    """Accuracy of the rule at the same hallucination, on the same pictures, less that of every dose, `[S, N]`.

    Pictures without much background (`roomy`) differ in nothing that the rule reads. Beyond its ends they count.
    """
    rule, found = line(lab, "rule"), line(lab, name)
    order = np.argsort(rule["hallucination"][0], kind="stable")  # no seed in it: the first is all
    x, y = (rule[key][0][order] for key in ("hallucination", "accuracy"))
    return np.interp(found["hallucination"], x, y) - found["accuracy"]


def above_all(names: tuple[str, ...]) -> Any:
    """By how much any dose of any of the methods is above the frontier, the most of all."""
    return lambda lab: -np.min([gap(lab, name).min(axis=1) for name in names], axis=0)


def at_equal(name: str, other: str, hallucination: float, which: str = "accuracy") -> Any:
    """What `name` has more than `other` at equal hallucination: both lines are interpolated there."""

    def read(lab: Any, line_name: str) -> np.ndarray:
        found = line(lab, line_name)
        values = []
        for x, y in zip(found["hallucination"], found[which], strict=True):
            order = np.argsort(x)
            inside = x.min() <= hallucination <= x.max()
            values.append(np.interp(hallucination, x[order], y[order]) if inside else np.nan)
        return np.array(values)

    return lambda lab: read(lab, name) - read(lab, other)


def ranks(which: str) -> Any:
    """Spearman's correlation over heads of a score with the size of the ablation's effect."""
    return lambda lab: head_table(lab)[f"rank_{which}"]


def head_table(lab: Any) -> dict[str, np.ndarray]:
    """Divergence, effect, mass of every head."""
    return reported(lab, "heads", heads.heads_of)


def top_agreement(lab: Any) -> np.ndarray:
    """Share of seeds in which the head with the largest divergence has the largest effect, `[1]`."""
    tops = [np.abs(head_table(lab)[name]).reshape(lab.seeds, -1).argmax(axis=1) for name in ("divergence", "effect")]
    return np.array([np.mean(tops[0] == tops[1])])


def first_picks(lab: Any) -> dict[str, np.ndarray]:
    """The search."""
    return reported(lab, "picks", heads.picks)


def agreement(lab: Any) -> np.ndarray:
    """Share of seeds in which the first pick has the largest effect, `[1]`."""
    return np.array([first_picks(lab)["agrees"].mean()])


def entropy_rank(lab: Any) -> np.ndarray:
    """Rank correlation of the looking layer's entropy with the number of objects, `[S]`."""
    found = reported(lab, "looking", maps.hits_of)
    return np.take_along_axis(found["entropy"], found["layer"][:, None].astype(int), axis=1)[:, 0]


def group(first: int, second: int, which: str) -> Any:
    """One group of heads less another: 1 the first pick, 4 its layer, 5 all heads, 0 none."""
    return lambda lab: at(lab, "softpag_groups", first, which) - at(lab, "softpag_groups", second, which)


def search_null(method: str, key: str) -> Any:
    """Of the search over single heads: `gain`, `null`, `held`."""
    return lambda lab: searched(lab, method)[key]


DOSES = {"act": (0.0, 0.4), "zerotuning": (0.25, 0.5, 2.0, 4.0), "softpag": (1.0,)}


def searched(lab: Any, method: str) -> dict[str, np.ndarray]:
    """Best of single heads and doses."""
    return reported(lab, f"null {method}", nulls.searched, method=method, doses=DOSES[method])


def looked(key: str) -> Any:
    """Of `maps.hits_of`."""
    return lambda lab: reported(lab, "looking", maps.hits_of)[key]


def rule_agreement(lab: Any) -> np.ndarray:
    """Share of seeds in which VAR's rule selects the head with the largest effect most often, `[1]`."""
    return np.array([sinks("rule_agrees")(lab).mean()])


def sinks(key: str) -> Any:
    """Of `planted_reports.sink_report`."""
    return lambda lab: reported(lab, "sinks", planted_reports.sink_report)[key]


def gift(key: str) -> Any:
    """Of `planted_reports.gift_report`."""
    return lambda lab: reported(lab, "gift", planted_reports.gift_report, run="two tokens")[key]


def carve(key: str) -> Any:
    """Of `planted_reports.carve_report`."""
    return lambda lab: reported(lab, "carve", planted_reports.carve_report)[key]


def gauge(kind: str) -> Any:
    """Change of the boosted mass under a shift that softmax does not see."""
    return lambda lab: reported(lab, "gauge", methods.gauge)[kind]


def entropy_kept(lab: Any) -> np.ndarray:
    """Largest change of the entropy among the other keys under ZeroTuning."""
    return reported(lab, "tuned", methods.tuned_entropy)["change"]


def sharper(noise: float, which: str = "accuracy") -> Any:
    """What a number gains when colours are seen with less noise than in training."""

    def measure(lab: Any) -> np.ndarray:
        task = replace(asked(lab.experiments["plain"].task), noise=noise)
        curve = Curve(task, LINES["vhr"].method, (1.0,), _no_heads, reported=SHARP)
        return lab.probe("plain", curve, label=("noise", noise))[which][:, 0] - base(lab, which)

    return measure


def sharper_rule(noise: float, which: str = "accuracy") -> Any:
    """The same of the rule that was best in training and does not know that the noise has changed, exact.

    It adds `σ² log prior` to the colours with the old `σ`: at the new one its weight of the prior is `(σ / σ_new)²`.
    """

    def predict(lab: Any) -> float:
        task = lab.experiments["plain"].task
        frozen = replace(task, noise=noise).bayes_frontier([(task.noise / noise) ** 2])
        return float(getattr(frozen, which)[0] - getattr(bayes(lab), which)[0])

    return predict


SHARP = 4096


def _no_heads(subject: Any) -> np.ndarray:
    return np.zeros((subject.model.num_layers, subject.model.num_heads), bool)


def recovered(name: str, dose: float, which: str = "hallucination") -> Any:
    """Share of what the planted sink did that a dose takes back (roomy pictures have the same law of answers)."""

    def measure(lab: Any) -> np.ndarray:
        broken = at(lab, name, LINES[name].neutral, which)
        clean = base(lab, which)
        return (broken - at(lab, name, dose, which)) / (broken - clean)

    return measure


def finite(lab: Any) -> np.ndarray:
    """Share of finite numbers on the lines of a preset."""
    values = [np.stack(list(line(lab, name).values())) for name in shown(lab, LINES)]
    return np.isfinite(np.concatenate(values, axis=2)).mean(axis=(0, 2))


def loss_drop(lab: Any) -> np.ndarray:
    """Training loss, the mean of three steps at the start less that of the last thirty records, `[S]`."""
    _, curve = lab.loss_curve("plain")  # of step 0 there is no loss
    return curve[:, 1:4].mean(axis=1) - curve[:, -30:].mean(axis=1)


def rule_error(lab: Any) -> np.ndarray:
    """Accuracy of the best rule on the pictures of the lines less its exact one, `[S]`."""
    return at(lab, "rule", 1.0, "accuracy") - float(bayes(lab).accuracy[0])
