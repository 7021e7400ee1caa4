"""The laptop size: one layer, `D = T = B = 64`, Bigram-Backcopy with three triggers; and its counts of operations."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

import attnlab as al
from attnlab.training.devices import microbatch_for, place
from attnlab.training.session import Session
from attnlab.training.settings import RunConfig
from toy_tasks import BigramBackcopy


def config(
    steps: int, seeds: int = 1, width: int = 64, length: int = 64, batch_size: int = 64, **more: Any
) -> RunConfig:
    """Settings of a run of this size, all in one chunk unless `chunk_steps` is given."""
    task = BigramBackcopy.tiny_shakespeare(num_triggers=3, length=length)
    model = al.Transformer(vocab_size=task.vocab_size, length=length, width=width)
    size = microbatch_for(batch_size, length, model, jax.devices()[0].platform)
    rest = {"chunk_steps": steps, "microbatch": size, "seed_axis": "map", **more}
    return RunConfig(task, model, al.adamw(1e-3), steps, tuple(range(seeds)), batch_size, **rest)


class Steps:
    """The first chunk of a run without records, again and again: `steps()` is one pass."""

    def __init__(self, settings: RunConfig, devices: Any = None):
        seeds = len(settings.seeds)
        self.session = Session(settings, place(seeds, settings.model, settings.seed_axis, devices))
        self.session.compile()
        self.at = self.session.start()
        self.seed_steps = seeds * int(self.session.plan.ends[0])  # a chunk ends early if its records are many

    def __call__(self) -> None:
        self.at, rows = self.session.advance(0, self.at)
        jax.block_until_ready((self.at, rows))


def with_axis(settings: RunConfig, axis: Any) -> RunConfig:
    return dataclasses.replace(settings, seed_axis=axis)


def step_flops(settings: RunConfig) -> float:
    """Floating-point operations in the matrix products of one training step, `3 B T (2 (4 D^2 + 8 D^2 + D V) + 4 T D)`.

    Per token, forward: 2 operations for each of the 4 D^2 weights of attention (query, key, value, output), the 8 D^2
    of the MLP and the D V of the unembedding; 2 T D for the logits and 2 T D for the mixing of values, over all T keys
    (the masked ones are computed too). Backward costs twice the forward. Everything else (softmax, norms, optimizer,
    data) counts as nothing, so the true rate is higher.
    """
    model, batch, length = settings.model, settings.batch_size, settings.task.length
    width, vocab = model.width, model.vocab_size
    return 3 * batch * length * (2 * (12 * width**2 + width * vocab) + 4 * length * width)
