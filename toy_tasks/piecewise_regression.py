"""Test-time regression that does not stay the same: every segment of a stream has its own linear map and its own place.

    k_i = m_s + N(0, I),    v_i = W_s k_i + σ N(0, I),    W_s ~ N(0, 1/d) by entry,    m_s uniform on |m| = r

for the `S` pairs of segment `s`. Asked for `v_i` from `k_i` and the pairs before it. Since the clouds of keys lie apart
(`r` against `√d`), what a memory holds is right for a key only if it comes from the key's own surroundings: one global
linear map must fit all segments, a local average sees the right pairs but no slope.

Reference: the non-stationary test-time regression of Zuo et al., Local Linear Attention, arXiv 2510.01450. Their
generator is not published; this one is our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from toy_tasks import answers
from toy_tasks.answers import Plateau
from toy_tasks.backcopy_risks import mean_over
from toy_tasks.base import Batch
from toy_tasks.gaussian import normal
from toy_tasks.least_squares import EXACT
from toy_tasks.regression_checks import require
from toy_tasks.regression_predictors import Ridge, on_prefixes


@dataclass(frozen=True)
class PiecewiseRegression:
    """Regression along a stream whose law changes at fixed places. Read with `input_dim = task.width`, said with
    `output_dim = task.num_outputs`.

    Attributes:
      dim: `d`, of a key.
      segment: `S`, pairs of a segment. num_segments: how many there are; `n = S num_segments` pairs.
      radius: `r`, the norm of the mean of a segment's keys; 0: all segments have the same keys.
      noise: `σ`, standard deviation of a label's noise.
      outputs: `m`, numbers of a value; None = `d`.

    A batch has `inputs Float[B, 2 n - 1, max(d, m)]`, keys and values in turn, `k_1, v_1, k_2, ...`, padded with zeros,
    the last value left out; `targets Float[B, 2 n - 1, m]`, at the places of keys, where alone `loss_mask` is 1, the
    value (and at those of values the value itself). `pairs` gives both as arrays, for memories that are not trained.
    Position classes: `query` (keys) and `label`; of the queries `boundary`, the first of a segment, `first_segment`,
    and `settled`, those with at least `d` pairs of their own segment before them.
    """

    dim: int = 8
    segment: int = 128
    num_segments: int = 4
    radius: float = 6.0
    noise: float = 0.05
    outputs: int | None = None

    reference = (
        "Zuo et al.: Local Linear Attention, arXiv 2510.01450 (2025), its test-time regression; our own generator"
    )

    def __post_init__(self) -> None:
        for name in ("dim", "segment", "num_segments"):
            answers.whole(f"PiecewiseRegression.{name}", getattr(self, name))
        if self.outputs is not None:
            answers.whole("PiecewiseRegression.outputs", self.outputs, note=", or None for dim")
        for name in ("radius", "noise"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and np.isfinite(value) and value >= 0
            require(number, f"PiecewiseRegression.{name}", repr(value), "a finite number >= 0")

    # ---- sizes

    @property
    def num_outputs(self) -> int:
        """`m`: the model's `output_dim`."""
        return self.dim if self.outputs is None else self.outputs

    @property
    def num_pairs(self) -> int:
        """`n`."""
        return self.segment * self.num_segments

    @property
    def length(self) -> int:
        """`T = 2 n - 1`."""
        return 2 * self.num_pairs - 1

    @property
    def width(self) -> int:
        """Numbers per place, `max(d, m)`: the model's `input_dim`."""
        return max(self.dim, self.num_outputs)

    def describe(self) -> str:
        """A few lines of text: sizes, laws, and what partial knowledge achieves."""
        return "\n".join(
            [
                f"Piecewise regression, d = {self.dim}, m = {self.num_outputs}, {self.num_segments} segments of "
                f"{self.segment} pairs, T = {self.length}",
                f"keys at radius {self.radius:g}, noise of standard deviation {self.noise:g}",
                f"squared error per coordinate: plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh streams, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        key_key, noise_key, mean_key, map_key = jax.random.split(key, 4)
        parts, d, m = (batch_size, self.num_segments), self.dim, self.num_outputs
        means = normal(mean_key, (*parts, 1, d))
        means = np.float32(self.radius) * means / jnp.linalg.norm(means, axis=-1, keepdims=True)
        keys = means + normal(key_key, (*parts, self.segment, d))
        maps = normal(map_key, (*parts, m, d)) * np.float32(d**-0.5)
        values = jnp.einsum("bscd,bsmd->bscm", keys, maps, precision=EXACT)
        values = values + np.float32(self.noise) * normal(noise_key, values.shape)
        return self.assemble(keys.reshape(batch_size, -1, d), values.reshape(batch_size, -1, m))

    def assemble(self, keys: Float[Array, "B n d"], values: Float[Array, "B n m"]) -> Batch:
        """The batch of given pairs."""
        wide = [jnp.pad(a, ((0, 0), (0, 0), (0, self.width - a.shape[-1]))) for a in (keys, values)]
        tokens = jnp.stack(wide, axis=2).reshape(len(keys), -1, self.width)[:, :-1]
        place = np.arange(self.length)
        pair, query = place // 2, place % 2 == 0
        kinds = {
            "query": query,
            "label": ~query,
            "boundary": query & (pair % self.segment == 0),
            "first_segment": query & (pair < self.segment),
            "settled": query & (pair % self.segment >= self.dim),
        }
        positions = {name: jnp.broadcast_to(at, tokens.shape[:2]) for name, at in kinds.items()}
        targets = jnp.repeat(values, 2, axis=1)[:, :-1]
        return Batch(tokens, targets, positions["query"].astype(jnp.float32), positions)

    def pairs(self, batch: Batch) -> tuple[Float[Array, "B n d"], Float[Array, "B n m"]]:
        """The keys, and the values that are asked."""
        return batch.inputs[:, 0::2, : self.dim], batch.targets[:, 0::2]

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T m"]:
        """The posterior mean of the value given its key and all pairs before, if it is known where segments begin.

        `W_s` is independent of the keys and of other segments, so that this is ridge regression on the pairs of the own
        segment so far, `(K^T K + d σ² I)^-1 K^T V`, and without noise its limit; 0 for the first pair of a segment, and
        at places that ask nothing.
        """
        size, last = len(batch.inputs), ((0, 0), (0, 1), (0, 0))
        keys, values = batch.inputs[:, 0::2, : self.dim], batch.inputs[:, 1::2, : self.num_outputs]
        values = jnp.pad(values, last)  # no prediction reads the value behind all queries
        x, y = (a.reshape(size * self.num_segments, self.segment, -1) for a in (keys, values))
        found = on_prefixes(Ridge(self.dim * self.noise**2), x[:, :-1], y[:, :-1], x[:, -1])
        found = found.reshape(size, self.num_pairs, -1)
        return jnp.stack([found, jnp.zeros_like(found)], axis=2).reshape(size, -1, found.shape[2])[:, :-1]

    def risks(self, logits: Float[Array, "B T m"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Squared errors per coordinate, over the queries: `mse`; `bayes`, that of the oracle; `excess`, the distance
        to the oracle (in expectation `mse = bayes + excess`); and `mse` over `first_segment`, `boundary`, `settled`."""
        answers.fits(logits, batch, self.num_outputs, "build the model with output_dim=task.num_outputs")
        best, where = self.oracle(batch), batch.positions
        gaps = {"mse": logits - batch.targets, "bayes": best - batch.targets, "excess": logits - best}
        errors = {name: jnp.mean(gap * gap, axis=-1) for name, gap in gaps.items()}
        risks = {name: mean_over(error, where["query"]) for name, error in errors.items()}
        kinds = ("first_segment", "boundary", "settled")
        return risks | {f"mse_{kind}": mean_over(errors["mse"], where[kind]) for kind in kinds}

    def by_place(self, outputs: Float[Array, "B T m"], batch: Batch) -> Float[Array, "s c"]:
        """Squared error per coordinate of each pair of each segment, `[num_segments, S]`, the mean over the batch."""
        gap = outputs[:, 0::2] - batch.targets[:, 0::2]
        return jnp.mean(gap * gap, axis=(0, 2)).reshape(self.num_segments, self.segment)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """What the best predictors pay that know less, or more, than the oracle; per coordinate.

        zero: predicts 0: `r²/d + 1 + σ²`. mean: the mean of the values of the own segment so far, times the best number
        for their count `c`: with `p = r²/d`, `p + 1 + σ² - p² / (p + (1 + σ²) / c)`, and `zero` for the first.
        map: knows `W_s`: `σ²`, which the oracle comes down to within a segment.
        """
        power, rest = self.radius**2 / self.dim, 1.0 + self.noise**2
        counts = np.arange(1, self.segment)
        explained = np.sum(power**2 / (power + rest / counts)) / self.segment
        losses = {"zero": power + rest, "mean": power + rest - explained, "map": self.noise**2}
        return {name: Plateau(float(loss)) for name, loss in losses.items()}
