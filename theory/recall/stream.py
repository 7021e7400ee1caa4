"""Regression at test time on a stream whose law changes: what four memories can predict of the next value.

    segment s    keys k = m_s + N(0, I_d), m_s even on the sphere of radius r; v = W_s k + noise, W_s entries N(0, 1/d)
    step i       the value of key i is predicted from the pairs before it, sum_(j < i) A_ij v_j

`A` depends on the keys alone, so that given them every expectation over maps and noise has a closed form. Per entry of
the value

    E (v_i - prediction)^2 = (1/d) sum_s |z_is|^2 + s2 (1 + sum_j A_ij^2),  z_is = [i in s] k_i - sum_(j in s) A_ij k_j

and errors at different steps have covariance `(1/d) sum_s z_is . z_js + s2 ((I - A)(I - A)^T)_ij`, which gives the
spread of the mean square of one stream.

Source: the task of arXiv 2510.01450 (piecewise linear, non-stationary); the generator and the forms are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.recall.smoothers import kernel_weights, local_linear_weights


@dataclass(frozen=True)
class Stream:
    """A piecewise linear stream.

    Attributes:
      dim: `d`, of keys.
      radius: `r`, of the segment means.
      length: `n`.
      segment: steps in each segment; the last may be shorter.
      noise: standard deviation of the noise of values.
    """

    dim: int = 8
    radius: float = 6.0
    length: int = 512
    segment: int = 128
    noise: float = 0.05

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("length", 2), ("segment", 1)):
            check.count(name, getattr(self, name), least)
        check.number("radius", self.radius, 0.0)
        check.number("noise", self.noise, 0.0)

    @property
    def segments(self) -> np.ndarray:
        """`[n]`, the segment of each step."""
        return np.arange(self.length) // self.segment

    def keys(self, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
        """A draw of the keys.

        Args:
          rng: NumPy's generator.
        """
        means = rng.standard_normal((self.segments[-1] + 1, self.dim))
        means *= self.radius / np.linalg.norm(means, axis=1, keepdims=True)
        return means[self.segments] + rng.standard_normal((self.length, self.dim))


class PastMemory(Protocol):
    """A predictor that is linear in the values."""

    def weights(self, keys: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
        """`A`, zero on and above the diagonal: row `i` reads the pairs before `i`."""
        ...


@dataclass(frozen=True)
class LocalConstant:
    """Softmax with a Gaussian kernel.

    Attributes:
      bandwidth: `h`.
    """

    bandwidth: float = 1.0

    def weights(self, keys: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
        """`kernel_weights` of the pairs before."""
        A = np.zeros((len(keys), len(keys)))
        for i in range(1, len(keys)):
            A[i, :i] = kernel_weights(keys[i : i + 1], keys[:i], self.bandwidth)[0]
        return A


@dataclass(frozen=True)
class LocalLinear:
    """Local linear attention.

    Attributes:
      bandwidth: `h`.
      ridge: `lambda`, relative to normalised weights.
    """

    bandwidth: float = 1.0
    ridge: float = 1e-3

    def weights(self, keys: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
        """`local_linear_weights` of the pairs before."""
        A = np.zeros((len(keys), len(keys)))
        for i in range(1, len(keys)):
            A[i, :i] = local_linear_weights(keys[i : i + 1], keys[:i], self.bandwidth, self.ridge)[0]
        return A


@dataclass(frozen=True)
class Mesa:
    """Ridge regression on all pairs before: `A_ij = k_i^T (sum k k^T + lambda I)^-1 k_j`, no intercept.

    Attributes:
      ridge: `lambda`.
    """

    ridge: float = 1e-3

    def weights(self, keys: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
        """The formula of the class."""
        A, moment = np.zeros((len(keys), len(keys))), self.ridge * np.eye(keys.shape[1])
        for i, key in enumerate(keys):
            A[i, :i] = keys[:i] @ np.linalg.solve(moment, key)
            moment += np.outer(key, key)
        return A


@dataclass(frozen=True)
class DeltaRule:
    """One normalised step a pair, `S <- S + b k (v - S^T k)^T / |k|^2`.

    Attributes:
      rate: `b`.
    """

    rate: float = 1.0

    def weights(self, keys: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
        """The state as a matrix over the values that were seen."""
        n = len(keys)
        A, state = np.zeros((n, n)), np.zeros((keys.shape[1], n))
        for i, key in enumerate(keys):
            A[i] = key @ state
            miss = -A[i]
            miss[i] += 1.0
            state += self.rate * np.outer(key, miss) / (key @ key)
        return A


class StreamMean(NamedTuple):
    """The mean square of some steps of a stream, given its keys.

    Attributes:
      mean: over maps and noise.
      spread: its standard deviation from one choice of maps and noise to another.
    """

    mean: float
    spread: float


def stream_risk(stream: Stream, keys: ArrayLike, weights: ArrayLike) -> Float[np.ndarray, " n"]:
    """Expected squared error of each step, per entry of the value, given the keys.

    Args:
      stream: the data.
      keys: `[n, d]`, of `stream.keys`.
      weights: `A`, `[n, n]`, of a memory.
    """
    _, residual, A = _residuals(stream, keys, weights)
    return np.sum(residual**2, axis=(0, 2)) / stream.dim + stream.noise**2 * (1 + np.sum(A**2, axis=1))


def stream_mean(
    stream: Stream, keys: ArrayLike, weights: ArrayLike, first: int = 0, last: int | None = None, entries: int = 1
) -> StreamMean:
    """Mean square over the steps `first .. last - 1`, and how much it varies with the maps and the noise.

    Derivation: the errors of one entry are Gaussian with covariance `C`, and the mean of `m` squares of each of `D`
    independent entries has variance `2 |C|_F^2 / (m^2 D)`.

    Args:
      stream: the data.
      keys: `[n, d]`.
      weights: `A`, `[n, n]`.
      first: first step.
      last: one past the last; None for the end.
      entries: `D`, of the value.
    """
    steps, residual, A = _residuals(stream, keys, weights)
    part = slice(first, stream.length if last is None else last)
    if not steps[part].size:
        raise check.fail("steps", (first, last), "at least one", "Choose other steps.")
    flat = np.moveaxis(residual, 1, 0)[part].reshape(steps[part].size, -1)
    noise = (np.eye(stream.length) - A)[part]
    covariance = flat @ flat.T / stream.dim + stream.noise**2 * noise @ noise.T
    count = check.count("entries", entries)
    spread = np.sqrt(2 * np.sum(covariance**2) / count) / len(flat)
    return StreamMean(float(np.trace(covariance) / len(flat)), float(spread))


def _residuals(stream: Stream, keys: ArrayLike, weights: ArrayLike) -> tuple[np.ndarray, check.Array, check.Array]:
    """Steps `[n]`, `z [segments, n, d]` and `A [n, n]`."""
    n = stream.length
    k, A = check.matrix("keys", keys, (n, stream.dim)), check.matrix("weights", weights, (n, n))
    if np.triu(A).any():
        raise check.fail("weights", "entries on or above the diagonal", "zero there", "Read the past alone.")
    segment = stream.segments
    inside = (segment[None, :] == np.arange(segment[-1] + 1)[:, None]).astype(np.float64)
    residual = (inside[:, :, None] * k) - np.einsum("ij,sj,jd->sid", A, inside, k, optimize=True)
    return np.arange(n), residual, A
