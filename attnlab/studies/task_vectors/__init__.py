"""Soft injection of task embeddings (2507.20906): vectors of heads in the place of examples. Loads no jax."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.studies.base import Interval, Preset, check
from attnlab.studies.measured import study
from attnlab.studies.sinks_by_mechanism.measures import loss_drop

PAPER = "SITE, arXiv 2507.20906"
SIZES = ("laptop", "evening")
_ACCURACY = "accuracy on symbols kept apart, mean over maps"


def _claim(id: str, statement: str, quantity: str, measure: Any, allowed: Interval, why: str, **options: Any):
    settings = {"source": PAPER, "trust": "measured", "why": why, "presets": SIZES, **options}
    return check(id, statement, quantity, measure, allowed, **settings)


def _site(function: str, *rest: Any) -> Any:
    """A function of `site`."""

    def measure(lab: Any) -> np.ndarray:
        from attnlab.studies.task_vectors import site

        return np.asarray(getattr(site, function)(lab, *rest))

    return measure


def _less(name: str, one: str, two: str) -> Any:
    return lambda lab: _site("mean", name, one)(lab) - _site("mean", name, two)(lab)


_SEEN: dict[str, Any] = {"presets": (), "reported": SIZES}
_MODELS = (("even", "second layer reads all alike"), ("choosing", "softmax in both layers"))

BOTH = (
    *(
        _claim(
            f"{name}.learns", f"Four examples tell the map ({told}).", "accuracy at the last place",
            _site("in_context", name), (0.97, None), "1 for the exact law", source="this project",
        )
        for name, told in _MODELS
    ),
    *(
        _claim(
            f"{name}.zero", f"Without them a query gets what the family of maps gives away ({told}).",
            f"{_ACCURACY}, less that of the best rule",
            lambda lab, name=name: _site("mean", name, "zero")(lab) - _site("chance")(lab), (-0.15, 0.05),
            "at most the best rule; four symbols, ties",
        )
        for name, told in _MODELS
    ),
    *(
        _claim(
            f"{name}.own", f"Head outputs of prompts of the same query say all ({told}).", "accuracy, all symbols",
            _site("own", name), (0.95, None), "the stream is then that of a prompt with examples, but for the mean",
            source="this project",
        )
        for name, told in _MODELS
    ),
)  # fmt: skip

EVEN = (
    _claim(
        "even.share", "Where heads cannot choose by the query, their outputs depend on the map alone.",
        "share of the variance over maps and queries, second layer", _site("share", "even"), (0.9, None),
        "the query is one of nine tokens read", source="this project",
    ),
    _claim(
        "even.injected", "Vectors with learned amounts then make up for most of the examples.",
        f"{_ACCURACY}, above the query's", _less("even", "injected", "zero"), (0.3, None),
        "about half of what there is to gain (.7)",
    ),
    _claim(
        "even.paper", "They are as good as the examples.", f"{_ACCURACY}, less that with examples",
        lambda lab: _site("mean", "even", "injected")(lab) - _site("in_context", "even")(lab), (-0.05, None),
        "close or above, as in the paper", **_SEEN,
    ),
    _claim(
        "even.transfer", "Amounts of one map serve another of the family.", f"{_ACCURACY}, another map's less own",
        _less("even", "other", "injected"), (-0.05, None), "head sets transfer between similar tasks", **_SEEN,
    ),
    _claim(
        "even.wrong", "Vectors of another map do not say this map's images.", f"{_ACCURACY} of the other map",
        _site("mean", "even", "wrong"), (None, 0.25), "maps of the family share few images", source="this project",
        **_SEEN,
    ),
    _claim(
        "even.all", "Amount 1 in all heads is as good, nothing learned.", f"{_ACCURACY}, learned less all 1",
        _less("even", "injected", "full"), (-0.05, 0.05), "one symbol of 32", source="this project", **_SEEN,
    ),
    _claim(
        "even.binary", "Amounts are nearly binary.", "share of amounts below .1 or above .9", _site("sure", "even"),
        (0.7, None), "most of them", **_SEEN,
    ),
    _claim(
        "even.high", "Heads with large amounts alone do as well.", f"{_ACCURACY}, large amounts only less all",
        _less("even", "high", "injected"), (-0.05, None), "57.3 of 58.5 in the paper", **_SEEN,
    ),
    _claim(
        "even.low", "Those with small amounts alone collapse.", f"{_ACCURACY}, small amounts only above the query's",
        _less("even", "low", "zero"), (None, 0.15), "6.2 of 58.5 in the paper", **_SEEN,
    ),
    _claim(
        "even.best", "The best step of validation is worth no less than the last.", f"{_ACCURACY}, best less last",
        _less("even", "injected", "after_last"), (0.0, None), "the sign; the released code keeps the last", **_SEEN,
    ),
)  # fmt: skip

CHOOSING = (
    _claim(
        "choosing.share", "Softmax heads say the map and the query together.",
        "share of the variance that the map alone explains, second layer", _site("share", "choosing"), (None, 0.4),
        "less than half", source="this project",
    ),
    _claim(
        "choosing.injected", "Then no amounts make a vector of the examples.", f"{_ACCURACY}, above the query's",
        _less("choosing", "injected", "zero"), (None, 0.3), "less than half of what there is to gain (.7)",
        source="this project",
    ),
    _claim(
        "choosing.paper", "Injection is as good as examples, as in the paper.", f"{_ACCURACY}, less that with examples",
        lambda lab: _site("mean", "choosing", "injected")(lab) - _site("in_context", "choosing")(lab), (-0.05, None),
        "close or above", **_SEEN,
    ),
)  # fmt: skip

SMOKE = (
    check(
        "smoke.learns", "A few steps lower the loss.", "loss, last over first", loss_drop, (None, 0.99),
        source="this project", trust="measured", presets=("smoke",), why="a model that does not train stays at 1",
    ),
    _claim(
        "smoke.amounts", "Amounts are learned.", "share of amounts below .1 or above .9", _site("sure", "even"),
        (0, 1), "a share", presets=("smoke",), source="this project",
    ),
)  # fmt: skip

NOTES = """
# What is compared with what
- Eight permutations of twelve symbols; two layers of four heads see four examples and a query
  (`toy_tasks.InContextMaps`) and are asked at every symbol, so that a query alone is known from training. In `choosing`
  both layers are softmax; in `even` the second reads all tokens alike, so that its heads cannot choose by the query.
