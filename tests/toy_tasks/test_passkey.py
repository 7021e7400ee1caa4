"""What the passkey means: one pair among filler that never holds a key, asked at the end, at any length."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import Passkey

SIZE = 4096
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "own": Passkey(2, 5, 7, 12),
    "values": Passkey(3, 5, 0, 12),
    "shortest": Passkey(2, 4, 3, 3),
}


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


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law, risks) = TASKS[name], drawn[name]
    keys, ends = task.num_keys, task.num_keys + task.num_values
    kinds = {kind: np.asarray(where) for kind, where in batch.positions.items()}
    targets, mask, law = np.asarray(batch.targets), np.asarray(batch.loss_mask), np.asarray(law)
    assert batch.inputs.shape == (SIZE, task.length) and task.vocab_size == ends + task.num_fillers
    for b, row in enumerate(np.asarray(batch.inputs).tolist()):
        place, again = (t for t in range(task.length) if row[t] < keys)  # a key comes twice, no other key at all
        assert again == task.length - 1 and row[place] == row[again] and place <= task.length - 3
        assert keys <= row[place + 1] < ends
        for t in range(task.length):
            kind = {place: "key", place + 1: "value", again: "query"}.get(t, "filler")
            assert [k for k, where in kinds.items() if where[b, t]] == [kind]
            if kind == "filler":
                low, high = (ends, task.vocab_size) if task.num_fillers else (keys, ends)
                assert low <= row[t] < high
            assert mask[b, t] == (t == again) and targets[b, t] == (row[place + 1] if t == again else 0)
        assert law[b, again, row[place + 1]] == 1.0 and law[b, again].sum() == 1.0
    np.testing.assert_allclose(law[:, :-1], 1 / task.vocab_size, atol=1e-7)  # float32
    assert {k: float(v) for k, v in risks.items()} == {"loss": 0.0, "accuracy": 1.0}


@pytest.mark.parametrize("name", ["own", "values"])
def test_all_is_uniform(drawn, name):
    task, (batch, _, _) = TASKS[name], drawn[name]
    inputs, kinds = np.asarray(batch.inputs), {k: np.asarray(v) for k, v in batch.positions.items()}
    place = kinds["key"].argmax(axis=1)
    value = inputs[kinds["value"]] - task.num_keys
    assert stats.chisquare(np.bincount(place, minlength=task.length - 2)).pvalue > SURE
    assert stats.chisquare(np.bincount(inputs[:, -1], minlength=task.num_keys)).pvalue > SURE
    assert stats.chisquare(np.bincount(value, minlength=task.num_values)).pvalue > SURE
    first = task.num_keys + (task.num_values if task.num_fillers else 0)
    fillers = inputs[kinds["filler"]] - first
    assert stats.chisquare(np.bincount(fillers, minlength=task.num_fillers or task.num_values)).pvalue > SURE
    together = np.zeros((task.num_keys, task.num_values, task.length - 2))
    np.add.at(together, (inputs[:, -1], value, place), 1)  # key, value and place know nothing of each other
    assert stats.chisquare(together.ravel()).pvalue > SURE


def test_plateaus(drawn):
    task, (batch, _, _) = TASKS["own"], drawn["own"]
    assert task.plateaus["vocabulary"] == (pytest.approx(np.log(14)), 1 / 14)
    assert task.plateaus["values"] == (pytest.approx(np.log(5)), 1 / 5)
    risks_of = jax.jit(task.risks)
    risks = risks_of(jnp.zeros((SIZE, 12, 14)), batch)
    assert float(risks["loss"]) == pytest.approx(np.log(14), abs=1e-6)  # float32
    listed = jnp.full((SIZE, 12, 14), -jnp.inf).at[..., 2:7].set(0.0)
    risks = risks_of(listed, batch)
    assert float(risks["loss"]) == pytest.approx(np.log(5), abs=1e-6)
    assert float(risks["accuracy"]) == pytest.approx(0.2, abs=4.5 * 0.4 / np.sqrt(SIZE))  # of one guess in five


def test_own_fillers_give_the_value_away_and_fillers_from_the_values_do_not(drawn):
    """The most frequent value of a sequence is the answer only if fillers have tokens of their own."""
    for name, sure in (("own", True), ("values", False)):
        task, (batch, _, _) = TASKS[name], drawn[name]
        low, high = task.num_keys, task.num_keys + task.num_values
        counts = np.array(
            [np.bincount(row[(row >= low) & (row < high)] - low).argmax() for row in np.asarray(batch.inputs)]
        )
        right = (counts == np.asarray(batch.targets)[:, -1] - low).mean()
        assert right == 1.0 if sure else right < 0.5


def test_at_length():
    task = TASKS["own"]
    assert task.at_length(1024) == dataclasses.replace(task, length=1024) and task.at_length(1024).vocab_size == 14


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_keys": 0}, r"Passkey\.num_keys: got 0; allowed is an integer >= 1"),
        ({"num_values": 1.5}, r"Passkey\.num_values: got 1\.5"),
        ({"num_fillers": -1}, r"Passkey\.num_fillers: got -1; allowed is an integer >= 0 \(0: fillers are drawn"),
        ({"length": 2}, r"Passkey\.length: got 2; allowed is an integer >= 3: a pair and a query"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        Passkey(**changes)
