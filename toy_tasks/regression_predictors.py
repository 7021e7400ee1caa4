"""Predictors of the query's label from the context: the baselines that a trained model is compared with.

A predictor is `predictor(x, y, query, seen=None) -> Float[..., m]` with `x [..., C, d]`, `y [..., C, m]`,
`query [..., d]`, and `seen [..., C]` the weight (0 or 1) of each pair, by which all prefixes are done at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jaxtyping import Array, Float

if TYPE_CHECKING:
    from toy_tasks.linear_regression import LinearRegression

Predictor = Callable[..., Any]


def bayes(task: LinearRegression) -> Predictor:
    """To be written."""
    raise NotImplementedError


def on_prefixes(
    predictor: Predictor, x: Float[Array, "B C d"], y: Float[Array, "B C m"], query: Float[Array, "B d"]
) -> Float[Array, "B C+1 m"]:
    """To be written: predictions of `y_{n+1}` from the first `n` pairs, n = 0..C, all at once."""
    raise NotImplementedError
