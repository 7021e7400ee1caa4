"""Predictors of the query's label from the context: the baselines that a trained model is compared with.

A predictor is a frozen dataclass that is called as `predictor(x, y, query, seen=None)`, with

    x [..., C, d]    y [..., C, m]    query [..., d]    seen [..., C]    ->    [..., m]

Leading axes broadcast. `seen` is 1 for the pairs that count and 0 for the others, by which all prefixes are done at
once (`on_prefixes`). `n` is the number of seen pairs; without any every predictor says 0. Each works under `jit` and
`vmap`; strengths, steps and scales may be traced arrays, to sweep over them.

References: Garg et al., arXiv 2208.01066 (the baselines); He et al., arXiv 2503.12734 (debiased step, softmax heads).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from toy_tasks.least_squares import EXACT, ridge
from toy_tasks.regression_checks import covariance, require, root

if TYPE_CHECKING:
    from toy_tasks.linear_regression import LinearRegression


class Predictor(Protocol):
    """What every predictor here is; a function with these arguments is one too."""

    def __call__(
        self,
        x: Float[Array, "... C d"],
        y: Float[Array, "... C m"],
        query: Float[Array, "... d"],
        seen: Float[Array, "... C"] | None = None,
    ) -> Float[Array, "... m"]: ...


def on_prefixes(
    predictor: Predictor, x: Float[Array, "B C d"], y: Float[Array, "B C m"], query: Float[Array, "B d"]
) -> Float[Array, "B C+1 m"]:
    """The label of pair `n + 1` from the first `n` pairs, for `n = 0..C`; of the query from all pairs, for `n = C`."""
    num = x.shape[1]
    asked = jnp.concatenate([x, query[:, None]], axis=1)
    seen = jnp.tril(jnp.ones((num + 1, num), x.dtype), -1)
    return predictor(x[:, None], y[:, None], asked, seen)


@dataclass(frozen=True, eq=False)
class Bayes:
    """The posterior mean of the label, for `beta_i ~ N(0, P_i)` and label noise of variance `s_i`, `i = 1..m`.

        yhat_i = x_q^T R_i (R_i^T X^T X R_i + s_i I)^-1 R_i^T X^T y_i,    R_i R_i^T = P_i

    Where `s_i = 0` its limit: of all `beta_i` that fit the pairs (if there are none, fit best) the one that is smallest
    in the metric of the prior. The law of the inputs does not matter. A prior may have any rank.

    Attributes:
      priors: `P`, `[m, d, d]`. noise: `s`, `[m]`.
    """

    priors: np.ndarray
    noise: np.ndarray

    def __post_init__(self) -> None:
        priors = np.array(self.priors, np.float64)
        require(
            priors.ndim == 3 and priors.shape[1] == priors.shape[2],
            "Bayes.priors",
            f"shape {priors.shape}",
            "shape [m, d, d]",
        )
        noise = np.array(self.noise, np.float64)
        require(
            noise.shape == priors.shape[:1],
            "Bayes.noise",
            f"shape {noise.shape}",
            f"shape {priors.shape[:1]}, as priors",
        )
        require(np.all(np.isfinite(noise)) and np.all(noise >= 0), "Bayes.noise", noise, "finite numbers >= 0")
        for prior in priors:
            covariance("Bayes.priors", prior)
        object.__setattr__(self, "priors", priors)
        object.__setattr__(self, "noise", noise)

    def __call__(self, x: Array, y: Array, query: Array, seen: Array | None = None) -> Float[Array, "... m"]:
        num, dim = self.priors.shape[:2]
        require(
            (x.shape[-1], y.shape[-1]) == (dim, num), "Bayes", f"x {x.shape}, y {y.shape}", f"d = {dim} and m = {num}"
        )
        x, y, rows = _rows(x, y, seen)
        roots = [root(prior) for prior in self.priors]  # [d, r]: one column per direction in which beta can be
        ranks = np.array([r.shape[1] for r in roots])
        widest = jnp.asarray(np.stack([np.pad(r, ((0, 0), (0, ranks.max() - r.shape[1]))) for r in roots]), x.dtype)
        white = jnp.einsum("...cd,mdr->...mcr", x, widest, precision=EXACT)
        labels = jnp.swapaxes(y, -1, -2)[..., None]
        coordinates = ridge(white, labels, self.noise, rows=jnp.asarray(rows)[..., None], columns=ranks)[..., 0]
        asked = jnp.einsum("...d,mdr->...mr", query, widest, precision=EXACT)
        return jnp.einsum("...mr,...mr->...m", asked, coordinates, precision=EXACT)


def bayes(task: LinearRegression) -> Bayes:
    """The exact oracle of a task."""
    return Bayes(task.priors, task.label_noise)


@dataclass(frozen=True)
class Ridge:
    """`yhat = x_q^T (X^T X + strength I)^-1 X^T y`, sums and not means; at strength 0 the same as `LeastSquares`."""

    strength: Any

    def __post_init__(self) -> None:
        number = isinstance(self.strength, Tracer) or (np.ndim(self.strength) == 0 and self.strength >= 0)
        require(number, "Ridge.strength", repr(self.strength), "a number >= 0")

    def __call__(self, x: Array, y: Array, query: Array, seen: Array | None = None) -> Float[Array, "... m"]:
        x, y, rows = _rows(x, y, seen)
        return jnp.einsum("...d,...dm->...m", query, ridge(x, y, self.strength, rows=rows), precision=EXACT)


@dataclass(frozen=True)
class LeastSquares:
    """`yhat = w . x_q` with the `w` of least squared error, and of least norm among these."""

    def __call__(self, x: Array, y: Array, query: Array, seen: Array | None = None) -> Float[Array, "... m"]:
        return Ridge(0.0)(x, y, query, seen)


@dataclass(frozen=True, eq=False)
class GradientStep:
    """One step of gradient descent from 0: `yhat = eta x_q^T G (1/n) sum_l y_l x_l`.

    Attributes:
      eta: the step. preconditioner: `G`, `[d, d]`, or `[m, d, d]` if every output has its own; None = the identity.
    """

    eta: Any
    preconditioner: Any = None

    def __call__(self, x: Array, y: Array, query: Array, seen: Array | None = None) -> Float[Array, "... m"]:
        return self._step(query, _mean("c,cm,cd->md", seen, y, x))

    def _step(self, query: Array, slope: Array) -> Array:
        """`eta x_q^T G slope_i`, with `slope [..., m, d]`."""
        asked = query[..., None, :]
        if self.preconditioner is not None:
            factor = jnp.asarray(self.preconditioner, query.dtype)
            dim, num = query.shape[-1], slope.shape[-2]
            allowed = ((dim, dim), (num, dim, dim))
            name = f"{type(self).__name__}.preconditioner"
            require(factor.shape in allowed, name, f"shape {factor.shape}", " or ".join(map(str, allowed)))
            by_output = jnp.broadcast_to(factor, allowed[1])
            asked = jnp.einsum("...d,mde->...me", query, by_output, precision=EXACT)
        return self.eta * jnp.sum(asked * slope, axis=-1)


@dataclass(frozen=True, eq=False)
class DebiasedStep(GradientStep):
    """The same with centred inputs: `yhat = eta x_q^T G (1/n) sum_l y_l (x_l - xbar)`.

    `xbar` is the mean of the seen. What two softmax heads of opposite signs do at small scale (He et al.).
    """

    def __call__(self, x: Array, y: Array, query: Array, seen: Array | None = None) -> Float[Array, "... m"]:
        means = _mean("c,cm->m", seen, y)[..., :, None] * _mean("c,cd->d", seen, x)[..., None, :]
        return self._step(query, _mean("c,cm,cd->md", seen, y, x) - means)


@dataclass(frozen=True)
class Averaging:
    """`yhat = w . x_q` with `w = (1/n) sum_l y_l x_l` (Garg et al.): Hebb's rule, a gradient step of size 1."""

    def __call__(self, x: Array, y: Array, query: Array, seen: Array | None = None) -> Float[Array, "... m"]:
        return GradientStep(1.0)(x, y, query, seen)


