"""What each preset trains: one layer and one head on Bigram-Backcopy, a mechanism per run, with `<s>` and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

import toy_tasks as tt
from attnlab import analysis
from attnlab.attention import catalogue as known
from attnlab.attention import causal_mask
from attnlab.attention.maps import Length, Pointwise, elu_plus_one
from attnlab.attention.recurrent_catalogue import inline
from attnlab.attention.weighted import Weighted
from attnlab.attention.wrappers import HeadNorm
from attnlab.models import Transformer
from attnlab.studies.measured import Experiment
from attnlab.studies.sinks_by_mechanism.figures import figures as figures
from attnlab.training import adamw, log_spaced

FIRST = 8  # the first query that counts: before it a row has too few keys to choose between


@dataclass(frozen=True)
class Size:
    """`T`, `D`, sequences per step, AdamW's rate, steps, and how often sinks are looked at in training."""

    length: int
    width: int
    batch_size: int
    learning_rate: float
    steps: int
    records: int = 30

    def task(self, bos: bool = True) -> tt.BigramBackcopy:
        """Bigrams of Tiny Shakespeare, the three most frequent characters as triggers."""
        return tt.BigramBackcopy.tiny_shakespeare(num_triggers=3, length=self.length, bos=bos)

    def make(self, mechanism: Any, *, bos: bool = True) -> Experiment:
        """One layer, one head: RMS norm before a sublayer, SiLU MLP of 4D, learned positions."""
        task = self.task(bos)
        model = Transformer(
            task.vocab_size,
            self.length,
            width=self.width,
            activation="silu",
            norm="rmsnorm",
            mechanism=mechanism,
        )
        probe = analysis.mixing(task, batch_size=32, parts=("mass", "sink"), start=min(FIRST, self.length // 2))
        records = {"mixing": log_spaced(self.records, probe)}
        return Experiment(task, model, adamw(self.learning_rate), self.steps, self.batch_size, records)


SMOKE = Size(length=16, width=16, batch_size=8, learning_rate=3e-3, steps=60, records=8)
LAPTOP = Size(length=64, width=64, batch_size=32, learning_rate=3e-3, steps=800)


def zero_logits(lab: Any) -> dict[str, float]:
    """Rows of zero logits: mass under sigmoid with bias `-log n`, less `n / (n + 1)`; what bias 0 writes over `n / 2`
    times what softmax writes, for `n = 64`."""

    def last_row(mechanism: Any, n: int) -> Any:
        q, v = jnp.zeros((1, 1, n, 4)), jnp.ones((1, 1, n, 4))
        return mechanism.apply({}, q, q, v, mask=causal_mask(n)).out[0, 0, -1, 0]  # values of 1: the row's mass

    mass = {f"sigmoid_{n}": float(last_row(known.sigmoid_for(n), n)) - n / (n + 1) for n in (64, 256, 1024)}
    return mass | {"scale": float(last_row(known.sigmoid, 64) / last_row(known.softmax, 64)) / 32}


THEORY = {"zero_logits": zero_logits}


def mechanisms(length: int) -> dict[str, Any]:
    """The mechanisms compared, by the name of their run; `length` is the constant of those that need one."""
    return {
        "softmax": known.softmax,
        "g1": known.output_gated,
        "g1_head": known.head_gated,
        "g2": known.value_gated,
        "g5": known.dense_gated,
        "off_by_one": known.softmax_off_by_one,
        "key_bias": known.key_bias,
        "sigmoid": known.sigmoid_for(length),
        "sigmoid_0": known.sigmoid,
        "sigmoid_normalized": known.sigmoid_normalized,
        "relu": known.relu,
        "elu": Weighted(f"elu_{length}", Pointwise(elu_plus_one, Length(length))),
        "elu_kernel": known.elu_kernel_quadratic,
        "identity_kernel": HeadNorm(known.identity_map),
        "inline": inline,
        "ssa": known.ssa,
        "lssar_3": known.lssar_3,
        "lssar_15": known.lssar,
        "differential": known.differential,
    }


AT_LAPTOP = (
    "softmax",
    "g1_head",
    "g2",
    "key_bias",
    "sigmoid",
    "sigmoid_0",
    "sigmoid_normalized",
    "relu",
    "lssar_15",
)
WITHOUT_BOS = ("softmax", "key_bias", "sigmoid")


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name; those without `<s>` begin with `no_bos_`."""
    size = SMOKE if preset == "smoke" else LAPTOP
    found = mechanisms(size.length)
    chosen = {"smoke": ("softmax", "sigmoid"), "laptop": AT_LAPTOP}.get(preset, tuple(found))
    without = {"smoke": (), "laptop": WITHOUT_BOS}.get(preset, tuple(found))
    return {
        **{name: size.make(found[name]) for name in chosen},
        **{f"no_bos_{name}": size.make(found[name], bos=False) for name in without},
    }
