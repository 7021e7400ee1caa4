"""What is measured on trained models of any task, on fresh sequences: for a lab, a comparison and a sweep alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import analysis, keys
from attnlab.training import Run, losses

SEQUENCES, AT_ONCE = 1024, 64  # behind every risk and accuracy; evaluated so many at once


def on_fresh(
    task: Any,
    model: Any,
    params: Any,
    measure: Callable[..., Any],
    *,
    edits: Any = (),
    sequences: int = SEQUENCES,
    at_once: int = AT_ONCE,
) -> Any:
    """Mean over fresh batches of `measure(task, output, batch) -> tree`, for every seed: leaves `[S, ...]`, NumPy.

    The batches are those of the stream `fresh` of root 0, the same for every seed and model.

    Args:
      params: leaves `[S, ...]`. edits: that hold while it is measured.
      sequences: how many. at_once: how many of them at a time (fewer where they are long).
    """
    roots = [keys.stream(keys.root(0), "fresh", number) for number in range(max(1, sequences // at_once))]

    def of_seed(params: Any) -> Any:
        def one(key: Any) -> Any:
            batch = task.sample(key, at_once)
            return measure(task, model.apply(params, batch.inputs, edits=edits)[0], batch)

        return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.lax.map(one, jnp.stack(roots)))

    return jax.device_get(jax.jit(lambda p: jax.lax.map(of_seed, p))(params))


# ---- measures of one batch


def counted(values: Any, batch: Any) -> Any:
    """Mean of `[B, T]` over the places that the loss counts."""
    return jnp.sum(values * batch.loss_mask) / losses.total_weight(batch)


def loss(task: Any, output: Any, batch: Any) -> Any:
    """The natural loss of the task."""
    return counted(losses.natural(task)(output, batch), batch)


def accuracy(task: Any, output: Any, batch: Any) -> Any:
    """Share of the counted places whose most probable token is the target."""
    return counted(jnp.argmax(output, axis=-1) == batch.targets, batch)


def oracle_gap(task: Any, output: Any, batch: Any) -> Any:
    """Loss above that of the exact oracle on the same sequences, in nats."""
    best = jnp.log(jnp.maximum(task.oracle(batch), 1e-30))
    return counted(losses.next_token(output, batch) - losses.next_token(best, batch), batch)


def usual(task: Any, output: Any, batch: Any) -> dict[str, Any]:
    """All that the task defines of `loss`, `accuracy` and `oracle_gap`."""
    measures = {"loss": loss}
    if hasattr(task, "vocab_size"):
        measures["accuracy"] = accuracy
        if hasattr(task, "oracle"):
            measures["oracle_gap"] = oracle_gap
    return {name: measure(task, output, batch) for name, measure in measures.items()}


# ---- of a run


def plateau_of(task: Any) -> float | None:
    """The highest named plateau of the task, else `log V`, else None."""
    named = getattr(task, "plateaus", {})
    heights = [float(p.loss) for p in named.values()]
    if heights:
        return max(heights)
    size = getattr(task, "vocab_size", None)
    return None if size is None else float(np.log(size))


def left_plateau(run: Run, plateau: float, share: float = 0.1) -> np.ndarray:
    """When the training loss is below `(1 - share) plateau` for three records in a row; NaN if never. `[S]`"""
    trajectory = run.trajectory
    steps, curves = np.asarray(trajectory.steps("loss")), np.asarray(trajectory["loss"])
    return analysis.steps_to_leave(steps, curves, plateau, share=share, sustained=3)


@dataclass(frozen=True)
class Measures:
    """What a sweep measures on a finished run, quantity -> `[S]`: `loss`, `accuracy`, `oracle_gap`, every risk of the
    task as `risk_...`, and `left_plateau`; what the task does not define is left out. Edits of the training hold.

    Attributes:
      plateau: height of the loss before anything is learned; None = `plateau_of` the task.
      sequences: how many fresh sequences are behind each number.
    """

    plateau: float | None = None
    sequences: int = SEQUENCES

    def __call__(self, run: Run) -> dict[str, np.ndarray]:
        c = run.config

        def all_of(task: Any, output: Any, batch: Any) -> dict[str, Any]:
            found = usual(task, output, batch) | {"loss": counted(c.loss(output, batch), batch)}
            risks = task.risks(output, batch) if hasattr(task, "risks") else {}
            return found | {f"risk_{name}": value for name, value in risks.items()}

        at_once = min(AT_ONCE, self.sequences)
        found = on_fresh(c.task, c.model, run.params, all_of, edits=c.edits, sequences=self.sequences, at_once=at_once)
        level = plateau_of(c.task) if self.plateau is None else self.plateau
        return found if level is None else {**found, "left_plateau": left_plateau(run, level)}
