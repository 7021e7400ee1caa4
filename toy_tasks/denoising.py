"""Denoising: the mean of the relevant vectors of a sequence, most or some of which are noise.

    x_t = (s_t, +1),  s_t ~ N(0, I)            if t is one of R relevant places
    x_t = (e_t, -1),  e_t ~ N(0, σ² I)         otherwise
    y   = mean of the relevant s_t

The last number of a token says what it is: to find the answer, noise has to be kept out of a mean, by its weight or by
its value. A temperature on values can do it token by token.

Reference: Zhang, Chang, Li, Roy-Chowdhury, Chen, Oymak, Selective Attention, arXiv 2411.12892, whose value temperature
serves to suppress noisy tokens. Their generator is not published; this one is our own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from math import comb
from typing import get_args

import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Bool, Float, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Ask, Plateau
from toy_tasks.base import Batch
from toy_tasks.gaussian import normal
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class Denoising:
    """The mean of marked vectors among noise. Read with `input_dim = task.width`, said with `output_dim = task.dim`.

    Attributes:
      dim: `d`, of a vector without its mark.
      length: `T` places.
      num_relevant: `R` of them, at places drawn without replacement, hold what counts.
      noise: `σ`, the standard deviation of a coordinate of a noise vector; that of a relevant one is 1.
      ask: `last`: the mean of all relevant vectors, at the last place. `prefix`: that of those so far, at every place
        from the first relevant one on.

    A batch has `inputs Float[B, T, d + 1]` and `targets Float[B, T, d]`, the mean of the relevant vectors so far (0
    before the first); `loss_mask` is 1 where it is asked. Position classes: `relevant`, `noise`, `asked`.
    """

    dim: int = 8
    length: int = 32
    num_relevant: int = 8
    noise: float = 2.0
    ask: Ask = "last"

    reference = (
        "Zhang et al.: Selective Attention, Principled Context Control, arXiv 2411.12892 (2024); our own vectors"
    )

    def __post_init__(self) -> None:
        for name in ("dim", "length", "num_relevant"):
            answers.whole(f"Denoising.{name}", getattr(self, name))
        answers.at_most("Denoising.num_relevant", self.num_relevant, self.length, "the length")
        number = isinstance(self.noise, (int, float)) and np.isfinite(self.noise) and self.noise >= 0
        require(number, "Denoising.noise", repr(self.noise), "a finite number >= 0")
        require(self.ask in get_args(Ask), "Denoising.ask", repr(self.ask), " | ".join(get_args(Ask)))

    def at_length(self, length: int) -> Denoising:
        """As many relevant vectors among more or less noise."""
        return dataclasses.replace(self, length=length)

    @property
    def width(self) -> int:
        """Numbers per place: the model's `input_dim`. Its `output_dim` is `dim`."""
        return self.dim + 1

    def describe(self) -> str:
        """A few lines of text: sizes, and what a mean over everything achieves."""
        return "\n".join(
            [
                f"Denoising, {self.num_relevant} relevant of T = {self.length} vectors of R^{self.dim} and a mark",
                f"noise of standard deviation {self.noise:g}, asked: {self.ask}",
                f"squared error per coordinate: oracle 0; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        place_key, vector_key = random.split(key)
        places = draws.distinct(place_key, batch_size, self.num_relevant, self.length)
        rows = jnp.arange(batch_size, dtype=jnp.int32)[:, None]
        relevant = jnp.zeros((batch_size, self.length), bool).at[rows, places].set(True)
        vectors = normal(vector_key, (batch_size, self.length, self.dim))
        return self.assemble(jnp.where(relevant[..., None], vectors, np.float32(self.noise) * vectors), relevant)

    def assemble(self, vectors: Float[Array, "B T d"], relevant: Bool[Array, "B T"]) -> Batch:
        """The batch of given vectors, with their marks."""
        mark = jnp.where(relevant, 1, -1).astype(vectors.dtype)
        inputs = jnp.concatenate([vectors, mark[..., None]], axis=2)
        asked = jnp.cumsum(relevant, axis=1, dtype=jnp.int32) > 0
        if self.ask == "last":
            asked = asked & (jnp.arange(relevant.shape[1]) == relevant.shape[1] - 1)
        positions = {"relevant": relevant, "noise": ~relevant, "asked": asked}
        return Batch(inputs, _running_mean(vectors, relevant), asked.astype(jnp.float32), positions)

    def oracle(self, batch: Batch) -> Float[Array, "B T d"]:
        """The mean of the vectors marked relevant so far, at every place; 0 before the first. Its error is 0."""
        return _running_mean(batch.inputs[..., : self.dim], batch.inputs[..., self.dim] > 0)

    def risks(self, logits: Float[Array, "B T d"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Over the places that are asked: `mse` per coordinate; `unexplained`, its ratio to that of predicting 0."""
        answers.fits(logits, batch, self.dim, "build the model with output_dim=task.dim")
        weight = batch.loss_mask[..., None] / (jnp.sum(batch.loss_mask) * self.dim)
        gap = logits - batch.targets
        mse = jnp.sum(weight * gap * gap)
        return {"mse": mse, "unexplained": mse / jnp.sum(weight * batch.targets * batch.targets)}

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """zero: predicts 0. mean: the mean over all vectors so far, noise included, times the best number per place.

        With `r` relevant vectors among the first `n`, per coordinate: the answer has variance `1 / r`, the sum over all
        vectors `r + (n - r) σ²`, and their covariance is 1. For `ask="last"`, where `r = R` and `n = T`: `1 / R` and
        `1 / R - 1 / (R + (T - R) σ²)`.
        """
        shares, zeros, means = 0.0, 0.0, 0.0
        for n in range(1, self.length + 1) if self.ask == "prefix" else (self.length,):
            r = np.arange(1, min(n, self.num_relevant) + 1)
            chance = np.array([self._chance(n, int(k)) for k in r])
            share, zero = chance.sum(), chance @ (1.0 / r)
            power = chance @ (r + (n - r) * self.noise**2)
            shares, zeros, means = shares + share, zeros + zero, means + zero - share**2 / power
        return {"zero": Plateau(float(zeros / shares)), "mean": Plateau(float(means / shares))}

    def _chance(self, n: int, r: int) -> float:
        """The probability that `r` of the first `n` places are relevant."""
        if self.num_relevant - r > self.length - n:
            return 0.0
        ways = comb(n, r) * comb(self.length - n, self.num_relevant - r)
        return ways / comb(self.length, self.num_relevant)


def _running_mean(vectors: Float[Array, "B T d"], relevant: Bool[Array, "B T"]) -> Float[Array, "B T d"]:
    count = jnp.cumsum(relevant, axis=1, dtype=jnp.int32).astype(vectors.dtype)
    total = jnp.cumsum(jnp.where(relevant[..., None], vectors, 0.0), axis=1)
    return total / jnp.maximum(count, 1.0)[..., None]
