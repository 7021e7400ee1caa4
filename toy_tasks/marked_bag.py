"""A bag of vectors some of which are marked: the marked ones hold the class, the others any class.

    x_t = μ_y + κ u + σ n_t        if t is one of r marked places           n_t ~ N(0, I)
    x_t = μ_k + σ n_t,  k ~ uniform over all classes, at every other place

with `μ_1 .. μ_C` and `u` orthonormal. What tells a marked vector from another is its part along `u` alone, `κ` against
noise `σ`. Whoever takes the mean sees `r` votes for the class among `N`; whoever looks for marks sees little else. With
few marks attention is worth a lot, with many nothing.

All `r`-subsets of places being equally likely, the law of the class is a symmetric function of how much better each
vector is explained by a mark of that class:

    P(y = c | x) ∝ e_r(ρ_1(c), .., ρ_N(c))
    ρ_t(c) = exp[(x_t . (μ_c + κ u) - κ²/2) / σ²] / mean_k exp[x_t . μ_k / σ²]

with `e_r` the elementary symmetric polynomial, a sum over subsets that costs `N r` steps (derived).

Reference: Psomas et al., Attention, Please! Revisiting Attentive Probing for Masked Image Modeling, arXiv 2506.10178,
for the question: where information is spread over tokens, probes that attend gain; the task is our own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Bool, Float, Int, Key

from toy_tasks import answers, draws
from toy_tasks.answers import Plateau
from toy_tasks.base import Batch
from toy_tasks.gaussian import normal
from toy_tasks.least_squares import EXACT
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class MarkedBag:
    """The class of the marked vectors. Read with `input_dim = task.width`.

    Attributes:
      num_tokens: `N`, of a bag, which is also its length `T`.
      dim: `D > C`, of a vector.
      num_classes: `C`.
      num_marked: `r`, from 1 to `N`, at places drawn without replacement.
      noise: `σ`, of each coordinate.
      mark: `κ`, the size of the mark; 0: marked vectors are told from the others by nothing but their agreement.
      seed: of the `C + 1` orthonormal directions.

    A batch has `inputs Float[B, T, D]` and as target the class, `0 .. C - 1`, at the last place, which sees the whole
    bag and where alone `loss_mask` is 1, and 0 elsewhere. Order means nothing: the last vector is one like all others.
    Position classes: `marked`, `unmarked`; `answer`, the last place.
    """

    num_tokens: int = 49
    dim: int = 32
    num_classes: int = 8
    num_marked: int = 1
    noise: float = 0.35
    mark: float = 1.0
    seed: int = 0

    reference = "Psomas et al.: Attention, Please!, arXiv 2506.10178 (2025), for the question; our own task"

    def __post_init__(self) -> None:
        for name, least in (("num_tokens", 1), ("num_classes", 2), ("num_marked", 1)):
            answers.whole(f"MarkedBag.{name}", getattr(self, name), least)
        note = ": a direction for each class and one for the mark"
        answers.whole("MarkedBag.dim", self.dim, self.num_classes + 1, note)
        answers.at_most("MarkedBag.num_marked", self.num_marked, self.num_tokens, "num_tokens")
        require(_number(self.noise) and self.noise > 0, "MarkedBag.noise", repr(self.noise), "a finite number > 0")
        require(_number(self.mark), "MarkedBag.mark", repr(self.mark), "a finite number")
        seed = isinstance(self.seed, int) and not isinstance(self.seed, bool) and 0 <= self.seed < 2**32
        require(seed, "MarkedBag.seed", repr(self.seed), "an integer from 0 to 2^32 - 1")

    def at_length(self, length: int) -> MarkedBag:
        """As many marks in a larger or smaller bag."""
        return dataclasses.replace(self, num_tokens=length)

    @property
    def length(self) -> int:
        """`T = N`."""
        return self.num_tokens

    @property
    def width(self) -> int:
        """Numbers per place: the model's `input_dim`."""
        return self.dim

    @property
    def vocab_size(self) -> int:
        """`V = C`, of the outputs."""
        return self.num_classes

    @cached_property
    def directions(self) -> np.ndarray:
        """`Float64[C + 1, D]`: `μ_1 .. μ_C` and, last, `u`; orthonormal."""
        white = np.random.RandomState(self.seed).standard_normal((self.dim, self.num_classes + 1))
        basis, upper = np.linalg.qr(white)
        return (basis * np.sign(np.diag(upper))).T  # the signs make it unique

    @property
    def plateaus(self) -> dict[str, Plateau]:
        """classes: knows nothing."""
        return {"classes": Plateau(float(np.log(self.num_classes)), 1.0 / self.num_classes)}

    def describe(self) -> str:
        """A few lines of text: sizes, and what a guess achieves."""
        return "\n".join(
            [
                f"Marked bag, {self.num_marked} marked of T = {self.length} vectors of R^{self.dim}, "
                f"mark {self.mark:g}, noise {self.noise:g}",
                f"V = {self.vocab_size} classes; plateaus: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh bags, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        class_key, other_key, place_key, noise_key = random.split(key, 4)
        size, count = batch_size, self.num_tokens
        answer = random.randint(class_key, (size,), 0, self.num_classes, jnp.int32)
        classes = random.randint(other_key, (size, count), 0, self.num_classes, jnp.int32)
        places = draws.distinct(place_key, size, self.num_marked, count)
        rows = jnp.arange(size, dtype=jnp.int32)[:, None]
        marked = jnp.zeros((size, count), bool).at[rows, places].set(True)
        noise = np.float32(self.noise) * normal(noise_key, (size, count, self.dim))
        return self.assemble(answer, classes, marked, noise)

    def assemble(
        self,
        answer: Int[Array, " B"],
        classes: Int[Array, "B T"],
        marked: Bool[Array, "B T"],
        noise: Float[Array, "B T D"],
    ) -> Batch:
        """The batch of given answers, classes of unmarked vectors, marks, and noise."""
        directions = jnp.asarray(self.directions, jnp.float32)
        shown = directions[jnp.where(marked, answer[:, None], classes)]
        inputs = shown + jnp.where(marked[..., None], np.float32(self.mark) * directions[-1], 0.0) + noise
        last = jnp.broadcast_to(jnp.arange(marked.shape[1]) == marked.shape[1] - 1, marked.shape)
        positions = {"marked": marked, "unmarked": ~marked, "answer": last}
        return Batch(inputs, jnp.where(last, answer[:, None], 0), last.astype(jnp.float32), positions)

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The exact law of the class at the last place, by the formula above; uniform elsewhere.

        `e_r` token by token, in logarithms: `e_j ← e_j + ρ_t e_{j-1}`.
        """
        ratios = self._log_ratios(batch.inputs)
        start = (
            jnp.full((len(ratios), self.num_classes, self.num_marked + 1), -jnp.inf, jnp.float32).at[..., 0].set(0.0)
        )

        def add(sums, ratio):
            with_it = jnp.logaddexp(sums[..., 1:], sums[..., :-1] + ratio[..., None])
            return jnp.concatenate([sums[..., :1], with_it], axis=-1), None

        sums, _ = jax.lax.scan(add, start, jnp.swapaxes(ratios, 0, 1))
        nothing = jnp.full((*batch.inputs.shape[:2], self.num_classes), 1.0 / self.num_classes, jnp.float32)
        return nothing.at[:, -1].set(jax.nn.softmax(sums[..., -1]))

    def _log_ratios(self, inputs: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """`log ρ_t(c)`: how much better a mark of class `c` explains each vector than no mark."""
        directions = jnp.asarray(self.directions, jnp.float32)
        along = jnp.einsum("btd,cd->btc", inputs, directions, precision=EXACT) / np.float32(self.noise**2)
        classes, mark = along[..., :-1], np.float32(self.mark) * along[..., -1:]
        unmarked = jax.nn.logsumexp(classes, axis=-1, keepdims=True) - np.float32(np.log(self.num_classes))
        return classes + mark - np.float32(0.5 * self.mark**2 / self.noise**2) - unmarked

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`loss` in nats and `accuracy`, at the last place."""
        answers.fits(logits, batch, self.num_classes, "build the model with vocab_size=task.vocab_size")
        return answers.answer_risks(logits, batch, batch.positions["answer"])


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
