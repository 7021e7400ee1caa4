"""InLine, injective linear attention (2412.06590): what centring in place of division buys. Loads no jax."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlab.studies.base import Interval, Preset, check
from attnlab.studies.measured import study, theory, values_of

PAPER = "Bridging the Divide: Reconsidering Softmax and Linear Attention, arXiv 2412.06590"
ALL, SIZES = ("smoke", "laptop", "evening"), ("laptop", "evening")
_DOUBLED = "|A(2q) - A(q)| / |A(q)|, Gaussian q and k, width 16, 64 keys"
_HEADS = "|A(2q) - A(q)| / |A(q)| of the trained heads"
_ACCURACY = "accuracy on paired recall"


def _claim(id: str, statement: str, quantity: str, measure: Any, allowed: Interval, why: str, **options: Any):
    settings = {"source": PAPER, "trust": "derived", "why": why, "presets": SIZES, **options}
    return check(id, statement, quantity, measure, allowed, **settings)


def accuracy(name: str) -> Any:
    """Share of recalls that are right."""
    return lambda lab: lab.accuracy(f"recall {name}")


def trained_heads(name: str) -> Any:
    """Change of the rows of the trained heads when queries are doubled, mean over heads, `[S]`."""
    return lambda lab: np.asarray(lab.run(f"recall {name}").trajectory["heads"]["doubled"])[:, -1].mean(axis=-1)


def finished(name: str) -> Any:
    """1 for a seed whose numbers stayed finite, 0 for one that diverged."""
    return lambda lab: (np.asarray(lab.run(f"recall {name}").outcome) == 0).astype(float)


def relative_risk(lab: Any) -> np.ndarray:
    """Risk of trained InLine over that of the best debiased step.

    The mean label, which InLine adds to the step, need not be there: the output matrix may be small, the queries large.
    """
    return lab.loss("regression inline") / float(values_of(lab, "ladder", "debiased"))


IDENTITIES = (
    *(
        _claim(
            f"identity.{key}", told, "largest gap, float32 against float64", theory("identities", key), (0, 1e-5),
            "about a hundred roundings of numbers of size 1", trust="checked", presets=ALL,
        )
        for key, told in (
            ("covariance", "Causal InLine is the mean value plus the covariance of keys and values, read by q."),
            ("weights", "It is the map of centred scores over the keys so far."),
            ("rows", "Its rows sum to 1."),
        )
    ),
    _claim(
        "identity.taylor", "InLine is softmax attention to first order in the logits.",
        "power of e in max |softmax(e s) V - InLine(e q)|", theory("taylor", "power"), (1.98, 2.02),
        "the third-order term at e = .1 bends a fitted slope by a hundredth", trust="checked",
        predicted=2.0, presets=ALL,
    ),
    _claim(
        "identity.bound", "Two queries move an InLine row at least by the smallest singular value of the centred keys.",
        "injectivity over 64 queries / bound", theory("bound", "random"), (1 - 1e-4, None), "float32", presets=ALL,
    ),
    _claim(
        "identity.worst", "Along that singular direction it is exactly the bound.", "injectivity along it / bound",
        theory("bound", "worst"), (1 - 1e-4, 1 + 1e-4), "float32", predicted=1.0, presets=ALL,
    ),
)  # fmt: skip

MAPS = tuple(
    _claim(
        f"doubled.{name}", told, _DOUBLED, theory("doubled", name), (0.9 * value - 1e-6, 1.1 * value + 1e-6),
        "a tenth: other draws of 64 keys; 0 to rounding", trust="measured", predicted=value, presets=ALL,
    )
    for name, told, value in (
        ("softmax", "Softmax tells q from 2q.", 1.07),
        ("linear_relu", "Linear attention with ReLU does not at all: both have the same row.", 0.0),
        ("linear_elu", "With ELU + 1 hardly.", 0.051),
        ("linear_exp", "With exp(x/5) hardly.", 0.010),
        ("inline", "InLine does.", 0.69),
        ("inline_relu", "InLine on ReLU features does.", 0.35),
    )
)  # fmt: skip

TRAINING = (
    _claim(
        "train.inline", "InLine with the identity as its kernel trains.", _ACCURACY, accuracy("inline"), (0.9, None),
        "most of what can be learned; the mean over the context gives .2", trust="measured", source="this project",
    ),
    _claim(
        "train.divided", "The identity kernel divided by its row sum does not.", _ACCURACY,
        accuracy("identity_divided"), (None, 0.5), "well below the .9 asked of InLine", trust="memory",
    ),
    _claim(
        "train.diverges", "It diverges.", "seeds whose numbers stay finite, as a share", finished("identity_divided"),
        (None, 0), "all seeds diverge", trust="memory", presets=(), reported=SIZES,
    ),
    _claim(
        "train.relu", "Centring is also better on ReLU features, with which division trains.",
        f"{_ACCURACY}, InLine less divided", lambda lab: accuracy("inline_relu")(lab) - accuracy("linear_relu")(lab),
        (0.01, None), "twice the standard error of 8,000 recalls", trust="measured",
    ),
    _claim(
        "heads.inline", "InLine's heads learn to tell q from 2q.", _HEADS, trained_heads("inline"), (0.7, 1),
        "from .2 at the start; at most 1, for the centred part is orthogonal to the mean", trust="measured",
    ),
    _claim(
        "heads.linear_relu", "Division never does, however long it trains.", _HEADS, trained_heads("linear_relu"),
        (None, 1e-3), "0 to rounding", predicted=0.0,
    ),
    _claim(
        "heads.softmax", "Softmax heads change more than InLine's when queries are doubled.",
        f"{_HEADS}, softmax less InLine", lambda lab: trained_heads("softmax")(lab) - trained_heads("inline")(lab),
        (0, None), "as for Gaussian queries and keys", presets=(), reported=SIZES,
    ),
)  # fmt: skip

LADDER = (
    _claim(
        "ladder.recall_inline", "Recall: order 1 is above order 0, uniform pooling.",
        f"{_ACCURACY}, InLine less uniform",
        lambda lab: accuracy("inline")(lab) - accuracy("uniform")(lab), (0.3, None), "a third of what can be gained",
        trust="measured",
    ),
    _claim(
        "ladder.recall_softmax", "And softmax, all orders, above order 1.", f"{_ACCURACY}, softmax less InLine",
        lambda lab: accuracy("softmax")(lab) - accuracy("inline")(lab), (0.005, None), "the sign, above sampling",
        trust="measured",
    ),
    _claim(
        "ladder.inline_step", "Regression: one trained InLine head is one best debiased step of gradient descent.",
        "risk over that of the best step", relative_risk, (0.95, 1.15),
        "the query, with label 0, counts among its own keys; prompts of the evaluation: .06 of the risk",
        predicted=1.0,
    ),
    _claim(
        "ladder.uniform", "The mean label is worth nothing.", "risk, of labels with variance 1",
        lambda lab: lab.loss("regression uniform"), (0.85, 1.2), "1 for the answer 0; 1,024 prompts: three times .05",
        predicted=1.0,
    ),
    _claim(
        "ladder.order", "For a linear function one softmax head is worse than its own first order.",
        "risk, softmax less InLine", lambda lab: lab.loss("regression softmax") - lab.loss("regression inline"),
        (0.08, None), "half of what the best one-head softmax lacks in theory (.18)",
    ),
)  # fmt: skip

SMOKE = (
    _claim(
        "smoke.finite", "Numbers stay finite.", "seeds that end well, as a share", finished("softmax"), (1, 1),
        "all of them", presets=("smoke",),
    ),
    _claim(
        "smoke.heads", "The heads' injectivity is measured.", _HEADS, trained_heads("inline"), (1e-4, 1),
        "above 0 for random weights, at most 1 by orthogonality", presets=("smoke",),
    ),
    _claim(
        "smoke.loss", "Training works.", "training loss, first less last",
        lambda lab: (lambda curve: curve[:, 1] - curve[:, -1])(lab.loss_curve("recall inline")[1]), (0.02, None),
        "any learning at all", presets=("smoke",),
    ),
)  # fmt: skip

NOTES = """
# What is compared with what
- Kernels are ReLU and the identity; each is divided by its row sum (linear attention) or centred (InLine). One layer,
  on recall of pairs shown in one place (8 pairs; the mean over the context gives .20) and on linear regression.
