"""What a Bigram-Backcopy task must satisfy. A complaint names the field, its value, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from toy_tasks.bigram_backcopy import BigramBackcopy

ROW_TOLERANCE = 1e-6  # a row given in float32 sums to one within a few times 6e-8


def checked_matrix(transition: np.ndarray) -> np.ndarray:
    """`transition` as float64. Raises ValueError if it is not a square row-stochastic matrix."""
    matrix = np.asarray(transition, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(f"transition has shape {matrix.shape}; it must be square, [V0, V0] with V0 >= 2.")
    wrong = matrix[~(np.isfinite(matrix) & (matrix >= 0))]
    if wrong.size:
        raise ValueError(f"transition has the entry {wrong[0]}; entries must be finite and >= 0.")
    sums = matrix.sum(1)
    worst = int(np.argmax(np.abs(sums - 1.0)))
    if abs(sums[worst] - 1.0) > ROW_TOLERANCE:
        raise ValueError(
            f"transition is not row-stochastic: row {worst} sums to {sums[worst]:.6g}, it must sum to 1. "
            "Divide counts by their row sums: P = counts / counts.sum(1, keepdims=True)."
        )
    return matrix


def trigger_ids(
    triggers: Sequence[str | int] | None, num_triggers: int, characters: tuple[str, ...], marginal: np.ndarray
) -> tuple[int, ...]:
    """Ids of the triggers given by name or id, or the `num_triggers` of largest marginal, the most frequent first."""
    if triggers is None:
        if not 0 <= num_triggers < len(characters):
            raise ValueError(
                f"num_triggers is {num_triggers}; it must be in 0..{len(characters) - 1} for {len(characters)} "
                "characters (at least one must stay ordinary)."
            )
        return tuple(int(i) for i in np.argsort(-marginal, kind="stable")[:num_triggers])
    for trigger in triggers:
        if isinstance(trigger, str) and trigger not in characters:
            raise ValueError(
                f"triggers names {trigger!r}, which is not in the vocabulary; allowed: characters of "
                f"{''.join(characters)!r}."
            )
    return tuple(characters.index(t) if isinstance(t, str) else int(t) for t in triggers)


def check(task: BigramBackcopy) -> None:
    """Raise ValueError for the first thing that is wrong with `task`."""
    size = len(checked_matrix(task.transition))
    if len(task.characters) != size or len(set(task.characters)) != size:
        raise ValueError(
            f"characters has {len(task.characters)} names, {len(set(task.characters))} of them distinct; the matrix "
            f"needs {size} distinct names."
        )
    _check_marginal(task.marginal, size)
    _check_triggers(task, size)
    if isinstance(task.length, bool) or not isinstance(task.length, (int, np.integer)) or task.length < 1:
        raise ValueError(f"length is {task.length!r}; it must be an integer >= 1, the number of input positions T.")
    for name, value in (("smoothing", task.smoothing), ("mix_p", task.mix_p)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value!r}; it must be a number in [0, 1].")
    for name, value, allowed in (
        ("variant", task.variant, ("backcopy", "bigram_shift")),
        ("first_token", task.first_token, ("ordinary", "marginal")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}.")
    if task.first_token == "marginal" and task.triggers and not (task.variant == "bigram_shift" and task.bos):
        raise ValueError(
            "first_token is 'marginal', so that a trigger may come first with no character before it; that is "
            f"allowed only with variant='bigram_shift' and bos=True (got {task.variant!r}, {task.bos}). "
            "Use first_token='ordinary'."
        )
    _check_reachable(task)


def _check_marginal(marginal: np.ndarray, size: int) -> None:
    if marginal.shape != (size,) or not np.isfinite(marginal).all() or (marginal < 0).any():
        raise ValueError(f"marginal has shape {marginal.shape}; it must hold {size} finite numbers >= 0.")
    if abs(marginal.sum() - 1.0) > ROW_TOLERANCE:
        raise ValueError(f"marginal sums to {marginal.sum():.6g}; it must sum to 1. Divide it by its sum.")


def _check_triggers(task: BigramBackcopy, size: int) -> None:
    for trigger in task.triggers:
        if not 0 <= trigger < size:
            raise ValueError(f"triggers has the id {trigger}; allowed: 0..{size - 1}, ids of characters.")
    if len(set(task.triggers)) != len(task.triggers):
        names = [task.characters[t] for t in task.triggers]
        raise ValueError(f"triggers repeats itself: {names}; name each trigger once.")
    if len(task.triggers) == size:
        raise ValueError(f"triggers holds all {size} characters; at least one must stay ordinary. Take fewer triggers.")
    if task.first_token == "ordinary" and np.delete(task.marginal, task.triggers).sum() <= 0.0:
        raise ValueError(
            "marginal gives no mass to any ordinary character, so nothing can come first. Take fewer triggers."
        )


def _check_reachable(task: BigramBackcopy) -> None:
    plain_rows = np.delete(task.rows, task.triggers, axis=0) if task.mix_p == 1.0 else task.rows
    for trigger in task.triggers:
        if plain_rows[:, trigger].sum() == 0.0:
            raise ValueError(
                f"triggers has {task.characters[trigger]!r}, which no ordinary character leads to: it would never "
                "occur. Name another trigger, or use smoothing > 0."
            )
