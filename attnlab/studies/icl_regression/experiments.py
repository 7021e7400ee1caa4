"""What each preset trains: task, model, optimizer, steps, and what is recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import toy_tasks as tt
from attnlab import analysis
from attnlab.models import LinearAttention, RegressionAttention, Transformer
from attnlab.training import adam, log_spaced
from attnlab.training.optimizers import Optimizer

DIM, CONTEXT, NOISE = 5, 40, 0.1  # of He et al.'s main figures
LINEAR_CONTEXT = 20
LINEAR_COVARIANCE = np.diag(np.linspace(0.5, 2.0, DIM))


@dataclass(frozen=True)
class Experiment:
    """One training run of a preset (over all its seeds).

    Attributes:
      task, model, optimizer: what is trained on what, how.
      steps, batch_size: updates, prompts per update.
      dense: number of steps (evenly in log) at which head patterns are recorded.
      sparse: number of steps at which parameters are recorded.
      microbatch: prompts per partial gradient. All of them: a batch of small prompts stays in the cache as it is.
    """

    task: tt.LinearRegression
    model: Any
    optimizer: Optimizer
    steps: int
    batch_size: int = 256
    dense: int = 200
    sparse: int = 60

    @property
    def microbatch(self) -> int | None:
        return self.batch_size

    def record(self) -> dict[str, Any]:
        """The records of the run: parameters, and for models of one attention layer the pattern of their heads."""
        found: dict[str, Any] = {"params": log_spaced(min(self.sparse, self.steps))}
        if isinstance(self.model, RegressionAttention):
            found["patterns"] = log_spaced(min(self.dense, self.steps), analysis.head_patterns())
        return found


def two_point_five() -> np.ndarray:
    """`Sigma_ij = 0.5^|i-j|`, the non-isotropic covariance of the authors' helper."""
    place = np.arange(DIM)
    return 0.5 ** np.abs(place[:, None] - place[None, :])


def heads(num_heads: int, steps: int, rate: float = 1e-3, **task: Any) -> Experiment:
    """He et al.'s setting with `num_heads` heads: Adam 1e-3, batch 256, torch's start."""
    law = tt.LinearRegression(DIM, CONTEXT, NOISE, **task)
    return Experiment(law, RegressionAttention(DIM, num_heads), adam(rate), steps)


def multi_task(num_heads: int, steps: int) -> Experiment:
    """The two tasks with overlapping supports."""
    law = tt.LinearRegression.multi_task()
    return Experiment(law, RegressionAttention(law.dim, num_heads, law.num_outputs), adam(1e-3), steps)
