"""What a stream of a regular language means: states by hand, the law of symbols, windows by counting, the long run."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import Automaton, Parity, RegularLanguage

SIZE = 3000
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "mod 3": RegularLanguage(length=9, bos=True),
    "dyck": RegularLanguage(Automaton.dyck(2), 12, stray=0.1),
    "aba": RegularLanguage(Automaton.contains("aba"), 10, "accept", "last"),
    "(ab)*": RegularLanguage(Automaton.repeated("ab", "abc"), 6, "accept", stray=0.3),
    "parity": RegularLanguage(Automaton.parity(), 9, "accept"),
}


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            law = task.oracle(batch)
            found[name] = batch, law, task.risks(jnp.log(law), batch)
        return found

    return jax.jit(everything)(jax.random.key(0))


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law, risks) = TASKS[name], drawn[name]
    automaton, last = task.automaton, task.length - 1
    kinds = {kind: np.asarray(where) for kind, where in batch.positions.items()}
    targets, law = np.asarray(batch.targets), np.asarray(law)
    assert batch.inputs.shape == (SIZE, task.length) and law.shape == (SIZE, task.length, task.vocab_size)
    for b, row in enumerate(np.asarray(batch.inputs)[:200].tolist()):
        word = ""
        for t, token in enumerate(row):
            is_bos = task.bos and t == 0
            assert token == automaton.num_symbols if is_bos else 0 <= token < automaton.num_symbols
            word += "" if is_bos else automaton.alphabet[token]
            answer = automaton.read(word) if task.say == "state" else int(automaton.accepts(word))
            asked = not is_bos and (task.ask == "prefix" or t == last)
            assert targets[b, t] == answer and batch.loss_mask[b, t] == asked == kinds["asked"][b, t]
            assert kinds["bos"][b, t] == is_bos != kinds["symbol"][b, t] and kinds["last"][b, t] == (t == last)
            wanted = np.eye(task.vocab_size)[answer] if asked else np.full(task.vocab_size, 1 / task.vocab_size)
            assert np.abs(law[b, t] - wanted).max() < 1e-7  # float32 of 1 / V
    assert {k: float(v) for k, v in risks.items()} == {"loss": 0, "accuracy": 1, "last_loss": 0, "last_accuracy": 1}


def test_sizes():
    """Symbols, the begin token and answers share one vocabulary."""
    assert [task.vocab_size for task in TASKS.values()] == [3, 4, 2, 3, 2]
    assert RegularLanguage(Automaton.counter(9)).vocab_size == 9


@pytest.mark.parametrize("name", TASKS)
def test_symbols_follow_the_law_of_their_state(drawn, name):
    """`stray` over all, the rest over those that keep hope: told again by looking for words that can be completed."""
    task, batch = TASKS[name], drawn[name][0]
    automaton = task.automaton
    words = list(
        itertools.chain.from_iterable(itertools.product(range(automaton.num_symbols), repeat=n) for n in range(4))
    )

    def hopeful(state):
        for word in words:
            end = state
            for symbol in word:
                end = automaton.transitions[end][symbol]
            if end in automaton.accepting:
                return True
        return False

    inputs, states = np.asarray(batch.inputs)[:, int(task.bos) :], []
    for row in inputs.tolist():
        state = automaton.start
        states.append([state := automaton.transitions[state][symbol] for symbol in row])
    before = np.insert(np.array(states)[:, :-1], 0, automaton.start, axis=1)
    np.testing.assert_array_equal(np.asarray(batch.positions["lost"])[:, -1], [not hopeful(s[-1]) for s in states])
    for state in range(automaton.num_states):
        good = np.array([hopeful(following) for following in automaton.transitions[state]], float)
        good = good / good.sum() if good.any() else np.full(len(good), 1 / len(good))
        law = task.stray / len(good) + (1 - task.stray) * good
        np.testing.assert_allclose(task.symbol_law[state], law, atol=1e-15)
        here = inputs[before == state]
        if len(here) > 100:
            seen = np.bincount(here, minlength=len(law))
            assert (seen[law == 0] == 0).all()
            assert stats.chisquare(seen[law > 0], len(here) * law[law > 0]).pvalue > SURE


@pytest.mark.parametrize("name", TASKS)
def test_states_follow_the_law_of_the_chain(drawn, name):
    task, targets = TASKS[name], np.asarray(drawn[name][0].targets)[:, int(TASKS[name].bos) :]
    counted = np.eye(task.num_answers)[task.labels]
    for count in (1, 3, targets.shape[1]):
        law = task.laws[count] @ counted
        seen = np.bincount(targets[:, count - 1], minlength=len(law))
        assert (seen[law < 1e-15] == 0).all()
        inside = law > 1e-15
        assert inside.sum() == 1 or stats.chisquare(seen[inside], SIZE * law[inside] / law.sum()).pvalue > SURE


@pytest.mark.parametrize("ask", ["prefix", "last"])
@pytest.mark.parametrize("name", ["mod 3", "dyck", "(ab)*"])
def test_windows_by_counting_over_all_words(name, ask):
    """The best predictor from the last symbols and the place, by the probabilities of all words of six symbols."""
    task = dataclasses.replace(TASKS[name], length=5, ask=ask, bos=False)
    automaton = task.automaton
    for width in (0, 1, 2, 9):
        chances = {}
        for word in itertools.product(range(automaton.num_symbols), repeat=5):
            state, chance, path = automaton.start, 1.0, []
            for symbol in word:
                chance *= task.symbol_law[state, symbol]
                state = automaton.transitions[state][symbol]
                path.append(task.labels[state])
            for t in range(5) if ask == "prefix" else (4,):
                seen = t, word[max(t + 1 - width, 0) : t + 1]
                chances.setdefault(seen, np.zeros(task.num_answers))[path[t]] += chance
        total = sum(c.sum() for c in chances.values())
        loss = sum(-(c[c > 0] * np.log(c[c > 0] / c.sum())).sum() for c in chances.values()) / total
        right = sum(c.max() for c in chances.values()) / total
        assert task.window(width) == (pytest.approx(loss, abs=1e-12), pytest.approx(right, abs=1e-12))
    assert task.plateaus["place"] == pytest.approx(task.window(0))


def test_what_a_window_is_worth():
    """Of a pattern's progress two symbols say nearly all, of a counter nothing but at the first places."""
    reset = Automaton("last two", "ab", ((0, 1), (2, 3), (0, 1), (2, 3)), (3,))
    assert RegularLanguage(reset, 20).window(2) == pytest.approx((0, 1), abs=1e-12)
    counter = RegularLanguage(Automaton.parity(), 40, ask="last")
    for width in (0, 5, 10):
        assert counter.window(width) == pytest.approx((np.log(2), 0.5), abs=1e-12)
    with pytest.raises(ValueError, match="width: got 30; allowed is less: 2 symbols to this power, times 2 states"):
        counter.window(30)


