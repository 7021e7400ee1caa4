"""In-context linear regression: pairs `(x_l, y_l)` of an unknown linear function, and a query whose label is asked.

    beta ~ N(0, prior_covariance),   x_1, ..., x_C, x_q ~ N(mean, covariance),   y_l = beta . x_l + noise

Every prompt has its own `beta`: what a model learns is not a function but how to find one from its context.

References: He, Pan, Chen, Yang, In-Context Linear Regression Demystified, arXiv 2503.12734 (the defaults, and several
outputs with overlapping supports); Garg et al., arXiv 2208.01066; von Oswald et al., arXiv 2212.07677; Zhang, Frei,
Bartlett, arXiv 2306.09927.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from toy_tasks import regression_checks, regression_predictors
from toy_tasks.base import Batch, Prompt
from toy_tasks.gaussian import normal
from toy_tasks.least_squares import EXACT

Layout = Literal["columns", "masked_key", "interleaved"]
NoisePer = Literal["label", "coordinate"]
InputLaw = Literal["normal", "uniform"]


@dataclass(frozen=True, eq=False)
class LinearRegression:
    """In-context linear regression in the published conventions, each behind an argument.

    Attributes:
      dim: `d`, the dimension of an input.
      context: `C`, the number of labelled pairs before the query.
      noise_variance: variance of the label noise, per what `noise_per` says.
      noise_per: `label`: that is the variance. `coordinate`: it is multiplied by the number of coordinates that the
        label depends on (the multi-task convention of He et al.: `k sigma^2`, where `|beta|^2 = k`).
      noisy_query: whether the label that is asked for carries noise too (He et al.: yes; then the noise variance is the
        floor of every risk), or is `beta . x_q` itself. Interleaved, this is the last label; the others are asked for
        as they are read.
      covariance, mean: of an input, `[d, d]` and `[d]`; None = the identity and 0. A number stands for its multiple of
        the identity, or the same mean in every coordinate.
      prior_covariance: of `beta`, `[d, d]` or a number times the identity; None = `I / d`: `|beta|^2` is about 1.
      input_law: `normal`, or `uniform` on a cube that is then shaped by the square root of the covariance.
      supports: for several outputs, the coordinates that each depends on. Output `i` has its own
        `beta_i ~ N(0, prior_covariance)` restricted to these. Empty: one output that depends on all.
      layout: what the model reads.
        `columns`: a `Prompt`; the query is no key (He et al.).
        `masked_key`: `Float[B, C + 1, d + m]`, the query last with label 0; the model masks it as a key (von Oswald,
          Ahn) or not (Zhang et al.).
        `interleaved`: `Float[B, 2 C + 1, max(d, m)]`, `x_1, y_1, x_2, ...`, padded with zeros; a prediction at every
          `x`, so that the loss is over all prefixes of 0 to `C` pairs (Garg et al.).

    A batch has `targets [B, 1, m]`, or `[B, 2 C + 1, m]` if interleaved, where `loss_mask` picks the places of `x`.
    Position classes: `query` (interleaved: every `x`), `label` or `context` for what else is in the sequence.
    """

    dim: int = 5
    context: int = 40
    noise_variance: float = 0.1
    noise_per: NoisePer = "label"
    noisy_query: bool = True
    covariance: np.ndarray | float | None = None
    mean: np.ndarray | float | None = None
    prior_covariance: np.ndarray | float | None = None
    input_law: InputLaw = "normal"
    supports: tuple[tuple[int, ...], ...] = ()
    layout: Layout = "columns"

    reference = "He, Pan, Chen, Yang: In-Context Linear Regression Demystified, arXiv 2503.12734 (2025)"

    def __post_init__(self) -> None:
        regression_checks.check(self)
        object.__setattr__(self, "supports", tuple(tuple(int(c) for c in s) for s in self.supports))
        for name in ("covariance", "mean", "prior_covariance"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, regression_checks.array(self, name))

    # ---- the published settings

    @classmethod
    def multi_task(cls, dim: int = 6, supports: Sequence[Sequence[int]] = ((0, 1, 2, 3), (2, 3, 4, 5))):
        """The overlapping tasks of He et al.: `beta ~ N(0, I)` on its support, noise variance 0.1 per coordinate."""
        chosen = tuple(tuple(s) for s in supports)
        return cls(dim, 8 * dim, 0.1, "coordinate", False, prior_covariance=1.0, supports=chosen)

    @classmethod
    def von_oswald(cls, dim: int = 10, context: int = 10):
        """Noiseless, inputs uniform on `[-1/2, 1/2]^d`, `beta ~ N(0, I)`, the query a masked key."""
        law: Any = {"covariance": 1 / 12, "prior_covariance": 1.0, "input_law": "uniform"}
        return cls(dim, context, 0.0, noisy_query=False, layout="masked_key", **law)

    @classmethod
    def garg(cls, dim: int = 20, points: int = 41):
        """Noiseless, standard normal inputs and `beta`, interleaved; `points` inputs of which the last has no label."""
        return cls(dim, points - 1, 0.0, noisy_query=False, prior_covariance=1.0, layout="interleaved")

    # ---- sizes

    @property
    def num_outputs(self) -> int:
        """`m`."""
        return max(len(self.supports), 1)

    @property
    def width(self) -> int:
        """Numbers per token."""
        return max(self.dim, self.num_outputs) if self.layout == "interleaved" else self.dim + self.num_outputs

    @property
    def length(self) -> int:
        """`T`, the number of tokens, the query included."""
        return 2 * self.context + 1 if self.layout == "interleaved" else self.context + 1

    def describe(self) -> str:
        """A few lines of text: sizes, laws, conventions."""
        prior = "I/d" if self.prior_covariance is None else "given"
        law = ", ".join(n for n in ("covariance", "mean", "prior_covariance") if getattr(self, n) is not None) or "none"
        return "\n".join(
            [
                f"In-context linear regression, d = {self.dim}, C = {self.context} pairs, {self.num_outputs} output(s)",
                f"layout {self.layout}; inputs {self.input_law}; prior of beta {prior}; given: {law}",
                f"label noise {self.noise_variance:g} per {self.noise_per}, on the query too: {self.noisy_query}",
                self.reference,
            ]
        )

    # ---- the law

    @cached_property
    def support_mask(self) -> np.ndarray:
        """`Float[m, d]`: 1 where output `i` depends on coordinate `j`."""
        mask = np.zeros((self.num_outputs, self.dim))
        for row, support in zip(mask, self.supports or (range(self.dim),), strict=True):
            row[list(support)] = 1.0
        return mask

    @cached_property
    def label_noise(self) -> np.ndarray:
        """`Float[m]`: variance of the noise of each label."""
        per = self.support_mask.sum(axis=1) if self.noise_per == "coordinate" else np.ones(self.num_outputs)
        return self.noise_variance * per

    @cached_property
    def input_covariance(self) -> np.ndarray:
        """`Float[d, d]`."""
        return np.eye(self.dim) if self.covariance is None else np.asarray(self.covariance)

    @cached_property
    def input_mean(self) -> np.ndarray:
        """`Float[d]`."""
        return np.zeros(self.dim) if self.mean is None else np.asarray(self.mean)

    @cached_property
    def priors(self) -> np.ndarray:
        """`Float[m, d, d]`: covariance of each `beta_i`, zero outside its support."""
        prior = np.eye(self.dim) / self.dim if self.prior_covariance is None else np.asarray(self.prior_covariance)
        return prior * self.support_mask[:, :, None] * self.support_mask[:, None, :]

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B` independent prompts. Pure, on the device.

        The pairs, their noise, and what a prompt has one of (query, `beta`, noise of the query) come from three keys.
        """
        d, m, num = self.dim, self.num_outputs, self.context
        regression_checks.require(batch_size >= 1, "batch_size", batch_size, "an integer >= 1")
        pairs_key, noise_key, rest_key = jax.random.split(key, 3)
        rest = self._draw(rest_key, (batch_size, d * (m + 1) + m))
        x = self._inputs(self._input_draw(pairs_key, (batch_size, num, d)))
        if self.input_law == "normal":
            query = self._inputs(rest[:, :d])
        else:
            query = self._inputs(self._input_draw(jax.random.fold_in(rest_key, 1), (batch_size, d)))
        beta = self._betas(rest[:, d : d + d * m].reshape(batch_size, m, d))
        scale = jnp.asarray(np.sqrt(self.label_noise), jnp.float32)
        y = jnp.einsum("bcd,bmd->bcm", x, beta, precision=EXACT)
        if self.noise_variance > 0:
            y = y + scale * self._draw(noise_key, (batch_size, num, m))
        asked = jnp.einsum("bd,bmd->bm", query, beta, precision=EXACT)
        if self.noisy_query:
            asked = asked + scale * rest[:, -m:]
        return self.assemble(Prompt(x, y, query), asked)

    def assemble(self, prompt: Prompt, asked: Float[Array, "B m"]) -> Batch:
        """The batch of given prompts in this task's layout; `asked` are the labels of the queries."""
        size, num = prompt.x.shape[:2]
        if self.layout == "columns":
            return Batch(prompt, asked[:, None], jnp.ones((size, 1)), {"query": jnp.ones((size, 1), bool)})
        if self.layout == "masked_key":
            last = jnp.broadcast_to(jnp.arange(num + 1) == num, (size, num + 1))
            return Batch(prompt.tokens, asked[:, None], jnp.ones((size, 1)), {"query": last, "context": ~last})
        x = jnp.concatenate([prompt.x, prompt.query[:, None]], axis=1)
        y = jnp.concatenate([prompt.y, asked[:, None]], axis=1)
        wide = [jnp.pad(a, ((0, 0), (0, 0), (0, self.width - a.shape[-1]))) for a in (x, y)]
        tokens = jnp.stack(wide, axis=2).reshape(size, -1, self.width)[:, :-1]
        targets = jnp.repeat(y, 2, axis=1)[:, :-1]
        here = jnp.broadcast_to(jnp.arange(2 * num + 1) % 2 == 0, (size, 2 * num + 1))
        return Batch(tokens, targets, here.astype(x.dtype), {"query": here, "label": ~here})

    def prompt(self, batch: Batch) -> Prompt:
        """The prompts of a batch, whatever its layout: the inverse of `assemble`."""
        if self.layout == "columns":
            return batch.inputs
        if self.layout == "masked_key":
            return Prompt.of(batch.inputs, self.dim)
        x, y = batch.inputs[:, 0::2, : self.dim], batch.inputs[:, 1::2, : self.num_outputs]
        return Prompt(x[:, :-1], y, x[:, -1])

    def oracle(self, batch: Batch) -> Float[Array, "B T m"]:
        """The Bayes predictor: posterior mean of the label given the context; 0 at places that predict nothing.

        Ridge regression with the prior and noise of this task; noiseless, its limit, the minimum-norm solution in the
        metric of the prior.
        """
        return self.predict(regression_predictors.bayes(self), batch)

    def predict(self, predictor: regression_predictors.Predictor, batch: Batch) -> Float[Array, "B T m"]:
        """A predictor (`toy_tasks.regression_predictors`) at every place that asks for a label."""
        prompt = self.prompt(batch)
        if self.layout != "interleaved":
            return predictor(prompt.x, prompt.y, prompt.query)[:, None]
        found = regression_predictors.on_prefixes(predictor, prompt.x, prompt.y, prompt.query)
        spread = jnp.stack([found, jnp.zeros_like(found)], axis=2)
        return spread.reshape(len(found), -1, self.num_outputs)[:, :-1]

    def risks(self, logits: Float[Array, "B T m"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """`mse`; `bayes`, that of the oracle; `excess`, the mean squared distance to the oracle.

        In expectation `mse = bayes + excess`. Means over outputs and over the places that `loss_mask` picks.
        """
        shape = batch.targets.shape
        regression_checks.require(logits.shape == shape, "logits", f"shape {logits.shape}", f"that of targets, {shape}")
        best = self.oracle(batch)
        weight = batch.loss_mask[..., None] / (jnp.sum(batch.loss_mask) * self.num_outputs)
        gaps = {"mse": logits - batch.targets, "bayes": best - batch.targets, "excess": logits - best}
        return {name: jnp.sum(weight * gap * gap) for name, gap in gaps.items()}

    def _draw(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        """Drawn once and kept: XLA would rather draw again for the backward pass than remember."""
        return jax.lax.optimization_barrier(normal(key, shape))

    def _input_draw(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        if self.input_law == "normal":
            return self._draw(key, shape)
        return jax.random.uniform(key, shape, minval=-(3**0.5), maxval=3**0.5)

    def _inputs(self, white: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
        x = white
        if self.covariance is not None:
            factor = jnp.asarray(regression_checks.symmetric_root(self.input_covariance), x.dtype)
            x = jnp.matmul(x, factor, precision=EXACT)
        return x if self.mean is None else x + jnp.asarray(self.input_mean, x.dtype)

    def _betas(self, white: Float[Array, "B m d"]) -> Float[Array, "B m d"]:
        if self.prior_covariance is None and not self.supports:
            return white * np.float32(self.dim**-0.5)
        roots = np.stack([regression_checks.symmetric_root(prior) for prior in self.priors])
        return jnp.einsum("bmd,med->bme", white, jnp.asarray(roots, white.dtype), precision=EXACT)
