"""What each preset trains: the six variants, alone, beside standard attention, and on Bigram-Backcopy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import toy_tasks as tt
from attnlab import attention
from attnlab.attention import Mechanism
from attnlab.models import FixedStream, RandomStream, StaticEmbedding, Transformer
from attnlab.studies.deconstructing.figures import figures as figures
from attnlab.studies.deconstructing.logits import largest_logit
from attnlab.studies.deconstructing.orders import approximate_apart
from attnlab.studies.deconstructing.theory_side import THEORY as THEORY
from attnlab.studies.measured import Experiment
from attnlab.training import adamw, log_spaced


@dataclass(frozen=True)
class Variant:
    """What stands in the place of a layer of standard attention.

    Attributes:
      mechanism: how it mixes.
      source: `random` or `fixed` (a second stream), `embedding`: where it takes queries and keys from.
      mixer: a gated MLP stands in the place of attention.
    """

    mechanism: Mechanism = attention.softmax
    source: str | None = None
    mixer: bool = False

    def qk_source(self, task: Any) -> Any:
        """The model's option of that name."""
        if self.source == "fixed":
            return FixedStream(tuple(int(t) for t in fixed_sequence(task)))
        return {None: None, "random": RandomStream(), "embedding": StaticEmbedding()}[self.source]


STANDARD = Variant()
VARIANTS = {
    "mlp": Variant(mixer=True),
    "approximate": Variant(attention.approximate),
    "non_approximate": Variant(attention.non_approximate),
    "random_qk": Variant(source="random"),
    "fixed_qk": Variant(source="fixed"),
    "static_qk": Variant(source="embedding"),
    "uniform_map": Variant(attention.uniform),
    "offset_table": Variant(attention.offset_table),
    "approximate_apart": Variant(approximate_apart),
}


def fixed_sequence(task: Any) -> Any:
    """The text of FixedSeqQK: one sequence of the task, the same in every run."""
    import jax

    return task.sample(jax.random.key(2510), 1).inputs[0]


def model_of(task: Any, layers: tuple[Variant, ...], **options: Any) -> Transformer:
    """The tiny transformer with one variant per layer."""
    return Transformer(
        vocab_size=task.vocab_size,
        length=task.length,
        num_layers=len(layers),
        mechanism=tuple(v.mechanism for v in layers),
        qk_source=tuple(v.qk_source(task) for v in layers),
        mlp_mixer=tuple(number for number, v in enumerate(layers) if v.mixer),
        **options,
    )


@dataclass(frozen=True)
class Scale:
    """A size: the two tasks, width and heads, steps, batch, learning rates."""

    recall: tt.MQAR
    backcopy: tt.BigramBackcopy
    width: int
    heads: int
    steps: int
    backcopy_steps: int
    batch_size: int
    rate: float
    backcopy_rate: float

    def recalls(self, layers: tuple[Variant, ...]) -> Experiment:
        """Multi-query recall, attention only."""
        model = model_of(
            self.recall, layers, width=self.width, num_heads=self.heads, no_mlp=tuple(range(len(layers)))
        )  # fmt: skip
        records = {"logits": log_spaced(24, largest_logit(self.recall))}
        return Experiment(self.recall, model, adamw(self.rate), self.steps, self.batch_size, records)

    def copies(self, variant: Variant) -> Experiment:
        """Bigram-Backcopy: one layer, with its MLP."""
        model = model_of(self.backcopy, (variant,), width=self.width, norm="rmsnorm", activation="silu")
        return Experiment(self.backcopy, model, adamw(self.backcopy_rate), self.backcopy_steps, self.batch_size)


SMOKE = Scale(
    tt.MQAR(vocab_size=16, length=16, num_pairs=2), tt.BigramBackcopy.tiny_shakespeare(length=16),
    width=16, heads=2, steps=40, backcopy_steps=40, batch_size=8, rate=4e-3, backcopy_rate=4e-3,
)  # fmt: skip
LAPTOP = Scale(
    tt.MQAR(vocab_size=32, length=32, num_pairs=6), tt.BigramBackcopy.tiny_shakespeare(length=32),
    width=32, heads=2, steps=1500, backcopy_steps=800, batch_size=32, rate=4e-3, backcopy_rate=4e-3,
)  # fmt: skip
EVENING = replace(
    LAPTOP, recall=tt.MQAR(vocab_size=64, length=48, num_pairs=8), backcopy=tt.BigramBackcopy.tiny_shakespeare(),
    width=64, heads=4, steps=2500, backcopy_steps=2000, backcopy_rate=2e-3,
)  # fmt: skip
UNIFORM = ("mlp", "approximate", "non_approximate", "random_qk", "fixed_qk", "static_qk")
HYBRID = ("mlp", "non_approximate", "random_qk")
COPIERS = ("standard", "mlp", "non_approximate", "random_qk")


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name: `X X` alone, `X standard` hybrid, `copy X` on Bigram-Backcopy."""
    if preset == "smoke":
        return runs(SMOKE, ("standard", "random_qk"), ("mlp",), ("random_qk",))
    if preset == "laptop":
        return runs(LAPTOP, ("standard", *UNIFORM, "approximate_apart"), HYBRID, COPIERS)
    more = ("standard", *UNIFORM, "approximate_apart", "uniform_map", "offset_table")
    found = runs(EVENING, more, UNIFORM[:-1], (*COPIERS, "fixed_qk", "offset_table"))
    four = {f"alternating {x}": EVENING.recalls((VARIANTS[x], STANDARD) * 2) for x in HYBRID}
    return found | four


def runs(scale: Scale, alone: tuple[str, ...], hybrid: tuple[str, ...], copiers: tuple[str, ...]) -> dict[str, Any]:
    """The runs of a size. `static_qk standard` is `standard standard`, to the last bit: it is not run."""
    known = VARIANTS | {"standard": STANDARD}
    found = {f"{x} {x}": scale.recalls((known[x], known[x])) for x in alone}
    found |= {f"{x} standard": scale.recalls((known[x], STANDARD)) for x in hybrid}
    return found | {f"copy {x}": scale.copies(known[x]) for x in copiers}
