"""What KQ and OV of a model that regresses in context look like, head by head: the definitions.

The query's label is 0, so the columns of KQ that would read it say nothing about the model and keep what initialisation
left there. They are excluded from everything here; the rows of a key's label are not.

Reference: He, Pan, Chen, Yang, In-Context Linear Regression Demystified, arXiv 2503.12734.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.config import require

HEAD_TYPES = ("positive", "negative", "mixed", "averaging", "dummy")


class Reading(NamedTuple):
    """What KQ and OV say of each head.

    Attributes:
      diagonal: `Float[*S, H, d]`, the diagonal of `KQ[:d, :d]`; omega: `Float[*S, H]`, its mean.
      mu: `Float[*S, H, m]`, the entry of OV that takes label `i` to output `i`.
    """

    diagonal: Array
    omega: Array
    mu: Array


def identified(dim: int, num_outputs: int = 1) -> Bool[Array, "D D"]:
    """Which entries of KQ a model's predictions depend on: all rows (keys), the first `d` columns (query inputs)."""
    require(dim >= 1, "dim", dim, "an integer >= 1")
    require(num_outputs >= 1, "num_outputs", num_outputs, "an integer >= 1")
    width = dim + num_outputs
    return jnp.broadcast_to(jnp.arange(width) < dim, (width, width))


def identified_part(kq: Float[Array, "*S D D"], num_outputs: int = 1) -> Float[Array, "*S D D"]:
    """`kq` with 0 in every entry that no prediction depends on: two models are compared by this."""
    return jnp.where(identified(kq.shape[-1] - num_outputs, num_outputs), kq, 0)


def read_heads(kq: Float[Array, "*S H D D"], ov: Float[Array, "*S H D m"]) -> Reading:
    """Diagonals, their means, and the label entries of OV; `d = D - m`."""
    outputs = ov.shape[-1]
    d = kq.shape[-1] - outputs
    hint = "The circuits must be those of one layer that predicts."
    require(d >= 1, "ov", ov.shape, f"fewer outputs than the {kq.shape[-1]} coordinates of a token", hint)
    diagonal = jnp.diagonal(kq[..., :d, :d], axis1=-2, axis2=-1)
    return Reading(diagonal, jnp.mean(diagonal, axis=-1), jnp.diagonal(ov[..., d:, :], axis1=-2, axis2=-1))


def kq_terms(kq: Float[Array, "*S H D D"], num_outputs: int = 1) -> dict[str, Float[Array, "*S H"]]:
    """How near `KQ[:, :d]` is to `(omega I; 0)`, per head. A head that is exactly 0 gets 0 in all of these.

    Returns:
      diagonality: `|diag|_2 / |.|_F` of the block `KQ[:d, :d]`; 1 = diagonal.
      homogeneity: `std(diag) / |mean(diag)|`; 0 = one number on the diagonal, infinite if the mean is 0 alone.
      identity_cosine: cosine between `KQ[:, :d]` and `(I; 0)`, signed; entries off the diagonal, differences on it and
        the label rows all take from 1.
      off_diagonal_norm: Frobenius norm of the block without its diagonal.
      label_row_norm: of the rows `KQ[d:, :d]`, by which labels of keys would enter the weights.
    """
    d = kq.shape[-1] - num_outputs
    block, rows = kq[..., :d, :d], kq[..., d:, :d]
    diagonal = jnp.diagonal(block, axis1=-2, axis2=-1)
    off = block * (1 - jnp.eye(d, dtype=kq.dtype))
    on, off_norm, row_norm = _norm(diagonal, 1), _norm(off, 2), _norm(rows, 2)
    mean = jnp.mean(diagonal, axis=-1)
    return {
        "diagonality": ratio(on, jnp.hypot(on, off_norm)),
        "homogeneity": ratio(jnp.std(diagonal, axis=-1), jnp.abs(mean)),
        "identity_cosine": ratio(d**0.5 * mean, _norm(kq[..., :d], 2)),
        "off_diagonal_norm": off_norm,
        "label_row_norm": row_norm,
    }


def ov_purity(ov: Float[Array, "*S H D m"]) -> Float[Array, "*S H m"]:
    """`OV[d + i, i]^2 / |OV[:, i]|^2`: the share of output `i` that is its own label. 0 for a head that is 0.

    With more than two heads, parts of OV that read inputs can cancel between heads of the same sign: see
    `group_terms`.
    """
    outputs = ov.shape[-1]
    own = jnp.diagonal(ov[..., ov.shape[-2] - outputs :, :], axis1=-2, axis2=-1)
    return ratio(own * own, jnp.sum(ov * ov, axis=-2))


