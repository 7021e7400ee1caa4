"""Which pair is asked at which slot, when the slots are drawn one after another without replacement. NumPy, float64.

The slots race: slot `g` arrives at an exponential time of rate `w_g`, and the first `C` to arrive are the draws, in
this order. Given that `g` arrives at `t`, its rank is the number of others that came before, a sum of independent
coins:

    P(draw i is slot g) = ∫ w_g e^{-w_g t} P(exactly i of the others arrived before t) dt

Derived; the integral by the trapezoidal rule in `log t`, whose error falls geometrically with the number of nodes.
"""

from __future__ import annotations

import numpy as np

STEP = 0.1  # of log t: halving it changes no entry by more than 1e-14
FIRST, LAST = 1e-17, 45.0  # before: mass `t` of an arrival at all; after: e^-45 = 3e-20 of the slowest slot


def slot_law(weights: np.ndarray, draws: int) -> np.ndarray:
    """`Float[draws, slots]`: the probability that draw `i` is slot `g`. Rows sum to one."""
    rate = np.asarray(weights, np.float64) / np.sum(weights)
    times = np.exp(np.arange(np.log(FIRST), np.log(LAST / rate.min()), STEP))
    arrived = -np.expm1(-np.outer(times, rate))
    before = _counts(arrived, draws)
    after = _counts(arrived[:, ::-1], draws)[:, ::-1]
    density = STEP * times[:, None] * rate * (1.0 - arrived)
    law = np.zeros((draws, len(rate)))
    for i in range(draws):
        for j in range(i + 1):
            law[i] += np.sum(density * before[:, :-1, j] * after[:, 1:, i - j], axis=0)
    return law


def _counts(arrived: np.ndarray, draws: int) -> np.ndarray:
    """`Float[times, slots + 1, draws]`: the probability that exactly `k` of the first `g` slots have arrived."""
    times, slots = arrived.shape
    law = np.zeros((times, slots + 1, draws))
    law[:, 0, 0] = 1.0
    for g in range(slots):
        law[:, g + 1] = law[:, g] * (1.0 - arrived[:, g, None])
        law[:, g + 1, 1:] += law[:, g, :-1] * arrived[:, g, None]
    return law
