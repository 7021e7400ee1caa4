"""The tasks whose circuits are compared: what is asked, what the smallest flip changes, and their mixture."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import CircuitMixture, ColouredObjects, IndirectObject, MarkovText, Words
from toy_tasks.markov_chain import start

SIZE = 2048
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
FEW = Words(4, 3, 2)
TASKS = {
    "indirect": IndirectObject(),
    "padded": IndirectObject(FEW, 11),
    "coloured": ColouredObjects(label_noise=0.3),
    "listed": ColouredObjects(FEW, 10, 2),
    "control": MarkovText(FEW, 5, 0.5, 1),
}
MIXTURE = CircuitMixture(coloured=ColouredObjects(label_noise=0.4), shares=(1.0, 2.0, 1.0))


@pytest.fixture(scope="module")
def drawn():
    def one(task, key):
        batch = task.sample(key, SIZE)
        law = task.oracle(batch)
        flip = task.corrupt(batch, jax.random.fold_in(key, 1))
        return batch, law, flip, task.risks(jnp.log(law), batch)

    def everything(key):
        return {name: one(task, key) for name, task in TASKS.items()} | {"mixture": one(MIXTURE, key)}

    return jax.tree.map(np.asarray, jax.jit(everything)(jax.random.key(0)))


def kinds_at(batch, b):
    return {kind: np.flatnonzero(where[b]).tolist() for kind, where in batch.positions.items()}


def within(rate: float, chance: float, count: int) -> None:
    """A share of `count` draws is within 4.5 standard deviations of its chance (missed once in 10^5)."""
    assert abs(rate - chance) <= 4.5 * np.sqrt(chance * (1 - chance) / count)


def only_at(place: int, clean, corrupted) -> None:
    """Every sequence has exactly one other token, and it is this one."""
    changed = clean != corrupted
    assert changed[:, place].all() and changed.sum() == len(clean)


@pytest.mark.parametrize("name", ["indirect", "padded"])
def test_indirect_object(drawn, name):
    task, (batch, law, flip, risks) = TASKS[name], drawn[name]
    words, size = task.words, task.length
    assert task.vocab_size == words.num_names + words.num_colours + words.num_fillers + 3
    for b in range(500):
        row = batch.inputs[b].tolist()
        assert row[: size - 7] == [words.bos] + [words.padding] * (size - 8)
        f1, first, f2, second, f3, again, f4 = row[-7:]
        assert all(words.first_filler <= f < words.bos for f in (f1, f2, f3, f4))
        assert first != second and again in (first, second) and max(first, second) < words.num_names
        answer = first if again == second else second
        assert batch.targets[b].tolist() == [0] * (size - 1) + [answer]
        assert batch.loss_mask[b].tolist() == [0.0] * (size - 1) + [1.0]
        at = {first: size - 6, second: size - 4}
        assert kinds_at(batch, b) == {
            "bos": [0],
            "padding": list(range(1, size - 7)),
            "object": [at[answer]],
            "subject": [at[again]],
            "repeat": [size - 2],
            "filler": [size - 7, size - 5, size - 3],
            "answer": [size - 1],
        }
        assert law[b, -1].tolist() == np.eye(task.vocab_size)[answer].tolist()
        assert flip.batch.targets[b, -1] == flip.wrong[b] == again and flip.right[b] == answer
    only_at(-2, batch.inputs, flip.batch.inputs)
    assert {k: float(v) for k, v in risks.items()} == {"loss": 0.0, "accuracy": 1.0}
    pairs = np.zeros((words.num_names, words.num_names, 2))
    np.add.at(pairs, (batch.inputs[:, -6], batch.inputs[:, -4], batch.positions["object"][:, -4].astype(int)), 1)
    assert stats.chisquare(pairs[~np.eye(words.num_names, dtype=bool)].ravel()).pvalue > SURE  # both orders, all names


@pytest.mark.parametrize("name", ["coloured", "listed"])
def test_coloured_objects(drawn, name):
    task, (batch, law, flip, risks) = TASKS[name], drawn[name]
    words, size, count = task.words, task.length, task.num_objects
    right_label, other_asked = [], np.zeros((count, count))
    for b in range(SIZE):
        row, first = batch.inputs[b].tolist(), size - 2 - 2 * count
        assert row[:first] == [words.bos] + [words.padding] * (first - 1) and row[-2] == words.question
        colours, objects = row[first:-2:2], row[first + 1 : -2 : 2]
        assert len(set(colours)) == len(set(objects)) == count and max(objects) < words.num_names
        assert all(words.first_colour <= c < words.first_filler for c in colours)
        k, label = objects.index(row[-1]), int(batch.targets[b, -1])
        assert label in colours and not batch.targets[b, :-1].any()
        assert batch.loss_mask[b].tolist() == [0.0] * (size - 1) + [1.0]
        right_label.append(label == colours[k])
        places = list(range(first, size - 2))
        assert kinds_at(batch, b) == {
            "bos": [0],
            "padding": list(range(1, first)),
            "colour": places[0::2],
            "object": places[1::2],
            "question": [size - 2],
            "answer": [size - 1],
            "right_colour": [places[2 * k]],
            "right_object": [places[2 * k + 1]],
        }
        asked = objects.index(flip.batch.inputs[b, -1])
        other_asked[k, asked] += 1
        assert flip.right[b] == colours[k] and flip.wrong[b] == colours[asked] == flip.batch.targets[b, -1]
    only_at(-1, batch.inputs, flip.batch.inputs)
    within(np.mean(right_label), 1 - task.label_noise, SIZE)
    assert stats.chisquare(other_asked[~np.eye(count, dtype=bool)]).pvalue > SURE  # all asked, all others alike
    assert float(risks["correct"]) == 1.0 and float(risks["accuracy"]) == pytest.approx(np.mean(right_label), abs=1e-6)
    plateau = task.plateaus["oracle"]
    assert float(risks["loss"]) == pytest.approx(plateau.loss, abs=4.5 * 1.0 / np.sqrt(SIZE))  # of log 2, log 6.7
    within(float(risks["accuracy"]), plateau.accuracy, SIZE)
    np.testing.assert_allclose(law[:, :-1], 1 / task.vocab_size, atol=1e-7)


@pytest.mark.parametrize(
    "task",
    [ColouredObjects(Words(3, 4, 1), 7, 2, 0.2), ColouredObjects(Words(3, 3, 1), 9, 3, 0.3)],
    ids=["two", "three"],
)
def test_oracle_of_coloured_objects_by_brute_force(task):
    """Of all lists, questions and labels: after each input, the share of every label, in float64."""
    count, words = task.num_objects, task.words
    rows, laws = [], {}
    for objects in itertools.permutations(range(words.num_names), count):
        for colours in itertools.permutations(range(words.num_colours), count):
            for asked, label in itertools.product(range(count), repeat=2):
                chance = 1 - task.label_noise if label == asked else task.label_noise / (count - 1)
                rows.append((objects, colours, asked, label))
                law = laws.setdefault((objects, colours, asked), np.zeros(task.vocab_size))
                law[words.first_colour + colours[label]] += chance
    made = [jnp.array(part, jnp.int32) for part in zip(*rows, strict=True)]
    law = jax.jit(lambda *parts: task.oracle(task.assemble(*parts)))(*made)
    want = np.array([laws[row[:3]] for row in rows])
    np.testing.assert_allclose(law[:, -1], want / want.sum(axis=1, keepdims=True), atol=1e-6)  # float32


def test_markov_text(drawn):
    task, (batch, law, flip, risks) = TASKS["control"], drawn["control"]
    words, count = task.words.bos, task.length
    assert (batch.inputs[:, 0] == task.words.bos).all() and batch.targets.max() < words
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert (batch.loss_mask == 1).all()
    assert kinds_at(batch, 0) == {"bos": [0], "text": list(range(1, count)), "answer": [count - 1]}
    first = start(task.kernel)
    assert stats.chisquare(np.bincount(batch.targets[:, 0], minlength=words), SIZE * first).pvalue > SURE
    moves = np.zeros_like(task.kernel)
    np.add.at(moves, (batch.targets[:, :-1].ravel(), batch.targets[:, 1:].ravel()), 1)
    often = (expected := moves.sum(axis=1, keepdims=True) * task.kernel) > 5  # rare moves are not normal
    score = ((moves - expected) ** 2 / expected)[often].sum()
    assert stats.chi2.sf(score, often.sum() - words) > SURE
    np.testing.assert_allclose(law[:, 0, :words], np.tile(first, (SIZE, 1)), atol=1e-7)
    np.testing.assert_allclose(law[:, 1:, :words], task.kernel[batch.inputs[:, 1:]], atol=1e-7)
    assert not law[..., words:].any()
    only_at(-1, batch.inputs, flip.batch.inputs)
    for inputs, best in ((batch.inputs, flip.right), (flip.batch.inputs, flip.wrong)):
        np.testing.assert_array_equal(task.kernel[inputs[:, -1]].argmax(axis=1), best)
    assert (flip.right != flip.wrong).all() and (flip.batch.targets[:, -1] == flip.wrong).all()
    np.testing.assert_array_equal(flip.batch.targets[:, :-1], flip.batch.inputs[:, 1:])
    plateau = task.plateaus["oracle"]
    assert abs(float(risks["excess"])) < 1e-6
    assert float(risks["loss"]) == pytest.approx(plateau.loss, abs=4.5 / np.sqrt(SIZE))
    assert float(risks["accuracy"]) == pytest.approx(plateau.accuracy, abs=4.5 / np.sqrt(SIZE))


def test_the_mixture_is_its_tasks(drawn):
    batch, law, flip, risks = drawn["mixture"]
    rows = {name: batch.positions[name] for name in ("indirect", "coloured", "control")}
    assert (np.sum(list(rows.values()), axis=0) == 1).all()  # each sequence is of one task, whole
    counts = [int(where[:, 0].sum()) for where in rows.values()]
    assert stats.chisquare(counts, SIZE * np.array([0.25, 0.5, 0.25])).pvalue > SURE
    np.testing.assert_allclose(batch.loss_mask.sum(axis=1), 1.0, atol=1e-6)
    assert (batch.positions["answer"] == (np.arange(9) == 8)).all()
    for name, task in MIXTURE.tasks.items():
        here = rows[name][:, 0]
        own = jax.tree.map(lambda leaf, here=here: jnp.asarray(leaf[here]), batch)
        np.testing.assert_allclose(task.oracle(own), law[here], atol=1e-7)
        other = {}
        for kind, where in batch.positions.items():
            prefix, _, rest = kind.partition("_")
            if prefix == name and rest:
                assert not where[~here].any()
                other[rest] = where[here]
        if name != "control":  # classes and answers are those of the task itself
            again = task._batch(own.inputs, own.targets[:, -1]) if name == "coloured" else task._batch(own.inputs)
            assert other.keys() == again.positions.keys() - {"answer"}
            for kind, where in other.items():
                np.testing.assert_array_equal(where, again.positions[kind])
            np.testing.assert_array_equal(own.targets, again.targets)
        expected = task.risks(jnp.log(task.oracle(own)), own)
        for kind, value in expected.items():
            assert float(risks[f"{name}_{kind}"]) == pytest.approx(float(value), abs=1e-6), kind
    place = np.where(rows["indirect"][:, 0], 7, 8)
    changed = batch.inputs != flip.batch.inputs
    assert changed.sum() == SIZE and changed[np.arange(SIZE), place].all()
    assert (flip.right != flip.wrong).all() and (flip.batch.targets[:, -1] == flip.wrong).all()
    best = law[:, -1].argmax(axis=1)
    np.testing.assert_array_equal(flip.right, best)
    plateau = MIXTURE.plateaus["oracle"]
    assert float(risks["loss"]) == pytest.approx(plateau.loss, abs=4.5 / np.sqrt(SIZE))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (Words, {"num_names": 1}, r"Words\.num_names: got 1; allowed is an integer >= 2"),
        (
            IndirectObject,
            {"length": 7},
            r"IndirectObject\.length: got 7; allowed is an integer >= 8: bos f A f B f S",
        ),
        (ColouredObjects, {"length": 8}, r"ColouredObjects\.length: got 8; allowed is an integer >= 9"),
        (ColouredObjects, {"num_objects": 1}, r"ColouredObjects\.num_objects: got 1"),
        (
            ColouredObjects,
            {"words": FEW, "length": 11, "num_objects": 4},
            r"ColouredObjects\.num_objects: got 4; allowed is at most 3",
        ),
        (ColouredObjects, {"label_noise": 2.0}, r"ColouredObjects\.label_noise: got 2\.0; allowed is a probability"),
        (MarkovText, {"length": 1}, r"MarkovText\.length: got 1; allowed is an integer >= 2"),
        (MarkovText, {"seed": 0.5}, r"MarkovText\.seed: got 0\.5"),
        (CircuitMixture, {"control": MarkovText(FEW)}, r"CircuitMixture\.control: got Words\(num_names=4"),
        (CircuitMixture, {"indirect": 3}, r"CircuitMixture\.indirect: got 3; allowed is a IndirectObject"),
        (
            CircuitMixture,
            {"shares": (0, 0, 0)},
            r"CircuitMixture\.shares: got \(0, 0, 0\); allowed is three numbers",
        ),
        (IndirectObject, {"words": 20}, r"IndirectObject\.words: got 20; allowed is a Words"),
    ],
)
def test_errors_name_the_field(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes)


def test_a_language_without_flips_says_so():
    """Two words that are followed by the same one."""
    task = MarkovText(Words(2, 2, 1), 3)
    vars(task)["kernel"] = np.tile([0.6, 0.1, 0.1, 0.1, 0.1], (5, 1))
    with pytest.raises(
        ValueError, match=r"MarkovText\.seed: got 0; allowed is a language in which words have different"
    ):
        task.corrupt(task.sample(jax.random.key(0), 2), jax.random.key(1))


def test_at_length():
    longer = CircuitMixture().at_length(12)
    assert longer.length == 12 and {task.length for task in longer.tasks.values()} == {12}
