"""One odd item among equal ones: what an eye was trained on, and arrays to search.

An item is a bar, vertical (V, at 0) or tilted (O, at `tilt`). Channel `c` of the eye prefers the angle `180 c / C` and
answers `exp(kappa (cos 2(angle - preferred) - 1))`, plus noise. The diet shows single items, vertical with a given
probability; what is asked is the answer without noise. Turning by the tilt and reflecting exchanges V and O and maps
channels to channels, so that nothing but the diet can make one of them easier to find.

Source: the question, whether the statistics of training decide which of two searches is hard, is that of arXiv
2106.02953; the toy is our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.base import Batch
from toy_tasks.gaussian import normal
from toy_tasks.regression_checks import require

SIDE = 6  # an array has 36 cells
SPREAD = 0.25  # an item is up to that much off the middle of its cell


class Arrays(NamedTuple):
    """Arrays to search: `vertical Bool[B, n]` the kind of each item, `places Float[B, n, 2]` in cells from the middle,
    `target Int[B]` which one is odd."""

    vertical: Bool[Array, "B n"]
    places: Float[Array, "B n 2"]
    target: Int[Array, " B"]


@dataclass(frozen=True)
class OrientationDiet:
    """Denoising of single bars. Its inputs and targets are `Float[B, 1, C]`.

    Attributes:
      share: P(vertical).
      noise: standard deviation of each channel's noise.
      channels, tilt, sharpness: `C`, the angle of O in degrees, `kappa`. The tilt is a multiple of `180 / C`.
    """

    share: float = 0.9
    noise: float = 0.5
    channels: int = 12
    tilt: float = 30.0
    sharpness: float = 2.0

    length = 1
    reference = "Visual Search Asymmetry, arXiv 2106.02953, for the question; our own task"

    def __post_init__(self) -> None:
        answers.whole("OrientationDiet.channels", self.channels, 2)
        require(0 < self.share < 1, "OrientationDiet.share", self.share, "a number between 0 and 1, both excluded")
        for name in ("noise", "sharpness"):
            value = getattr(self, name)
            require(np.isfinite(value) and value > 0, f"OrientationDiet.{name}", value, "a finite number > 0")
        steps = self.tilt * self.channels / 180
        even = abs(steps - round(steps)) < 1e-9 and 0 < self.tilt < 180
        require(even, "OrientationDiet.tilt", self.tilt, f"a multiple of {180 / self.channels:g} below 180")

    def describe(self) -> str:
        """A few lines of text."""
        return "\n".join(
            [
                f"Bars at 0 (with probability {self.share:g}) and {self.tilt:g} degrees, {self.channels} channels",
                f"noise of standard deviation {self.noise:g}, d' = {self.separation / self.noise:.2f}",
                self.reference,
            ]
        )

    @cached_property
    def clean(self) -> Float[np.ndarray, "2 C"]:
        """The answers to O (row 0) and V (row 1) without noise."""
        preferred = np.pi * np.arange(self.channels) / self.channels
        angle = np.deg2rad([[self.tilt], [0.0]])
        return np.exp(self.sharpness * (np.cos(2 * (angle - preferred)) - 1))

    @property
    def separation(self) -> float:
        """Distance of the two answers."""
        return float(np.linalg.norm(self.clean[1] - self.clean[0]))

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` single items. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        kind_key, noise_key = jax.random.split(key)
        vertical = jax.random.bernoulli(kind_key, self.share, (batch_size, 1))
        clean = jnp.asarray(self.clean, jnp.float32)[vertical.astype(jnp.int32)]
        inputs = clean + np.float32(self.noise) * normal(noise_key, clean.shape)
        positions = {"vertical": vertical, "other": ~vertical}
        return Batch(inputs, clean, jnp.ones((batch_size, 1), jnp.float32), positions)

    def belief(self, inputs: Float[Array, "*B C"]) -> Float[Array, "*B"]:
        """P(vertical | answer): `sigmoid(log odds + (x - mean) . (V - O) / noise^2)`."""
        other, vertical = (jnp.asarray(row, jnp.result_type(inputs)) for row in self.clean)
        odds = np.log(self.share) - np.log1p(-self.share)
        gain = jnp.sum((inputs - (other + vertical) / 2) * (vertical - other), axis=-1)
        return jax.nn.sigmoid(gain / self.noise**2 + odds)

    def denoise(self, inputs: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
        """The posterior mean of the answer without noise."""
        other, vertical = (jnp.asarray(row, jnp.result_type(inputs)) for row in self.clean)
        return other + self.belief(inputs)[..., None] * (vertical - other)

    def oracle(self, batch: Batch) -> Float[Array, "B 1 C"]:
        """The posterior mean."""
        return self.denoise(batch.inputs)

    def risks(self, logits: Float[Array, "B 1 C"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`mse` per channel; `excess`, the mean square of the distance from the posterior mean."""
        answers.fits(logits, batch, self.channels, "build the model with as many outputs as task.channels")
        gap, off = logits - batch.targets, logits - self.oracle(batch)
        return {"mse": jnp.mean(gap * gap), "excess": jnp.mean(off * off)}

    def arrays(self, key: Key[Array, ""], count: int, size: int, odd_vertical: Any) -> Arrays:
        """`B = count` arrays of `size` items in distinct cells, one of them odd: V among O if `odd_vertical`
        (a bool, or a traced one).

        Raises:
          ValueError: more items than cells.
        """
        answers.whole("size", size, 2)
        answers.at_most("size", size, SIDE**2, f"the cells of an array of {SIDE} by {SIDE}")
        cell_key, jitter_key, target_key = jax.random.split(key, 3)
        cells = draws.distinct(cell_key, count, size, SIDE**2)
        middle = jnp.stack([cells // SIDE, cells % SIDE], axis=-1) - (SIDE - 1) / 2
        places = middle + jax.random.uniform(jitter_key, (count, size, 2), minval=-SPREAD, maxval=SPREAD)
        target = jax.random.randint(target_key, (count,), 0, size)
        odd = jnp.arange(size) == target[:, None]
        return Arrays(odd == odd_vertical, places, target)
