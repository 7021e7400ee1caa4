"""State and information: sizes as published, bounds against the best codes by exhaustion, what guessing achieves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toy_tasks
from theory import recall


def best_code(bits: int, pairs: int, vocab: int, distinct: bool) -> float:
    """The best expected share of right answers over all codes: all sets of `2^b` lists of answers."""
    maps = [m for m in itertools.product(range(vocab), repeat=pairs) if not distinct or len(set(m)) == pairs]
    lists = np.array(list(itertools.product(range(vocab), repeat=pairs)))
    agree = (lists[:, None, :] == np.array(maps)[None]).mean(axis=2)
    return max(agree[list(code)].max(axis=0).mean() for code in itertools.combinations(range(len(lists)), 2**bits))


@pytest.mark.parametrize(
    ("bits", "pairs", "vocab", "distinct"),
    [
        (0, 3, 2, False),
        (1, 3, 2, False),
        (2, 3, 2, False),
        (1, 2, 3, False),
        (1, 4, 2, False),
        (0, 2, 3, True),
        (1, 2, 3, True),
        (1, 3, 3, True),
        (1, 2, 4, True),
    ],
)
def test_no_code_beats_the_bounds(bits: int, pairs: int, vocab: int, distinct: bool) -> None:
    best = best_code(bits, pairs, vocab, distinct)
    assert best <= float(recall.accuracy_bound(bits, pairs, vocab, distinct)) + 1e-9
    if not distinct:
        counting = recall.counting_bound(bits, pairs, vocab)
        assert best <= counting + 1e-12
    if (bits, pairs, vocab) == (1, 3, 2):
        assert best == pytest.approx(counting) == pytest.approx(0.75)  # majority of three: counting is tight


@given(accuracy=st.floats(0, 1), pairs=st.integers(1, 40), vocab=st.integers(2, 5000), distinct=st.booleans())
def test_bounds_are_inverse_of_each_other(accuracy: float, pairs: int, vocab: int, distinct: bool) -> None:
    distinct, accuracy = distinct and pairs <= vocab, max(accuracy, 1 / vocab)
    need = recall.state_bits(accuracy, pairs, vocab, distinct)
    whole = recall.map_bits(pairs, vocab, distinct)
    assert 0 <= need <= whole + 1e-9
    if need > 1e-9:
        # Near chance phi rises like the square of the accuracy: its rounding, 1e-14, moves the inverse by 1e-7.
        assert float(recall.accuracy_bound(need, pairs, vocab, distinct)) == pytest.approx(accuracy, abs=1e-6)
    assert float(recall.accuracy_bound(whole + 1e-9, pairs, vocab, distinct)) == pytest.approx(1)
    if need > 1e-9 and not distinct:
        assert recall.recalled_pairs(need, accuracy, vocab) == pytest.approx(pairs)


def test_bits_of_a_recall() -> None:
    assert float(recall.recall_bits(1.0, 4096)) == 12 and float(recall.recall_bits(1 / 4096, 4096)) == 0
    assert recall.map_bits(3, 5, distinct=True) == pytest.approx(np.log2(60))
    # Binary: one less the entropy of the error.
    h = -0.1 * np.log2(0.1) - 0.9 * np.log2(0.9)
    assert float(recall.recall_bits(0.9, 2)) == pytest.approx(1 - h)
    assert recall.recalled_pairs(10, 0.5, 2) == np.inf
    curve = recall.predict_recall_bound([0, 1e3, 2e3, 3072], 256, 4096)
    assert (np.diff(curve.values) > 0).all() and curve.values[-1] == pytest.approx(1)
    # For many pairs counting and Fano agree to the first order: both are tight.
    assert recall.counting_bound(1000, 256, 4096) == pytest.approx(float(curve.values[1]), abs=0.01)


def test_sizes_are_those_of_the_published_plot() -> None:
    """Bytes of hybrids with one convolution of width 3, to two digits: sliding windows of 8 .. 512, delta rule, all."""
    windows = [1.0e4, 1.8e4, 3.4e4, 6.7e4, 1.3e5, 2.6e5, 5.3e5]
    for window, wanted in zip(2 ** np.arange(3, 10), windows, strict=True):
        numbers = recall.attention_state(128, int(window)) + recall.convolution_state(128)
        assert recall.state_bytes(numbers) == pytest.approx(wanted, rel=0.03)  # two digits, read off a plot
    for width, wanted in ((64, 9e3), (128, 3.4e4)):
        numbers = recall.matrix_state(2, width // 2, width // 2) + recall.convolution_state(width)
        assert recall.state_bytes(numbers) == pytest.approx(wanted, rel=0.03)
    assert recall.state_bytes(recall.attention_state(64, 1024)) == pytest.approx(5.2e5, rel=0.03)
    # 1 + f + f^2 features, each with a value and its share of the normaliser.
    assert recall.based_state(1, 8, 48) == 73 * 49
    assert recall.mesa_state(2, 16, 24) == 2 * (16 * 16 + 16 * 24)
    assert recall.mamba_state(64, 16) == 2048 and recall.hyena_state(64, 512) == 32768
    # What they were measured to recall is far inside the bound: 256 pairs need 384 bytes, the smallest state has 9e3.
    assert recall.state_bits(0.79, 256, 4096) / 8 < 384 < 9e3


@pytest.mark.parametrize(("length", "pairs"), [(64, 4), (48, 8)])
def test_guessing_without_reading_keys(length: int, pairs: int) -> None:
    task = toy_tasks.MQAR(256, length, pairs)
    assert recall.guess_accuracy(np.full((pairs, 1), 1 / pairs)) == pytest.approx(1 / pairs)
    place = recall.guess_accuracy(task.slot_law / pairs)
    assert place == pytest.approx(task.plateaus["place"].accuracy) and place > 1.1 / pairs
    assert task.plateaus["context"].accuracy == 1 / pairs


def test_bound_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="distinct values"):
        recall.map_bits(5, 4, distinct=True)
    with pytest.raises(ValueError, match="accuracy"):
        recall.recall_bits(1.5, 4)
    with pytest.raises(ValueError, match="smallest bits"):
        recall.accuracy_bound(-1.0, 4, 4)
    with pytest.raises(ValueError, match="sum of law"):
        recall.guess_accuracy(np.ones((2, 2)))
    with pytest.raises(ValueError, match="width"):
        recall.attention_state(0, 4)
