"""What each preset trains: recall over the width of queries and keys, parity, and the bench of gated channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import toy_tasks as tt
from attnlab.attention import recurrent_catalogue as known
from attnlab.attention import softmax
from attnlab.attention.features import TruncatedExp
from attnlab.attention.recurrent import Recurrent
from attnlab.models import Transformer
from attnlab.studies.dsf import identities
from attnlab.studies.dsf.figures import figures as figures
from attnlab.studies.measured import Experiment
from attnlab.training import adamw

THEORY = {"identities": identities.findings, "orders": identities.orders, "parity": identities.parity}

RECALL = {"softmax": softmax, "linear": known.linear, "normalized": known.dsf_normalized, "ssd": known.ssd}
ORDERS = {
    f"order_{p}": Recurrent(f"order_{p}", feature=TruncatedExp(p), normalizer=known.SUM) for p in (2, 4)
}  # order 1 has no sign: its row sums pass through 0
PARITY = {"beta_1": known.delta_net, "beta_2": known.delta_net_negative}
MORE_PARITY = {"gated_delta": known.gated_delta_net, "ssd": known.ssd, "softmax": softmax}
BENCH = {"qlstm": known.qlstm, "qlstm_reversed": known.qlstm_reversed}


@dataclass(frozen=True)
class Size:
    """Recall at one size: task, `D`, steps, sequences per step, AdamW's rate."""

    task: tt.MQAR
    width: int
    steps: int
    batch_size: int = 32
    learning_rate: float = 4e-3

    def make(self, mechanism: Any, head_dim: int) -> Experiment:
        """Two layers, one head, no MLP, no positions; a causal convolution of width 4 on queries, keys and values."""
        model = Transformer(
            self.task.vocab_size,
            self.task.length,
            num_layers=2,
            width=self.width,
            head_dim=head_dim,
            no_mlp=(0, 1),
            positions="none",
            norm="rmsnorm",
            short_conv=4,
            mechanism=mechanism,
        )
        return Experiment(self.task, model, adamw(self.learning_rate), self.steps, self.batch_size)


SMOKE = Size(tt.MQAR(16, 16, 2, fillers="zero"), 16, 50, 8)
LAPTOP = Size(tt.MQAR(64, 48, 8, fillers="zero"), 64, 600)
EVENING = Size(tt.MQAR(64, 48, 8, fillers="zero"), 64, 5000, learning_rate=2e-3)


def paper(length: int, width: int) -> Size:
    """The published protocol: 100 000 sequences for 64 epochs in batches of 64; its grid of rates has 1e-3 in it."""
    return Size(tt.MQAR.figure_2(length), width, 100_000, 64, 1e-3)


def on_parity(mechanism: Any, steps: int, length: int = 24) -> Experiment:
    """One layer with an MLP, one head, no positions."""
    task = tt.Parity("prefix", length)
    model = Transformer(task.vocab_size, 4 * length, width=32, positions="none", norm="rmsnorm", mechanism=mechanism)
    return Experiment(task, model, adamw(5e-3), steps, 64)


def grid(size: Size, mechanisms: dict[str, Any], widths: Iterable[int]) -> dict[str, Experiment]:
    """`mechanism_K` for every mechanism and width."""
    return {f"{name}_{k}": size.make(m, k) for name, m in mechanisms.items() for k in widths}


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name."""
    if preset == "smoke":
        return grid(SMOKE, {"linear": known.linear}, (8,)) | {"beta_2": on_parity(known.delta_net_negative, 60, 8)}
    if preset == "paper":
        found = {}
        for length in (64, 128, 256, 512):
            found |= {f"{name}_T{length}": e for name, e in grid(paper(length, 512), RECALL, (64,)).items()}
        return found
    if preset == "laptop":
        few = {name: RECALL[name] for name in ("softmax", "normalized", "ssd")}
        found = grid(LAPTOP, {"linear": known.linear}, (8, 32)) | grid(LAPTOP, few, (8,))
        return found | {name: on_parity(m, 400) for name, m in PARITY.items()}
    found = grid(EVENING, RECALL, (8, 16, 32, 64)) | grid(EVENING, ORDERS, (8,)) | grid(EVENING, BENCH, (64,))
    return found | {name: on_parity(m, 1200) for name, m in (PARITY | MORE_PARITY).items()}