def step_matrix(kq: Float[Array, "*S H D D"], mu: Float[Array, "*S H m"]) -> Float[Array, "*S m d d"]:
    """`Gamma_i = sum_h mu_h^i KQ_h[:d, :d]^T`, row = coordinate of the query.

    In the limit of small KQ, zero-sum softmax heads predict `x_q^T Gamma (1/C) sum_c y_c (x_c - xbar)`: a step of
    gradient descent from 0, preconditioned by `Gamma` and debiased.
    """
    d = kq.shape[-1] - mu.shape[-1]
    return jnp.einsum("...hi,...hkq->...iqk", mu, kq[..., :d, :d])


def head_types(omega: Float[Array, "*S H"], mu: Float[Array, "*S H m"], threshold: float = 0.1) -> Int[Array, "*S H m"]:
    """The type of each head for each output, an index into `HEAD_TYPES`.

    `omega` and `mu` count as 0 up to `threshold` times the largest of all heads in absolute value, `mu` of each output
    by itself. A head whose diagonal changes sign between coordinates, as several tasks can make it, has no type that
    says so: see `attnlab.analysis.superposition`.

    Returns:
      0 positive: both > 0. 1 negative: both < 0. 2 mixed: of different sign. 3 averaging: only `omega` is 0, the head
      adds `mu` times the mean label. 4 dummy: `mu` is 0, whatever `omega`: it does nothing for this output.
    """
    require(0 <= threshold < 1, "threshold", threshold, "a number >= 0 and < 1")
    asks, says = _sign(omega, threshold, axis=-1)[..., None], _sign(mu, threshold, axis=-2)
    cases = [says == 0, asks == 0, asks != says, says < 0]
    return jnp.select([jnp.broadcast_to(case, mu.shape) for case in cases], [4, 3, 2, 1], 0)


def sign_terms(omega: Float[Array, "*S H"], mu: Float[Array, "*S H m"], threshold: float = 0.1) -> dict[str, Array]:
    """Head types, counted; a head is active if it is positive or negative. See `head_types`.

    Returns:
      head_type: `Int[*S, H, m]`.
      num_positive, num_negative, num_mixed, num_averaging, num_dummy: `Int[*S, m]`.
      same_sign: `[*S, m]`, 1 if there are active heads and all share a sign: with two heads or more a local solution,
        which cannot take the mean of the labels out.
      omega_spread: `[*S, m]`, `(max - min) / mean` of `|omega|` over active heads, 0 if there are fewer than two.
    """
    types = head_types(omega, mu, threshold)
    counts = {f"num_{name}": jnp.sum(types == code, axis=-2) for code, name in enumerate(HEAD_TYPES)}
    active, size = types <= 1, jnp.abs(omega)[..., None]
    number = jnp.sum(active, axis=-2)
    largest = jnp.max(jnp.where(active, size, -jnp.inf), axis=-2)
    smallest = jnp.min(jnp.where(active, size, jnp.inf), axis=-2)
    mean = ratio(jnp.sum(jnp.where(active, size, 0), axis=-2), number)
    return {
        "head_type": types,
        **counts,
        "same_sign": ((counts["num_positive"] > 0) != (counts["num_negative"] > 0)).astype(omega.dtype),
        "omega_spread": jnp.where(number >= 2, ratio(jnp.where(number >= 2, largest - smallest, 0), mean), 0),
    }


def group_terms(ov: Float[Array, "*S H D m"], types: Int[Array, "*S H m"]) -> dict[str, Array]:
    """OV summed over heads of the same sign, which share one KQ in the paper's solution and so act as one head.

    Returns:
      ov_positive, ov_negative: `[*S, D, m]`, the sum over the heads of that type for each output.
      mu_positive, mu_negative: `[*S, m]`, its label entry.
      purity_positive, purity_negative: `[*S, m]`, the share of that entry (`ov_purity`); 0 if there is no such head.
    """
    found: dict[str, Array] = {}
    start = ov.shape[-2] - ov.shape[-1]
    for code, name in enumerate(("positive", "negative")):
        total = jnp.sum(ov * (types == code)[..., None, :], axis=-3)
        found[f"ov_{name}"] = total
        found[f"mu_{name}"] = jnp.diagonal(total[..., start:, :], axis1=-2, axis2=-1)
        found[f"purity_{name}"] = ov_purity(total[..., None, :, :])[..., 0, :]
    return found


def ratio(top: Array, bottom: Array) -> Array:
    """`top / bottom`, with `0 / 0 = 0`."""
    return jnp.where(top == 0, 0, top / jnp.where((top == 0) & (bottom == 0), 1, bottom))


def _norm(array: Array, axes: int) -> Array:
    """Euclidean norm over the last `axes` axes."""
    return jnp.sqrt(jnp.sum(array * array, axis=tuple(range(-axes, 0))))


def _sign(values: Array, threshold: float, axis: int) -> Array:
    """Sign of each value, 0 up to `threshold` times the largest along `axis`."""
    size = jnp.abs(values)
    return jnp.where(size > threshold * jnp.max(size, axis=axis, keepdims=True), jnp.sign(values), 0)
