"""What each preset trains: multi-query recall by two plain layers, by one behind a convolution, by many mechanisms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import toy_tasks as tt
from attnlab import analysis
from attnlab.attention import recurrent_catalogue as known
from attnlab.attention import softmax
from attnlab.models import Transformer
from attnlab.studies.associative_recall.figures import figures as figures
from attnlab.studies.associative_recall.memory import stacked, state_bytes
from attnlab.studies.measured import Experiment
from attnlab.training import adamw, at, log_spaced

THEORY = {"stacked": stacked, "state_bytes": state_bytes}

MIXERS: dict[str, Any] = {
    "softmax": softmax,
    "window_16": softmax,
    "taylor": known.taylor,
    "gated_delta": known.gated_delta_net,
    "delta": known.delta_net,
    "ssd": known.ssd,
    "linear": known.identity_kernel,
}
"""The table's rows; `window_16` sees the last 16 tokens."""

TABLE_WIDTH, TABLE_RATE = 16, 1e-2  # small enough a state to be filled; at 3e-3 softmax waits long with 12 pairs
EARLY = (500, 1000)  # steps at which the plateau of two plain layers is looked at


@dataclass(frozen=True)
class Size:
    """Vocabulary, `T`, sequences per step."""

    vocab_size: int = 256
    length: int = 64
    batch_size: int = 64

    def task(self, pairs: int) -> tt.MQAR:
        """Multi-query recall of so many pairs, fillers 0."""
        return tt.MQAR(self.vocab_size, self.length, pairs, fillers="zero")

    def behind_convolution(self, pairs: int, name: str, width: int, steps: int, rate: float = 3e-3) -> Experiment:
        """One layer, one head, no MLP, no positions; a causal convolution of width 3 on queries, keys and values."""
        task = self.task(pairs)
        model = Transformer(
            task.vocab_size,
            task.length,
            width=width,
            no_mlp=(0,),
            positions="none",
            short_conv=3,
            window=16 if name == "window_16" else None,
            mechanism=MIXERS[name],
        )
        records = (
            {"heads": log_spaced(24, analysis.copying_heads(task, 64, asked="query"))} if name == "softmax" else {}
        )
        return Experiment(task, model, adamw(rate), steps, self.batch_size, records)

    def two_layers(self, pairs: int, width: int, steps: int, rate: float = 1e-3) -> Experiment:
        """Two layers of one head, learned positions, no MLP, no convolution."""
        task = self.task(pairs)
        model = Transformer(task.vocab_size, task.length, num_layers=2, width=width, no_mlp=(0, 1))
        records = {
            "heads": log_spaced(60, analysis.copying_heads(task, 64, asked="query")),
            "params": at([*(step for step in EARLY if step < steps), steps]),
        }
        return Experiment(task, model, adamw(rate), steps, self.batch_size, records)

    def table(
        self, pairs: tuple[int, ...], names: tuple[str, ...], width: int, steps: int, rate: float = TABLE_RATE
    ) -> dict[str, Experiment]:
        """`name_pairs` for every mechanism and number of pairs."""
        return {f"{name}_{n}": self.behind_convolution(n, name, width, steps, rate) for name in names for n in pairs}


SMOKE = Size(16, 16, 8)
LAPTOP = Size()
PAIRS = (4, 8, 12, 16)
LATER = ("taylor", "gated_delta")  # only at evening: the dearest two


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name."""
    if preset == "smoke":
        return {"plain": SMOKE.two_layers(2, 16, 40), **SMOKE.table((2,), ("softmax", "linear"), 16, 40)}
    if preset == "paper":
        return published()
    found = {
        "hybrid": LAPTOP.behind_convolution(4, "softmax", 64, 600),
        "plain": LAPTOP.two_layers(4, 64, 2000 if preset == "laptop" else 6000),
        "capacity_softmax": LAPTOP.behind_convolution(8, "softmax", 32, 1000),
        "capacity_linear": LAPTOP.behind_convolution(8, "linear", 32, 1000 if preset == "laptop" else 3000),
    }
    if preset == "evening":
        return found | LAPTOP.table(PAIRS, tuple(MIXERS), TABLE_WIDTH, 3000)
    many = tuple(name for name in MIXERS if name not in LATER)
    return found | LAPTOP.table((12,), many, TABLE_WIDTH, 1000) | LAPTOP.table((4,), ("linear",), TABLE_WIDTH, 1000)


def published() -> dict[str, Experiment]:
    """Figure 2 of Zoology for attention: two layers, one head, learned positions, tied embeddings, no MLP.

    Its 64 epochs of 100 000 sequences, as fresh sequences; batch 512 (256 at 256 tokens, 128 at 512). Of its four rates
    the second highest, constant; its dropout of .1 and its cosine schedule are left out.
    """
    found = {}
    for length in (64, 128, 256, 512):
        batch = {256: 256, 512: 128}.get(length, 512)
        for width in (64, 128, 256, 512):
            task = tt.MQAR.figure_2(length)
            model = Transformer(
                task.vocab_size, length, num_layers=2, width=width, no_mlp=(0, 1), tie_embeddings=True,
                init_kind="normal", embed_std=0.02,
            )  # fmt: skip
            e = Experiment(task, model, adamw(2.2e-3, weight_decay=0.1), 64 * 100_000 // batch, batch)
            found[f"attention_T{length}_D{width}"] = e
    return found
