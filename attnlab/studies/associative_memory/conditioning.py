"""Conditioning experiments through the recurrences: a trial is a token, its cue the key, its outcome the value.

The query is free at every token: head `c` asks for cue `c` alone, so that one pass gives all learning curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.attention.gates import FixedBeta, FixedDecay
from attnlab.attention.mesa import Mesa
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.rules import Delta, Hebb, Oja
from theory import catalogue
from theory.catalogue import rules
from theory.catalogue.conditioning import Experiment

RATE, RETENTION, RIDGE = 0.2, 0.9, 1.0
TRIALS, CUES = 20, 2
MOST_TRIALS = 2 * TRIALS


def a_tenth_fades(num_heads: int) -> np.ndarray:
    """Rates of a decay by .9 with every token."""
    return np.full(num_heads, -np.log(RETENTION))


class Pair(NamedTuple):
    """A mechanism and the learning rule that it should be."""

    mechanism: Recurrent
    rule: Any


SLOW = FixedBeta(RATE)
RULES = {
    "hebb": Pair(Recurrent("hebb", Hebb(beta=SLOW)), rules.Hebb(RATE)),
    "forgetting": Pair(Recurrent("forgetting", Hebb(FixedDecay(a_tenth_fades), SLOW)), rules.Hebb(RATE, RETENTION)),
    "delta": Pair(Recurrent("delta", Delta(beta=SLOW)), rules.Delta(RATE)),
    "nlms": Pair(Recurrent("nlms", Delta(beta=SLOW, normalized=True)), rules.Delta(RATE, True, 1e-6)),
    "rls": Pair(Recurrent("rls", Mesa(gated=False, ridge=RIDGE)), rules.RecursiveLeastSquares(RIDGE)),
    "oja": Pair(Recurrent("oja", Oja(beta=SLOW, unit=False)), rules.Oja(RATE)),
}
EXPERIMENTS: Mapping[str, Experiment] = {
    "acquisition": catalogue.acquisition(TRIALS),
    "extinction": catalogue.extinction(TRIALS, TRIALS),
    "blocking": catalogue.blocking(TRIALS, TRIALS),
    "blocking, control": catalogue.blocking(0, TRIALS),
    "overshadowing": catalogue.overshadowing(TRIALS),
}


@partial(jax.jit, static_argnames="mechanism")
def _answers(mechanism: Recurrent, q: Array, k: Array, v: Array) -> Array:
    return mechanism.apply({}, q, k, v).out[..., 0]


def learn(mechanism: Recurrent, experiment: Experiment) -> Float[np.ndarray, "N C"]:
    """What the mechanism answers to each cue alone, before the first trial and after each; as `catalogue.strengths`."""
    num, trials = len(experiment.salience), experiment.trials
    q, k, v = np.zeros((3, CUES, MOST_TRIALS, CUES), np.float32)  # trials that are not there show and write nothing
    cues = np.zeros((CUES, CUES))
    cues[:num, :num] = np.diag(experiment.salience)
    at = 0
    for phase in experiment.phases:
        k[:, at : at + phase.trials] = np.asarray(phase.present) @ cues[:num]
        v[:, at : at + phase.trials, 0] = phase.outcome
        at += phase.trials
    q[:] = cues[:, None, :]
    out = np.asarray(_answers(mechanism, jnp.asarray(q), jnp.asarray(k), jnp.asarray(v)))
    return np.concatenate([np.zeros((1, num)), out[:num, :trials].T])


def curves(lab: Any) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Experiment -> rule -> `measured` and `law`, `[N, C]` each."""
    return {
        title: {
            name: {"measured": learn(pair.mechanism, e), "law": catalogue.strengths(pair.rule, e)}
            for name, pair in RULES.items()
        }
        for title, e in EXPERIMENTS.items()
    }


def findings(lab: Any) -> dict[str, float]:
    """`rule.law`: largest distance from the law, all experiments; and the four effects as numbers of the mechanisms.

    `rule.kept`: strength left after extinction, over what was learned. `rule.blocked`: of B, over that of its control.
    `rule.shared`: strength of the weaker cue after overshadowing, over what it had alone.
    """
    told = lab.theory("conditioning")
    found: dict[str, float] = {}
    for name, pair in RULES.items():
        rows = [by_rule[name] for by_rule in told.values()]
        found[f"{name}.law"] = max(float(np.max(np.abs(row["measured"] - row["law"]))) for row in rows)
        learned = told["extinction"][name]["measured"][:, 0]
        found[f"{name}.kept"] = float(learned[-1] / learned[TRIALS])
        blocked, control = (told[e][name]["measured"][-1, 1] for e in ("blocking", "blocking, control"))
        found[f"{name}.blocked"] = float(blocked / control)
        alone = learn(pair.mechanism, catalogue.overshadowing(TRIALS, (0.0, 0.5)))[-1, 1]
        found[f"{name}.shared"] = float(told["overshadowing"][name]["measured"][-1, 1] / alone)
    return found