- Embeddings are means of head outputs at the last token of 50 prompts; amounts, one per head, are learned on five
  symbols, the best of 400 steps is chosen on three others, and accuracies are on the remaining four.

# What was found (`attnlab reproduce task-vectors --preset laptop`, seeds 0 to 4)
- **Both models learn the maps from examples** (.98 to 1.00). A query alone gets .22 to .31, the best rule that knows
  the family .31.
- **Whether a vector can stand for examples depends on the heads.** In `even` the map alone explains .97 to .98 of the
  variance of the second layer's outputs at the query, and injection is close to examples (-.02 to +.01). In
  `choosing` it explains .06 to .15; injection gains -.16 to +.03 and the paper's claim does not hold (.66 to .87 below
  examples).
  Vectors of prompts of the same query restore 1.00 in both: what `choosing` lacks is one vector for all queries.
- **Nothing is selected.** In `even` .84 to .95 of the amounts are below .1 or above .9, but hardly any is low: amount 1
  in all heads is as good. That the heads with large amounts suffice and the few others do nothing then says little.
  Amounts learned for another map do as well (0 to +.03); vectors of another map give .06 of this map's images.
- The best step of validation and the last are worth the same (0 in `even` on every one of these seeds).
- **Fresh seeds.** On seeds 100 to 102 (`--first-seed 100 --seeds 3`) injection in `even` is .08, 0 and .08 below
  examples, more than the .05 allowed: that claim, which passed on the first five, is therefore reported, not asserted
  (32 questions a seed are few). All others hold. The gain over a query alone is .59 to .78 on all eight seeds; in
  `choosing` it is at most .06.
"""

STUDY = study(
    "task-vectors",
    "Task vectors: soft injection in the place of examples",
    "Soft Injection of Task Embeddings Outperforms Prompt-Based In-Context Learning, arXiv 2507.20906 (2025).",
    (
        Preset("smoke", "tiny models for 30 steps, injection in full", None, 2),
        Preset("laptop", "two models of two layers, eight maps; 2 CPU cores", 2, 5),
        Preset("evening", "the same, trained four times as long; 2 CPU cores", None, 5),
    ),
    (*BOTH, *EVEN, *CHOOSING, *SMOKE),
    home=__name__,
    notes=NOTES,
)
