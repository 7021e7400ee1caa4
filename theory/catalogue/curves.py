"""Laws of the catalogue as `Prediction` values, ready to be laid beside a measured curve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.base import Prediction
from theory.catalogue.cosines import CosineLaw
from theory.catalogue.dispersion import entropy_share
from theory.catalogue.fidelity import delta_fidelity, hebb_fidelity, oja_fidelity, ridge_fidelity
from theory.catalogue.planted import lssa_match, lssar_match, softmax_match
from theory.catalogue.retrieval import nearest_accuracy
from theory.references import PAVLOVIAN, SELECTIVE_ATTENTION, SOFTPLUS_ATTENTION

MemoryRule = Literal["hebb", "delta", "oja", "ridge"]
Matcher = Literal["softmax", "lssa", "lssar"]

_MEMORY = PAVLOVIAN.at("attention as associative memory; finite laws derived here")


def predict_fidelity(
    rule: MemoryRule, pairs: ArrayLike, width: int, *, rate: float = 1.0, ridge: float = 1e-3
) -> Prediction:
    """Cosine between what is read and what was stored, averaged over all stored pairs: steps are `n`, values `[N]`.

    Args:
      rule: of one pass over the pairs.
      pairs: `[N]` increasing.
      width: `d = d_v`.
      rate: of `delta` and `oja`.
      ridge: of `ridge`.
    """
    check.choice("rule", rule, get_args(MemoryRule))
    loads = check.times("pairs", check.whole("pairs", pairs), 1.0)
    laws: dict[str, Callable[[int], float]] = {
        "hebb": lambda n: float(hebb_fidelity(n, width)),
        "delta": lambda n: float(delta_fidelity(n, width, rate).mean()),
        "oja": lambda n: float(oja_fidelity(n, width, width, rate).mean()),
        "ridge": lambda n: float(ridge_fidelity(n, width, ridge)),
    }
    values = np.array([laws[rule](int(n)) for n in loads])
    assumptions = (
        "steps are numbers of stored pairs",
        "keys and values are independent random unit vectors; every stored key is read once, exactly",
        "a ratio of means stands for the mean cosine: terms of order 1/d are missing",
    )
    return Prediction(f"read-out cosine of the {rule} memory", loads, values, None, _MEMORY, assumptions)


def predict_nearest(pairs: ArrayLike, width: int, value_width: int) -> Prediction:
    """Share of Hebb reads that are nearest to the right value: steps are `n`, values `[N]`.

    Args:
      pairs: `[N]` increasing.
      width: `d`.
      value_width: `d_v`.
    """
    loads = check.times("pairs", check.whole("pairs", pairs), 1.0)
    assumptions = (
        "steps are numbers of stored pairs",
        "keys and values are independent random unit vectors",
        "large widths: low by up to .04 at 64, .005 at 256",
    )
    values = nearest_accuracy(loads, width, value_width)
    return Prediction("nearest-value accuracy of the Hebb memory", loads, values, None, _MEMORY, assumptions)


def predict_match(
    matcher: Matcher, cosine: float, keys: ArrayLike, width: int, *, power: float = 15.0, law: CosineLaw = "sphere"
) -> Prediction:
    """Weight of the one key that matches: steps are row lengths `n`, values `[N]`.

    Args:
      matcher: the attention; `softmax` with scale `sqrt(d)`.
      cosine: of the matching key.
      keys: `[N]` increasing, the matching key included.
      width: `d`.
      power: of `lssar`.
      law: of the other cosines.
    """
    check.choice("matcher", matcher, get_args(Matcher))
    lengths = check.times("keys", check.whole("keys", keys), 1.0)
    if matcher == "softmax":
        values = softmax_match(cosine, lengths, width, law=law)
    elif matcher == "lssa":
        values = lssa_match(cosine, lengths, width, law)
    else:
        values = lssar_match(cosine, lengths, width, power, law)
    assumptions = ("steps are lengths of the row", "all keys but one are random directions, of unit norm")
    name = f"weight of the planted key under {matcher}"
    return Prediction(name, lengths, values, None, SOFTPLUS_ATTENTION.at("means derived here"), assumptions)


def predict_entropy(keys: ArrayLike, scale: ArrayLike = 1.0) -> Prediction:
    """Entropy of softmax over unrelated scores, over `log n`: steps are row lengths `n`, values `[N]`.

    Args:
      keys: `[N]` increasing, at least 2.
      scale: standard deviation of the scores, one for all or one for each length.
    """
    lengths = check.times("keys", check.whole("keys", keys, 2), 2.0)
    assumptions = ("steps are lengths of the row", "scores are independent, N(0, scale^2)")
    source = SELECTIVE_ATTENTION.at("attention dilution; the law is derived here")
    return Prediction("entropy over log n", lengths, entropy_share(lengths, scale), None, source, assumptions)
