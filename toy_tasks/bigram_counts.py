"""Character bigram counts: of the shipped corpus, of a user's own text; and the checks that make a kernel of them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np


class BigramCounts(NamedTuple):
    """Counts of a text over its `V` distinct characters, in sorted order.

    `pairs[x, y]` is how often `x` is followed by `y`; `singles[x]` how often `x` occurs, the last character included.
    """

    characters: tuple[str, ...]
    pairs: np.ndarray
    singles: np.ndarray


def tiny_shakespeare_counts() -> BigramCounts:
    """The counts of Tiny Shakespeare: 65 characters, 1,115,394 of them, 1,115,393 bigrams.

    The package ships the bigram table, not the text. Row sums count every character but the last one, column sums every
    character but the first, so the two differ in exactly two places: the first character (`F`) has one more row count
    and the last (newline) one more column count. A character occurs as often as the larger of its two sums says.

    Source: karpathy/char-rnn, `data/tinyshakespeare/input.txt`; table columns `first,second,count` as code points.
    """
    with (resources.files("toy_tasks") / "data" / "tiny_shakespeare_bigram_counts.csv").open("r") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1, dtype=np.int64)
    codes = np.unique(table[:, :2])
    pairs = np.zeros((len(codes), len(codes)))
    pairs[np.searchsorted(codes, table[:, 0]), np.searchsorted(codes, table[:, 1])] = table[:, 2]
    return BigramCounts(tuple(map(chr, codes)), pairs, np.maximum(pairs.sum(1), pairs.sum(0)))


def text_counts(text: str) -> BigramCounts:
    """The counts of `text`. Raises ValueError if it has fewer than two distinct characters."""
    codes, ids = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_inverse=True)
    if len(codes) < 2:
        raise ValueError(
            f"The corpus has {len(text)} characters, {len(codes)} of them distinct; a bigram kernel needs at least 2 "
            "distinct characters. Give a longer text."
        )
    pairs = np.bincount(ids[:-1] * len(codes) + ids[1:], minlength=len(codes) ** 2)
    singles = np.bincount(ids, minlength=len(codes))
    return BigramCounts(tuple(map(chr, codes)), pairs.reshape(len(codes), -1).astype(float), singles.astype(float))


def file_counts(path: str | Path) -> BigramCounts:
    """The counts of a UTF-8 text file."""
    return text_counts(Path(path).read_text(encoding="utf-8"))


def drop_characters(counts: BigramCounts, drop: Iterable[str]) -> BigramCounts:
    """Remove the characters in `drop`, with their rows and columns. Raises ValueError if one is not in the corpus."""
    drop = tuple(drop)
    for character in drop:
        if character not in counts.characters:
            raise ValueError(
                f"drop names {character!r}, which is not in the corpus; allowed: any of {''.join(counts.characters)!r}."
            )
    keep = np.array([c not in drop for c in counts.characters])
    kept = tuple(c for c in counts.characters if c not in drop)
    return BigramCounts(kept, counts.pairs[np.ix_(keep, keep)], counts.singles[keep])


def normalised(counts: BigramCounts) -> tuple[np.ndarray, np.ndarray]:
    """`(transition, marginal)`: `P[x, y] = pairs[x, y] / Σ pairs[x]`, `μ[x] = singles[x] / Σ singles`.

    Raises ValueError for a character that nothing follows.
    """
    totals = counts.pairs.sum(1)
    if (totals == 0).any():
        character = counts.characters[int(np.argmin(totals))]
        raise ValueError(
            f"Nothing ever follows the character {character!r} (it stands only at the end of the corpus, or all that "
            f"follows it was dropped), so its row of the kernel is empty. Add text, or drop it: drop={character!r}."
        )
    return counts.pairs / totals[:, None], counts.singles / counts.singles.sum()


def stationary(transition: np.ndarray) -> np.ndarray:
    """The law `π = π P` of a row-stochastic `P[V, V]`. Raises ValueError if it is not unique."""
    size = len(transition)
    system = np.vstack([transition.T - np.eye(size), np.ones((1, size))])
    solution, _, rank, _ = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0))
    if rank < size:
        raise ValueError("The chain has more than one stationary law; pass marginal=..., or use smoothing > 0.")
    return np.clip(solution, 0.0, None) / np.clip(solution, 0.0, None).sum()
