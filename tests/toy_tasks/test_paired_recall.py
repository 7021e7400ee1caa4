"""What paired recall means: one-hot pairs, keys alone, answers; what partial knowledge achieves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from attnlab.models import Transformer
from attnlab.training import losses
from toy_tasks import PairedRecall

SIZE = 2048
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "distinct": PairedRecall(12, 9, 6, 4, distinct_values=True),
    "repeats": PairedRecall(8, 3, 8, 5),
}


@pytest.fixture(scope="module")
def drawn():
    """Of each task a batch, its oracle, the risks of that, and those of the mean over the values of the context."""

    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            law = task.oracle(batch)
            mean = batch.inputs[:, : task.num_pairs, task.num_keys :].mean(axis=1, keepdims=True)
            two = law, jnp.broadcast_to(mean, law.shape)
            found[name] = batch, law, *(task.risks(jnp.log(of), batch) for of in two)
        return found

    return jax.jit(everything)(jax.random.key(1))


def words(task, batch) -> tuple[np.ndarray, np.ndarray]:
    """`Int[B, T]` twice: the key at each place, and the value, -1 where there is none. Every part is one-hot or 0."""
    inputs = np.asarray(batch.inputs)
    parts = inputs[..., : task.num_keys], inputs[..., task.num_keys :]
    for part in parts:
        assert np.isin(part, (0.0, 1.0)).all() and (part.sum(-1) <= 1).all()
    return tuple(np.where(part.any(-1), part.argmax(-1), -1) for part in parts)


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law, risks, _) = TASKS[name], drawn[name]
    assert batch.inputs.shape == (SIZE, task.length, task.width) == (SIZE, task.num_pairs + task.queries, task.width)
    keys, values = words(task, batch)
    targets, mask, law = np.asarray(batch.targets), np.asarray(batch.loss_mask), np.asarray(law)
    query = np.asarray(batch.positions["query"])
    np.testing.assert_array_equal(query, ~np.asarray(batch.positions["pair"]))
    for b in range(SIZE):
        answer = dict(zip(keys[b, : task.num_pairs], values[b, : task.num_pairs], strict=True))
        assert len(answer) == task.num_pairs and -1 not in answer and -1 not in answer.values()
        assert not task.distinct_values or len(set(answer.values())) == task.num_pairs
        for t in range(task.length):
            if t < task.num_pairs:
                assert not query[b, t] and mask[b, t] == targets[b, t] == 0
                continue
            assert query[b, t] and mask[b, t] == 1 and values[b, t] == -1
            assert targets[b, t] == answer[keys[b, t]]
            assert law[b, t, targets[b, t]] == 1.0 and law[b, t].sum() == 1.0
    np.testing.assert_allclose(law[:, : task.num_pairs], 1 / task.num_values, atol=1e-7)  # float32
    assert {name: float(v) for name, v in risks.items()} == {"loss": 0, "accuracy": 1, "values": 0, "binding": 0}


@pytest.mark.parametrize("name", TASKS)
def test_keys_values_and_queries_are_uniform(drawn, name):
    task, batch = TASKS[name], drawn[name][0]
    keys, values = words(task, batch)
    first, last = keys[:, 0], keys[:, task.num_pairs - 1]
    for column, size in ((first, task.num_keys), (last, task.num_keys), (values[:, 0], task.num_values)):
        assert stats.chisquare(np.bincount(column, minlength=size)).pvalue > SURE
    asked = np.argmax(keys[:, : task.num_pairs, None] == keys[:, None, task.num_pairs :], axis=1)
    assert stats.chisquare(np.bincount(asked.ravel(), minlength=task.num_pairs)).pvalue > SURE
    pairs = np.zeros((task.num_pairs, task.num_pairs))
    np.add.at(pairs, (asked[:, 0], asked[:, 1]), 1)  # one query says nothing of the next
    assert stats.chisquare(pairs.ravel()).pvalue > SURE
    if not task.distinct_values:
        two = np.zeros((task.num_values, task.num_values))
        np.add.at(two, (values[:, 0], values[:, 1]), 1)
        assert stats.chisquare(two.ravel()).pvalue > SURE


@pytest.mark.parametrize("name", TASKS)
def test_the_context_plateau_is_what_counts_of_values_pay(drawn, name):
    """The predictor that knows how often each value occurs, as a mean over the context does."""
    task, (batch, _, _, risks) = TASKS[name], drawn[name]
    _, values = words(task, batch)
    counts = np.array([np.bincount(row[: task.num_pairs], minlength=task.num_values) for row in values])
    share = counts / task.num_pairs
    targets = np.asarray(batch.targets)[:, task.num_pairs :]
    chance = np.take_along_axis(share, targets, axis=1)
    loss = -np.log(chance).mean(axis=1)
    plateau = task.plateaus["context"]
    assert loss.mean() == pytest.approx(plateau.loss, abs=4.5 * loss.std() / np.sqrt(SIZE) + 1e-6)
    top = share.max(axis=1, keepdims=True)
    right = ((chance == top) / (share == top).sum(axis=1, keepdims=True)).mean(axis=1)
    assert right.mean() == pytest.approx(plateau.accuracy, abs=4.5 * right.std() / np.sqrt(SIZE) + 1e-6)
    assert float(risks["values"]) == pytest.approx(0.0, abs=1e-6)
    assert float(risks["binding"]) == pytest.approx(loss.mean(), abs=1e-5)  # float32


def test_plateaus_of_the_catalogue_settings():
    """16 and 48 pairs of 64 values: knowing the values is worth more than 1/16 and 1/48, since some come twice."""
    small, large = PairedRecall().plateaus, PairedRecall(num_pairs=48).plateaus
    assert small["values"] == large["values"] == (pytest.approx(np.log(64)), 1 / 64)
    assert small["context"] == pytest.approx((2.6172, 0.1244), abs=5e-5)
    assert large["context"] == pytest.approx((3.4287, 0.0706), abs=5e-5)
    distinct = PairedRecall(num_pairs=48, distinct_values=True).plateaus["context"]
    assert distinct == (pytest.approx(np.log(48)), 1 / 48)


def test_a_transformer_reads_it_and_pays_cross_entropy(drawn, key):
    """`input_dim` in, `vocab_size` out; the loss of training is the cross entropy of the answer, at queries alone."""
    task = TASKS["distinct"]
    model = Transformer(
        num_layers=1, num_heads=1, width=8, vocab_size=task.vocab_size, length=task.length, input_dim=task.width
    )
    batch, law, _, _ = drawn["distinct"]
    logits, _ = jax.eval_shape(lambda key: model.apply(model.init(key), batch.inputs), key)
    assert logits.shape == law.shape and losses.natural(task) is losses.next_token
    blurred = jnp.log(0.9 * law + 0.1 / task.num_values)
    loss = float(jnp.sum(losses.next_token(blurred, batch) * batch.loss_mask) / losses.total_weight(batch))
    assert loss == pytest.approx(-np.log(0.9 + 0.1 / 9), abs=1e-6)  # float32; every answer has this probability


def test_a_linear_embedding_adds_the_two_embeddings(drawn, rng):
    task, batch = TASKS["repeats"], drawn["repeats"][0]
    keys, values = words(task, batch)
    table = rng.standard_normal((task.width, 5))
    got = np.asarray(batch.inputs)[:8] @ table
    for b, t in np.ndindex(8, task.length):
        wanted = table[keys[b, t]] + (table[task.num_keys + values[b, t]] if values[b, t] >= 0 else 0.0)
        np.testing.assert_allclose(got[b, t], wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_keys": 0}, r"PairedRecall\.num_keys: got 0"),
        ({"num_pairs": True}, r"PairedRecall\.num_pairs: got True; allowed is an integer >= 1"),
        ({"num_pairs": 65}, r"PairedRecall\.num_pairs: got 65; allowed is at most 64, the number of keys"),
        ({"num_queries": 0}, r"PairedRecall\.num_queries: got 0; allowed is an integer >= 1, or None"),
        ({"num_values": 8, "distinct_values": True}, r"got 16; allowed is at most 8, the number of values"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        PairedRecall(**changes)
