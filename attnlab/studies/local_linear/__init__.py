"""Local linear attention (2510.01450): identities, gradient, solver, rates, a stream that changes. Loads no jax."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.studies.base import Check, Interval, Preset, check
from attnlab.studies.measured import study, theory

EVERY, LAPTOP = ("smoke", "laptop"), ("laptop",)
PAPER = "Zuo et al., 2510.01450"


def _claim(id: str, statement: str, quantity: str, measure: Any, allowed: Interval, why: str, **options: Any) -> Check:
    settings = {"source": "derived", "trust": "checked", "presets": EVERY, "why": why, **options}
    return check(id, statement, quantity, measure, allowed, **settings)


_GAP = "largest difference of outputs, float64"

IDENTITIES = (
    *(
        _claim(f"same.{name}", statement, _GAP, theory("identities", name), (0, most), why)
        for name, statement, most, why in (
            ("uncentred", "The centred form is the paper's form with its division.", 1e-10, "24 tokens, condition 1e3"),
            ("sum", "Its weights sum to 1.", 1e-10, "rounding"),
            ("softmax", "With a ridge of 1e9 it is softmax.", 1e-6, "the slope is of order 1/ridge"),
            ("ridge", "With equal weights it is ridge regression with an intercept.", 1e-10, "rounding"),
            ("affine", "Affine values are exact at any query from d + 1 tokens on, ridge 1e-9.", 1e-6,
             "ridge times the largest inverse eigenvalue of a covariance of d + 2 keys"),
            ("parallax", "Parallax with the probe of the regression is it.", 1e-10, "rounding"),
            ("first", "The first token returns its value.", 1e-12, "exact"),
        )
    ),
)  # fmt: skip

GRADIENT = (
    *(
        _claim(
            f"gradient.{name}", f"The gradient by a second solve ({told}) is that of autodiff, in q, k, v and ridge.",
            "largest relative difference over ridges .01 to 10, float64", theory("gradients", name), (0, 1e-8),
            "conjugate gradients end at a residual of 1e-14",
        )
        for name, told in (("exact", "exact"), ("cg", "conjugate gradients"))
    ),
    _claim(
        "gradient.held", "One that takes the ridge over all weights for a constant, as the released one does, misses "
        "a part.", "least relative part of dq and dk over ridges", theory("gradients", "held_least"), (0.01, None),
        "5 to 16 % in an earlier measurement; a gradient that is right has 1e-14",
    ),
    _claim(
        "gradient.held_most", "And not more than a fifth here.", "largest relative part",
        theory("gradients", "held_most"), (None, 0.2), "16 % before, other draws",
    ),
)  # fmt: skip

NEEDED = {10.0: (3, 5, 3), 1.0: (7, 10, 8), 0.3: (9, 17, 10), 0.1: (12, 24, 13), 0.03: (13, 36, 14), 0.01: (14, 55, 14)}
_ROWS = (("median", "the median row"), ("worst", "the worst row"), ("late", "the worst row from 256 on"))


def _needed(ridge: float, part: str, told: str, value: int, asserted: bool) -> Check:
    slack = max(1.0, 0.3 * value)
    presets = EVERY if ridge == 10 else LAPTOP
    return _claim(
        f"cg.{ridge:g}.{part}", f"Steps of conjugate gradients for {told}, ridge {ridge:g}.",
        "steps to a relative error of 1e-3, 512 tokens of width 64", theory("iterations", f"{ridge:g}.{part}"),
        (value - slack, value + slack), "±30 %, at least one step", predicted=float(value),
        source="measured before, one draw", trust="measured",
        presets=presets if asserted else (), reported=() if asserted else presets,
    )  # fmt: skip


def _single(lab: Any) -> np.ndarray:
    found = lab.theory("iterations")
    return found["0.01.worst_32"] / found["0.01.worst"]


SOLVER = (
    *(
        _needed(ridge, part, told, value, asserted=part != "late")
        for ridge, row in NEEDED.items()
        for (part, told), value in zip(_ROWS, row, strict=True)
    ),
    _claim(
        "cg.single", "In float32 the worst row needs more steps: rounding spoils directions.",
        "worst row in float32 over that in float64, least ridge",
        _single,
        (1, None), "the sign is the claim", source="this project", trust="measured", presets=(), reported=LAPTOP,
    ),
    _claim(
        "cg.saved", "Ending early saves most of 32 sweeps at ridge 10.", "share saved, residual 1e-3",
        theory("iterations", "saved"), (0.7, None), "3 to 5 steps of 32", source="measured before", trust="measured",
    ),
)  # fmt: skip


# ---- a stream that changes


def ratio(setting: str, above: str, below: str, part: str) -> Any:
    """Mean squared error of one memory over that of another on the same streams, `[draws]`."""
    return lambda lab: (
        theory("streams", f"{setting}.{above}.{part}")(lab) / theory("streams", f"{setting}.{below}.{part}")(lab)
    )


def _grows(lab: Any) -> float:
    return float(
        np.median(ratio("16", "softmax", "lla", "total")(lab)) / np.median(ratio("8", "softmax", "lla", "total")(lab))
    )


_STREAM: dict[str, Any] = {"source": PAPER + "; measured before with our generator", "trust": "measured"}

STREAM = (
    _claim(
        "stream.theory", "Every mechanism pays on the stream what its weights say, given the keys.",
        "largest distance from the closed form, standard errors", lambda lab: lab.theory("surprise"), (0, 4),
        "24 means of heavy-tailed squares over 12 streams; 3.1 is the 95 % point of the largest of 24 normal ones",
        source="derived", trust="checked", presets=LAPTOP,
    ),
    *(
        _claim(
            f"stream.{d}.softmax", f"d = {d}: local linear attention pays less than half of what softmax pays.",
            "error over that of softmax, stream by stream", ratio(d, "lla", "softmax", "total"), (None, 0.5),
            "a third in an earlier measurement", presets=LAPTOP, **_STREAM,
        )
        for d in ("8", "16")
    ),
    _claim(
        "stream.grows", "The gap grows with the dimension.", "softmax over local linear, d = 16 over d = 8", _grows,
        (1, None), "2.9 to 3.6 in an earlier measurement: the sign is the claim", presets=LAPTOP, **_STREAM,
    ),
    *(
        _claim(
            f"stream.{d}.mesa_first", f"d = {d}: in the first segment, which is linear, Mesa is the best.",
            "error of Mesa over that of local linear attention", ratio(d, "mesa", "lla", "first"), (None, 1),
            ".117 to .123 before: the sign is the claim", presets=LAPTOP, **_STREAM,
        )
        for d in ("8", "16")
    ),
    *(
        _claim(
            f"stream.{d}.mesa_total", f"d = {d}: over all segments it is the worst.",
            "error of Mesa over the largest of the others",
            lambda lab, d=d: np.min([ratio(d, "mesa", n, "total")(lab) for n in ("lla", "softmax", "delta")], axis=0),
            (1, None), "1.58 to .57 at most before", presets=LAPTOP, **_STREAM,
        )
        for d in ("8", "16")
    ),
    _claim(
        "stream.8.last", "d = 8: at the end local linear attention has learned the last segment, softmax has not.",
        "error over that of softmax, last 32 steps", ratio("8", "lla", "softmax", "last"), (None, 0.5),
        ".023 to .294 before", presets=LAPTOP, **_STREAM,
    ),
)  # fmt: skip

# ---- rates


def _slope_gap(place: str, name: str) -> Any:
    return lambda lab: float(
        lab.theory("rates")[f"{place}.{name}.slope"] - lab.theory("rates")[f"{place}.{name}.expected_slope"]
    )


RATES = (
    *(
        _claim(
            f"rate.{place}.{name}", f"At the {told} end {words} learns as fast as its weights say.",
            "slope of log error over log n, less that of theory", _slope_gap(place, name), (-0.1, 0.1),
            "512 draws: 6 % of an error each, .03 of a slope; three bandwidths instead of a grid", presets=LAPTOP,
        )
        for place, told in (("low", "lower"), ("high", "upper"))
        for name, words in (("softmax", "softmax"), ("lla", "local linear attention"))
    ),
    _claim(
        "rate.softmax", "Softmax learns like n^(-2/3) at an edge with a slope.", "slope of log error over log n",
        lambda lab: float(lab.theory("rates")["low.softmax.slope"]), (-0.78, -0.55), "-2/3 ± .12, 100 to 6400 points",
        predicted=-2 / 3, presets=LAPTOP,
    ),
    _claim(
        "rate.lla", "Local linear attention learns like n^(-4/5) there.", "slope of log error over log n",
        lambda lab: float(lab.theory("rates")["low.lla.slope"]), (-0.92, -0.68),
        "-4/5 ± .12; where the curve has no bend, as here, the limit is -6/7", predicted=-0.8, presets=LAPTOP,
    ),
    _claim(
        "rate.error", "And its error is less than .6 of that of softmax at every n.", "largest ratio, lower end",
        lambda lab: float(np.max(lab.theory("rates")["low.ratio"])), (None, 0.6), "2 to 4 times less before",
        source="measured before", trust="measured", presets=LAPTOP,
    ),
    _claim(
        "rate.error_high", "So at the upper end.", "largest ratio, upper end",
        lambda lab: float(np.max(lab.theory("rates")["high.ratio"])), (None, 0.6),
        "with few points the mean label is near the value there, and softmax may say it", source="measured before",
        trust="measured", presets=(), reported=LAPTOP,
    ),
)  # fmt: skip

NOTES = """
# What is shown
- **One mechanism, several names.** The output is that of softmax plus a local slope times the distance of the query
  from the mean key. Everything is measured through the blockwise kernel or through mechanisms of the catalogue, in
  float64 where the claim is an identity.
