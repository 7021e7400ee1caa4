"""Instances shared by the tests of `theory`: random reduced models, and the task's text from its character counts."""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import numpy as np
import pytest

import theory


def _random_model(seed: int = 0, size: int = 12, keys: int = 20, triggers: tuple[int, ...] = ()) -> theory.ReducedModel:
    """Dirichlet rows of full support and `keys` visible tokens of positive, unequal values."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(keys, np.ones(size) / size)
    return theory.ReducedModel.from_counts(
        rng.dirichlet(np.ones(size), size=size),
        triggers,
        rng.dirichlet(5 * np.ones(size)),
        counts,
        rng.uniform(0.5, 2.0, size),
    )


@pytest.fixture(scope="session")
def random_model() -> Callable[..., theory.ReducedModel]:
    return _random_model


class Shakespeare(NamedTuple):
    """Bigram-Backcopy on the characters of Tiny Shakespeare: 65 characters, `<s>` = 65, `<d>` = 66 (never emitted)."""

    P: np.ndarray
    triggers: tuple[int, ...]
    bos_id: int
    characters: str
    tokens: np.ndarray


@pytest.fixture(scope="session")
def shakespeare() -> Shakespeare:
    """The kernel, and the first 16 sequences of the paper's evaluation batch.

    The published sampler draws once for every position from the row of the current character, and discards the draw
    after a trigger; only so does `default_rng([42, 27])` give the text of the paper's figures.
    """
    path = resources.files("toy_tasks").joinpath("data", "tiny_shakespeare_bigram_counts.csv")
    rows = np.array(list(csv.reader(path.read_text().splitlines()))[1:], dtype=int)
    codes = np.unique(rows[:, :2])
    counts = np.zeros((codes.size, codes.size))
    counts[np.searchsorted(codes, rows[:, 0]), np.searchsorted(codes, rows[:, 1])] = rows[:, 2]
    # A character's own count is its count as first of a pair, except for the last character of the text.
    unigram = np.maximum(counts.sum(axis=0), counts.sum(axis=1))
    unigram /= unigram.sum()
    bigram = counts / counts.sum(axis=1, keepdims=True)
    triggers = tuple(int(i) for i in np.argsort(-unigram)[:3])
    first = unigram.copy()
    first[list(triggers)] = 0.0
    first /= first.sum()
    rng = np.random.default_rng([42, 27])
    text = np.empty((16, 257), dtype=int)
    for line in text:
        line[0], line[1] = codes.size, rng.choice(codes.size, p=first)
        for i in range(1, 256):
            drawn = rng.choice(codes.size, p=bigram[line[i]])
            line[i + 1] = line[i - 1] if line[i] in triggers else drawn
    size = codes.size + 2
    kernel = np.zeros((size, size))
    kernel[: codes.size, : codes.size] = bigram
    kernel[codes.size, : codes.size] = unigram
    return Shakespeare(kernel, triggers, codes.size, "".join(chr(c) for c in codes), text[:, :-1])
