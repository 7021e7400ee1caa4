"""The data model of in-context linear regression that every prediction of this package is about."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


@dataclass(frozen=True, eq=False)
class Setting:
    """Prompts of `L` pairs and a query whose label is asked:

        beta ~ N(0, Psi),   x_1, ..., x_L, x_q ~ N(m, Sigma) independent,   y = beta . x + noise of variance s2.

    Attributes:
      dim: `d`, the dimension of an input.
      context: `L`, the number of labelled pairs.
      noise_variance: `s2`.
      covariance: `Sigma`, `[d, d]`; a number stands for its multiple of the identity, None for the identity.
      mean: `m`, `[d]`; a number stands for the same mean in every coordinate, None for 0.
      prior_covariance: `Psi`, `[d, d]` or a number as above; None for `I / d`, so that `|beta|^2` is about 1.
      noisy_query: whether the label that is asked for carries noise too; then `s2` is the floor of every risk.

    Raises:
      ValueError: for sizes below 1, a negative variance, or a covariance that is not symmetric and semidefinite.

    Source: the data model of arXiv 2503.12734 (defaults `d = 5, L = 40, s2 = 0.1`).
    """

    dim: int = 5
    context: int = 40
    noise_variance: float = 0.1
    covariance: ArrayLike | None = None
    mean: ArrayLike | None = None
    prior_covariance: ArrayLike | None = None
    noisy_query: bool = True

    def __post_init__(self) -> None:
        d = check.count("dim", self.dim)
        check.count("context", self.context)
        check.number("noise_variance", self.noise_variance, 0.0)
        for name, default in (("covariance", 1.0), ("prior_covariance", 1.0 / d)):
            value = getattr(self, name)
            object.__setattr__(self, name, check.covariance(name, default if value is None else value, d))
        mean = np.asarray(0.0 if self.mean is None else self.mean, dtype=np.float64)
        mean = np.full(d, mean) if mean.ndim == 0 else mean
        object.__setattr__(self, "mean", check.frozen(check.vector("mean", mean, d)))

    @classmethod
    def of(cls, task: Any) -> Setting:
        """The setting of a task with fields of these names (`context` for `L`), as `toy_tasks.LinearRegression`."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: getattr(task, name) for name in names})

    @property
    def sigma(self) -> Float[np.ndarray, "d d"]:
        """`Sigma` as an array."""
        return np.asarray(self.covariance)

    @property
    def psi(self) -> Float[np.ndarray, "d d"]:
        """`Psi` as an array."""
        return np.asarray(self.prior_covariance)

    @property
    def shift(self) -> Float[np.ndarray, " d"]:
        """`m` as an array."""
        return np.asarray(self.mean)

    @cached_property
    def second_moment(self) -> Float[np.ndarray, "d d"]:
        """`M = E[x x^T] = Sigma + m m^T`."""
        return check.frozen(self.sigma + np.outer(self.shift, self.shift))

    @property
    def signal(self) -> float:
        """`E[(beta . x)^2] = tr(Psi M)`, what the answer 0 misses of a label without noise."""
        return float(np.trace(self.psi @ self.second_moment))

    @property
    def floor(self) -> float:
        """The risk that no predictor can avoid: `s2` if the query's label is noisy, else 0."""
        return self.noise_variance if self.noisy_query else 0.0

    @property
    def isotropic(self) -> bool:
        """Whether `Sigma = I`, `m = 0` and `Psi = I / d`, as the reduced model assumes."""
        eye = np.eye(self.dim)
        return not self.shift.any() and np.allclose(self.sigma, eye) and np.allclose(self.psi * self.dim, eye)

    @property
    def crowding(self) -> float:
        """`c = (1 + s2) / L`, the one constant in which noise and context length enter the reduced model."""
        return (1.0 + self.noise_variance) / self.context

    def at(self, context: int) -> Setting:
        """The same data with another number of pairs."""
        return dataclasses.replace(self, context=context)


def require_isotropic(setting: Setting) -> Setting:
    """The setting itself, if it is isotropic with a noisy query.

    Raises:
      ValueError: if not; the reduced model is derived for that case only.
    """
    if not (setting.isotropic and setting.noisy_query):
        allowed = "isotropic (covariance I, mean 0, prior I / d) with a noisy query"
        raise check.fail("setting", setting, allowed, "Use population_risk or exact_head_risk for other data.")
    return setting