@pytest.mark.parametrize("name", TASKS)
def test_plateaus_are_measured_on_sequences(drawn, name):
    task, batch = TASKS[name], drawn[name][0]
    targets, asked = np.asarray(batch.targets), np.asarray(batch.positions["asked"])
    counted = np.eye(task.num_answers)[task.labels]
    at = np.vstack([task.laws[:1] if task.bos else np.zeros((0, task.laws.shape[1])), task.laws[1:]]) @ counted
    laws = {"place": at, "frequency": np.broadcast_to(at[asked[0]].mean(axis=0), at.shape)}
    for kind, law in laws.items():
        chance = np.take_along_axis(np.broadcast_to(law, (SIZE, *law.shape)), targets[..., None], -1)[..., 0]
        loss = -np.log(np.where(asked, chance, 1.0)).sum(axis=1) / asked[0].sum()  # by sequence
        assert loss.mean() == pytest.approx(task.plateaus[kind].loss, abs=4.5 * loss.std() / np.sqrt(SIZE) + 1e-12)
        right = ((law.argmax(-1) == targets) & asked).sum(axis=1) / asked[0].sum()
        assert right.mean() == pytest.approx(
            task.plateaus[kind].accuracy, abs=4.5 * right.std() / np.sqrt(SIZE) + 1e-12
        )
    assert task.plateaus["answers"].loss == pytest.approx(np.log(len(np.unique(task.labels))))


def test_the_long_run():
    """Brackets that are never lost: a walk between walls, which is at each of them half as often as between. If they
    stray, all is lost in the end; a counter is uniform; a pattern was seen."""
    for depth in (1, 2, 5):
        between = RegularLanguage(Automaton.dyck(depth), stray=0.0)
        wanted = np.r_[1, np.full(depth - 1, 2), 1, 0] / (2 * depth)
        np.testing.assert_allclose(between.stationary, wanted, atol=1e-12)
        told = -np.sum(wanted[:-1] * np.log(wanted[:-1]))
        assert between.plateaus["stationary"] == pytest.approx((told, wanted.max()), abs=1e-9)
    np.testing.assert_allclose(TASKS["dyck"].stationary, [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(TASKS["mod 3"].stationary, 1 / 3, atol=1e-12)
    assert TASKS["mod 3"].plateaus["stationary"] == pytest.approx((np.log(3), 1 / 3))
    assert TASKS["aba"].plateaus["stationary"] == pytest.approx((0, 1), abs=1e-9)
    alternating = RegularLanguage(Automaton.repeated("ab"), 10, stray=0.0)  # one word: the place says everything
    assert alternating.plateaus["place"] == (0, 1) and alternating.plateaus["stationary"].loss == pytest.approx(
        np.log(2)
    )


def test_parity_is_parity(drawn):
    """The same answers for the same bits."""
    task, bits = TASKS["parity"], np.asarray(drawn["parity"][0].inputs)
    theirs = Parity("prefix", 9).batch(bits)
    np.testing.assert_array_equal(drawn["parity"][0].targets, theirs.targets)
    assert task.vocab_size == 2 and task.plateaus["place"] == pytest.approx((np.log(2), 0.5))


def test_at_length():
    assert TASKS["dyck"].at_length(48) == dataclasses.replace(TASKS["dyck"], length=48)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"automaton": "parity"}, r"RegularLanguage\.automaton: got 'parity'; allowed is an Automaton"),
        ({"say": "word"}, r"RegularLanguage\.say: got 'word'; allowed is state \| accept"),
        ({"ask": "all"}, r"RegularLanguage\.ask: got 'all'; allowed is prefix \| last"),
        ({"stray": 1.5}, r"RegularLanguage\.stray: got 1\.5; allowed is a number from 0 to 1"),
        ({"bos": 0}, r"RegularLanguage\.bos: got 0"),
        ({"length": 0}, r"RegularLanguage\.length: got 0; allowed is an integer >= 1: one symbol"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        RegularLanguage(**fields)