- **The paper's numbers on ImageNet do not transfer** to anything this size: neither top-1 accuracies (such as InLine's
  74.5 of DeiT-T and 82.4 of Swin-T) nor its ablation of kernels are tested here. What is kept of the ablation is its
  shape: signed kernels train only when centred.
- **The divided identity kernel does not become NaN here.** Behind a LayerNorm, with AdamW, it stays finite over three
  laptop seeds and gets stuck at .2 to .3 of the recalls, where InLine with the same kernel reaches .98.
- **Doubling a query says little about trained heads.** InLine's heads go from .2 to .95 and softmax's from .2 over .6
  down to .12: a row that is nearly one-hot has nowhere to go. Division with homogeneous features (ReLU, identity) stays
  at 0 by construction, and with ReLU still recalls more than .89. Zero injectivity in this sense is no obstacle here.
- **The ladder turns round for regression.** One softmax head cannot be linear in its query: in theory the best one
  leaves .42 of the variance, InLine .24; in training .61 (not at its best after 1,500 steps) and .25.
- With no more keys than the head is wide, centred keys do not span, and no InLine map is injective: the bound is 0.
- **Fresh seeds.** On seeds 100 to 102 (`--first-seed 100`) every asserted claim holds, and the same two differ.
"""

STUDY = study(
    "injectivity",
    "InLine: injective linear attention",
    f"Han et al.: {PAPER} (2024).",
    (
        Preset("smoke", "identities in full, three tiny models for 60 steps", None, 2),
        Preset("laptop", "one layer: paired recall by six mechanisms, regression by three; 2 CPU cores", 2.5, 3),
        Preset("evening", "the same with 16 pairs of 64 keys, width 64, 4,000 steps; 2 CPU cores", None, 3),
    ),
    (*IDENTITIES, *MAPS, *TRAINING, *LADDER, *SMOKE),
    home=__name__,
    notes=NOTES,
)
