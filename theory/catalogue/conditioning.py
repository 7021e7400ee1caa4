"""Conditioning experiments on an associative memory: associative strength of each cue, trial by trial.

    acquisition     A -> outcome                                  a cue is learned
    extinction      A -> outcome, then A -> nothing               and unlearned
    blocking        A -> outcome, then A and B -> outcome         what A explains, B does not learn
    overshadowing   A and B -> outcome                            the cue of more salience takes more of it

Cues are orthogonal vectors whose norm is their salience `s`; a compound is their sum; the strength of a cue is what the
memory answers to it alone, `V_A = S^T k_A`. With salience 1 and an outcome 1 the Rescorla-Wagner rule (delta) gives

    acquisition     V_A = 1 - (1 - b)^m
    extinction      V_A = (1 - (1 - b)^m) (1 - b)^l
    blocking        V_B = (1 - b)^m (1 - (1 - 2 b)^l) / 2,        without the first phase (1 - (1 - 2 b)^l) / 2
    overshadowing   V_A = s_A^2 / (s_A^2 + s_B^2) (1 - (1 - b (s_A^2 + s_B^2))^m)

and Hebb's rule none of the last three: `V` grows by `b s^2` with every trial that shows the cue with the outcome.

Source: arXiv 2508.08289 for the reading; all curves follow from the rules of `theory.catalogue.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.base import Prediction
from theory.catalogue.rules import Rule
from theory.references import PAVLOVIAN


class Phase(NamedTuple):
    """Equal trials in a row.

    Attributes:
      present: for each cue of the experiment, how much of it is shown: 1 or 0.
      outcome: its size; 0 for none.
      trials: how many.
    """

    present: tuple[float, ...]
    outcome: float
    trials: int


@dataclass(frozen=True)
class Experiment:
    """Phases of trials.

    Attributes:
      name: of the experiment.
      salience: of each cue, its norm.
      phases: in order.

    Raises:
      ValueError: if a phase does not say of every cue whether it is shown.
    """

    name: str
    salience: tuple[float, ...]
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        for phase in self.phases:
            check.vector("phase.present", phase.present, len(self.salience))
            check.number("phase.outcome", phase.outcome)
            check.count("phase.trials", phase.trials, 0)

    @property
    def trials(self) -> int:
        """All of them."""
        return sum(phase.trials for phase in self.phases)


def acquisition(trials: int = 20, outcome: float = 1.0) -> Experiment:
    """A with the outcome."""
    return Experiment("acquisition", (1.0,), (Phase((1.0,), outcome, trials),))


def extinction(trials: int = 20, without: int = 20, outcome: float = 1.0) -> Experiment:
    """A with the outcome, then A alone."""
    return Experiment("extinction", (1.0,), (Phase((1.0,), outcome, trials), Phase((1.0,), 0.0, without)))


def blocking(alone: int = 20, together: int = 20, outcome: float = 1.0) -> Experiment:
    """A with the outcome, then A and B with the outcome; `alone = 0` is the control group."""
    phases = (Phase((1.0, 0.0), outcome, alone), Phase((1.0, 1.0), outcome, together))
    return Experiment("blocking", (1.0, 1.0), phases)


def overshadowing(trials: int = 20, salience: tuple[float, float] = (1.0, 0.5), outcome: float = 1.0) -> Experiment:
    """A and B together with the outcome, A of more salience than B."""
    return Experiment("overshadowing", salience, (Phase((1.0, 1.0), outcome, trials),))


def strengths(rule: Rule, experiment: Experiment) -> Float[np.ndarray, "N C"]:
    """What the memory answers to each cue alone, before the first trial and after each.

    Args:
      rule: a rule of `theory.catalogue.rules`, or any with `start` and `after`.
      experiment: of `C` cues.

    Returns:
      `[N, C]`, `N` one more than the number of trials.
    """
    cues = np.diag(check.vector("salience", experiment.salience))
    memory = rule.start(cues.shape[0], 1)
    answers = [(cues @ memory.S)[:, 0]]
    for phase in experiment.phases:
        cue, outcome = np.asarray(phase.present) @ cues, np.array([phase.outcome])
        past = [rule.after(memory, cue, outcome, m + 1) for m in range(phase.trials)]
        answers += [(cues @ later.S)[:, 0] for later in past]
        memory = past[-1] if past else memory
    return np.array(answers)


def predict_conditioning(rule: Rule, experiment: Experiment) -> Prediction:
    """`strengths` as a curve: steps are trials, values `[N, C]`.

    Args: as for `strengths`.
    """
    values = strengths(rule, experiment)
    assumptions = (
        "steps are trials, 0 before the first",
        "cues are orthogonal, a compound is their sum, the memory starts empty",
        f"rule: {rule!r}",
    )
    name = f"associative strength in {experiment.name}"
    return Prediction(name, np.arange(values.shape[0]), values, None, PAVLOVIAN, assumptions)


def rescorla_wagner(experiment: Experiment, rate: float) -> Float[np.ndarray, " C"]:
    """Strengths at the end of an experiment under the delta rule, by the formulas above and no memory.

        in every phase: V_i += s_i^2 (outcome - V) (1 - (1 - b s^2)^m) / s^2,   V = sum of V_i shown, s^2 = sum of s_i^2

    Args:
      experiment: of `C` cues.
      rate: `b`.

    Returns:
      `[C]`.
    """
    weight = check.vector("salience", experiment.salience) ** 2
    answer = np.zeros_like(weight)
    for phase in experiment.phases:
        shown = np.asarray(phase.present)
        total = float(shown**2 @ weight)
        if total > 0:
            learned = (1 - (1 - check.number("rate", rate) * total) ** phase.trials) / total
            answer = answer + shown * weight * (phase.outcome - shown @ answer) * learned
    return answer


def blocking_ratio(rule: Rule, alone: int = 20, together: int = 20) -> float:
    """`V_B` after blocking, divided by `V_B` of the control group: 1 for no blocking, 0 for complete.

    Args:
      rule: as for `strengths`.
      alone: trials with A.
      together: trials with A and B, at least 1.
    """
    check.count("together", together)
    blocked, control = (strengths(rule, blocking(first, together))[-1, 1] for first in (alone, 0))
    if control == 0:
        raise check.fail("rule", rule, "one that learns from a compound", "Choose another rule or more trials.")
    return float(blocked / control)


def retained(rule: Rule, trials: int = 20, without: ArrayLike = 20) -> Float[np.ndarray, " ..."]:
    """The share of the strength of A that is left after trials without the outcome: `(1 - b)^l` under the delta rule,
    `a^l` under Hebb's with forgetting, 1 under Oja's, `1 / (1 + l / (lambda + m))` under recursive least squares.

    Args:
      rule: as for `strengths`.
      trials: `m`, with the outcome.
      without: `l`, any shape.
    """
    left = check.whole("without", without, 0)
    curve = strengths(rule, extinction(trials, int(left.max())))[check.count("trials", trials) :, 0]
    if curve[0] == 0:
        raise check.fail("rule", rule, "one that learns", "Choose another rule or more trials.")
    return np.asarray((curve / curve[0])[left.astype(int)])
