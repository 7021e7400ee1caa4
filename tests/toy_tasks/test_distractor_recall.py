"""What distractor recall means: exact angles, primes, and a plain softmax head that pays what the formula says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attnlab.models import Transformer
from attnlab.training import losses
from toy_tasks import DistractorRecall

SIZE = 2048
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "primed": DistractorRecall(4, 7, 2, 1, 2, cosine=0.8, norm=2.0),
    "opposed": DistractorRecall(3, 6, 1, 3, 0, cosine=-0.5, norm=1.5),
}


def plain_head(task, batch, sharpness=1.0, xp=np) -> np.ndarray:
    """`Float[B, V]`: the values that a softmax head reads at the query, from keys as they are."""
    keys, values = batch.inputs[:, :-1, : task.dim], batch.inputs[:, :-1, task.dim :]
    if xp is np:
        keys, values = np.asarray(keys, np.float64), np.asarray(values, np.float64)
    query = xp.asarray(batch.inputs[:, -1, : task.dim])
    weights = xp.exp(sharpness * xp.einsum("bcd,bd->bc", keys, query) / task.dim**0.5)
    return xp.einsum("bc,bcv->bv", weights / weights.sum(axis=1, keepdims=True), values)


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            law = task.oracle(batch)
            found[name] = batch, law, task.risks(jnp.log(law), batch)
        batch, law, _ = found["primed"]
        head = jnp.log(plain_head(TASKS["primed"], batch, xp=jnp))[:, None]
        return found | {"head": TASKS["primed"].risks(jnp.broadcast_to(head, law.shape), batch)}

    return jax.jit(everything)(jax.random.key(0))


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law, risks) = TASKS[name], drawn[name]
    inputs, targets, law = np.asarray(batch.inputs, np.float64), np.asarray(batch.targets), np.asarray(law)
    last = task.num_primes + task.pairs
    assert inputs.shape == (SIZE, last + 1, task.dim + task.num_values) == (SIZE, task.length, task.width)
    kinds = {kind: np.asarray(where) for kind, where in batch.positions.items()}
    np.testing.assert_allclose(sum(where.astype(int) for where in kinds.values()), 1)
    keys, values = inputs[..., : task.dim], inputs[..., task.dim :]
    np.testing.assert_allclose(np.linalg.norm(keys, axis=-1), task.norm, rtol=1e-6)  # float32
    cosine = np.einsum("btd,bd->bt", keys, keys[:, -1]) / task.norm**2
    for kind, wanted in (("target", 1), ("query", 1), ("herring", task.cosine), ("prime", task.cosine), ("other", 0)):
        assert np.abs(cosine[kinds[kind]] - wanted).max(initial=0) < 1e-6  # float32
    counts = {"prime": task.num_primes, "target": 1, "herring": task.num_herrings, "other": task.num_others}
    for kind, count in counts.items():
        assert (kinds[kind].sum(axis=1) == count).all()
    assert kinds["query"][:, last].all() and kinds["prime"][:, : task.num_primes].all()
    assert (values[:, last] == 0).all() and (values[:, :last].sum(-1) == 1).all()
    for b in range(SIZE):
        (place,) = np.flatnonzero(kinds["target"][b])
        assert targets[b, last] == values[b, place].argmax() and (keys[b, place] == keys[b, last]).all()
        pairs = values[b, task.num_primes : last].argmax(-1).tolist()
        assert len(set(pairs)) == task.pairs and (targets[b, :last] == 0).all()
        copies = {tuple(row) for row in inputs[b, : task.num_primes]}
        assert len(copies) <= 1 and copies <= {tuple(row) for row in inputs[b][kinds["herring"][b]]}
        assert law[b, last, targets[b, last]] == 1.0 == law[b, last].sum()
    np.testing.assert_array_equal(batch.loss_mask, kinds["query"])
    np.testing.assert_allclose(law[:, :last], 1 / task.num_values, atol=1e-7)  # float32
    told = {"loss": 0, "accuracy": 1, "values": 0, "binding": 0, "correct": 1, "herrings": 0, "primed": 0}
    assert {k: float(v) for k, v in risks.items()} == told


@pytest.mark.parametrize("name", TASKS)
def test_a_plain_softmax_head_pays_what_the_formula_says(drawn, name):
    """In float64 from the sequences themselves."""
    task, batch = TASKS[name], drawn[name][0]
    answer = np.asarray(batch.targets)[:, -1]
    for sharpness in (1.0, 3.0):
        read = plain_head(task, batch, sharpness)
        right = read[np.arange(SIZE), answer]
        exact = task.correct(sharpness)
        np.testing.assert_allclose(right, exact, rtol=1e-5)  # float32 keys: logits to 1e-6
        accuracy = (read.argmax(axis=1) == answer).mean()
        assert task.softmax(sharpness) == (pytest.approx(-np.log(exact)), accuracy)


def test_risks_tell_where_the_probability_goes(drawn):
    """Of the head's logits: to the answer, to both herrings, one of them three times, and to that one."""
    risks, correct = drawn["head"], TASKS["primed"].correct()
    herring = np.exp(-0.2 * 4 / 2)
    wanted = {"correct": correct, "herrings": 4 * herring * correct, "primed": 3 * herring * correct}
    wanted |= {"loss": -np.log(correct), "values": 0.0}
    assert {name: float(risks[name]) for name in wanted} == pytest.approx(wanted, rel=1e-5, abs=1e-5)  # float32