@dataclass(frozen=True)
class NearestNeighbours:
    """The mean label of the `k` pairs whose inputs are nearest to the query; of all seen, if they are fewer."""

    k: int = 3

    def __post_init__(self) -> None:
        whole = isinstance(self.k, int) and not isinstance(self.k, bool) and self.k >= 1
        require(whole, "NearestNeighbours.k", repr(self.k), "an integer >= 1")

    def __call__(self, x: Array, y: Array, query: Array, seen: Array | None = None) -> Float[Array, "... m"]:
        distance = jnp.sum((x - query[..., None, :]) ** 2, axis=-1)
        if seen is not None:
            distance = jnp.where(seen > 0, distance, jnp.inf)
        found, place = jax.lax.top_k(-distance, min(self.k, x.shape[-2]))
        counts = jnp.isfinite(found).astype(y.dtype)
        labels = jnp.broadcast_to(y, (*distance.shape, y.shape[-1]))
        near = jnp.take_along_axis(labels, place[..., None], axis=-2)
        total = jnp.einsum("...k,...km->...m", counts, near, precision=EXACT)
        return total / jnp.maximum(jnp.sum(counts, axis=-1, keepdims=True), 1.0)


@dataclass(frozen=True)
class Zero:
    """Always 0: what an untrained model says."""

    def __call__(self, x: Array, y: Array, query: Array, seen: Array | None = None) -> Float[Array, "... m"]:
        lead = jnp.broadcast_shapes(x.shape[:-2], query.shape[:-1], () if seen is None else seen.shape[:-1])
        return jnp.zeros((*lead, y.shape[-1]), y.dtype)


