"""Theorem 1 of the Bigram-Backcopy paper: one-layer transformers that solve the task exactly, with explicit weights.

Embedding of token `v` at position `i`: `[one-hot v | one-hot i | one-hot i if v is a trigger, else 0]`, of width
`D = V + 2 T`: token block, position block read by keys, position block read by queries. No normalisation, no residual.

    logits(query x, key y) = x Q (y K)^T,   output = sum_y A(x, y) y V + relu(x W1) W2

- `Q K^T`: token `v`, no trigger, hits the first token with `alpha_v`; query position `i` hits key position `i - 1` with
  `lam`. All other logits are zero.
- `V`: token `k` writes `xi_k e_k`, the first token writes `beta`.
- MLP: token `v`, no trigger, writes `log p_v` (floored), a trigger writes nothing.

As `alpha, lam, xi -> infinity` with constant `beta` the output is the exact law of the task: `p_v` after an ordinary
token, the token before it after a trigger.

Source: arXiv 2410.13835, Theorem 1 (existence); the construction is worked out here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check


@dataclass(frozen=True, eq=False)
class ConstructedWeights:
    """A one-layer transformer as plain matrices, `D = V + 2 T`, head width `K = 1 + T`.

    Attributes:
      Q: `[D, K]` queries.
      K: `[D, K]` keys.
      V: `[D, V]` values, already in the space of logits.
      W1: `[D, F]` MLP in, one hidden unit for each token that is no trigger.
      W2: `[F, V]` MLP out.
      triggers: token ids that copy.
      length: the longest input, `T`.
    """

    Q: Float[np.ndarray, "D K"]
    K: Float[np.ndarray, "D K"]
    V: Float[np.ndarray, "D V"]
    W1: Float[np.ndarray, "D F"]
    W2: Float[np.ndarray, "F V"]
    triggers: tuple[int, ...]
    length: int

    @property
    def vocab_size(self) -> int:
        """The number of tokens, `V`."""
        return self.V.shape[1]


def construct(
    P: ArrayLike,
    triggers: Iterable[int],
    bos_id: int,
    length: int,
    alpha: ArrayLike,
    lam: float,
    xi: ArrayLike,
    log_floor: float = -30.0,
    *,
    beta: ArrayLike = 0.0,
) -> ConstructedWeights:
    """The weights that realise given sink logits, copy logit and values.

    Args:
      P: `[V, V]` the law after each token, the row of `bos_id` being the law of the first real token. Rows of triggers
        and of tokens that never occur may be all zero.
      triggers: token ids that copy.
      bos_id: the token at position 0.
      length: longest input `T`.
      alpha: logit from each token that is no trigger to the first token, one number or `[V]`.
      lam: logit from a trigger to the position before it.
      xi: value of each other token, one number or `[V]`.
      log_floor: `log p` of impossible tokens; their whole mass is below `V e^log_floor`.
      beta: value of the first token, one number or `[V]`. A constant changes no prediction.

    Raises:
      ValueError: for a kernel that is not stochastic, a wrong id, or numbers that are not finite.
    """
    size = check.square_size("P", P)
    kernel = check.kernel("P", P, needed=np.zeros(size, dtype=bool))
    ids = check.token_ids("triggers", triggers, size)
    check.token_ids("bos_id", [bos_id], size)
    if bos_id in ids:
        raise check.fail("bos_id", bos_id, f"no trigger ({ids})", "Give the first token an id of its own.")
    count = check.count("length", length)
    floor = check.number("log_floor", log_floor, high=0.0)
    sink, value, first = (
        check.vector(name, np.broadcast_to(np.asarray(x, dtype=np.float64), (size,)), size)
        for name, x in (("alpha", alpha), ("xi", xi), ("beta", beta))
    )
    ordinary = np.setdiff1d(np.arange(size), ids)
    key_block, query_block = size + np.arange(count), size + count + np.arange(count)
    width, steps = size + 2 * count, np.arange(1, count)
    queries, keys = np.zeros((width, 1 + count)), np.zeros((width, 1 + count))
    queries[ordinary, 0] = sink[ordinary]
    keys[bos_id, 0] = 1.0
    queries[query_block[steps], steps] = check.number("lam", lam)
    keys[key_block[steps - 1], steps] = 1.0
    values = np.zeros((width, size))
    values[:size] = np.diag(value)
    values[bos_id] = first
    w1 = np.zeros((width, ordinary.size))
    w1[ordinary, np.arange(ordinary.size)] = 1.0
    w2 = np.log(np.maximum(kernel[ordinary], np.exp(floor)))
    return ConstructedWeights(queries, keys, values, w1, w2, ids, count)


def embed(weights: ConstructedWeights, tokens: ArrayLike) -> Float[np.ndarray, "B T D"]:
    """`[token | key position | query position]`: token ids `[B, T]` to vectors `[B, T, D]`."""
    ids = np.asarray(tokens)
    size, count = weights.vocab_size, weights.length
    if ids.ndim != 2 or not 0 < ids.shape[1] <= count:
        raise check.fail("shape of tokens", ids.shape, f"[B, T] with T <= {count}", "Construct for a longer input.")
    if not np.issubdtype(ids.dtype, np.integer) or ids.min(initial=0) < 0 or ids.max(initial=0) >= size:
        raise check.fail("tokens", ids.dtype, f"integers between 0 and {size - 1}", "Pass ids of the same vocabulary.")
    positions = np.broadcast_to(np.eye(count)[: ids.shape[1]], (*ids.shape, count))
    is_trigger = np.isin(ids, weights.triggers)[..., None]
    return np.concatenate([np.eye(size)[ids], positions, positions * is_trigger], axis=-1)


def predict(weights: ConstructedWeights, tokens: ArrayLike) -> Float[np.ndarray, "B T V"]:
    """Forward pass of the one-layer transformer: log probabilities of the next token.

    Args:
      weights: from `construct`.
      tokens: `[B, T]` ids, position 0 holding the first token.

    Returns:
      `[B, T, V]`, normalised.
    """
    x = embed(weights, tokens)
    scores = (x @ weights.Q) @ np.swapaxes(x @ weights.K, -1, -2)
    causal = np.tril(np.ones(scores.shape[-2:], dtype=bool))
    scores = np.where(causal, scores, -np.inf)
    mixing = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixing /= mixing.sum(axis=-1, keepdims=True)
    logits = mixing @ (x @ weights.V) + np.maximum(x @ weights.W1, 0.0) @ weights.W2
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def construction_risks(log_q: ArrayLike, tokens: ArrayLike, P: ArrayLike, triggers: Iterable[int]) -> dict[str, float]:
    """The two risks of a prediction on Bigram-Backcopy text.

    Args:
      log_q: `[B, T, V]` log probabilities.
      tokens: `[B, T]` the inputs.
      P: `[V, V]` the true law after each token that is no trigger, including the first.
      triggers: token ids that copy.

    Returns:
      `backcopy`: mean of `-log q(previous token)` over triggers; `excess_bigram`: mean of `KL(p_v || q)` over all other
      positions, position 0 included. NaN where there is no such position.
    """
    predicted, ids, kernel = np.asarray(log_q, dtype=np.float64), np.asarray(tokens), np.asarray(P, dtype=np.float64)
    at_trigger = np.isin(ids, list(triggers))
    previous = np.roll(ids, 1, axis=1)
    copied = -np.take_along_axis(predicted, previous[..., None], axis=-1)[..., 0]
    law = kernel[ids]
    safe = np.where(law > 0, law, 1.0)
    excess = (law * (np.log(safe) - np.where(law > 0, predicted, 0.0))).sum(axis=-1)

    def mean(values: np.ndarray, mask: np.ndarray) -> float:
        return float(values[mask].mean()) if mask.any() else float("nan")

    return {"backcopy": mean(copied, at_trigger), "excess_bigram": mean(excess, ~at_trigger)}
