from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from toy_tasks import BigramBackcopy
from toy_tasks.bigram_counts import file_counts, text_counts, tiny_shakespeare_counts

TEXT = "abcab bca\ncab a"


def test_shipped_table_is_the_whole_text():
    counts = tiny_shakespeare_counts()
    assert len(counts.characters) == 65 and list(counts.characters) == sorted(counts.characters)
    assert counts.pairs.sum() == 1_115_393
    assert (counts.pairs == 0).sum() == 2_822


def test_the_character_that_bigrams_miss_is_the_last_newline():
    counts = tiny_shakespeare_counts()
    follows, leads = counts.pairs.sum(0), counts.pairs.sum(1)
    # a text is one path through its bigrams: out - in is +1 at the first character, -1 at the last, 0 elsewhere
    difference = {counts.characters[i]: leads[i] - follows[i] for i in np.nonzero(leads - follows)[0]}
    assert difference == {"F": 1, "\n": -1}
    assert counts.singles.sum() == 1_115_394
    newline = counts.characters.index("\n")
    assert counts.singles[newline] == 40_000 == leads[newline] + 1


def test_marginal_is_over_all_characters():
    task = BigramBackcopy.tiny_shakespeare()
    assert task.marginal[task.encode("\n")[0]] == 40_000 / 1_115_394
    # H(μ) of the specification is given to four decimals
    assert -np.sum(task.marginal * np.log(task.marginal)) == pytest.approx(3.3128, abs=5e-5)


def test_text_counts_equal_a_loop():
    counts = text_counts(TEXT)
    assert counts.characters == tuple(sorted(set(TEXT)))
    for i, x in enumerate(counts.characters):
        assert counts.singles[i] == TEXT.count(x)
        for j, y in enumerate(counts.characters):
            assert counts.pairs[i, j] == sum(a == x and b == y for a, b in pairwise(TEXT))


def test_from_text_is_the_kernel_of_the_file(tmp_path: Path):
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    counts = file_counts(path)
    task = BigramBackcopy.from_text(path, num_triggers=1, length=8)
    np.testing.assert_array_equal(task.transition, counts.pairs / counts.pairs.sum(1, keepdims=True))
    np.testing.assert_array_equal(task.marginal, counts.singles / len(TEXT))
    assert task.characters == counts.characters and task.decode(task.triggers) == "a"


def test_from_text_of_the_rebuilt_shakespeare_bigrams_gives_the_same_kernel():
    """Any text with these bigrams gives this kernel; one is rebuilt as a path that uses every bigram once."""
    counts = tiny_shakespeare_counts()
    text = _one_text_with(counts.pairs.astype(int), counts.characters.index("F"), counts.characters)
    again = text_counts(text)
    assert len(text) == 1_115_394 and text[0] == "F" and text[-1] == "\n"
    np.testing.assert_array_equal(again.pairs, counts.pairs)
    np.testing.assert_array_equal(again.singles, counts.singles)


def _one_text_with(pairs, start, characters):
    """Hierholzer's algorithm: an Eulerian path of the graph of bigrams."""
    left = [[(y, int(n)) for y, n in enumerate(row) if n] for row in pairs]
    stack, path = [start], []
    while stack:
        edges = left[stack[-1]]
        if edges:
            y, n = edges.pop()
            if n > 1:
                edges.append((y, n - 1))
            stack.append(y)
        else:
            path.append(stack.pop())
    return "".join(characters[i] for i in reversed(path))


def test_dropping_a_character_conditions_the_kernel():
    whole, dropped = BigramBackcopy.tiny_shakespeare(), BigramBackcopy.tiny_shakespeare(drop="3")
    assert dropped.num_characters == 64 and "3" not in dropped.characters
    keep = [i for i, c in enumerate(whole.characters) if c != "3"]
    expected = whole.transition[np.ix_(keep, keep)]
    # two roundings of float64 per entry
    np.testing.assert_allclose(dropped.transition, expected / expected.sum(1, keepdims=True), rtol=1e-14)
