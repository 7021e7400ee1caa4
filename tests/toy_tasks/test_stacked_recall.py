"""What stacked recall means: vectors of frozen tables, every key asked once; what fixed memories read without training.

Loops and products are NumPy and independent.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from attnlab import config
from attnlab.models import Transformer
from attnlab.training import losses
from toy_tasks import FixedReadout, StackedRecall

SIZE = 2048
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
IDS = StackedRecall(8, 6, 7, 4)
VECTORS = StackedRecall(8, 6, 7, 4, passes=2, answer="vectors", seed=3)
TASKS = {"ids": IDS, "vectors": VECTORS}


def table(task):
    return (np.asarray(rows, np.float64) for rows in task.embeddings)


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            best = task.oracle(batch)
            found[name] = batch, best, task.risks(best if name == "vectors" else jnp.log(best), batch)
        return found

    return jax.jit(everything)(jax.random.key(1))


def ids_of(task, batch):
    """Ids `[B, T]` of the keys and of the values that stand at each place (-1: none), by comparing all numbers."""
    inputs, found = np.asarray(batch.inputs), []
    for part, rows in zip((inputs[..., : task.dim], inputs[..., task.dim :]), task.embeddings, strict=True):
        same = (part[:, :, None] == rows).all(axis=-1)
        assert (same.sum(-1) <= 1).all()
        found.append(np.where(same.any(-1), same.argmax(-1), -1))
    return found


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, best, risks) = TASKS[name], drawn[name]
    num, context = task.num_pairs, task.num_pairs * task.passes
    assert batch.inputs.shape == (SIZE, task.length, task.width) == (SIZE, num * (task.passes + 1), 16)
    keys, values = ids_of(task, batch)
    targets, best, mask = (np.asarray(a) for a in (batch.targets, best, batch.loss_mask))
    query = np.broadcast_to(np.arange(task.length) >= context, mask.shape)
    for where, kind in ((query, "query"), (~query, "pair"), (query, None)):
        np.testing.assert_array_equal(mask if kind is None else batch.positions[kind], where)
    assert (values[query] == -1).all() and (np.asarray(batch.inputs)[query][:, 8:] == 0).all()
    for b in range(SIZE):
        book = dict(zip(keys[b, :num].tolist(), values[b, :num].tolist(), strict=True))
        assert len(book) == len(set(book.values())) == num and -1 not in book
        for one in range(task.passes):
            again = slice(one * num, (one + 1) * num)
            assert dict(zip(keys[b, again].tolist(), values[b, again].tolist(), strict=True)) == book
        assert sorted(keys[b, context:]) == sorted(book)
        wanted = np.array([book[k] for k in keys[b, context:].tolist()])
        if name == "ids":
            assert (targets[b, :context] == 0).all() and (targets[b, context:] == wanted).all()
            assert (best[b, context:] == np.eye(7)[wanted]).all()
            assert np.abs(best[b, :context] - 1 / 7).max() < 1e-7  # float32
        else:
            assert (targets[b, :context] == 0).all() and (targets[b, context:] == task.embeddings.values[wanted]).all()
    if name == "ids":
        assert {k: float(v) for k, v in risks.items()} == {"loss": 0, "accuracy": 1, "values": 0, "binding": 0}
    else:
        np.testing.assert_array_equal(best, targets)
        assert float(risks["mse"]) == float(risks["unexplained"]) == 0 and float(risks["accuracy"]) == 1


@pytest.mark.parametrize("name", TASKS)
def test_pairs_and_orders_are_uniform(drawn, name):
    task, batch = TASKS[name], drawn[name][0]
    keys, values = ids_of(task, batch)
    for place in (0, task.context - 1):
        both = np.zeros((task.num_keys, task.num_values))
        np.add.at(both, (keys[:, place], values[:, place]), 1)
        assert stats.chisquare(both.ravel()).pvalue > SURE
    for start in range(task.num_pairs, task.length, task.num_pairs):  # other passes, and the queries
        later = keys[:, start : start + task.num_pairs]
        order = np.argmax(later[:, :, None] == keys[:, None, : task.num_pairs], axis=2)
        codes = np.unique(order @ 4 ** np.arange(4), return_counts=True)[1]
        assert len(codes) == 24 and stats.chisquare(codes).pvalue > SURE
    if task.passes == 2:
        again, asked = keys[:, 4:8], keys[:, 8:]
        table = np.zeros((4, 4))
        np.add.at(table, (np.argmax(again == keys[:, :1], 1), np.argmax(asked == keys[:, :1], 1)), 1)
        assert stats.chisquare(table.ravel()).pvalue > SURE  # one order says nothing of the next


def test_tables_are_frozen_unit_vectors_uniform_on_the_sphere():
    task = StackedRecall(5, 1000, 800, 2)
    for rows in task.embeddings:
        assert rows.dtype == np.float32 and not rows.flags.writeable
        np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1.0, atol=1e-7)  # float32
        # a coordinate of a uniform point on the sphere of R^5: (x + 1) / 2 is Beta(2, 2)
        assert all(stats.kstest((column + 1) / 2, stats.beta(2, 2).cdf).pvalue > SURE for column in rows.T)
        assert np.abs(rows.T.astype(np.float64) @ rows / len(rows) - np.eye(5) / 5).max() < 4.5 / 5 / np.sqrt(len(rows))
    again, other = StackedRecall(5, 1000, 800, 2), StackedRecall(5, 1000, 800, 2, seed=1)
    assert np.array_equal(again.embeddings.values, task.embeddings.values)
    assert not np.array_equal(other.embeddings.values, task.embeddings.values)
    with pytest.raises(
        ValueError, match=r"StackedRecall\.dim: got 2; allowed is more, for rows whose cosine is at most"
    ):
        _ = StackedRecall(2, 4, 4096, 2).embeddings


@pytest.mark.parametrize("name", TASKS)
def test_plateaus_are_what_partial_knowledge_pays(drawn, name):
    task, (batch, _, _) = TASKS[name], drawn[name]
    _, values = ids_of(task, batch)
    _, rows = table(task)
    plateaus, query = task.plateaus, np.asarray(batch.positions["query"])
    if name == "ids":
        assert plateaus["values"] == (pytest.approx(np.log(7)), 1 / 7)
        assert plateaus["context"] == (pytest.approx(np.log(4)), 0.25)
        return
    targets = np.asarray(batch.targets, np.float64)
    guesses = {
        "zero": np.zeros(8),
        "table": rows.mean(axis=0),
        "context": np.array([rows[row[:4]].mean(axis=0) for row in values])[:, None],
    }
    for kind, guess in guesses.items():
        error = np.mean((targets - guess) ** 2, axis=2)
        error = np.where(query, error, 0).sum(axis=1) / 4  # by sequence
        spread = 4.5 * error.std() / np.sqrt(SIZE) + 1e-7  # float32 rows are unit vectors to 1e-7
        assert error.mean() == pytest.approx(plateaus[kind].loss, abs=spread) and plateaus[kind].accuracy is None
    assert plateaus["context"].loss < plateaus["table"].loss < plateaus["zero"].loss


@pytest.fixture(scope="module")
def scored(drawn):
    """Of eight sequences and arbitrary vectors: the risks, and the loss per place; in one program."""
    small = {name: jax.tree.map(lambda leaf: leaf[:8], drawn[name][0]) for name in TASKS}
    rng = np.random.default_rng(0)
    outputs = {name: rng.normal(0, 3, (8, task.length, 8)).astype(np.float32) for name, task in TASKS.items()}

    def everything(outputs, batches):
        found = {
            n: (t.risks(outputs[n], batches[n]), FixedReadout(t)(outputs[n], batches[n])) for n, t in TASKS.items()
        }
        return found | {"logits": IDS.risks(IDS.logits(outputs["ids"]), batches["ids"])}

    return outputs, small, jax.jit(everything)(outputs, small)


@pytest.mark.parametrize("name", TASKS)
def test_risks_and_the_fixed_readout_by_loops(scored, name):
    """Vectors are scored by their products with all values: cross entropy of the answer, and which is largest."""
    outputs, batches, found = scored
    task, batch, (risks, losses_found) = TASKS[name], batches[name], found[name]
    _, rows = table(task)
    targets, query = np.asarray(batch.targets), np.asarray(batch.positions["query"])
    gap = outputs[name] - targets.astype(np.float64) if name == "vectors" else None
    ids = (targets @ rows.T).argmax(-1) if name == "vectors" else targets
    products = outputs[name].astype(np.float64) @ rows.T
    log_probs = products - np.log(np.exp(products).sum(-1, keepdims=True))
    per_place = -np.take_along_axis(log_probs, ids[..., None], -1)[..., 0]
    np.testing.assert_allclose(np.asarray(losses_found)[query], per_place[query], rtol=1e-4)  # float32
    assert float(risks["loss"]) == pytest.approx(per_place[query].mean(), rel=1e-5)
    assert float(risks["accuracy"]) == pytest.approx((products.argmax(-1) == ids)[query].mean())
    if gap is not None:
        assert float(risks["mse"]) == pytest.approx((gap**2)[query].mean(), rel=1e-5)
        assert float(risks["unexplained"]) == pytest.approx(8 * float(risks["mse"]), rel=1e-5)  # of unit vectors
    else:
        assert float(risks["values"] + risks["binding"]) == pytest.approx(float(risks["loss"]), rel=1e-5)
        assert {k: float(v) for k, v in found["logits"].items()} == pytest.approx(
            {k: float(v) for k, v in risks.items()}
        )


def test_a_transformer_reads_it_and_says_ids_or_vectors(drawn, key):
    ids = {"vocab_size": IDS.vocab_size}
    for task, ends in ((IDS, ids), (IDS, {"output_dim": IDS.dim}), (VECTORS, {"output_dim": VECTORS.dim})):
        model = Transformer(num_layers=1, num_heads=1, width=8, length=task.length, input_dim=task.width, **ends)
        batch = drawn["ids" if task is IDS else "vectors"][0]
        outputs, _ = jax.eval_shape(lambda key, m=model, b=batch: m.apply(m.init(key), b.inputs), key)
        loss = FixedReadout(task) if "output_dim" in ends else losses.natural(task)
        assert jax.eval_shape(loss, outputs, batch).shape == batch.loss_mask.shape
        assert jax.eval_shape(task.risks, outputs, batch)["loss"].shape == ()
    assert losses.natural(IDS) is losses.next_token and losses.natural(VECTORS) is losses.squared_error
    assert config.loads(config.dumps(FixedReadout(VECTORS))) == FixedReadout(VECTORS)
    assert not hasattr(VECTORS, "vocab_size")


@pytest.fixture(scope="module")
def large():
    """Pairs of the default tables, 64 sequences of 64."""
    task, rng = StackedRecall(), np.random.default_rng(0)
    ids = np.array([[rng.permutation(4096)[:64] for _ in range(2)] for _ in range(64)])
    return task, np.concatenate([rows[ids[:, i]] for i, rows in enumerate(task.embeddings)], axis=2)


@pytest.mark.parametrize(("pairs", "hebb", "delta"), [(16, 0.99, 0.93), (32, 0.92, 0.65), (64, 0.49, 0.33)])
def test_what_fixed_memories_read_without_training(large, pairs, hebb, delta):
    """d = 32, right among 4,096 values. Calibrated here; one overwriting pass is worse than adding all up."""
    task, shown = large
    keys, values = shown[:, :pairs, :32], shown[:, :pairs, 32:]
    table = task.embeddings.values
    targets = np.argmax(values @ table.T, axis=-1)
    added = keys.transpose(0, 2, 1) @ values
    written = np.zeros_like(added)
    for j in range(pairs):
        error = values[:, j] - np.einsum("bk,bkv->bv", keys[:, j], written)
        written += keys[:, j, :, None] * error[:, None]
    for memory, wanted in ((added, hebb), (written, delta)):
        right = ((keys @ memory @ table.T).argmax(-1) == targets).mean(axis=1)
        # 0.03: the error of the figures, which come from other tables and fewer sequences
        assert right.mean() == pytest.approx(wanted, abs=0.03 + 4.5 * right.std() / 8)
    mixed = np.exp(20.0 * keys @ keys.transpose(0, 2, 1)) @ values
    assert ((mixed @ table.T).argmax(-1) == targets).mean() > 0.999  # softmax at 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 1}, r"StackedRecall\.dim: got 1; allowed is an integer >= 2"),
        ({"num_pairs": 65}, r"StackedRecall\.num_pairs: got 65; allowed is at most 64, num_keys"),
        ({"num_values": 8}, r"StackedRecall\.num_pairs: got 16; allowed is at most 8, num_values"),
        ({"passes": 0}, r"StackedRecall\.passes: got 0"),
        ({"answer": "id"}, r"StackedRecall\.answer: got 'id'; allowed is ids \| vectors"),
        ({"num_values": 32}, r"StackedRecall\.dim: got 32; allowed is not num_values"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        StackedRecall(**({"num_keys": 64} | changes))