- **The released gradient** holds the ridge over all weights constant; the part that this leaves out is measured here by
  holding it constant in automatic differentiation.
- **Steps of conjugate gradients**: rows with about as many keys as channels are the hard ones. The table is one of
  float64; in float32 the worst rows need a quarter more at a ridge of .01.
- **The stream**: four segments, each with its own linear map and its own place; no training. Single streams differ
  much (a segment may begin close to the last one), so that ratios are taken stream by stream.
- **Rates**: sin 3x + x on [0, 1], noise .3. At the lower end the curve has a slope and no bend, so that the local line
  is faster than n^(-4/5); at the upper end its value happens to be near its mean, and softmax with 100 or 200 points is
  right by averaging everything.
- The paper's own generator, its in-context regression and its recall runs are not published in full: there is no
  `paper` preset.
"""

STUDY = study(
    "local-linear-attention",
    "Local linear attention: regression at the query",
    "Zuo et al.: Local Linear Attention, arXiv 2510.01450 (2025).",
    (
        Preset("smoke", "identities and gradients in full, one ridge, two streams", None, 1),
        Preset(
            "laptop",
            "six ridges, twelve streams of 512 pairs, rates to 6,400 points; no training, 2 CPU cores",
            3.0,
            1,
        ),
    ),
    (*IDENTITIES, *GRADIENT, *SOLVER, *STREAM, *RATES),
    home=__name__,
    notes=NOTES,
)
