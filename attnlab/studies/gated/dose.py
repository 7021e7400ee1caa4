"""Dose and response: the risks of a trained model whose gate is held at one value for every query."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import tape
from attnlab.analysis import evaluation_batch

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0)
_ATTN = "blocks.0.attn"


def held(model: Any, params: Any, task: Any, gated: bool, batch_size: int) -> dict[str, Any]:
    """Risks with the gate held at each of `DOSES`, `[N]`, and as trained, `[]`.

    A head without a gate is given one on its output: held at 1 it is as trained.
    """
    batch = evaluation_batch(task, batch_size)

    def risks(edits: tuple[Any, ...]) -> dict[str, Any]:
        found = task.risks(model.apply(params, batch.inputs, edits=edits)[0], batch)
        return {name: found[name] for name in ("excess_bigram", "excess_backcopy")}

    def at(dose: Any) -> dict[str, Any]:
        hold = tape.replace(f"{_ATTN}.gate", dose) if gated else tape.scale(f"{_ATTN}.head_out", dose)
        return risks((hold,))

    free = risks(())
    return jax.lax.map(at, jnp.asarray(DOSES)) | {f"{name}_free": value for name, value in free.items()}


def response(lab: Any, name: str) -> dict[str, np.ndarray]:
    """`held` of every seed of a trained run: `[S, N]` and `[S]`."""
    task, gated = lab.experiments[name].task, name != "softmax"
    return lab.probe(name, lambda model, params: held(model, params, task, gated, 128), label="dose")


def rise(name: str, dose: float, which: str = "excess_bigram") -> Any:
    """How much higher a risk is with the gate held at `dose`, nats: a measure `lab -> [S]`."""

    def measure(lab: Any) -> np.ndarray:
        found = response(lab, name)
        return found[which][:, DOSES.index(dose)] - found[f"{which}_free"]

    return measure
