"""Multi-query associative recall at the size of the paper (V = 8192, T = 512, C = 64): its sequences, its step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

import attnlab as al
from attnlab import keys
from attnlab.training.devices import microbatch_for, place
from attnlab.training.session import Session
from attnlab.training.settings import RunConfig
from tests.bench.result import Result, alternate, noise
from toy_tasks import MQAR


def on_host(task: MQAR, rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The same law in NumPy, one sequence after the other, as one would write it: inputs and targets."""
    half, pairs = task.vocab_size // 2, task.num_pairs
    slots = (task.length - 2 * pairs) // 2
    law = np.arange(1, slots + 1, dtype=float) ** (task.power - 1)
    law /= law.sum()
    inputs, targets = np.zeros((2, batch_size, task.length), np.int32)
    for row in range(batch_size):
        ids, values = rng.choice(half - 1, pairs, False) + 1, rng.choice(half, pairs, False) + half
        inputs[row, : 2 * pairs : 2], inputs[row, 1 : 2 * pairs : 2] = ids, values
        at = 2 * pairs + 2 * rng.choice(slots, pairs, False, law)
        inputs[row, at], targets[row, at] = ids, values
    return inputs, targets


def _ready(sample: Any, key: jax.Array) -> None:
    jax.block_until_ready(sample(key))


def mqar_sampling(quick: bool) -> Iterator[Result]:
    """Sequences per second made on the device, one core, and over those of a loop in NumPy."""
    size = 4 if quick else 128
    for fillers in ("zero", "random"):
        task = MQAR(8192, 512, 64, fillers=fillers)
        sample = jax.jit(lambda key, task=task: task.sample(key, size))
        rng, key = np.random.default_rng(0), keys.root(0)
        variants: dict[str, Callable[[], Any]] = {"device": partial(_ready, sample, key)}
        if fillers == "zero":  # the published figure
            variants["host"] = partial(on_host, task, rng, size)
        seconds = alternate(variants, 2 if quick else 9)
        rates = {name: round(size / min(found)) for name, found in seconds.items()}
        details = {"sequences_per_second": rates, "batch_size": size, "noise": noise(seconds)}
        yield Result(f"mqar_sequences_{fillers}", float(rates["device"]), "per second", None, details)
        if "host" in rates:
            yield Result("mqar_sampling_over_numpy", rates["host"] / rates["device"], "of its time", "< 0.5", details)


def mqar_step(quick: bool) -> Iterator[Result]:
    """Milliseconds of a training step of two layers of softmax (D = 64), one seed on one core, and its data's share."""
    task = MQAR(512, 128, 16, fillers="zero") if quick else MQAR.figure_2(512)
    batch, steps = 8, 2 if quick else 4
    model = al.Transformer(
        task.vocab_size, task.length, num_layers=2, width=64, no_mlp=(0, 1), tie_embeddings=True, init_kind="normal"
    )
    microbatch = microbatch_for(batch, task.length, model, jax.devices()[0].platform)
    settings = RunConfig(
        task, model, al.adamw(1e-3), steps, (0,), batch, chunk_steps=steps, microbatch=microbatch, seed_axis="map"
    )
    session = Session(settings, place(1, model, "map", jax.devices()[:1]))
    session.compile()
    held = [session.start()]

    def step() -> None:
        held[0], rows = session.advance(0, held[0])
        jax.block_until_ready((held[0], rows))

    sample = jax.jit(lambda key: task.sample(key, batch))
    key = keys.root(0)

    def data() -> None:
        for _ in range(steps):
            jax.block_until_ready(sample(key))

    seconds = alternate({"step": step, "data": data}, 2 if quick else 5)
    ms = {name: round(1e3 * min(found) / steps, 3) for name, found in seconds.items()}
    details = {"batch_size": batch, "microbatch": microbatch, "ms_per_step": ms, "noise": noise(seconds)}
    yield Result("mqar_step", ms["step"], "ms", None, details)
    yield Result("mqar_data_share", ms["data"] / ms["step"], "of a step", "< 0.1", details)


MEASURES = {"mqar_sampling": mqar_sampling, "mqar_step": mqar_step}
