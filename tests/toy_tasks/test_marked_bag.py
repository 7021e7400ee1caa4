"""What the marked bag means: where marks are, what they carry, and the exact law of the class."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import MarkedBag

SIZE = 2048
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "one": MarkedBag(),
    "few": MarkedBag(6, 5, 3, 2, noise=0.8, mark=0.7, seed=4),
    "all": MarkedBag(3, 4, 2, 3, noise=1.5, mark=-1.0),
    "unmarked": MarkedBag(6, 5, 3, 3, noise=0.5, mark=0.0),
}


@pytest.fixture(scope="module")
def drawn():
    def one(task, key):
        batch = task.sample(key, SIZE)
        law = task.oracle(batch)
        turned = task.oracle(batch.replace(inputs=jnp.roll(batch.inputs, 2, axis=1)))
        mean = jnp.mean(batch.inputs, axis=1) @ jnp.asarray(task.directions[:-1], jnp.float32).T
        laws = jnp.stack([law, jnp.zeros_like(law).at[:, -1].set(jax.nn.softmax(mean))])
        return batch, law, turned, jax.vmap(lambda law: task.risks(jnp.log(law), batch))(laws)

    def everything(key):
        return {name: one(task, key) for name, task in TASKS.items()}

    return jax.tree.map(np.asarray, jax.jit(everything)(jax.random.key(0)))


@pytest.mark.parametrize("name", TASKS)
def test_every_bag_is_as_described(drawn, name):
    task, (batch, law, _, _) = TASKS[name], drawn[name]
    marked, last = batch.positions["marked"], np.arange(task.length) == task.length - 1
    assert batch.inputs.shape == (SIZE, task.num_tokens, task.dim) and (marked.sum(axis=1) == task.num_marked).all()
    assert (batch.positions["unmarked"] == ~marked).all() and (batch.positions["answer"] == last).all()
    assert (batch.loss_mask == last).all() and not batch.targets[:, :-1].any()
    np.testing.assert_allclose(task.directions @ task.directions.T, np.eye(task.num_classes + 1), atol=1e-12)
    np.testing.assert_allclose(law[:, :-1], 1 / task.num_classes, atol=1e-7)
    if task.num_marked < task.num_tokens:
        assert stats.chisquare(marked.sum(axis=0)).pvalue > SURE  # drawn without replacement: even closer than that
    answer = batch.targets[:, -1]
    assert stats.chisquare(np.bincount(answer, minlength=task.num_classes)).pvalue > SURE
    # what is left without class and mark is noise; of unmarked vectors every class has the same share
    along = batch.inputs.astype(float) @ task.directions.T
    true = along[marked] - np.eye(task.num_classes + 1)[np.repeat(answer, task.num_marked)]
    true[:, -1] -= task.mark
    assert stats.kstest(true.ravel() / task.noise, "norm").pvalue > SURE
    if (~marked).any():
        assert stats.kstest(along[~marked][:, -1] / task.noise, "norm").pvalue > SURE
        means = along[~marked][:, :-1].mean(axis=0)
        spread = np.sqrt(task.noise**2 + 1 / task.num_classes) / np.sqrt((~marked).sum())
        np.testing.assert_allclose(means, 1 / task.num_classes, atol=4.5 * spread)


@pytest.mark.parametrize("name", ["few", "all", "unmarked"])
def test_oracle_is_bayes_by_brute_force(drawn, name):
    """In float64, over all classes, all sets of marked places, all classes of the others: densities multiplied."""
    task, (batch, law, _, _) = TASKS[name], drawn[name]
    count, classes = task.num_tokens, range(task.num_classes)
    means, mark = task.directions[:-1], task.mark * task.directions[-1]

    def density(x, mean):
        return np.exp(-0.5 * np.sum((x - mean) ** 2) / task.noise**2)

    for b in range(40):
        bag, want = batch.inputs[b].astype(float), np.zeros(task.num_classes)
        with_mark = np.array([[density(x, mean + mark) for mean in means] for x in bag])
        without = np.array([[density(x, mean) for mean in means] for x in bag])
        for marked in itertools.combinations(range(count), task.num_marked):
            others = [t for t in range(count) if t not in marked]
            for said in itertools.product(classes, repeat=len(others)):
                rest = np.prod([without[t, k] for t, k in zip(others, said, strict=True)])
                want += rest * np.prod(with_mark[list(marked)], axis=0)
        np.testing.assert_allclose(law[b, -1], want / want.sum(), atol=1e-5)  # float32 over σ²


@pytest.mark.parametrize("name", TASKS)
def test_oracle_is_calibrated_better_than_others_and_blind_to_order(drawn, name):
    task, (batch, law, turned, risks) = TASKS[name], drawn[name]
    np.testing.assert_allclose(turned, law, atol=2e-5)  # float32: sums in another order
    law, answer = law[:, -1].astype(float), batch.targets[:, -1]
    hit = np.eye(task.num_classes)[answer]
    for low in np.linspace(0.0, 0.9, 10):  # where it says a probability around p, it happens in a share p
        here = (law > low) & (law <= low + 0.1)
        assert abs((hit - law)[here].sum()) <= 4.5 * np.sqrt((law * (1 - law))[here].sum() + 1)
    loss = -np.log(law[np.arange(SIZE), answer]).mean()
    assert float(risks["loss"][0]) == pytest.approx(loss, abs=1e-4)
    for power in (0.7, 1.4):
        other = law**power / (law**power).sum(axis=1, keepdims=True)
        assert loss < -np.log(other[np.arange(SIZE), answer]).mean()
    assert risks["accuracy"][0] >= risks["accuracy"][1]  # who takes the mean sees less
    right = law.max(axis=1)  # accuracy is what the law expects of itself
    assert float(risks["accuracy"][0]) == pytest.approx(right.mean(), abs=4.5 * 0.5 / np.sqrt(SIZE))


def test_more_marks_are_easier_and_a_mean_needs_many(drawn):
    found = {}
    for r in (1, 8):
        task = MarkedBag(num_marked=r)

        @jax.jit
        def both(key, task=task):
            batch = task.sample(key, SIZE)
            mean = jnp.mean(batch.inputs, axis=1) @ jnp.asarray(task.directions[:-1], jnp.float32).T
            answer = batch.targets[:, -1]
            return jnp.mean(task.oracle(batch)[:, -1].argmax(-1) == answer), jnp.mean(mean.argmax(-1) == answer)

        found[r] = tuple(map(float, both(jax.random.key(1))))
    assert found[1][0] > found[1][1] + 0.35  # one mark: attention is worth a lot
    assert found[8][0] > 0.99 and 0.7 < found[8][1] < 0.9


def test_at_length():
    task = TASKS["few"]
    assert task.at_length(9) == dataclasses.replace(task, num_tokens=9) and task.at_length(9).length == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_tokens": 0}, r"MarkedBag\.num_tokens: got 0"),
        ({"dim": 8}, r"MarkedBag\.dim: got 8; allowed is an integer >= 9: a direction for each class and one for the"),
        ({"num_classes": 1}, r"MarkedBag\.num_classes: got 1"),
        ({"num_marked": 50}, r"MarkedBag\.num_marked: got 50; allowed is at most 49, num_tokens"),
        ({"noise": 0}, r"MarkedBag\.noise: got 0; allowed is a finite number > 0"),
        ({"mark": "big"}, r"MarkedBag\.mark: got 'big'; allowed is a finite number"),
        ({"seed": None}, r"MarkedBag\.seed: got None"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        MarkedBag(**changes)
