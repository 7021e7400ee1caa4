"""Exact expectations of Bigram-Backcopy at finite length, and its stationary law: NumPy, float64, any kernel.

A trigger remembers the token before it, so the state of the chain is the current token and, at a trigger, the previous
one. With `a_i(x) = Pr[z_i = x]` for ordinary `x` and `b_i(τ, x) = Pr[z_i = τ, z_{i-1} = x]` for triggers `τ`, the plain
task obeys

    a_{i+1}(y) = Σ_x a_i(x) P(x, y) + Σ_τ b_i(τ, y),      b_{i+1}(τ, x) = a_i(x) P(x, τ).

The recursion below carries the joint law of two neighbours, which holds for the variants as well. Averages are over
the `T` input positions of a task: the unsmoothed Shakespeare chain has an absorbing cycle, so finite `T` is what
counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from toy_tasks.bigram_backcopy import BigramBackcopy


class Occupation(NamedTuple):
    """Laws over the `V0` characters and, last, bos. Position `i` is input position `i` of the task.

    `current[i, x] = Pr[z_i = x]` is `[T, V0+1]`; `pairs[i, x, y] = Pr[z_i = x, z_{i+1} = y]` is `[T, V0+1, V0+1]`.
    """

    current: np.ndarray
    pairs: np.ndarray


class ExpectedRisks(NamedTuple):
    """Nats per position, ratios of expectations over the `T` input positions (see `expected_risks`)."""

    trigger_fraction: float
    bigram: float
    bigram_code: float
    backcopy: float
    overall: float
    plateau: float
    plateau_by_trigger: dict[str, float]
    order_one: float
    unigram: float


def entropy(law: np.ndarray) -> np.ndarray:
    """`-Σ p log p` over the last axis, with `0 log 0 = 0`."""
    return np.asarray(-np.sum(law * np.log(np.where(law > 0, law, 1.0)), axis=-1))


def full_kernel(task: BigramBackcopy) -> np.ndarray:
    """`Float[V0+1, V0+1]`: the rows of the task with bos (never a successor) as the last token."""
    return np.pad(task.rows, ((0, 0), (0, 1)))


def trigger_law(task: BigramBackcopy, trigger: int) -> np.ndarray:
    """`Float[V0+1, V0+1]`: row `x` is the law of the token after `trigger` when `x` came before it."""
    kernel = full_kernel(task)
    special = kernel if task.variant == "bigram_shift" else np.eye(len(kernel))
    return task.mix_p * special + (1.0 - task.mix_p) * kernel[trigger]


def entropy_table(task: BigramBackcopy) -> np.ndarray:
    """`Float[V0+1, V0+1]`: entry `[x, y]` is the entropy of the law of the token after `y` when `x` came before it."""
    table = np.tile(entropy(task.rows), (task.num_characters + 1, 1))
    for trigger in task.triggers:
        table[:, trigger] = entropy(trigger_law(task, trigger))
    return table


def occupation(task: BigramBackcopy) -> Occupation:
    """The exact law of every input position and of every pair (input, target). Cost O(T V²)."""
    kernel = full_kernel(task)
    size = len(kernel)
    ordinary = np.isin(np.arange(size), task.triggers, invert=True)
    laws = {trigger: trigger_law(task, trigger) for trigger in task.triggers}
    joint = np.zeros((size, size))  # Pr[z_{i-1}, z_i]; before the first character stands bos, real or virtual
    joint[-1] = kernel[-1]
    pairs = [joint] if task.bos else []
    while len(pairs) < task.length:
        current = joint.sum(0)
        following = (current * ordinary)[:, None] * kernel
        for trigger, law in laws.items():
            following[trigger] = joint[:, trigger] @ law
        joint = following
        pairs.append(joint)
    stacked = np.stack(pairs)
    return Occupation(stacked.sum(2), stacked)


def expected_risks(task: BigramBackcopy) -> ExpectedRisks:
    """What the best predictors of several kinds expect to pay, in nats per position, with `T = task.length`.

    Returns:
      trigger_fraction: of the positions that are not bos.
      bigram: oracle at ordinary positions other than bos, `Σ a(x) H(P_x) / Σ a(x)`.
      bigram_code: the same with bos counted as a position of entropy `H(μ)`, as the authors' code does.
      backcopy: oracle at triggers; zero for the plain task.
      overall: oracle over all positions, with the true law of the first character.
      plateau: best predictor of the token after a trigger that sees the trigger only, `H(z_{i+1} | z_i = τ)`; for the
        plain task `Σ_τ (m_τ / f) H(a(·) P(·, τ) / m_τ)`: where the backcopy risk waits until attention is learned.
      plateau_by_trigger: the same for each trigger, by name.
      order_one: best predictor from the current token, over all positions.
      unigram: best constant predictor, over all positions.
    A quantity of triggers is NaN for a task without any.
    """
    current, pairs = occupation(task)
    size, triggers = current.shape[1], list(task.triggers)
    ordinary = np.isin(np.arange(size), [*triggers, size - 1], invert=True)
    mass, pooled = current.sum(0), pairs.sum(0)
    entropies = entropy_table(task)
    row_entropy = entropies[-1]  # triggers apart, the token before does not matter
    bigram_loss, bigram_mass = (mass * row_entropy)[ordinary].sum(), mass[ordinary].sum()
    first_loss = mass[-1] * row_entropy[-1]
    trigger_mass = mass[triggers].sum()
    before = pairs[:-1].sum(0)  # the token before an input position
    trigger_loss = sum((float(before[:, t] @ entropies[:, t]) for t in triggers), 0.0)
    by_trigger = {t: float(entropy(pooled[t] / mass[t])) if mass[t] > 0 else np.nan for t in triggers}
    waiting = sum(mass[t] * by_trigger[t] for t in triggers if mass[t] > 0)
    seen = pooled.sum(1, keepdims=True)
    order_one = mass @ entropy(np.divide(pooled, seen, out=np.zeros_like(pooled), where=seen > 0))
    return ExpectedRisks(
        trigger_fraction=float(trigger_mass / (task.length - mass[-1])) if task.length > mass[-1] else np.nan,
        bigram=_ratio(bigram_loss, bigram_mass),
        bigram_code=_ratio(bigram_loss + mass[-1] * entropy(task.marginal), bigram_mass + mass[-1]),
        backcopy=_ratio(trigger_loss, trigger_mass),
        overall=float(bigram_loss + first_loss + trigger_loss) / task.length,
        plateau=_ratio(waiting, trigger_mass),
        plateau_by_trigger={task.characters[t]: value for t, value in by_trigger.items()},
        order_one=float(order_one) / task.length,
        unigram=float(entropy(pooled.sum(0) / task.length)),
    )


def _ratio(total: float, mass: float) -> float:
    return float(total / mass) if mass > 0 else float("nan")
