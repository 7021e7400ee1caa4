"""What swap tracking means: boxes moved by hand, uniform draws, and what the start and the last swaps say."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import Group, SwapTracking

SIZE = 3000
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {"five": SwapTracking(5, 7), "three": SwapTracking(3, 4, 3), "none": SwapTracking(4, 0, 2)}


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            law = task.oracle(batch)
            found[name] = batch, law, task.risks(jnp.log(law), batch), task.rows(batch.inputs)
        return found

    return jax.jit(everything)(jax.random.key(0))


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law, risks, _) = TASKS[name], drawn[name]
    size, first = task.num_items, task.num_items + task.num_swaps
    swaps = list(itertools.combinations(range(size), 2))
    assert task.vocab_size == 2 * size + len(swaps) and batch.inputs.shape == (SIZE, first + task.num_queries)
    kinds = {kind: np.asarray(where) for kind, where in batch.positions.items()}
    targets, mask, law = np.asarray(batch.targets), np.asarray(batch.loss_mask), np.asarray(law)
    for b, row in enumerate(np.asarray(batch.inputs).tolist()):
        boxes, asked = row[:size], []
        assert sorted(boxes) == list(range(size))
        for t, token in enumerate(row):
            kind = "item" if t < size else "swap" if t < first else "query"
            assert [k for k, where in kinds.items() if where[b, t]] == [kind] and mask[b, t] == (kind == "query")
            if kind == "swap":
                i, j = swaps[token - 2 * size]
                boxes[i], boxes[j] = boxes[j], boxes[i]
            if kind == "query":
                asked.append(token - size)
                assert targets[b, t] == boxes[token - size]
                assert law[b, t, boxes[token - size]] == 1.0 == law[b, t].sum()
            else:
                assert targets[b, t] == 0
        assert len(set(asked)) == task.num_queries and all(0 <= box < size for box in asked)
    np.testing.assert_allclose(law[~kinds["query"]], 1 / task.vocab_size, atol=1e-7)  # float32
    assert {k: float(v) for k, v in risks.items()} == {"loss": 0, "accuracy": 1, "things": 0}


@pytest.mark.parametrize("name", TASKS)
def test_all_draws_are_uniform(drawn, name):
    task, inputs = TASKS[name], np.asarray(drawn[name][0].inputs)
    size, first = task.num_items, task.num_items + task.num_swaps
    _, counts = np.unique(inputs[:, :size] @ size ** np.arange(size), return_counts=True)
    assert stats.chisquare(np.pad(counts, (0, math.factorial(size) - len(counts)))).pvalue > SURE
    swaps = inputs[:, size:first] - 2 * size
    if task.num_swaps:
        number = size * (size - 1) // 2
        pairs = np.bincount(swaps[:, 0] * number + swaps[:, -1], minlength=number**2)
        assert stats.chisquare(pairs).pvalue > SURE
    for t in range(first, task.length):
        assert stats.chisquare(np.bincount(inputs[:, t] - size, minlength=size)).pvalue > SURE


def test_it_is_the_word_problem_of_the_symmetric_group(drawn):
    """The row at the end is the row at the beginning, read at the product of the swaps as permutations."""
    task, inputs = TASKS["three"], np.asarray(drawn["three"][0].inputs)[:200]
    group = Group.symmetric(3)
    elements = sorted(itertools.permutations(range(3)))
    swaps = [tuple({i: j, j: i}.get(x, x) for x in range(3)) for i, j in task.swap_pairs.tolist()]
    letters = np.array([elements.index(swap) for swap in swaps])
    assert sorted(letters) == sorted(group.swaps)
    for row, end in zip(inputs, np.asarray(drawn["three"][3])[:200], strict=True):
        product = group.multiply(letters[row[3:7] - 6])
        assert (row[list(elements[product])] == end).all()


@pytest.mark.parametrize(("size", "swaps"), [(2, 3), (3, 4), (4, 3)])
def test_windows_by_counting_over_all_swaps(size, swaps):
    """What a box holds, of what it held at the start, given the last swaps: over all words, exactly."""
    task = SwapTracking(size, swaps)
    pairs = list(itertools.combinations(range(size), 2))
    for width in range(swaps + 2):
        counts = {}
        for word in itertools.product(range(len(pairs)), repeat=swaps):
            boxes = list(range(size))
            for s in word:
                i, j = pairs[s]
                boxes[i], boxes[j] = boxes[j], boxes[i]
            counts.setdefault(word[max(swaps - width, 0) :], np.zeros(size))[boxes[0]] += 1
        total = sum(c.sum() for c in counts.values())
        loss = sum(-(c[c > 0] * np.log(c[c > 0] / c.sum())).sum() for c in counts.values()) / total
        right = sum(c.max() for c in counts.values()) / total
        assert task.window(width) == (pytest.approx(loss, abs=1e-12), pytest.approx(right, abs=1e-12))
    assert task.plateaus["start"] == task.window(0)


def test_the_start_says_less_and_less(drawn):
    """Measured on sequences: how often a box still holds what it held."""
    task, batch = TASKS["five"], drawn["five"][0]
    inputs, answer = np.asarray(batch.inputs), np.asarray(batch.targets)[:, -1]
    held = inputs[np.arange(SIZE), inputs[:, -1] - 5]
    exact = task.stays(7)
    assert abs((held == answer).mean() - exact) < 4.5 * np.sqrt(exact * (1 - exact) / SIZE)
    assert exact == pytest.approx(1 / 5 + 4 / 5 / 2**7)
    assert SwapTracking(5, 0).plateaus["start"] == (0, 1)
    assert SwapTracking(5, 1).plateaus["start"].loss == pytest.approx(0.4 * np.log(4 / 0.4) - 0.6 * np.log(0.6))
    assert SwapTracking(5, 200).plateaus["start"] == pytest.approx((np.log(5), 1 / 5))
    assert task.plateaus["things"] == (pytest.approx(np.log(5)), 1 / 5)


def test_at_length():
    assert TASKS["five"].at_length(30) == dataclasses.replace(TASKS["five"], num_swaps=24)
    with pytest.raises(ValueError, match=r"SwapTracking\.at_length: length: got 5; allowed is >= 6"):
        TASKS["five"].at_length(5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_items": 1}, r"SwapTracking\.num_items: got 1; allowed is an integer >= 2"),
        ({"num_swaps": -1}, r"SwapTracking\.num_swaps: got -1"),
        ({"num_queries": 0}, r"SwapTracking\.num_queries: got 0"),
        ({"num_queries": 6}, r"SwapTracking\.num_queries: got 6; allowed is at most 5, the number of boxes"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        SwapTracking(**fields)
