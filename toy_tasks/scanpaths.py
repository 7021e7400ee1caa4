"""Scanpaths of a known searcher: where the eyes go next among items, and when they stop.

An array has `6 .. 12` items, each with a feature vector of norm 1 and a place in the unit square; one of them has the
features of the target. From the item that is looked at (at first the middle of the square), with `visited` saying which
items have been looked at, the next one is drawn from

    p(next = i)  proportional to  exp(beta sim(target, i) - gamma |place_i - here| - kappa visited_i),

`sim` the cosine of features, and the searcher stops at the first decision on the target. So the law of every decision
is known, and no model can pay less per decision than its mean entropy.

Source: the problem is that of arXiv 2407.13335 (Object-level Attention Transformer), whose scanpaths are people's; the
searcher is our own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from toy_tasks import answers
from toy_tasks.backcopy_risks import mean_over
from toy_tasks.base import Batch
from toy_tasks.gaussian import normal
from toy_tasks.regression_checks import require

_ABSENT = -1e9  # a logit of what is not there: exp of it is 0


@struct.dataclass
class Display:
    """What a searcher sees.

    Attributes:
      features: `Float[*B, N, F]` of norm 1. places: `Float[*B, N, 2]` in the unit square.
      present: `Bool[*B, N]`; the others are padding. target: `Float[*B, F]`.
      fixated: `Int[*B, T]` the item that is looked at when decision `t` is taken; -1 before the first.
    """

    features: Any
    places: Any
    present: Any
    target: Any
    fixated: Any


@dataclass(frozen=True)
class Scanpaths:
    """Scanpaths of the searcher above. Its inputs are a `Display`; decision `t` is an item, or `most` for the stop.

    Attributes:
      fewest, most: the number of items is uniform between them; `N = most` with padding.
      length: `T`, decisions at most; a path that is longer is cut off.
      dim: `F`, of features, uniform on the sphere.
      similarity, distance, visited: `beta`, `gamma`, `kappa`.
      count_stops: whether the loss counts the decision to stop.

    Position classes: `fixation` (an item is chosen), `stop`, `after` (nothing is decided any more, never counted).
    """

    fewest: int = 6
    most: int = 12
    length: int = 16
    dim: int = 4
    similarity: float = 3.0
    distance: float = 3.0
    visited: float = 2.0
    count_stops: bool = True

    reference = "Object-level Attention Transformer, arXiv 2407.13335, for the problem; our own searcher"

    def __post_init__(self) -> None:
        for name, least in (("fewest", 1), ("most", self.fewest), ("length", 1), ("dim", 2)):
            answers.whole(f"Scanpaths.{name}", getattr(self, name), least)
        for name in ("similarity", "distance", "visited"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and np.isfinite(value) and value >= 0
            require(number, f"Scanpaths.{name}", repr(value), "a finite number >= 0")

    @property
    def vocab_size(self) -> int:
        """`N + 1`: items and the stop."""
        return self.most + 1

    def describe(self) -> str:
        """A few lines of text."""
        return "\n".join(
            [
                f"Scanpaths: {self.fewest} to {self.most} items, {self.dim} features each, T = {self.length} decisions",
                f"beta = {self.similarity:g}, gamma = {self.distance:g}, kappa = {self.visited:g}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh arrays and a path in each. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        display_key, path_key = jax.random.split(key)
        display = self.display(display_key, batch_size)

        def step(state, turn):
            here, seen = state
            logits = self._decide(display, here, seen)
            choice = jax.random.categorical(jax.random.fold_in(path_key, turn), logits).astype(jnp.int32)
            there = jnp.where(choice == self.most, here, choice)
            return (there, seen | (jnp.arange(self.most) == there[:, None])), (here, choice)

        start = (jnp.full(batch_size, -1, jnp.int32), jnp.zeros((batch_size, self.most), bool))
        _, (fixated, chosen) = jax.lax.scan(step, start, jnp.arange(self.length))
        return self.assemble(dataclasses.replace(display, fixated=fixated.T), chosen.T)

    def display(self, key: Key[Array, ""], batch_size: int) -> Display:
        """Fresh arrays, nothing looked at yet."""
        feature_key, place_key, count_key, target_key = jax.random.split(key, 4)
        features = normal(feature_key, (batch_size, self.most, self.dim))
        features = features / jnp.linalg.norm(features, axis=-1, keepdims=True)
        places = jax.random.uniform(place_key, (batch_size, self.most, 2))
        count = jax.random.randint(count_key, (batch_size,), self.fewest, self.most + 1)
        chosen = jax.random.randint(target_key, (batch_size,), 0, count)
        target = jnp.take_along_axis(features, chosen[:, None, None], axis=1)[:, 0]
        present = jnp.arange(self.most) < count[:, None]
        return Display(features, places, present, target, jnp.full((batch_size, self.length), -1, jnp.int32))

    def assemble(self, display: Display, chosen: Int[Array, "B T"]) -> Batch:
        """The batch of given arrays and decisions."""
        stops = chosen == self.most
        after = (jnp.cumsum(stops, axis=1) - stops) > 0
        positions = {"fixation": ~stops, "stop": stops & ~after, "after": after}
        counted = ~stops | positions["stop"] if self.count_stops else ~stops
        return Batch(display, chosen, counted.astype(jnp.float32), positions)

    # ---- the law

    def sought(self, display: Display) -> Int[Array, " *B"]:
        """Which item is the target."""
        return jnp.argmax(jnp.where(display.present, self._likeness(display), -2.0), axis=-1).astype(jnp.int32)

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The law of every decision given the array and what has been looked at."""
        return jax.nn.softmax(self.logits(batch.inputs), axis=-1)

    def logits(self, display: Display) -> Float[Array, "B T V"]:
        """The law's logits for all decisions of a path: those of the formula, and sure at the target."""
        looked = display.fixated[..., None] == jnp.arange(self.most)  # [B, T, N]
        seen = jnp.cumsum(looked, axis=-2) > 0
        decide = jax.vmap(lambda here, seen: self._decide(display, here, seen), in_axes=1, out_axes=1)
        return decide(display.fixated, seen)

    def entropy(self, batch: Batch) -> Float[Array, "B T"]:
        """Of the law of every decision, in nats; 0 for the stop."""
        law = self.oracle(batch)
        return -jnp.sum(law * jnp.log(jnp.where(law > 0, law, 1.0)), axis=-1)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`fixation`, `stop`: losses over these decisions in nats; `stopped`: mass on the stop where it is due,
        `stopped_early`: where it is not; `excess`: all that is paid above the law itself, per fixation."""
        answers.fits(logits, batch, self.vocab_size, "a pointer over N items and a stop")
        losses, places = answers.log_losses(logits, batch.targets), batch.positions
        stop = jax.nn.softmax(logits, axis=-1)[..., -1]
        paid = jnp.where(places["after"], 0.0, losses - answers.log_losses(self.logits(batch.inputs), batch.targets))
        return {
            "fixation": mean_over(losses, places["fixation"]),
            "stop": mean_over(losses, places["stop"]),
            "stopped": mean_over(stop, places["stop"]),
            "stopped_early": mean_over(stop, places["fixation"]),
            "excess": jnp.sum(paid) / jnp.sum(places["fixation"]),
        }

    def _likeness(self, display: Display) -> Float[Array, "*B N"]:
        return jnp.sum(display.features * display.target[..., None, :], axis=-1)

    def _decide(self, display: Display, here: Int[Array, " B"], seen: Bool[Array, "B N"]) -> Float[Array, "B V"]:
        """Logits of one decision, looking at item `here` (-1: at the middle)."""
        place = jnp.take_along_axis(display.places, jnp.maximum(here, 0)[:, None, None], axis=1)
        place = jnp.where(here[:, None, None] < 0, 0.5, place)
        away = jnp.sqrt(jnp.sum(jnp.square(display.places - place), axis=-1))
        logits = self.similarity * self._likeness(display) - self.distance * away - self.visited * seen
        found = (here == self.sought(display))[:, None]
        logits = jnp.where(display.present & ~found, logits, _ABSENT)
        return jnp.concatenate([logits, jnp.where(found, 0.0, _ABSENT)], axis=-1)
