"""What MQAR means: pairs, gaps, fillers, answers; what partial knowledge achieves. Loops are NumPy and independent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import MQAR

SIZE = 2048
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "catalogue": MQAR(64, 48, 8),
    "any": MQAR(33, 24, 3, fillers="any", power=0.3),
    "twice": MQAR(32, 36, 4, fillers="zero", passes=2),
}


@pytest.fixture(scope="module")
def drawn():
    return jax.jit(lambda key: {name: task.sample(key, SIZE) for name, task in TASKS.items()})(jax.random.key(3))


@pytest.fixture(scope="module")
def best(drawn):
    """Of two tasks the oracle and its risks on 64 sequences; in one program: compiling is most of the time."""

    def ask(batches):
        laws = {name: TASKS[name].oracle(batch) for name, batch in batches.items()}
        return {name: (law, TASKS[name].risks(jnp.log(law), batches[name])) for name, law in laws.items()}

    asked = {name: jax.tree.map(lambda leaf: leaf[:64], drawn[name]) for name in ("any", "twice")}
    return jax.jit(ask)(asked)


@pytest.fixture(params=TASKS)
def case(request, drawn):
    return TASKS[request.param], drawn[request.param]


def slots_of(task, batch) -> np.ndarray:
    """`Int[B, C]`: at which slot each pair is asked."""
    inputs, query = np.asarray(batch.inputs), np.asarray(batch.positions["query"])
    found = np.zeros((len(inputs), task.num_pairs), int)
    for b, row in enumerate(inputs):
        for i, key in enumerate(row[0 : 2 * task.num_pairs : 2]):
            places = [t for t in range(task.context, task.length) if query[b, t] and row[t] == key]
            assert len(places) == 1 and (places[0] - task.context) % 2 == 0
            found[b, i] = (places[0] - task.context) // 2
    return found


def test_every_sequence_is_as_described(case):
    task, batch = case
    half, num, context = task.vocab_size // 2, task.num_pairs, 2 * task.num_pairs * task.passes
    inputs, targets, mask = (np.asarray(a) for a in (batch.inputs, batch.targets, batch.loss_mask))
    assert inputs.shape == targets.shape == mask.shape == (SIZE, task.length) and task.context == context
    kinds = {name: np.asarray(where) for name, where in batch.positions.items()}
    for b in range(SIZE):
        row = inputs[b].tolist()
        keys, values = row[0 : 2 * num : 2], row[1 : 2 * num : 2]
        assert len(set(keys)) == len(set(values)) == num
        assert all(1 <= k < half for k in keys) and all(half <= v < task.vocab_size for v in values)
        for one in range(task.passes):
            assert row[2 * num * one : 2 * num * (one + 1)] == row[: 2 * num]
        answer, asked = dict(zip(keys, values, strict=True)), []
        for t in range(task.length):
            kind = [name for name, where in kinds.items() if where[b, t]]
            if t < context:
                assert kind == [("key", "value")[t % 2]]
            elif kind == ["query"]:
                asked.append(row[t])
                assert mask[b, t] == 1 and targets[b, t] == answer[row[t]]
                continue
            else:
                assert kind == ["filler"] and 0 <= row[t] < task.vocab_size
                assert task.fillers != "zero" or row[t] == 0
                assert task.fillers != "random" or row[t] not in answer
            assert mask[b, t] == 0 and targets[b, t] == 0
        assert sorted(asked) == sorted(keys)
    slots_of(task, batch)  # and at even places behind the pairs


def test_pairs_are_uniform(case):
    """Every key and every value is as likely as any other, at every place of the context, and they are independent."""
    task, batch = case
    keys, values = (np.asarray(a) for a in task.pairs(batch.inputs))
    assert task.num_keys == task.vocab_size // 2 - 1 and task.num_keys + task.num_values + 1 == task.vocab_size
    for i in (0, task.num_pairs - 1):
        assert stats.chisquare(np.bincount(keys[:, i] - 1, minlength=task.num_keys)).pvalue > SURE
        counts = np.bincount(values[:, i] - task.vocab_size // 2, minlength=task.num_values)
        assert stats.chisquare(counts).pvalue > SURE
    both = np.zeros((task.num_keys, task.num_values))
    np.add.at(both, (keys[:, 0] - 1, values[:, 0] - task.vocab_size // 2), 1)
    assert stats.chisquare(both.ravel()).pvalue > SURE  # no key knows its value


def test_gaps_follow_the_slot_law(case):
    task, batch = case
    slots = slots_of(task, batch)
    law = task.slot_law
    assert law.shape == (task.num_pairs, (task.length - task.context) // 2)
    for i in range(task.num_pairs):
        counts = np.bincount(slots[:, i], minlength=law.shape[1])
        assert stats.chisquare(counts, SIZE * law[i] / law[i].sum()).pvalue > SURE


def test_gaps_are_those_of_the_published_generator(drawn, rng):
    """`numpy.random.choice` without replacement, with weights `a g^(a - 1)`: mean and spread of every pair's slot."""
    task = TASKS["catalogue"]
    slots = slots_of(task, drawn["catalogue"])
    for one in TASKS.values():
        gaps = np.arange(1, (one.length - one.context) // 2 + 1)
        published = one.power * gaps ** (one.power - 1.0)
        np.testing.assert_allclose(one.slot_weights / one.slot_weights.sum(), published / published.sum(), rtol=1e-14)
    weights = 0.01 * np.arange(1, 17) ** (0.01 - 1)
    theirs = np.array([rng.choice(16, 8, replace=False, p=weights / weights.sum()) for _ in range(SIZE)])
    error = np.sqrt((slots.var(axis=0) + theirs.var(axis=0)) / SIZE)
    assert (np.abs(slots.mean(axis=0) - theirs.mean(axis=0)) < 4.5 * error).all()
    for i in range(8):
        table = [np.bincount(a[:, i], minlength=16) for a in (slots, theirs)]
        assert stats.chi2_contingency(table).pvalue > SURE
    order = slots.mean(axis=0)
    assert order[0] < order[-1] - 10 * error[0]  # the first pair is asked sooner than the last


def test_random_fillers_are_uniform_over_all_but_the_keys(drawn):
    task, batch = TASKS["catalogue"], drawn["catalogue"]
    ranks = []
    for row, filler in zip(np.asarray(batch.inputs), np.asarray(batch.positions["filler"]), strict=True):
        free = [v for v in range(task.vocab_size) if v not in row[0:16:2]]
        ranks += [free.index(v) for v in row[filler]]
    assert stats.chisquare(np.bincount(ranks, minlength=task.vocab_size - 8)).pvalue > SURE


def test_published_fillers_are_uniform_over_everything(drawn):
    task, batch = TASKS["any"], drawn["any"]
    filler = np.asarray(batch.positions["filler"])
    assert stats.chisquare(np.bincount(np.asarray(batch.inputs)[filler], minlength=33)).pvalue > SURE
    keys, _ = task.pairs(batch.inputs)
    assert task.vocab_size == 33  # an odd vocabulary has one value more
    repeats = (np.asarray(batch.inputs)[:, :, None] == np.asarray(keys)[:, None, :]).any(-1) & filler
    assert repeats[filler].mean() == pytest.approx(3 / 33, abs=4.5 * np.sqrt(3 / 33 / filler.sum()))


def test_collisions_are_as_often_as_computed(drawn):
    """Counted in loops: fillers that show a key, sequences with any, fillers that show a query's own key before it."""
    task, batch = TASKS["any"], drawn["any"]
    inputs, query = np.asarray(batch.inputs), np.asarray(batch.positions["query"])
    repeats, before = np.zeros(SIZE), np.zeros(SIZE)
    for b, row in enumerate(inputs):
        keys = row[0 : 2 * task.num_pairs : 2]
        fillers = [t for t in range(task.context, task.length) if not query[b, t]]
        repeats[b] = sum(row[t] in keys for t in fillers)
        asked = np.flatnonzero(query[b])
        before[b] = np.mean([sum(row[s] == row[t] for s in fillers if s < t) for t in asked])
    exact = task.collisions
    for counted, wanted in ((repeats, exact.repeats), (repeats > 0, exact.touched), (before, exact.before)):
        assert counted.mean() == pytest.approx(wanted, abs=4.5 * counted.std() / np.sqrt(SIZE))
    assert "(show keys" in task.describe()


def test_collisions_of_the_published_cells():
    """The numbers that the module's text gives."""
    for vocab_size, length, pairs, repeats, touched in (
        (8192, 64, 4, 0.0254, 0.0251),
        (8192, 512, 64, 2.5, 0.9187),
        (64, 48, 8, 3.0, 0.9594),
    ):
        found = MQAR(vocab_size, length, pairs, fillers="any").collisions
        assert found[:2] == (pytest.approx(repeats, abs=5e-5), pytest.approx(touched, abs=5e-5))
        assert 0 < found.before < found.repeats / pairs  # of the repeats of one key, those before its query
    assert MQAR(64, 48, 8).collisions == MQAR(64, 48, 8, fillers="zero").collisions == (0, 0, 0)


@pytest.mark.parametrize("name", ["any", "twice"])
def test_the_oracle_reads_the_pairs_and_pays_nothing(drawn, best, name):
    task, (law, risks) = TASKS[name], best[name]
    inputs, query = np.asarray(drawn[name].inputs), np.asarray(drawn[name].positions["query"])
    for b, t in np.ndindex(64, task.length):
        row = inputs[b]
        if query[b, t]:
            wanted = np.zeros(task.vocab_size)
            wanted[row[int(np.flatnonzero(row[:t] == row[t])[0]) + 1]] = 1.0  # behind its first occurrence
        else:
            wanted = np.full(task.vocab_size, 1 / task.vocab_size)
        assert np.abs(np.asarray(law)[b, t] - wanted).max() < 1e-7  # float32 of 1 / V
    assert {name: float(value) for name, value in risks.items()} == {
        "loss": 0.0,
        "accuracy": 1.0,
        "values": 0.0,
        "binding": 0.0,
    }


risks_of_catalogue = jax.jit(TASKS["catalogue"].risks)


def partial(task, batch, knows: str) -> np.ndarray:
    """`Float[B, T, V]`: the law of a predictor that knows only so much."""
    law = np.zeros((SIZE, task.length, task.vocab_size))
    values = np.asarray(task.pairs(batch.inputs)[1])
    conditional = task.slot_law / task.slot_law.sum(axis=0, keepdims=True)
    for b in range(SIZE):
        if knows == "vocabulary":
            law[b] = 1 / task.vocab_size
        elif knows == "values":
            law[b, :, task.vocab_size // 2 :] = 1 / task.num_values
        elif knows == "context":
            law[b][:, values[b]] = 1 / task.num_pairs
        else:
            for t in range(task.context, task.length):
                law[b, t, values[b]] = conditional[:, (t - task.context) // 2]
            law[b, : task.context] = 1 / task.vocab_size
    return law


@pytest.mark.parametrize("knows", ["vocabulary", "values", "context", "place"])
def test_plateaus_are_what_partial_knowledge_pays(drawn, knows):
    task, batch = TASKS["catalogue"], drawn["catalogue"]
    law, plateau = partial(task, batch, knows), task.plateaus[knows]
    query, targets = np.asarray(batch.positions["query"]), np.asarray(batch.targets)
    chance = np.take_along_axis(law, targets[..., None], -1)[..., 0][query].reshape(SIZE, -1)
    loss = -np.log(chance).mean(axis=1)  # by sequence: queries of one are not independent
    assert loss.mean() == pytest.approx(plateau.loss, abs=4.5 * loss.std() / np.sqrt(SIZE) + 1e-6)
    # the largest logit, ties broken by chance: the mean over what is largest
    top = law.max(-1)[query].reshape(SIZE, -1)
    ties = (law == law.max(-1, keepdims=True)).sum(-1)[query].reshape(SIZE, -1)
    right = ((chance == top) / ties).mean(axis=1)
    assert right.mean() == pytest.approx(plateau.accuracy, abs=4.5 * right.std() / np.sqrt(SIZE) + 1e-6)
    risks = risks_of_catalogue(jnp.log(jnp.asarray(law, jnp.float32)), batch)
    assert float(risks["loss"]) == pytest.approx(loss.mean(), abs=1e-5)  # float32
    if knows in ("context", "place"):
        assert float(risks["values"]) == pytest.approx(0.0, abs=1e-5)
    if knows == "values":  # nothing but the number of values stands between
        assert float(risks["values"]) == pytest.approx(np.log(32 / 8), abs=1e-5)
        assert float(risks["binding"]) == pytest.approx(np.log(8), abs=1e-5)


def test_plateaus_of_the_catalogue_setting():
    """Above 1/8 without recall: a query tells by its place which pairs are likely."""
    found = TASKS["catalogue"].plateaus
    assert found["context"] == (pytest.approx(np.log(8)), 0.125)
    assert found["place"].loss == pytest.approx(2.0243, abs=5e-5) and found["place"].accuracy > 0.176
    uniform = MQAR(64, 48, 8, power=1.0).plateaus
    assert uniform["place"] == pytest.approx(uniform["context"], abs=1e-12)  # all slots alike: the place says nothing


def test_the_large_published_cell(key):
    task = MQAR.figure_2(512)
    assert (task.vocab_size, task.num_pairs, task.fillers, task.power) == (8192, 64, "zero", 0.01)
    assert [MQAR.figure_2(t).num_pairs for t in (64, 128, 256)] == [4, 8, 16]
    full = dataclasses.replace(task, fillers="random")
    batch = jax.jit(full.sample, static_argnums=1)(key, 4)
    inputs, query = np.asarray(batch.inputs), np.asarray(batch.positions["query"])
    for b in range(4):
        answer = dict(zip(inputs[b, 0:128:2], inputs[b, 1:128:2], strict=True))
        assert len(answer) == 64 and sorted(inputs[b][query[b]]) == sorted(answer)
        assert [answer[k] for k in inputs[b][query[b]]] == np.asarray(batch.targets)[b][query[b]].tolist()
        assert not set(inputs[b][np.asarray(batch.positions["filler"])[b]]) & set(answer)


def test_at_length_keeps_the_pairs():
    longer = TASKS["twice"].at_length(64)
    assert longer == dataclasses.replace(TASKS["twice"], length=64)
    assert longer.context == TASKS["twice"].context and len(longer.slot_weights) == (64 - 16) // 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 47}, r"MQAR\.length: got 47; allowed is an even number >= .*= 32"),
        ({"length": 30}, r"MQAR\.length: got 30"),
        ({"passes": 3}, r"MQAR\.length: got 48; .* = 64"),
        ({"num_pairs": 0}, r"MQAR\.num_pairs: got 0; allowed is an integer >= 1"),
        ({"num_pairs": 2.0}, r"MQAR\.num_pairs: got 2\.0"),
        ({"vocab_size": 16}, r"MQAR\.num_pairs: got 8; allowed is at most 7, the keys of vocab_size=16"),
        ({"power": 0.0}, r"MQAR\.power: got 0\.0; allowed is a finite number > 0"),
        ({"power": float("nan")}, r"MQAR\.power: got nan"),
        ({"fillers": "noise"}, r"MQAR\.fillers: got 'noise'; allowed is zero \| random \| any"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        MQAR(**({"vocab_size": 64, "length": 48, "num_pairs": 8} | changes))


def test_errors_of_calls():
    with pytest.raises(ValueError, match=r"figure_2: length: got 100; allowed is 64 \| 128 \| 256 \| 512"):
        MQAR.figure_2(100)
