"""What the word problem means: products of permutations by hand, uniform prefixes, what a window of letters knows."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import Group, WordProblem
from toy_tasks.walk_law import entropies, long_run, place_laws

SIZE = 3000
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "A5": WordProblem(length=9),
    "S3 swaps": WordProblem(Group("S3"), 10, "swaps", "last", bos=True),
    "A4 x Z5": WordProblem(Group("A4xZ5"), 7, "generators"),
}
BASE = {"A5": 5, "S3 swaps": 3}


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            law = task.oracle(batch)
            found[name] = batch, law, task.risks(jnp.log(law), batch)
        return found

    return jax.jit(everything)(jax.random.key(2))


def permutations_of(name: str) -> list[tuple[int, ...]]:
    """Elements in the order of their numbers, sorted by itself."""
    every = sorted(itertools.permutations(range(BASE[name])))
    return [p for p in every if not name.startswith("A") or np.linalg.det(np.eye(len(p))[list(p)]) > 0]


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law, risks) = TASKS[name], drawn[name]
    group, last = task.group, task.length - 1
    assert task.vocab_size == group.order + task.bos and law.shape == (SIZE, task.length, task.vocab_size)
    kinds = {kind: np.asarray(where) for kind, where in batch.positions.items()}
    inputs, targets, law = np.asarray(batch.inputs), np.asarray(batch.targets), np.asarray(law)
    for b, row in enumerate(inputs[:150].tolist()):
        product = group.identity
        for t, token in enumerate(row):
            is_bos = task.bos and t == 0
            assert token == group.order if is_bos else token in task.alphabet
            product = product if is_bos else int(group.table[product, token])
            asked = not is_bos and (task.ask == "prefix" or t == last)
            assert targets[b, t] == product and batch.loss_mask[b, t] == asked
            assert [k for k in ("bos", "letter", "asked", "last") if kinds[k][b, t]] == [
                "bos" if is_bos else "letter", *(["asked"] * asked), *(["last"] * (t == last))
            ]  # fmt: skip
            wanted = np.eye(task.vocab_size)[product] if asked else np.full(task.vocab_size, 1 / task.vocab_size)
            assert np.abs(law[b, t] - wanted).max() < 1e-7  # float32 of 1 / V
    assert {k: float(v) for k, v in risks.items()} == {"loss": 0, "accuracy": 1, "last_loss": 0, "last_accuracy": 1}


@pytest.mark.parametrize("name", BASE)
def test_products_are_compositions_of_permutations(drawn, name):
    """Without the table: from left to right, the letter behind acts first."""
    task, elements = TASKS[name], permutations_of(name)
    words, targets = np.asarray(drawn[name][0].inputs)[:300, int(task.bos) :], np.asarray(drawn[name][0].targets)
    for word, answers in zip(words, targets[:300, int(task.bos) :], strict=True):
        value = tuple(range(BASE[name]))
        for letter, answer in zip(word, answers, strict=True):
            value = tuple(value[x] for x in elements[letter])
            assert elements[answer] == value


@pytest.mark.parametrize("name", TASKS)
def test_letters_are_uniform_and_independent(drawn, name):
    task = TASKS[name]
    words = np.searchsorted(sorted(task.alphabet), np.asarray(drawn[name][0].inputs)[:, int(task.bos) :])
    size = len(task.alphabet)
    assert stats.chisquare(np.bincount(words.ravel(), minlength=size)).pvalue > SURE
    if size**2 < SIZE / 5:  # five expected in a cell
        pairs = np.bincount(words[:, 0] * size + words[:, -1], minlength=size**2)
        assert stats.chisquare(pairs).pvalue > SURE


def test_every_product_is_uniform_if_all_elements_are_letters(drawn):
    """And what was the product says nothing of the next one but by the letter between them."""
    task, (batch, _, _) = TASKS["A5"], drawn["A5"]
    targets = np.asarray(batch.targets)
    for place in (0, 4, 8):
        assert stats.chisquare(np.bincount(targets[:, place], minlength=60)).pvalue > SURE
    blocks = np.arange(60) // 12  # five classes of elements, so that cells are filled
    pairs = np.bincount(blocks[targets[:, 3]] * 5 + blocks[targets[:, 4]], minlength=25)
    assert stats.chisquare(pairs).pvalue > SURE
    np.testing.assert_allclose(task.laws[1:], 1 / 60, atol=1e-15)


@pytest.mark.parametrize("name", ["S3 swaps", "A4 x Z5"])
def test_products_follow_the_law_of_the_walk(drawn, name):
    task, targets = TASKS[name], np.asarray(drawn[name][0].targets)[:, int(TASKS[name].bos) :]
    for count in (1, 2, targets.shape[1]):
        law = task.laws[count]
        seen = np.bincount(targets[:, count - 1], minlength=task.group.order)
        assert (seen[law == 0] == 0).all()
        inside = law > 0
        assert stats.chisquare(seen[inside], SIZE * law[inside]).pvalue > SURE


@pytest.mark.parametrize("ask", ["prefix", "last"])
@pytest.mark.parametrize("letters", ["all", "swaps", (1, 3)])
@pytest.mark.parametrize("width", [0, 1, 2, 9])
def test_a_window_knows_what_all_words_say(ask, letters, width):
    """The best predictor from the last letters and the place, found by counting over all words."""
    task = WordProblem(Group("S3"), 4, letters, ask)
    counts = {}
    words = list(itertools.product(task.alphabet, repeat=4))
    for word in words:
        for t in range(4) if ask == "prefix" else (3,):
            seen = t, word[max(t + 1 - width, 0) : t + 1]
            counts.setdefault(seen, np.zeros(6))[task.group.multiply(word[: t + 1])] += 1
    total = sum(c.sum() for c in counts.values())
    loss = sum(-(c[c > 0] * np.log(c[c > 0] / c.sum())).sum() for c in counts.values()) / total
    right = sum(c.max() for c in counts.values()) / total
    assert task.window(width) == (pytest.approx(loss, abs=1e-12), pytest.approx(right, abs=1e-12))
    assert task.plateaus["place"] == task.window(0)


def test_plateaus():
    """A guess pays `log |G|`; swaps have a sign, which the place tells: half of the elements are left."""
    assert TASKS["A5"].plateaus["element"] == (pytest.approx(np.log(60)), 1 / 60)
    assert TASKS["A5"].plateaus["place"] == pytest.approx((np.log(60), 1 / 60))
    many = WordProblem(Group("S4"), 60, "swaps", "last")
    assert many.plateaus["place"] == pytest.approx((np.log(12), 1 / 12), abs=1e-9)  # the walk mixes like (1/3)^60
    assert many.plateaus["element"].loss == pytest.approx(np.log(24))


def test_one_letter_changes_everything_from_there(rng):
    """And nothing before it: what differs once differs for ever, since letters can be undone."""
    words, letters = rng.integers(60, size=(40, 9)), rng.integers(60, size=40)
    places = np.arange(40) % 9
    changed = np.where(np.arange(9) == places[:, None], letters[:, None], words)
    before, after = (np.asarray(TASKS["A5"].products(jnp.asarray(w, jnp.int32))) for w in (words, changed))
    same = words[np.arange(40), places] == letters
    np.testing.assert_array_equal(before != after, (np.arange(9) >= places[:, None]) & ~same[:, None])


def test_walks():
    """A walk with a period has a long run; one that splits keeps the chances of where it went."""
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(long_run(swap, np.array([1.0, 0.0])), [0.5, 0.5], atol=1e-15)
    np.testing.assert_array_equal(place_laws(swap, np.array([1.0, 0.0]), 3), [[0, 1], [1, 0], [0, 1]])
    split = np.array([[0.5, 0.2, 0.3, 0.0], [0, 1.0, 0, 0], [0, 0, 0, 1.0], [0, 0, 1.0, 0]])
    np.testing.assert_allclose(long_run(split, np.eye(4)[0]), [0, 0.4, 0.3, 0.3], atol=1e-14)
    slow = np.array([[1 - 1e-9, 1e-9], [2e-9, 1 - 2e-9]])
    np.testing.assert_allclose(long_run(slow, np.array([1.0, 0.0])), [2 / 3, 1 / 3], rtol=1e-6)  # 1 - 1e-9 has 7 digits
    np.testing.assert_allclose(entropies(np.array([[0.5, 0.5], [1.0, 0.0]])), [np.log(2), 0], atol=1e-15)


def test_names_of_groups_and_lengths():
    assert WordProblem("A4xZ5") == WordProblem(Group("A4 x Z5"))
    assert TASKS["A5"].at_length(40) == dataclasses.replace(TASKS["A5"], length=40)
    assert "A5 (60 elements, not solvable)" in TASKS["A5"].describe()
    assert "solvable), 2 of them as letters" in TASKS["A4 x Z5"].describe()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"group": "Q8"}, r"Group\.name: got 'Q8'"),
        ({"group": 5}, r"WordProblem\.group: got 5; allowed is a Group or its name"),
        ({"letters": "few"}, r"WordProblem\.letters: got 'few'; allowed is all \| generators \| swaps, or a tuple"),
        ({"letters": (1, 60)}, r"WordProblem\.letters: got \(1, 60\); .* elements from 0 to 59"),
        ({"letters": (1, 1)}, r"WordProblem\.letters: got \(1, 1\)"),
        ({"letters": "swaps"}, r"Group\.swaps: group: got A5; allowed is a symmetric group"),
        ({"group": "Z1", "letters": "generators"}, r"WordProblem\.letters: got 'generators'; allowed is 'all' for Z1"),
        ({"ask": "all"}, r"WordProblem\.ask: got 'all'; allowed is prefix \| last"),
        ({"length": 1, "bos": True}, r"WordProblem\.length: got 1; allowed is an integer >= 2: .*bos"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        WordProblem(**fields)
