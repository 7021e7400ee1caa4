"""Weights of `theory.tracking` in the parameters of delta rules of the catalogue, one layer, one head.

Tokens are one-hot: the letters, then `K` that write the state before the first letter, one row each at strength 1. The
tables of keys and values, the gate of strengths and the further keys of a product are the weights. The state after a
word is `rho(word)^T`; a query `q` that is the same at every letter reads `rho(word) q`, and the element is that whose
code `rho(g) q` has the largest inner product with it: a linear read-out and an argmax.

The mechanisms normalise `silu` of what the layer gives, so that the tables hold its inverse; of a key `k` and `-k`, the
same factor, that is taken whose least number is the larger. Derived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from attnlab.attention import Dims
from attnlab.attention import recurrent_catalogue as known
from attnlab.attention.gates import StepSize
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.rules import DeltaProduct
from theory.tracking import Householder, Tracker, build_tracker, prefix_products
from toy_tasks.groups import Group

LETTERS, WORDS = 1000, 8
SURE = 200.0  # a gate: its sigmoid is 1, or 0 (1e-87), in float32
LEAST_SILU = -0.27  # silu has values from -.278 on; one that is far out on its rising part


@dataclass(frozen=True)
class Case:
    """A group, its letters, the mechanism and how many factors a token it has.

    Attributes:
      group: its name. swaps: whether words are of transpositions alone.
      factors: 1 for `delta_net_negative`, 2 for `delta_product` of the catalogue, else the same rule with more.
    """

    group: str
    factors: int
    swaps: bool = False

    def made(self) -> Group:
        """The group itself."""
        return Group(self.group)

    def letters(self) -> tuple[int, ...] | None:
        """The letters of the words; None for all elements."""
        return self.made().swaps if self.swaps else None

    def mechanism(self, limit: float = 2.0) -> Recurrent:
        """With strengths up to `limit`."""
        if self.factors == 1:
            return known.delta_net_negative if limit == 2 else known.delta_net
        if self.factors == 2 and limit == 2:
            return known.delta_product
        return Recurrent("delta_product", DeltaProduct(self.factors, known.GATED, limit), known.UNIT)


CASES = {
    "Z2": Case("Z2", 1),
    "S3_swaps": Case("S3", 1, swaps=True),
    "S5_swaps": Case("S5", 1, swaps=True),
    "S3": Case("S3", 2),
    "Z6": Case("Z6", 2),
    "Z60": Case("Z60", 2),
    "A5": Case("A5", 2),
    "S4": Case("S4", 3),
    "S5": Case("S5", 4),
}
SMALL = ("Z2", "S3")  # those that the smallest preset builds


@dataclass(frozen=True, eq=False)
class Built:
    """A mechanism with weights.

    Attributes:
      mechanism, params: of the laboratory.
      query, keys, values: `[tokens, K]`, what the layer gives for each token.
      codes: `[C, K]` of one norm. labels: `[C]`, elements.
      alphabet: the letters, tokens `0, 1, ...`; the tokens after these write the start.
    """

    mechanism: Recurrent
    params: Any
    query: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    codes: np.ndarray
    labels: np.ndarray
    alphabet: tuple[int, ...]

    def outputs(self, words: np.ndarray, dtype: Any = jnp.float32) -> np.ndarray:
        """`[B, N, K]`: what is read after every letter of words `[B, N]` of places in the alphabet."""
        size, width = len(self.keys), self.keys.shape[1]
        start = np.arange(size - width, size)
        tokens = np.concatenate([np.broadcast_to(start, (len(words), width)), words], axis=1)

        def of(params: Any, tables: Any) -> Array:
            q, k, v = (table[tokens][:, None] for table in tables)
            x = jax.nn.one_hot(tokens, size, dtype=dtype)
            return self.mechanism.apply(params, q, k, v, x=x).out[:, 0, width:]

        cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.params)
        return np.asarray(jax.jit(of)(cast, [jnp.asarray(t, dtype) for t in (self.query, self.keys, self.values)]))

    def said(self, outputs: np.ndarray) -> np.ndarray:
        """The element of every output."""
        return self.labels[np.argmax(np.asarray(outputs, np.float64) @ self.codes.T, axis=-1)]


def build(case: Case, limit: float = 2.0) -> Built:
    """The weights of a case; `limit` below 2 cuts the strengths off there."""
    group, letters = case.made(), case.letters()
    tracker = build_tracker(group, "delta", letters, case.factors)
    assert isinstance(tracker.transition, Householder)
    factors, width = tracker.transition, tracker.start.shape[0]
    num = len(tracker.alphabet)
    keys = np.concatenate([factors.keys, np.broadcast_to(np.eye(width)[:, None], (width, case.factors, width))])
    rates = np.zeros((num + width, case.factors))
    rates[:num], rates[num:, 0] = np.minimum(factors.rates, limit), 1.0
    values = np.concatenate([np.zeros((num, width)), tracker.start])
    query = spread_query(tracker)
    keys = before_feature(easier_sign(keys))
    return Built(
        mechanism=case.mechanism(limit),
        params=_params(case, keys, rates, limit),
        query=np.broadcast_to(before_feature(query), (num + width, width)),
        keys=keys[:, 0],
        values=values,
        codes=np.swapaxes(tracker.codes, 1, 2) @ query,
        labels=tracker.labels,
        alphabet=tracker.alphabet,
    )


def _params(case: Case, keys: np.ndarray, rates: np.ndarray, limit: float) -> dict[str, np.ndarray]:
    """The gate of strengths `limit sigmoid(x w)`, further keys, and a decay that is 1."""
    share = np.clip(rates / limit, 1e-80, 1 - 1e-16)
    gate = np.clip(np.where(share > 1 - 1e-12, SURE, np.log(share) - np.log1p(-share)), -SURE, SURE)
    gate = np.where(rates == 0, -SURE, gate)
    if case.factors == 1:
        return {"beta_gate": gate}
    more = keys[:, 1:].reshape(len(keys), 1, -1)
    decay = StepSize().init(jax.random.key(0), Dims(1, keys.shape[-1], len(keys)))
    still = {"decay_gate": np.zeros((len(keys), 1)), "dt_bias": np.full(1, -SURE), "a_log": np.asarray(decay["a_log"])}
    return {"beta_gate": gate[:, None, :], "more_keys": more, **still}


def spread_query(tracker: Tracker) -> np.ndarray:
    """`[K]` of norm 1: of 512 draws that whose codes are farthest apart."""
    draws = np.random.default_rng(0).normal(size=(512, tracker.start.shape[0]))
    draws /= np.linalg.norm(draws, axis=1, keepdims=True)
    codes = np.einsum("cmk,rm->rck", np.swapaxes(tracker.codes, 1, 2), draws)
    return draws[np.argmax([_least_distance(rows) for rows in codes])]


def _least_distance(rows: np.ndarray) -> float:
    """Between two different rows of one norm."""
    inner = rows @ rows.T - 4 * np.eye(len(rows)) * np.max(np.sum(rows**2, axis=1))
    return float(np.sum(rows[0] ** 2) - inner.max())


def easier_sign(keys: np.ndarray) -> np.ndarray:
    """`k` or `-k`, `[..., K]`, whichever has its largest number in size above 0."""
    return np.where(keys.min(axis=-1, keepdims=True) < -keys.max(axis=-1, keepdims=True), -keys, keys)


def before_feature(unit: np.ndarray) -> np.ndarray:
    """What `silu` and a norm take to unit vectors `[..., K]`: as long as `silu` allows, at most 20."""
    lowest = np.maximum(-unit.min(axis=-1, keepdims=True), -LEAST_SILU / 20)
    return silu_inverse(-LEAST_SILU / lowest * unit)


def silu_inverse(y: np.ndarray) -> np.ndarray:
    """`z >= -1.278` with `z / (1 + e^-z) = y`, for `y >= -.278`, by halving."""
    low, high = np.full_like(y, -1.2784645), np.maximum(y, 0.0) + 1.0
    for _ in range(100):
        middle = (low + high) / 2
        below = middle / (1 + np.exp(-middle)) < y
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def words_of(built: Built, words: int, letters: int) -> np.ndarray:
    """Random words, as places in the alphabet."""
    return np.random.default_rng(1).integers(0, len(built.alphabet), (words, letters))


def tracked(group: Group, built: Built, letters: int, dtype: Any) -> dict[str, float]:
    """`right`: share of prefixes whose product is said. `kept`: mean length of the last output over that of a code."""
    words = words_of(built, WORDS, letters)
    outputs = built.outputs(words, dtype)
    alphabet = np.array(built.alphabet)
    right = built.said(outputs) == np.stack([prefix_products(group, alphabet[word]) for word in words])
    kept = np.linalg.norm(outputs[:, -1], axis=-1).mean() / np.linalg.norm(built.codes[0])
    return {"right": float(right.mean()), "kept": float(kept)}


def hand_built(lab: Any) -> dict[str, float]:
    """Every case in float32 (`<case>.right`, ...) and float64 (`<case>.float64.right`), and with strengths cut off at
    1 (`<case>.cut.right`); `<case>.guess` is one over the order of the group."""
    found: dict[str, float] = {}
    for name in SMALL if lab.preset == "smoke" else CASES:
        case = CASES[name]
        group = case.made()
        built = build(case)
        found |= {f"{name}.{k}": v for k, v in tracked(group, built, LETTERS, jnp.float32).items()}
        found[f"{name}.guess"] = 1 / group.order
        if name in SMALL:
            found |= {f"{name}.cut.{k}": v for k, v in tracked(group, build(case, 1.0), LETTERS, jnp.float32).items()}
        if lab.preset != "smoke":
            with jax.enable_x64(True):
                told = tracked(group, built, LETTERS, jnp.float64)
            found |= {f"{name}.float64.{k}": v for k, v in told.items()}
    return found
