"""What memory against context means: who is right, what each stage shows, what indicator and bare queries change."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import KVConflict

SIZE = 4096
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
PLAIN = KVConflict(6, 5, 3, seed=2)
TASKS = {
    "pretraining": PLAIN,
    "tuning": PLAIN.tuning(),
    "role": PLAIN.tuning(role=True, indicator="conflict"),
    "all": PLAIN.tuning(agree=0.2, bare=0.3, indicator="all"),
}


@pytest.fixture(scope="module")
def drawn():
    def one(task, key):
        batch = task.sample(key, SIZE)
        recalled = jnp.asarray(task.memory)[batch.inputs[:, -3]]
        by_heart = (
            jnp.zeros((SIZE, task.length, task.vocab_size)).at[:, -1].set(jax.nn.one_hot(recalled, task.vocab_size))
        )
        law, size, told = task.oracle(batch), task.num_values, batch.positions["source"].any(axis=1)
        p = task.bare + (1 - task.bare) * task.agree  # the best law of who does not read the context
        values = (jnp.arange(task.vocab_size) // task.num_keys == 1) & (
            jnp.arange(task.vocab_size) < task.num_keys + size
        )
        memory = jnp.where(by_heart[:, -1] > 0, p, jnp.where(values, (1 - p) / (size - 1), 0.0))
        often = jnp.bincount(jnp.asarray(task.memory), length=task.vocab_size) / task.num_keys
        context = jnp.where(told[:, None], law[:, -1], often)
        laws = jnp.stack([law, by_heart, by_heart.at[:, -1].set(memory), by_heart.at[:, -1].set(context)])
        risks = jax.vmap(lambda law: task.risks(jnp.log(law), batch))(laws)
        turned = task.indicate(batch, batch.inputs[:, -3] == 0), task.bare_queries(batch)
        return batch, law, risks, turned

    def everything(key):
        return {name: one(task, key) for name, task in TASKS.items()}

    return jax.tree.map(np.asarray, jax.jit(everything)(jax.random.key(0)))


def within(rate: float, chance: float, count: int) -> None:
    """A share of `count` draws is within 4.5 standard deviations of its chance (missed once in 10^5)."""
    assert abs(rate - chance) <= 4.5 * np.sqrt(chance * (1 - chance) / count) + 1e-6


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law, _, _) = TASKS[name], drawn[name]
    keys, marks, size = task.num_keys, task.marks, task.length
    assert size == 2 * task.num_pairs + 4 and task.vocab_size == keys + task.num_values + 4
    for b in range(1000):
        row = batch.inputs[b].tolist()
        context, query = row[1:-3], row[-3]
        shown, bare = context[0::2], context == [marks["padding"]] * len(context)
        asked = 0 if bare else shown.index(query)
        recalled = int(task.memory[query])
        answer = recalled if bare else context[2 * asked + 1]
        if not bare:
            assert len(set(shown)) == task.num_pairs and max(shown) < keys
            assert all(keys <= v < keys + task.num_values for v in context[1::2])
        kind = "bare" if bare else "agree" if answer == recalled else "conflict"
        indicated = task.indicator == "all" or (task.indicator == "conflict" and kind == "conflict")
        assert row[0] == marks["bos"] and query < keys
        assert row[-2] == marks["indicator" if indicated else "padding"]
        assert row[-1] == marks["role" if task.role else "padding"]
        assert batch.targets[b].tolist() == [0] * (size - 1) + [answer]
        assert batch.loss_mask[b].tolist() == [0.0] * (size - 1) + [1.0]
        inside = [] if bare else list(range(1, size - 3))
        want = {"bos": [0], "key": inside[0::2], "value": inside[1::2], "query": [size - 3], "answer": [size - 1]}
        want |= {"indicator": [size - 2] if indicated else [], "role": [size - 1] if task.role else []}
        taken = {t for where, places in want.items() if where != "answer" for t in places}
        want |= {"padding": [t for t in range(size) if t not in taken]}
        want |= {"user": [*inside, size - 3] + want["indicator"], "source": [] if bare else [2 * asked + 2]}
        want |= {other: [size - 1] if other == kind else [] for other in ("conflict", "agree", "bare")}
        assert {where: np.flatnonzero(at[b]).tolist() for where, at in batch.positions.items()} == want
        assert law[b, -1].tolist() == np.eye(task.vocab_size)[answer].tolist()
    np.testing.assert_allclose(law[:, :-1], 1 / task.vocab_size, atol=1e-7)


@pytest.mark.parametrize("name", TASKS)
def test_all_is_drawn_as_described(drawn, name):
    task, (batch, _, _, _) = TASKS[name], drawn[name]
    keys, told = task.num_keys, ~batch.positions["bare"][:, -1]
    within(1 - told.mean(), task.bare, SIZE)
    shown, values = batch.inputs[told, 1:-3:2], batch.inputs[told, 2:-3:2]
    recalled = task.memory[shown]
    for pair in range(task.num_pairs):  # every pair by itself, not the one that is asked alone
        within((values[:, pair] == recalled[:, pair]).mean(), task.agree, told.sum())
    step = ((values - recalled) % task.num_values)[values != recalled]
    assert stats.chisquare(np.bincount(step, minlength=task.num_values)[1:]).pvalue > SURE
    together = np.zeros((keys, task.num_pairs))
    np.add.at(together, (batch.inputs[told, -3], batch.positions["source"][told].argmax(axis=1) // 2 - 1), 1)
    assert stats.chisquare(together.ravel()).pvalue > SURE
    assert stats.chisquare(np.bincount(batch.inputs[:, -3], minlength=keys)).pvalue > SURE


@pytest.mark.parametrize("name", TASKS)
def test_risks_and_plateaus(drawn, name):
    task, (batch, _, risks, _) = TASKS[name], drawn[name]
    best, by_heart, memory, context = ({kind: float(value[i]) for kind, value in risks.items()} for i in range(4))
    kinds = {kind: int(batch.positions[kind].sum()) for kind in ("conflict", "agree", "bare")}
    assert best["loss"] == 0.0 and best["accuracy"] == 1.0 and best["memory"] == 0.0
    assert by_heart["memory"] == by_heart["agree_accuracy"] == 1.0 and by_heart["conflict_accuracy"] == 0.0
    assert by_heart["accuracy"] == pytest.approx(1 - kinds["conflict"] / SIZE, abs=1e-6)
    for rule in (best, by_heart):
        assert np.isnan(rule["bare_accuracy"]) if kinds["bare"] == 0 else rule["bare_accuracy"] == 1.0
    bound = 4.5 * np.log(40) / np.sqrt(SIZE)  # no loss of these laws is larger than log 40
    assert memory["loss"] == pytest.approx(task.plateaus["memory"].loss, abs=bound)
    assert context["loss"] == pytest.approx(task.plateaus["context"].loss, abs=bound)
    assert context["accuracy"] == pytest.approx(task.plateaus["context"].accuracy or 0.0, abs=4.5 / np.sqrt(SIZE))
    if task.agree > 0.5:
        within(memory["accuracy"], task.plateaus["memory"].accuracy or 0.0, SIZE)


@pytest.mark.parametrize("name", ["pretraining", "role"])
def test_what_the_variants_change(drawn, name):
    task, (batch, _, _, (indicated, bare)) = TASKS[name], drawn[name]
    slot = np.where(batch.inputs[:, -3] == 0, task.marks["indicator"], task.marks["padding"])
    np.testing.assert_array_equal(indicated.inputs[:, -2], slot)
    np.testing.assert_array_equal(np.delete(indicated.inputs, -2, 1), np.delete(batch.inputs, -2, 1))
    np.testing.assert_array_equal(indicated.targets, batch.targets)
    for kind in ("conflict", "agree", "bare", "source"):
        np.testing.assert_array_equal(indicated.positions[kind], batch.positions[kind])
    np.testing.assert_array_equal(bare.inputs[:, -3:], batch.inputs[:, -3:])
    assert (bare.inputs[:, 1:-3] == task.marks["padding"]).all() and bare.positions["bare"][:, -1].all()
    np.testing.assert_array_equal(bare.targets[:, -1], task.memory[batch.inputs[:, -3]])


def test_oracle_by_brute_force_over_contexts():
    """Of all contexts that a small task can show: what is told, or else the map."""
    task = KVConflict(3, 2, 2, seed=1)
    rows = []
    for keys in itertools.permutations(range(3), 2):
        for values, asked, bare in itertools.product(itertools.product(range(2), repeat=2), range(2), (False, True)):
            rows.append((keys, values, asked, bare))
    keys, values, asked, bare = (jnp.array(part) for part in zip(*rows, strict=True))
    batch = task.assemble(keys, values, asked, bare)
    law = np.asarray(task.oracle(batch))[:, -1]
    for b, (keys, values, asked, bare) in enumerate(rows):
        told = dict(zip(keys, values, strict=True)) if not bare else {}
        key = keys[asked]
        assert law[b].argmax() == (3 + told[key] if key in told else task.memory[key]) and law[b].max() == 1.0


def test_stages_share_the_map_and_the_length():
    assert {task.length for task in TASKS.values()} == {10} and {task.vocab_size for task in TASKS.values()} == {15}
    assert all(np.array_equal(task.memory, PLAIN.memory) for task in TASKS.values())
    assert not np.array_equal(dataclasses.replace(PLAIN, seed=3).memory, PLAIN.memory)
    assert PLAIN.memory.min() >= 6 and PLAIN.memory.max() < 11
    assert (TASKS["tuning"].agree, TASKS["tuning"].bare) == (0.95, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_keys": 0}, r"KVConflict\.num_keys: got 0"),
        ({"num_values": 1}, r"KVConflict\.num_values: got 1; allowed is an integer >= 2"),
        ({"num_pairs": 17}, r"KVConflict\.num_pairs: got 17; allowed is at most 16, num_keys: the keys of a context"),
        ({"agree": -0.1}, r"KVConflict\.agree: got -0\.1; allowed is a share from 0 to 1"),
        ({"bare": True}, r"KVConflict\.bare: got True"),
        ({"role": "assistant"}, r"KVConflict\.role: got 'assistant'; allowed is True \| False"),
        ({"indicator": True}, r"KVConflict\.indicator: got True; allowed is none \| conflict \| all"),
        ({"seed": -1}, r"KVConflict\.seed: got -1"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        KVConflict(**changes)
