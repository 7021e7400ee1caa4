"""What each preset trains: parity, word problems by recurrences of one layer and by transformers, swap tracking."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import toy_tasks as tt
from attnlab.attention import catalogue, softmax
from attnlab.attention import recurrent_catalogue as known
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.rules import DeltaProduct
from attnlab.models import Transformer
from attnlab.studies.dsf.experiments import on_parity
from attnlab.studies.measured import Experiment
from attnlab.studies.state_tracking import hand_built, repeated
from attnlab.studies.state_tracking.figures import figures as figures
from attnlab.training import adamw

THEORY: dict[str, Any] = {"hand_built": hand_built.hand_built, "repeated": repeated.repeated}

RECURRENT: dict[str, Any] = {
    "delta_1": known.delta_net,
    "delta_2": known.delta_net_negative,
    "product": known.delta_product,
    "ssd": known.ssd,
}
MORE: dict[str, Any] = {
    "gated_delta": known.gated_delta_net,
    "product_unit": Recurrent("delta_product_unit", DeltaProduct(2, known.GATED, 1.0), known.UNIT),
}
PARITY = {"parity_beta_1": known.delta_net, "parity_beta_2": known.delta_net_negative}
PARITY_LENGTH = 40
SWAPS = {"swap_softmax": softmax, "swap_lla": catalogue.lla}


@dataclasses.dataclass(frozen=True)
class Words:
    """Word problems at one size: letters, `D`, `H`, steps, words per step, AdamW's rate."""

    letters: int = 20
    width: int = 32
    num_heads: int = 4
    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 5e-3

    def task(self, group: str) -> tt.WordProblem:
        """Prefix products of all elements, behind a begin token."""
        return tt.WordProblem(tt.Group(group), self.letters + 1, bos=True)

    def recurrent(self, group: str, mechanism: Any) -> Experiment:
        """One layer with an MLP, no positions."""
        task = self.task(group)
        model = Transformer(
            task.vocab_size, 4 * task.length, num_heads=self.num_heads, width=self.width, positions="none",
            norm="rmsnorm", mechanism=mechanism,
        )  # fmt: skip
        return Experiment(task, model, adamw(self.learning_rate), self.steps, self.batch_size)

    def transformer(self, group: str, depth: int, rate: float = 2e-3) -> Experiment:
        """Layers of softmax attention and MLP, learned positions."""
        task = self.task(group)
        model = Transformer(
            task.vocab_size, task.length, num_layers=depth, num_heads=self.num_heads, width=self.width, norm="rmsnorm"
        )
        return Experiment(task, model, adamw(rate), self.steps, self.batch_size)

    def depths(self, groups: tuple[str, ...], depths: tuple[int, ...]) -> dict[str, Experiment]:
        """`<group>_softmax_<depth>`."""
        return {f"{group}_softmax_{depth}": self.transformer(group, depth) for group in groups for depth in depths}


def swap_tracking(mechanism: Any, steps: int, task: tt.SwapTracking) -> Experiment:
    """Two layers of two heads with MLPs, learned positions."""
    model = Transformer(
        task.vocab_size, task.length, num_layers=2, num_heads=2, width=32, norm="rmsnorm", mechanism=mechanism
    )
    return Experiment(task, model, adamw(2e-3), steps, 64)


SMOKE, LAPTOP = Words(6, 16, 2, 40, 16), Words()
EVENING = Words(width=64, steps=3000, learning_rate=3e-3)
FEW_SWAPS, SOME_SWAPS = tt.SwapTracking(3, 6), tt.SwapTracking(5, 16)


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name."""
    if preset == "smoke":
        return {"S3_delta_2": SMOKE.recurrent("S3", known.delta_net_negative)} | SMOKE.depths(("S3",), (1,))
    if preset == "paper":
        return published()
    size = {"laptop": LAPTOP, "evening": EVENING}[preset]
    mechanisms = RECURRENT if preset == "laptop" else RECURRENT | MORE
    steps = {"laptop": 200, "evening": 4000}[preset]
    found = {name: on_parity(mechanism, steps, PARITY_LENGTH) for name, mechanism in PARITY.items()}
    found |= {f"S3_{name}": size.recurrent("S3", mechanism) for name, mechanism in mechanisms.items()}
    found |= size.depths(("Z6", "S3"), (1, 2))
    if preset == "evening":
        sixty = dataclasses.replace(EVENING, letters=8, width=128, steps=5000)
        found |= {f"A5_{name}": sixty.recurrent("A5", RECURRENT[name]) for name in ("delta_2", "product")}
        found |= sixty.depths(("Z60", "A5"), (1, 2, 3))
    task = FEW_SWAPS if preset == "laptop" else SOME_SWAPS
    steps = {"laptop": 300, "evening": 6000}[preset]
    return found | {name: swap_tracking(mechanism, steps, task) for name, mechanism in SWAPS.items()}


def published() -> dict[str, Experiment]:
    """The two published recipes.

    `word-problem`: transformers of width 512, 8 heads, hidden width 2048, norms after the sum, AdamW 1e-4 with decay
    .01, batches of 512; 1M words for up to 500 epochs there, as many fresh words here. `product`: one layer, width 128,
    8 heads, 128 letters, 100 epochs of 100 000 words in batches of 2048; its schedule of rates is left out.
    """
    found = {}
    for group in ("Z60", "A4 x Z5", "A5"):
        for depth in (1, 2, 3, 4):
            task = tt.WordProblem(tt.Group(group), 25)
            model = Transformer(
                task.vocab_size, task.length, num_layers=depth, num_heads=8, width=512, mlp_width=2048,
                norm_place="post",
            )  # fmt: skip
            steps = 500 * 1_000_000 // 512
            name = f"{group.replace(' ', '')}_softmax_{depth}"
            found[name] = Experiment(task, model, adamw(1e-4, weight_decay=0.01), steps, 512)
    size = Words(128, 128, 8, 100 * 100_000 // 2048, 2048, 1e-3)
    return found | {f"S3_{name}": size.recurrent("S3", RECURRENT[name]) for name in ("delta_1", "delta_2", "product")}


# ---- measured at other lengths


def accuracy_at(lab: Any, name: str, length: int) -> np.ndarray:
    """Accuracy over sequences of so many tokens, `[S]`; the model's own parameters, without positions."""
    e = lab.experiments[name]
    model = dataclasses.replace(e.model, length=max(length, e.model.length))
    return lab.accuracy(name, task=e.task.at_length(length), model=model, sequences=256)


def lengths(lab: Any, name: str) -> tuple[int, ...]:
    """Lengths at which a run is asked: for parity 40 to 256 as published, else up to four times that of training."""
    e = lab.experiments[name]
    if isinstance(e.task, tt.Parity):
        return (PARITY_LENGTH, 80, 160, 256)
    letters = e.task.length - 1
    return tuple(times * letters + 1 for times in ((1, 2) if lab.preset == "smoke" else (1, 2, 4)))


def guess(lab: Any, name: str) -> float:
    """What a guess gets right."""
    task = lab.experiments[name].task
    return next(iter(task.plateaus.values())).accuracy