@dataclass(frozen=True, eq=False)
class SoftmaxHeads:
    """One layer of softmax attention as training leaves it: `yhat = sum_h mu_h sum_l softmax_l(omega_h x_l . x_q) y_l`.

    Attributes:
      omega, mu: `[H]`, the scale of KQ and of OV of each head.
    """

    omega: Any
    mu: Any

    def __post_init__(self) -> None:
        shapes = np.shape(self.omega), np.shape(self.mu)
        require(len(shapes[0]) == 1, "SoftmaxHeads.omega", f"shape {shapes[0]}", "one number per head, shape [H]")
        require(shapes[0] == shapes[1], "SoftmaxHeads.mu", f"shape {shapes[1]}", f"shape {shapes[0]}, as omega")

    def __call__(self, x: Array, y: Array, query: Array, seen: Array | None = None) -> Float[Array, "... m"]:
        alike = jnp.einsum("...cd,...d->...c", x, query, precision=EXACT)
        scores = jnp.asarray(self.omega, x.dtype)[:, None] * alike[..., None, :]
        if seen is not None:
            scores = jnp.where(seen[..., None, :] > 0, scores, -jnp.inf)
        top = jnp.max(scores, axis=-1, keepdims=True, initial=jnp.finfo(x.dtype).min)
        weights = jnp.exp(scores - jax.lax.stop_gradient(top))
        total = jnp.sum(weights, axis=-1)  # at least 1, or 0 if nothing is seen
        mixed = jnp.asarray(self.mu, x.dtype) / jnp.where(total > 0, total, 1.0)
        return jnp.einsum("...h,...hc,...cm->...m", mixed, weights, y, precision=EXACT)


def _rows(x: Array, y: Array, seen: Array | None) -> tuple[Array, Array, Any]:
    """The pairs, those not seen as zeros, and how many there are."""
    if seen is None:
        return x, y, x.shape[-2]
    return x * seen[..., None], y * seen[..., None], jnp.sum(seen, axis=-1)


def _mean(sum_over: str, seen: Array | None, *factors: Array) -> Array:
    """The mean over the seen pairs; 0 if there are none. `sum_over` names the axes, `c` the pair."""
    num = factors[0].shape[-2]
    weight = jnp.ones((num,), factors[0].dtype) if seen is None else seen
    weight = weight / jnp.maximum(jnp.sum(weight, axis=-1, keepdims=True), 1.0)
    names, out = sum_over.split("->")
    spelled = ",".join("..." + name for name in names.split(","))
    return jnp.einsum(f"{spelled}->...{out}", weight, *factors, precision=EXACT)
