"""How many bits of state a recall needs, whatever the mechanism: bounds from counting maps.

A sequence shows `C` pairs; the values are drawn evenly from `V` ids, each by itself or without repeats (`distinct`).
All that is known of them when a key is asked is a state of `b` bits (and the keys, for free). With `a` the expected
share of right answers over the `C` keys,

    independent values   b >= C phi(a),   phi(a) = log2 V - h(a) - (1 - a) log2(V - 1)
    distinct values      b >= C phi(a) - (C log2 V - log2 V (V-1) ... (V-C+1))
    all right            b >= log2 of the number of maps

Derivation (Fano): `I(value_i; state) >= log2 V - h(a_i) - (1 - a_i) log2(V - 1)`, `phi` is convex, and for independent
values `sum_i I(value_i; state) <= I(values; state) <= b`; for distinct ones the sum exceeds it by at most the total
correlation of the values. `phi` is the rate-distortion function of an even source under the share of errors, so that
for many pairs the bound is reached by some code. For few pairs counting is sharper: a state of `b` bits has `2^b` lists
of answers, and one list agrees with random values in a binomial number of places (`counting_bound`).

So a recurrent state must grow like `C log V`; softmax attention is not bound by it, its state grows with the text.

Source: arXiv 2402.18668 for the trade-off between recall and state; the bounds are derived here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


def map_bits(pairs: int, vocab: int, distinct: bool = False) -> float:
    """`log2` of the number of ways to give the keys values: `V^C`, or `V (V - 1) ... (V - C + 1)` distinct ones.

    Args:
      pairs: `C`.
      vocab: `V`, how many values there are.
      distinct: whether the values of a sequence are distinct.
    """
    c, v = check.count("pairs", pairs), check.count("vocab", vocab, 2)
    if not distinct:
        return c * float(np.log2(v))
    if c > v:
        raise check.fail("pairs", c, f"at most the {v} distinct values", "Show fewer pairs.")
    return float(np.sum(np.log2(v - np.arange(c))))


def recall_bits(accuracy: ArrayLike, vocab: int) -> Float[np.ndarray, " ..."]:
    """`phi(a)`, bits a pair for this accuracy: 0 at the chance `1/V` and below, `log2 V` at 1.

    Args:
      accuracy: `a` in [0, 1], any shape.
      vocab: `V`, at least 2.
    """
    a = check.finite("accuracy", np.asarray(accuracy, dtype=np.float64))
    if (a < 0).any() or (a > 1).any():
        raise check.fail("accuracy", a.tolist(), "in [0, 1]", "Pass shares of right answers.")
    v = check.count("vocab", vocab, 2)
    a = np.maximum(a, 1 / v)
    miss = 1 - a
    entropy = -a * np.log2(a) - miss * np.log2(np.where(miss > 0, miss, 1.0))
    return np.asarray(np.maximum(np.log2(v) - entropy - miss * np.log2(v - 1), 0.0))


def state_bits(accuracy: float, pairs: int, vocab: int, distinct: bool = False) -> float:
    """The least state for this accuracy, in bits: `C phi(a)`, less the correlation of distinct values; at least 0.

    Args:
      accuracy: `a`.
      pairs: `C`.
      vocab: `V`.
      distinct: whether the values of a sequence are distinct.
    """
    free = map_bits(pairs, vocab) - map_bits(pairs, vocab, distinct)
    return max(check.count("pairs", pairs) * float(recall_bits(accuracy, vocab)) - free, 0.0)


def accuracy_bound(bits: ArrayLike, pairs: int, vocab: int, distinct: bool = False) -> Float[np.ndarray, " ..."]:
    """No state of `b` bits recalls a larger share: the inverse of `state_bits`, by bisection.

    Args:
      bits: `b`, at least 0, any shape.
      pairs: `C`.
      vocab: `V`.
      distinct: whether the values of a sequence are distinct.
    """
    b = check.finite("bits", np.asarray(bits, dtype=np.float64))
    if (b < 0).any():
        raise check.fail("smallest bits", float(b.min()), "at least 0", "Pass sizes of states.")
    c = check.count("pairs", pairs)
    rate = (b + map_bits(c, vocab) - map_bits(c, vocab, distinct)) / c
    low, high = np.full(rate.shape, 1 / vocab), np.ones(rate.shape)
    for _ in range(60):
        middle = (low + high) / 2
        enough = recall_bits(middle, vocab) <= rate
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.asarray(np.where(rate >= np.log2(vocab), 1.0, high))


def counting_bound(bits: float, pairs: int, vocab: int) -> float:
    """`(1/C) sum_(t = 1..C) min(1, 2^b P(Bin(C, 1/V) >= t))`: for independent values, at any number of pairs.

    Derivation: the expected largest agreement of `2^b` lists with the values, and the union of events for each `t`.

    Args:
      bits: `b`, at least 0.
      pairs: `C`.
      vocab: `V`.
    """
    from scipy.special import bdtrc  # here, so that importing the package stays fast

    c, v = check.count("pairs", pairs), check.count("vocab", vocab, 2)
    tail = bdtrc(np.arange(c, dtype=np.float64), c, 1 / v)  # P(more than 0, ..., more than c - 1)
    with np.errstate(divide="ignore"):
        log_lists = check.number("bits", bits, 0.0) * np.log(2) + np.log(tail)
    return float(np.exp(np.minimum(log_lists, 0.0)).mean())


def recalled_pairs(bits: float, accuracy: float, vocab: int) -> float:
    """`b / phi(a)`: no state of `b` bits recalls more pairs of independent values with this accuracy.

    Args:
      bits: `b`, at least 0.
      accuracy: `a`, above `1/V`.
      vocab: `V`.
    """
    rate = float(recall_bits(check.number("accuracy", accuracy, 1 / vocab, 1.0), vocab))
    return np.inf if rate == 0 else check.number("bits", bits, 0.0) / rate


def guess_accuracy(law: ArrayLike) -> float:
    """The best share of right answers without reading keys: `sum_s max_i P(i, s)`, `s` what is seen instead.

    With nothing seen it is `max_i P(i)`, `1/C` if every pair is asked alike. With the place of the question seen, the
    law is `P(pair i is asked at place s) / C`, that of `toy_tasks.MQAR.slot_law` over `C`: more than `1/C` without any
    recall, for early pairs are asked sooner.

    Args:
      law: `[C, places]`, non-negative, of sum 1.
    """
    joint = check.finite("law", np.asarray(law, dtype=np.float64))
    if joint.ndim != 2 or (joint < 0).any() or abs(joint.sum() - 1) > 1e-6:
        raise check.fail("sum of law", float(joint.sum()), "1, of a matrix without negative entries", "Normalise it.")
    return float(joint.max(axis=0).sum())
