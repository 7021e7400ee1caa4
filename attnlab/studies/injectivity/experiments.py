"""What each preset trains: kernels divided by their sum or centred (InLine), and the ladder from uniform to softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import toy_tasks as tt
from attnlab.attention import Mechanism
from attnlab.models import Transformer
from attnlab.studies.injectivity.asked_last import AskedLast
from attnlab.studies.injectivity.figures import figures as figures
from attnlab.studies.injectivity.heads import head_injectivity
from attnlab.studies.injectivity.mechanisms import LADDER, RECALL
from attnlab.studies.injectivity.theory_side import THEORY as THEORY
from attnlab.studies.measured import Experiment
from attnlab.training import adamw, log_spaced


@dataclass(frozen=True)
class Scale:
    """A size: paired recall and in-context regression, width and heads, steps, batch, learning rates."""

    recall: tt.PairedRecall
    regression: AskedLast
    width: int
    heads: int
    steps: int
    regression_steps: int
    batch_size: int = 32
    rate: float = 4e-3
    regression_rate: float = 4e-3

    def recalls(self, mechanism: Mechanism) -> Experiment:
        """Paired recall by one layer of attention alone, without positions."""
        model = Transformer(
            vocab_size=self.recall.vocab_size,
            length=self.recall.length,
            input_dim=self.recall.width,
            width=self.width,
            num_heads=self.heads,
            positions="none",
            no_mlp=(0,),
            mechanism=mechanism,
        )
        records = {"heads": log_spaced(16, head_injectivity(self.recall))}
        return Experiment(self.recall, model, adamw(self.rate), self.steps, self.batch_size, records)

    def regresses(self, mechanism: Mechanism) -> Experiment:
        """Linear regression by one head of one layer that reads the vectors as they are."""
        task = self.regression
        model = Transformer(
            length=task.length,
            input_dim=task.width,
            output_dim=1,
            width=16,
            positions="none",
            norm="none",
            final_norm=False,
            no_mlp=(0,),
            mechanism=mechanism,
        )
        return Experiment(task, model, adamw(self.regression_rate), self.regression_steps, 64)


def runs(scale: Scale, recall: dict[str, Any], ladder: dict[str, Any]) -> dict[str, Experiment]:
    """`recall X` and `regression X`."""
    found = {f"recall {name}": scale.recalls(mechanism) for name, mechanism in recall.items()}
    return found | {f"regression {name}": scale.regresses(mechanism) for name, mechanism in ladder.items()}


def regression(dim: int, context: int) -> AskedLast:
    """Labels without noise, the query last: what is left of the risk is what the layer cannot do."""
    return AskedLast(tt.LinearRegression(dim, context, noise_variance=0.0, layout="masked_key"))


SMOKE = Scale(
    tt.PairedRecall(8, 8, 4), regression(2, 4), width=16, heads=2, steps=60, regression_steps=40, batch_size=8
)
LAPTOP = Scale(tt.PairedRecall(32, 32, 8), regression(5, 20), width=32, heads=2, steps=1000, regression_steps=1500)
EVENING = Scale(tt.PairedRecall(), regression(5, 40), width=64, heads=4, steps=4000, regression_steps=4000)


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name."""
    if preset == "smoke":
        return runs(SMOKE, {name: RECALL[name] for name in ("softmax", "inline")}, {"inline": LADDER["inline"]})
    return runs(LAPTOP if preset == "laptop" else EVENING, RECALL, LADDER)
