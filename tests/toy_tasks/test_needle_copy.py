"""What the needle means: its place, the text around it, what each step of the answer copies, the law of every token."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import NeedleCopy
from toy_tasks.markov_chain import start

SIZE = 2048
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "uniform": NeedleCopy(5, 6, 3),
    "joint": NeedleCopy(4, 6, 2, "markov", joint=True, concentration=0.5, seed=3),
    "bare": NeedleCopy(3, 0, 1, "markov"),
}


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            law = task.oracle(batch)
            others = jnp.stack([jnp.log(law), jnp.log(0.9 * law + 0.1 / task.vocab_size), jnp.zeros_like(law)])
            risks = jax.vmap(lambda logits, task=task, batch=batch: task.risks(logits, batch))(others)
            found[name] = batch, law, task.source(batch), risks
        return found

    return jax.tree.map(np.asarray, jax.jit(everything)(jax.random.key(0)))


def parts(task, row):
    """Haystack, values and depth of a sequence of `T + 1` tokens."""
    planted, again = (t for t, token in enumerate(row) if token == task.num_tokens)
    values = row[planted + 1 : planted + 1 + task.needle]
    hay = row[1:planted] + row[planted + 1 + task.needle : again]
    assert row[0] == task.num_tokens + 1 and again == task.asks and row[again + 1 :] == values
    return hay, values, planted - 1


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, _, source, _) = TASKS[name], drawn[name]
    n, m = task.haystack, task.needle
    assert batch.inputs.shape == (SIZE, n + 2 * m + 2) and task.vocab_size == task.num_tokens + 2
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    for b in range(500):
        row = batch.inputs[b].tolist() + batch.targets[b, -1:].tolist()
        hay, values, depth = parts(task, row)
        assert len(hay) == n and all(token < task.num_tokens for token in hay + values)
        kinds = {"bos": [0], "key": [depth + 1], "needle": [depth + 1 + i for i in range(1, m + 1)]}
        kinds["answer"] = list(range(n + m + 2, task.length))
        taken = {t for places in kinds.values() for t in places}
        kinds["haystack"] = [t for t in range(task.length) if t not in taken]
        kinds["language"] = [t for t in range(n + m + 2) if not depth + 1 <= t <= depth + m]
        assert {kind: np.flatnonzero(where[b]).tolist() for kind, where in batch.positions.items()} == kinds
        counted = kinds["answer"] + (kinds["language"] if task.joint else [])
        assert np.flatnonzero(batch.loss_mask[b]).tolist() == sorted(counted) and len(kinds["language"]) == n + 2
        for turn, t in enumerate(kinds["answer"]):  # what the answer says stands where `source` points
            assert source[b, t] == depth + 2 + turn and row[source[b, t]] == batch.targets[b, t]
        assert not source[b, : n + m + 2].any()
    assert set(np.unique(batch.loss_mask)) <= {0.0, 1.0}


@pytest.mark.parametrize("name", ["uniform", "joint"])
def test_all_is_drawn_as_described(drawn, name):
    task, (batch, _, _, _) = TASKS[name], drawn[name]
    rows = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1).tolist()
    hay, values, depth = (np.array(part) for part in zip(*(parts(task, row) for row in rows), strict=True))
    assert stats.chisquare(np.bincount(depth, minlength=task.haystack + 1)).pvalue > SURE
    together = np.zeros((task.num_tokens,) * task.needle)
    np.add.at(together, tuple(values.T), 1)  # values know nothing of each other
    assert stats.chisquare(together.ravel()).pvalue > SURE
    assert stats.chisquare(np.bincount(hay[:, 0], minlength=task.num_tokens), SIZE * start(task.kernel)).pvalue > SURE
    moves = np.zeros_like(task.kernel)
    np.add.at(moves, (hay[:, :-1].ravel(), hay[:, 1:].ravel()), 1)  # also across the needle
    expected = moves.sum(axis=1, keepdims=True) * task.kernel
    free = task.num_tokens * (task.num_tokens - 1)
    assert stats.chi2.sf(((moves - expected) ** 2 / expected).sum(), free) > SURE


@pytest.mark.parametrize(
    "task",
    [NeedleCopy(3, 3, 2), NeedleCopy(2, 3, 2, "markov", concentration=0.7, seed=5), NeedleCopy(3, 0, 1)],
    ids=["uniform", "markov", "bare"],
)
def test_oracle_is_the_law_of_all_sequences_by_brute_force(task):
    """Of all haystacks, values and depths: after each prefix, the share of every next token, in float64."""
    tokens, n, m = range(task.num_tokens), task.haystack, task.needle
    laws, sequences = {}, []
    for hay in itertools.product(tokens, repeat=n):
        chance = 1.0 if n == 0 else start(task.kernel)[hay[0]]
        chance *= np.prod([task.kernel[a, b] for a, b in itertools.pairwise(hay)])
        for values in itertools.product(tokens, repeat=m):
            for depth in range(n + 1):
                needle = (task.key, *values)
                row = (task.num_tokens + 1, *hay[:depth], *needle, *hay[depth:], *needle)
                sequences.append(row)
                for t in range(task.length):
                    laws.setdefault(row[: t + 1], np.zeros(task.vocab_size))[row[t + 1]] += chance
    batch = task.batch(jnp.array(sequences, jnp.int32))
    law = np.asarray(jax.jit(task.oracle)(batch))
    for b, row in enumerate(sequences):
        want = np.array([laws[row[: t + 1]] for t in range(task.length)])
        np.testing.assert_allclose(law[b], want / want.sum(axis=1, keepdims=True), atol=1e-6)  # float32


@pytest.mark.parametrize("name", TASKS)
def test_risks(drawn, name):
    task, (batch, law, _, risks) = TASKS[name], drawn[name]
    best, worse, flat = ({kind: float(value[i]) for kind, value in risks.items()} for i in range(3))
    assert best["loss"] == 0.0 and best["accuracy"] == 1.0 and abs(best["excess_language"]) < 1e-6
    assert worse["loss"] > 0 and worse["excess_language"] > 0
    vocabulary = np.log(task.vocab_size)
    assert flat["loss"] == pytest.approx(vocabulary, abs=1e-5) == task.plateaus["vocabulary"].loss
    assert flat["language"] == pytest.approx(vocabulary, abs=1e-5)
    where = batch.positions["language"]  # the sampled next tokens cost what the law says that they do
    said = np.take_along_axis(law, batch.targets[..., None], axis=2)[..., 0][where].astype(float)
    assert said.min() > 0
    assert -np.log(said).mean() == pytest.approx(best["language"], abs=4.5 * np.log(said).std() / np.sqrt(SIZE) + 1e-6)
    assert task.plateaus["tokens"] == (pytest.approx(np.log(task.num_tokens)), task.chance)


def test_at_length():
    task = TASKS["joint"]
    assert task.at_length(40) == dataclasses.replace(task, haystack=34) and task.at_length(40).length == 40
    assert NeedleCopy().vocab_size == 34 and NeedleCopy().chance == 1 / 32
    with pytest.raises(ValueError, match=r"NeedleCopy\.at_length: length: got 5; allowed is at least 6: bos, needle"):
        task.at_length(5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_tokens": 1}, r"NeedleCopy\.num_tokens: got 1; allowed is an integer >= 2"),
        ({"haystack": -1}, r"NeedleCopy\.haystack: got -1"),
        ({"needle": 0}, r"NeedleCopy\.needle: got 0"),
        ({"language": "english"}, r"NeedleCopy\.language: got 'english'; allowed is uniform \| markov"),
        ({"joint": 1}, r"NeedleCopy\.joint: got 1; allowed is True \| False"),
        ({"concentration": 0.0}, r"NeedleCopy\.concentration: got 0\.0; allowed is a finite number >= 0\.01"),
        ({"seed": -1}, r"NeedleCopy\.seed: got -1"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        NeedleCopy(**changes)
