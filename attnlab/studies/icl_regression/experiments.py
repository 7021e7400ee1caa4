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


@dataclass(frozen=True)
class Experiment:
    """One training run of a preset (over all its seeds).

    Attributes:
      task, model, optimizer: what is trained on what, how.
      steps, batch_size: updates, prompts per update.
      dense: number of steps (evenly in log) at which the pattern of the heads is recorded.
      sparse: number of steps at which parameters are recorded.
      most_seeds: it is trained for no more seeds than this; None = for all of the study.
    """

    task: tt.LinearRegression
    model: Any
    optimizer: Optimizer
    steps: int
    batch_size: int = 256
    dense: int = 200
    sparse: int = 60
    most_seeds: int | None = None

    @property
    def microbatch(self) -> int | None:
        """Small prompts stay in the cache as they are: no partial gradients. The transformer goes by the rule."""
        return None if isinstance(self.model, Transformer) else self.batch_size

    def record(self) -> dict[str, Any]:
        """Parameters, and for models of one layer of heads their pattern."""
        found: dict[str, Any] = {"params": log_spaced(self.sparse)}
        if isinstance(self.model, RegressionAttention):
            found["patterns"] = log_spaced(self.dense, analysis.head_patterns())
        return found


def neighbour_covariance() -> np.ndarray:
    """`Sigma_ij = 0.5^|i-j|`, the non-isotropic covariance of the authors' helper."""
    place = np.arange(DIM)
    return 0.5 ** np.abs(place[:, None] - place[None, :])


def heads(num_heads: int, steps: int, **task: Any) -> Experiment:
    """He et al.'s setting with `num_heads` heads: Adam 1e-3, batch 256, torch's start."""
    law = tt.LinearRegression(DIM, CONTEXT, NOISE, **task)
    return Experiment(law, RegressionAttention(DIM, num_heads), adam(1e-3), steps)


def multi_task(num_heads: int, steps: int) -> Experiment:
    """The two tasks with overlapping supports."""
    law = tt.LinearRegression.multi_task()
    return Experiment(law, RegressionAttention(law.dim, num_heads, law.num_outputs), adam(1e-3), steps)


def zhang(steps: int) -> Experiment:
    """Zhang et al.'s setting: noiseless, `beta ~ N(0, I)`, anisotropic inputs, one layer of linear attention."""
    covariance = np.diag(np.linspace(0.5, 2.0, DIM))
    law = tt.LinearRegression(
        DIM, LINEAR_CONTEXT, 0.0, noisy_query=False, covariance=covariance, prior_covariance=1.0, layout="masked_key"
    )
    model = LinearAttention(DIM, start="zhang", scale=0.3, query_is_key=True, read=1)
    return Experiment(law, model, adam(1e-3), steps)


def unnormalised(steps: int) -> Experiment:
    """Linear attention whose sum over the context is divided by the training length, whatever the prompt's."""
    law = tt.LinearRegression(DIM, CONTEXT, NOISE)
    return Experiment(law, LinearAttention(DIM, rho=float(CONTEXT), start="zhang", scale=0.3), adam(3e-3), steps)


def von_oswald(steps: int, batch_size: int = 256) -> Experiment:
    """One layer of von Oswald et al.: no normalisation, initial values of variance .002 / fan-in."""
    law = tt.LinearRegression.von_oswald()
    model = LinearAttention(law.dim, form="separate", rho="none", start="scaled", scale=0.002)
    return Experiment(law, model, adam(1e-3, b2=0.98), steps, batch_size)


def garg(dim: int, points: int, steps: int, layers: int, width: int, num_heads: int) -> Experiment:
    """The GPT-style stack of Garg et al. on all prefixes of noiseless regression, without their curriculum.

    Every matrix starts as `torch.nn.Linear` does. Theirs do at both ends, N(0, .02^2) inside; with that everywhere the
    toy was still at .8 of the trivial loss after 3,000 steps.
    """
    law = tt.LinearRegression.garg(dim, points)
    model = Transformer(
        vocab_size=None,
        length=law.length,
        input_dim=law.width,
        output_dim=1,
        num_layers=layers,
        num_heads=num_heads,
        width=width,
        activation="gelu",
        embed_std=0.02,
    )
    return Experiment(law, model, adam(1e-3 if dim == 5 else 1e-4), steps, batch_size=64, most_seeds=2)


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name."""
    covariance = neighbour_covariance()
    if preset == "smoke":
        small = {
            "two_heads": heads(2, 60),
            "one_head": heads(1, 60),
            "four_heads": heads(4, 60),
            "anisotropic": heads(2, 60, covariance=covariance),
            "zhang": zhang(60),
            "unnormalised": unnormalised(60),
        }
        return {name: replace(e, batch_size=32, dense=20, sparse=8) for name, e in small.items()}
    if preset == "laptop":
        return {
            "two_heads": heads(2, 10_000),
            "one_head": heads(1, 5_000),
            "four_heads": heads(4, 20_000),
            "eight_heads": heads(8, 20_000),
            "anisotropic": heads(2, 10_000, covariance=covariance),
            "shifted_two": heads(2, 10_000, mean=1.0),
            "shifted_four": heads(4, 10_000, mean=1.0),
            "zhang": zhang(8_000),
            "unnormalised": unnormalised(4_000),
            "von_oswald": von_oswald(4_000),
        }
    if preset == "evening":
        return {
            "two_heads_long": heads(2, 100_000),
            "multi_two": multi_task(2, 10_000),
            "multi_three": multi_task(3, 20_000),
            "multi_four": multi_task(4, 20_000),
            "garg_toy": garg(5, 11, 5_000, 3, 64, 2),
        }
    return {
        **{f"published_{h}": heads(h, 500_000) for h in (1, 2, 4, 8)},
        **{f"published_multi_{h}": multi_task(h, 500_000) for h in (3, 4)},
        "von_oswald_full": von_oswald(5_000, 2048),
        "garg_toy": garg(5, 11, 5_000, 3, 64, 2),
        "garg_standard": garg(20, 41, 500_000, 12, 256, 8),
    }
