"""The long run of Bigram-Backcopy: where the chain ends up, and its stationary law in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from toy_tasks.backcopy_law import entropy, occupation, trigger_law
from toy_tasks.bigram_counts import stationary

if TYPE_CHECKING:
    from toy_tasks.bigram_backcopy import BigramBackcopy


class ClosedClass(NamedTuple):
    """A set of states that the chain cannot leave: names of its ordinary characters and triggers, and the probability
    `share` that the last input position lies in it."""

    ordinary: tuple[str, ...]
    triggers: tuple[str, ...]
    share: float


class StationaryLaw(NamedTuple):
    """Long-run averages. `ordinary`, `Float[V0]`, is `Pr[z_i = x]`, set to zero at triggers; the risks are in nats."""

    ordinary: np.ndarray
    trigger_fraction: float
    bigram: float
    overall: float
    plateau: float


def closed_classes(task: BigramBackcopy) -> list[ClosedClass]:
    """The closed classes of the chain, as reached from its start; the largest first.

    A state is the current token and, at a trigger, the previous one. Cost `O(S³ log S)` with `S = V0 + k (V0 + 1)`.
    """
    size, triggers = task.num_characters + 1, list(task.triggers)
    ordinary = [x for x in range(size) if x not in triggers]
    states = [(x, -1) for x in ordinary] + [(t, x) for t in triggers for x in range(size)]
    place = {state: i for i, state in enumerate(states)}
    laws = {t: trigger_law(task, t) for t in triggers}
    reach = np.eye(len(states), dtype=np.float32)
    for (token, before), i in place.items():
        law = laws[token][before] if token in laws else task.rows[token]
        for following in np.nonzero(law)[0]:
            reach[i, place[(int(following), token if following in laws else -1)]] = 1.0
    for _ in range(int(np.ceil(np.log2(len(states))))):
        reach = (reach @ reach > 0).astype(np.float32)
    start = place[(size - 1, -1)]
    pending = {int(i) for i in np.nonzero(reach[start])[0] if (reach[i] <= reach[:, i]).all()}  # all it reaches returns
    current, pairs = occupation(task)
    found = []
    while pending:
        members = {int(i) for i in np.nonzero(reach[min(pending)])[0]}
        pending -= members
        inside = [states[i] for i in members]
        share = sum(current[-1, x] if before < 0 else pairs[-2:-1, before, x].sum() for x, before in inside)
        tokens = sorted({x for x, _ in inside})
        names = [tuple(task.characters[x] for x in tokens if x in group) for group in (ordinary, triggers)]
        found.append(ClosedClass(names[0], names[1], float(share)))
    return sorted(found, key=lambda c: -len(c.ordinary))


def absorbing_cycles(task: BigramBackcopy) -> list[ClosedClass]:
    """The closed classes with a single ordinary character `x`: only triggers follow it, and each copies it, `xτxτ…`.

    Tiny Shakespeare has one, `3␣3␣3␣…`; it holds 0.8 % of the sequences at T = 256. `smoothing` or `drop` removes it.
    """
    return [c for c in closed_classes(task) if len(c.ordinary) == 1]


def stationary_law(task: BigramBackcopy) -> StationaryLaw:
    """The stationary law of the plain task. With `s(x) = P(x → triggers)` and `c` stationary for `P(x, y) / (1 - s(x))`
    on ordinary characters, `a(x) ∝ c(x) / (1 - s(x))`, normalised by `Σ a (1 + s) = 1`; then

        trigger fraction = Σ a s,    overall = Σ a H(P_x),    plateau = Σ_τ (m_τ / f) H(a(·) P(·, τ) / m_τ).

    A very small `smoothing` only makes an absorbing cycle sticky: the stationary law is then reached long after any
    usual length (Shakespeare, 1e-4: trigger fraction .358, against .256 at T = 256). Compare with `expected_risks`.

    Raises ValueError for a variant, and for a kernel with absorbing cycles or more than one stationary law.
    """
    if task.variant != "backcopy" or task.mix_p != 1.0:
        raise ValueError(
            f"stationary_law covers the plain task; got variant={task.variant!r}, mix_p={task.mix_p}. "
            "Use backcopy_law.occupation at a large length."
        )
    ordinary = ~task.is_trigger[: task.num_characters]
    rows = task.rows[:-1][ordinary]
    stay = rows[:, ordinary].sum(1)  # 1 - s
    if (stay <= 0).any():
        character = task.characters[int(np.nonzero(ordinary)[0][np.argmin(stay)])]
        raise ValueError(
            f"Only triggers follow the character {character!r}, so that it repeats forever and there is no useful "
            f"stationary law. Use smoothing > 0 or drop={character!r}."
        )
    weight = stationary(rows[:, ordinary] / stay[:, None]) / stay
    a = weight / (weight @ (2.0 - stay))
    to_trigger = a[:, None] * rows[:, ~ordinary]
    fraction = to_trigger.sum()
    mass = to_trigger.sum(0)
    overall = a @ entropy(rows)
    waiting = mass @ entropy((to_trigger / np.where(mass > 0, mass, 1.0)).T)
    full = np.zeros(task.num_characters)
    full[ordinary] = a
    plateau = float(waiting / fraction) if fraction > 0 else float("nan")
    return StationaryLaw(full, float(fraction), float(overall / a.sum()), float(overall), plateau)
