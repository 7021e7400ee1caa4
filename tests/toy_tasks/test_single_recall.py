"""What single recall means: a dictionary per sequence, one key at the end, and what there is to know without it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import SingleRecall

SIZE = 4096
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {"h3": SingleRecall.h3(), "distinct": SingleRecall(6, 3, 4, repeats=False, separator=False)}


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            law = task.oracle(batch)
            found[name] = batch, law, task.risks(jnp.log(law), batch)
        return found

    return jax.jit(everything)(jax.random.key(0))


def words(task, batch):
    """Keys `[B, C]` and values `[B, C]`, each counted from 0, and the keys that ask `[B]`."""
    inputs, ends = np.asarray(batch.inputs), 2 * task.num_pairs
    return inputs[:, 0:ends:2], inputs[:, 1:ends:2] - task.num_keys, inputs[:, -1]


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law, risks) = TASKS[name], drawn[name]
    pairs, last = 2 * task.num_pairs, task.length - 1
    assert batch.inputs.shape == (SIZE, task.length) and last == pairs + task.separator
    assert task.vocab_size == task.num_keys + task.num_values + task.separator
    kinds = {kind: np.asarray(where) for kind, where in batch.positions.items()}
    targets, mask, law = np.asarray(batch.targets), np.asarray(batch.loss_mask), np.asarray(law)
    for b, row in enumerate(np.asarray(batch.inputs).tolist()):
        book = {}
        for k, v in zip(row[0:pairs:2], row[1:pairs:2], strict=True):
            assert 0 <= k < task.num_keys <= v < task.num_keys + task.num_values
            assert book.setdefault(k, v) == v  # a key that comes again has the same value
        assert task.repeats or len(book) == task.num_pairs
        assert not task.separator or row[pairs] == task.vocab_size - 1
        for t in range(task.length):
            kind = "query" if t == last else ("key", "value")[t % 2] if t < pairs else "separator"
            assert [k for k, where in kinds.items() if where[b, t]] == [kind]
            assert mask[b, t] == (t == last) and targets[b, t] == (book[row[last]] if t == last else 0)
        assert law[b, last, book[row[last]]] == 1.0 and law[b, last].sum() == 1.0
    np.testing.assert_allclose(law[:, :-1], 1 / task.vocab_size, atol=1e-7)  # float32
    assert {k: float(v) for k, v in risks.items()} == {"loss": 0, "accuracy": 1, "values": 0, "binding": 0}


@pytest.mark.parametrize("name", TASKS)
def test_all_is_uniform(drawn, name):
    """Keys, values and their pairs; two keys of a sequence; and which of the shown keys asks, whatever its number."""
    task, (batch, _, _) = TASKS[name], drawn[name]
    keys, values, asked = words(task, batch)
    both = np.zeros((task.num_keys, task.num_values))
    np.add.at(both, (keys[:, -1], values[:, -1]), 1)
    assert stats.chisquare(both.ravel()).pvalue > SURE
    two = np.zeros((task.num_keys, task.num_keys))
    np.add.at(two, (keys[:, 0], keys[:, 1]), 1)
    seen = two.ravel() if task.repeats else two[~np.eye(task.num_keys, dtype=bool)]
    assert stats.chisquare(seen).pvalue > SURE and seen.sum() == SIZE
    for count in {len(set(row)) for row in keys.tolist()}:
        ranks = [sorted(set(k)).index(a) for k, a in zip(keys.tolist(), asked, strict=True) if len(set(k)) == count]
        assert len(ranks) < 50 or stats.chisquare(np.bincount(ranks, minlength=count)).pvalue > SURE
    different = keys[:, 0] != keys[:, 1]
    table = np.zeros((task.num_values, task.num_values))
    np.add.at(table, (values[different, 0], values[different, 1]), 1)
    assert stats.chisquare(table.ravel()).pvalue > SURE  # two keys do not share what they know


@pytest.mark.parametrize("name", TASKS)
def test_the_context_plateau_is_what_the_dictionary_pays_without_the_query(drawn, name):
    task, (batch, _, _) = TASKS[name], drawn[name]
    keys, values, asked = words(task, batch)
    loss, right = np.zeros(SIZE), np.zeros(SIZE)
    for b in range(SIZE):
        book = dict(zip(keys[b].tolist(), values[b].tolist(), strict=True))
        share = np.bincount(list(book.values()), minlength=task.num_values) / len(book)
        answer = book[int(asked[b])]
        loss[b] = -np.log(share[answer])
        right[b] = (share[answer] == share.max()) / (share == share.max()).sum()
    plateaus = task.plateaus
    for counted, exact in zip((loss, right), plateaus["context"], strict=True):
        assert counted.mean() == pytest.approx(exact, abs=4.5 * counted.std() / np.sqrt(SIZE))
    assert plateaus["values"] == (pytest.approx(np.log(task.num_values)), 1 / task.num_values)
    assert plateaus["vocabulary"].loss == pytest.approx(np.log(task.vocab_size))


def test_the_published_setting():
    """A guess among the values is right in 25 %, the figure that the paper's table gives for chance."""
    task = SingleRecall.h3()
    assert (task.vocab_size, task.length, task.plateaus["values"].accuracy) == (9, 22, 0.25)


def test_at_length():
    assert SingleRecall().at_length(64) == dataclasses.replace(SingleRecall(), num_pairs=31)
    assert TASKS["distinct"].at_length(5).num_pairs == 2
    with pytest.raises(ValueError, match=r"at_length: length: got 63; allowed is an even number >= 4"):
        SingleRecall().at_length(63)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_keys": 0}, r"SingleRecall\.num_keys: got 0"),
        ({"num_pairs": 1.5}, r"SingleRecall\.num_pairs: got 1\.5; allowed is an integer >= 1"),
        ({"repeats": False, "num_pairs": 17}, r"SingleRecall\.num_pairs: got 17; allowed is at most 16, the number of"),
        ({"separator": 1}, r"SingleRecall\.separator: got 1; allowed is True \| False"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        SingleRecall(**changes)
