"""Maps by examples: a fixed family, no symbol twice, the exact law by counting maps, what a guess achieves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import InContextMaps

SIZE = 2048
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "small": InContextMaps(4, 5, 2, seed=3),
    "last": InContextMaps(6, 3, 3, "last"),
    "none": InContextMaps(5, 4, 0),
}


@pytest.fixture(scope="module")
def drawn():
    def one(task, key):
        batch = task.sample(key, SIZE)
        law = task.oracle(batch)
        return batch, law, task.risks(jnp.log(law + 1e-30), batch)

    return jax.tree.map(np.asarray, jax.jit(lambda key: {n: one(t, key) for n, t in TASKS.items()})(jax.random.key(0)))


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law, _) = TASKS[name], drawn[name]
    n, inputs = task.num_symbols, batch.inputs
    assert inputs.shape == (SIZE, task.length) and task.vocab_size == 2 * n
    assert all(sorted(row) == list(range(n)) for row in task.maps.tolist())
    assert len({tuple(row) for row in task.maps.tolist()}) == task.num_maps
    symbols, images = inputs[:, 0::2], inputs[:, 1::2] - n
    assert all(len(set(row)) == task.num_examples + 1 for row in symbols.tolist())
    assert stats.chisquare(np.bincount(symbols[:, -1], minlength=n)).pvalue > SURE
    place = np.arange(task.length)
    asked = place % 2 == 0 if task.ask == "prefix" else place == task.length - 1
    assert (batch.loss_mask == asked).all() and not batch.targets[:, ~asked].any()
    for b in range(200):  # some map of the family says all examples and the answer
        right = [
            m for m in task.maps.tolist()
            if all(m[x] == y for x, y in zip(symbols[b], images[b], strict=False))
            and m[symbols[b, -1]] + n == batch.targets[b, -1]
        ]  # fmt: skip
        assert right
    np.testing.assert_allclose(law[:, ~asked], 1 / task.vocab_size, atol=1e-7)


@pytest.mark.parametrize("name", TASKS)
def test_the_oracle_counts_maps(drawn, name):
    task, (batch, law, _) = TASKS[name], drawn[name]
    n = task.num_symbols
    for b in range(100):
        row = batch.inputs[b].tolist()
        for t in np.flatnonzero(batch.loss_mask[b]):
            left = [m for m in task.maps.tolist() if all(m[row[i]] + n == row[i + 1] for i in range(0, t, 2))]
            wanted = np.bincount([n + m[row[t]] for m in left], minlength=2 * n) / len(left)
            np.testing.assert_allclose(law[b, t], wanted, atol=1e-6)


def test_what_is_known_without_examples(drawn):
    """At the first symbol the exact law is the plateau `family`, over all symbols alike."""
    task, (batch, law, risks) = TASKS["none"], drawn["none"]
    plateau = task.plateaus["family"]
    law = law[:, 0].astype(float)
    entropy = -np.sum(law * np.log(np.where(law > 0, law, 1)), axis=1)
    by_symbol = [(entropy[batch.inputs[:, 0] == x].mean(), law[batch.inputs[:, 0] == x].max()) for x in range(5)]
    np.testing.assert_allclose(np.mean(by_symbol, axis=0), (plateau.loss, plateau.accuracy), atol=1e-6)
    assert float(risks["accuracy"]) == pytest.approx(plateau.accuracy, abs=4.5 * 0.5 / np.sqrt(SIZE))
    assert float(risks["last_accuracy"]) == float(risks["accuracy"])


def test_examples_help(drawn):
    """The risk of the exact law is its own expectation, and lower than the plateau of the family."""
    task, (_, law, risks) = TASKS["small"], drawn["small"]
    asked = law[:, 0::2].astype(float)
    entropy = -np.sum(asked * np.log(np.where(asked > 0, asked, 1)), axis=2)
    assert float(risks["loss"]) == pytest.approx(entropy.mean(), abs=4.5 * 1.4 / np.sqrt(SIZE))
    assert (np.diff(entropy.mean(axis=0)) < -0.05).all()
    assert float(risks["last_loss"]) < task.plateaus["family"].loss - 0.2


def test_other_lengths_and_bad_input():
    assert (
        InContextMaps().at_length(5).num_examples == 2
        and (InContextMaps().at_length(1).maps == InContextMaps().maps).all()
    )
    for make, told in (
        (lambda: InContextMaps(num_symbols=1), "num_symbols"),
        (lambda: InContextMaps(num_examples=12), "num_examples"),
        (lambda: InContextMaps(num_symbols=3, num_maps=7, num_examples=1), "num_maps"),
        (lambda: InContextMaps(ask="all"), "ask"),  # pyright: ignore[reportArgumentType]
        (lambda: InContextMaps(seed=-1), "seed"),
        (lambda: InContextMaps().at_length(4), "odd"),
    ):
        with pytest.raises(ValueError, match=told):
            make()