def test_a_pair_alone(key):
    """Without anything to confuse it with, nothing can go wrong."""
    task = DistractorRecall(2, 3, 0, 0, 0)
    assert jax.eval_shape(lambda key: task.oracle(task.sample(key, 4)), key).shape == (4, 2, 3)
    assert task.correct() == 1 and task.softmax() == (0, 1) and task.plateaus["context"] == (0, 1)


def test_enough_primes_fool_the_head():
    """`(1 + p) e^-Δ` against 1: here `Δ = 0.4`, so that one prime is enough. Sharper, it takes more."""
    task = TASKS["primed"]
    assert task.softmax().accuracy == 0.0 and task.softmax(3.0).accuracy == 1.0
    assert DistractorRecall(4, 7, 2, 1, 0, cosine=0.8, norm=2.0).softmax().accuracy == 1.0


@given(
    st.integers(0, 5), st.integers(0, 3), st.integers(0, 4), st.floats(-1, 0.99), st.floats(0.1, 4), st.floats(0.1, 3)
)
def test_the_formula_falls_with_herrings_and_primes(herrings, others, primes, cosine, norm, sharpness):
    def correct(r, p):
        return DistractorRecall(4, 16, r, others, p if r else 0, cosine, norm).correct(sharpness)

    assert correct(herrings + 1, primes) < correct(herrings, primes) if herrings else True
    assert correct(herrings + 1, primes + 1) < correct(herrings + 1, primes)
    gap = (1 - cosine) * norm**2 * sharpness / 2
    plain = 1 / (1 + (herrings + 1 + primes) * np.exp(-gap) + others * np.exp(-(norm**2) * sharpness / 2))
    assert correct(herrings + 1, primes) == pytest.approx(plain, rel=1e-12)


def test_directions_values_and_places_are_uniform(drawn):
    task, batch = TASKS["primed"], drawn["primed"][0]
    inputs, kinds = np.asarray(batch.inputs, np.float64), {k: np.asarray(w) for k, w in batch.positions.items()}
    keys = inputs[..., : task.dim] / task.norm
    target = keys[:, -1]
    # a coordinate of a uniform point on the sphere of R^4: (x + 1) / 2 is Beta(3/2, 3/2)
    assert all(stats.kstest((column + 1) / 2, stats.beta(1.5, 1.5).cdf).pvalue > SURE for column in target.T)
    assert np.abs(target.T @ target / SIZE - np.eye(4) / 4).max() < 4.5 / 4 / np.sqrt(SIZE)
    herrings = keys[kinds["herring"]].reshape(SIZE, 2, 4)
    away = (herrings - task.cosine * target[:, None]) / np.sqrt(1 - task.cosine**2)
    # two of them, in the three dimensions orthogonal to the target, are independent: their cosine is uniform
    assert stats.kstest((np.einsum("bd,bd->b", *away.transpose(1, 0, 2)) + 1) / 2, "uniform").pvalue > SURE
    assert np.abs(away.mean(axis=0)).max() < 4.5 / 2 / np.sqrt(SIZE)
    assert stats.chisquare(np.bincount(np.asarray(batch.targets)[:, -1], minlength=7)).pvalue > SURE
    layouts = {}
    for row in np.stack([kinds["target"], kinds["other"]], axis=2)[:, 2:-1]:
        layouts[row.tobytes()] = layouts.get(row.tobytes(), 0) + 1
    assert len(layouts) == 12 and stats.chisquare(list(layouts.values())).pvalue > SURE  # 4! / 2!
    primed = np.asarray([row[kinds["herring"][b]].tolist().index(row[0].tolist()) for b, row in enumerate(inputs)])
    assert abs(primed.mean() - 0.5) < 4.5 * 0.5 / np.sqrt(SIZE)  # in the pairs it comes before or after the other


@pytest.mark.parametrize("name", TASKS)
def test_plateaus(drawn, name):
    """Among the values that are shown the answer is uniform, but for the primed one, which it never is."""
    task, (batch, *_) = TASKS[name], drawn[name]
    counts = np.asarray(batch.inputs)[..., task.dim :].sum(axis=1)
    once = counts == 1
    assert once[np.arange(SIZE), np.asarray(batch.targets)[:, -1]].all()
    known = once.sum(axis=1)
    assert (known == known[0]).all() and task.plateaus["context"] == (pytest.approx(np.log(known[0])), 1 / known[0])
    assert task.plateaus["values"] == (pytest.approx(np.log(task.num_values)), 1 / task.num_values)


def test_a_transformer_reads_it(drawn, key):
    task, (batch, law, *_) = TASKS["primed"], drawn["primed"]
    ends = {"vocab_size": task.vocab_size, "input_dim": task.width}
    model = Transformer(num_layers=1, num_heads=1, width=8, length=task.length, **ends)
    logits, _ = jax.eval_shape(lambda key: model.apply(model.init(key), batch.inputs), key)
    assert logits.shape == law.shape and losses.natural(task) is losses.next_token


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 1}, r"DistractorRecall\.dim: got 1; allowed is an integer >= 2"),
        ({"num_values": 6}, r"DistractorRecall\.num_values: got 6; allowed is >= 7; .*distinct values"),
        ({"num_herrings": 0, "num_primes": 1}, r"DistractorRecall\.num_primes: got 1; allowed is 0 without herrings"),
        ({"num_primes": -1}, r"DistractorRecall\.num_primes: got -1"),
        ({"cosine": 1.0}, r"DistractorRecall\.cosine: got 1\.0; allowed is a number from -1 to below 1"),
        ({"norm": 0}, r"DistractorRecall\.norm: got 0; allowed is a finite number > 0"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        DistractorRecall(**changes)
