"""What induction means: periods, no token twice in one, and the exact law of what comes next before and after it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import Induction

SIZE = 4096
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "default periods": Induction(12, 16),
    "given periods": Induction(6, 14, (1, 6)),
}


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            law = task.oracle(batch)
            present = 1.0 * (batch.inputs[:, :, None] == jnp.arange(task.vocab_size)).any(axis=1, keepdims=True)
            two = law, jnp.broadcast_to(present, law.shape)  # at least one period is seen
            found[name] = batch, law, *(task.risks(jnp.log(of), batch) for of in two)
        return found

    return jax.jit(everything)(jax.random.key(0))


def sequences(batch) -> np.ndarray:
    """`Int[B, T + 1]`."""
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    return np.concatenate([np.asarray(batch.inputs), np.asarray(batch.targets)[:, -1:]], axis=1)


def period_of(row) -> int:
    return next(t for t in range(1, len(row)) if row[t] == row[0])


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, batch = TASKS[name], drawn[name][0]
    low, high = task.period_range
    copy, first = (np.asarray(batch.positions[kind]) for kind in ("copy", "first"))
    assert batch.inputs.shape == (SIZE, task.length)
    for b, row in enumerate(sequences(batch).tolist()):
        period = period_of(row)
        assert low <= period <= high and len(set(row[:period])) == period
        assert all(0 <= token < task.vocab_size for token in row)
        assert all(row[t] == row[t - period] for t in range(period, len(row)))
        np.testing.assert_array_equal(copy[b], np.arange(task.length) >= period)
    np.testing.assert_array_equal(first, ~copy)
    np.testing.assert_array_equal(batch.loss_mask, copy)


@pytest.mark.parametrize("name", TASKS)
def test_periods_and_tokens_are_uniform(drawn, name):
    task, batch = TASKS[name], drawn[name][0]
    low, high = task.period_range
    rows = sequences(batch)
    periods = np.array([period_of(row) for row in rows])
    counts = np.bincount(periods, minlength=high + 1)[low:]
    assert len(counts) == 1 or stats.chisquare(counts).pvalue > SURE
    long = rows[periods > 1]
    pairs = np.zeros((task.vocab_size, task.vocab_size))
    np.add.at(pairs, (long[:, 0], long[:, 1]), 1)
    assert stats.chisquare(pairs[~np.eye(task.vocab_size, dtype=bool)]).pvalue > SURE


@pytest.mark.parametrize("name", TASKS)
def test_the_oracle_is_the_posterior(drawn, name):
    """By Bayes, over all periods: each that the prefix allows is as likely as the number of ways to go on says."""
    task, (batch, law, *_) = TASKS[name], drawn[name]
    low, high = task.period_range
    rows, size = sequences(batch), task.vocab_size
    for b in range(24):
        for t in range(task.length):
            seen = rows[b, : t + 1].tolist()
            wanted, total = np.zeros(size), 0.0
            for period in range(low, high + 1):
                head = seen[:period]
                if len(set(head)) < len(head) or any(seen[i] != seen[i - period] for i in range(period, t + 1)):
                    continue
                ways = 1.0  # the chance of this prefix given the period
                for i in range(len(head)):
                    ways /= size - i
                total += ways
                if t + 1 >= period:
                    wanted[seen[t + 1 - period]] += ways
                else:
                    free = [v for v in range(size) if v not in head]
                    wanted[free] += ways / len(free)
            assert np.abs(np.asarray(law)[b, t] - wanted / total).max() < 3e-7  # a few float32 roundings


@pytest.mark.parametrize("name", TASKS)
def test_the_oracle_pays_nothing_for_copies_and_the_entropy_before(drawn, name):
    batch, law, risks, _ = drawn[name]
    assert float(risks["loss"]) == 0.0 and float(risks["accuracy"]) == 1.0
    assert float(risks["excess_first"]) == pytest.approx(0.0, abs=1e-6)  # float32
    law, first = np.asarray(law, np.float64), np.asarray(batch.positions["first"])
    entropy = -np.sum(law * np.log(np.where(law > 0, law, 1.0)), axis=-1)
    assert float(risks["first"]) == pytest.approx(entropy[first].mean(), abs=1e-5)
    paid = -np.log(np.take_along_axis(law, np.asarray(batch.targets)[..., None], -1)[..., 0])
    gap = ((paid - entropy) * first).sum(axis=1)  # sampled targets, by sequence: a martingale
    assert abs(gap.mean()) < 4.5 * gap.std() / np.sqrt(SIZE) + 1e-6


@pytest.mark.parametrize("name", TASKS)
def test_plateaus(drawn, name):
    task, (batch, _, _, risks) = TASKS[name], drawn[name]
    copies = np.asarray(batch.positions["copy"]).sum(axis=1)
    periods = task.length - copies
    assert task.plateaus["vocabulary"] == (pytest.approx(np.log(task.vocab_size)), 1 / task.vocab_size)
    for values, wanted in zip((np.log(periods), 1 / periods), task.plateaus["tokens"], strict=True):
        ratio = (values * copies).sum() / copies.sum()
        spread = ((values - ratio) * copies).std() / copies.mean() / np.sqrt(SIZE)
        assert ratio == pytest.approx(wanted, abs=4.5 * spread + 1e-12)
    assert float(risks["loss"]) == pytest.approx((np.log(periods) * copies).sum() / copies.sum(), abs=1e-5)  # float32


def test_a_fixed_look_back_fails_and_the_last_occurrence_does_not(drawn):
    """Why the period varies: the token a fixed distance ago is wrong, the one behind the last occurrence is right."""
    batch = drawn["default periods"][0]
    rows, copy = sequences(batch), np.asarray(batch.positions["copy"])
    right = {distance: [] for distance in range(1, 9)}
    for row, where in zip(rows, copy, strict=True):
        for t in np.flatnonzero(where):
            last = max(i for i in range(t) if row[i] == row[t])
            assert row[last + 1] == row[t + 1]
            for distance, hits in right.items():
                hits.append(row[t + 1 - distance] == row[t + 1])
    assert max(np.mean(hits) for hits in right.values()) < 0.5


def test_at_length():
    assert Induction(64, 16).at_length(64).period_range == (16, 32)
    assert Induction(64, 16, (2, 5)).at_length(64).period_range == (2, 5)
    assert Induction(2, 2).period_range == (1, 1)
    one = Induction(40, 9, (5, 5))
    assert one.at_length(12) == dataclasses.replace(one, length=12)
    assert one.plateaus["tokens"] == pytest.approx((np.log(5), 0.2), abs=1e-15)
    with pytest.raises(ValueError, match=r"periods: got 128; allowed is at most 64, vocab_size: .*larger vocabulary"):
        Induction(64, 64).at_length(256)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, r"Induction\.vocab_size: got 0"),
        ({"length": 1}, r"Induction\.length: got 1; allowed is an integer >= 2"),
        ({"periods": (0, 3)}, r"Induction\.periods: got \(0, 3\); allowed is two integers 1 <= p_min <= p_max"),
        ({"periods": (5, 3)}, r"Induction\.periods: got \(5, 3\)"),
        ({"periods": 3}, r"Induction\.periods: got 3"),
        ({"periods": (2, 64)}, r"Induction\.periods: got 64; allowed is at most 63, length - 1"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        Induction(**changes)
