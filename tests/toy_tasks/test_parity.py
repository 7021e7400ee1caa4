"""What parity means: the bits so far, where it is asked, how little a part of the bits says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toy_tasks import Parity

SIZE = 4096
TASKS = {
    "prefix": Parity("prefix", 12),
    "last": Parity("last", 12),
    "prefix, bos": Parity("prefix", 12, bos=True),
}
risks_of = {name: jax.jit(task.risks) for name, task in TASKS.items()}


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        batches = {name: task.sample(key, SIZE) for name, task in TASKS.items()}
        return {name: (batch, TASKS[name].oracle(batch)) for name, batch in batches.items()}

    return jax.jit(everything)(jax.random.key(0))


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, law) = TASKS[name], drawn[name]
    assert task.vocab_size == 2 + task.bos and law.shape == (SIZE, 12, task.vocab_size)
    law = np.asarray(law)
    kinds = {kind: np.asarray(where) for kind, where in batch.positions.items()}
    for b, row in enumerate(np.asarray(batch.inputs)[:512].tolist()):
        ones = 0
        for t, token in enumerate(row):
            is_bos = task.bos and t == 0
            assert token == 2 if is_bos else token in (0, 1)
            ones += token == 1
            asked = not is_bos and (task.ask == "prefix" or t == 11)
            assert batch.targets.shape == (SIZE, 12)
            assert kinds["bos"][b, t] == is_bos and kinds["bit"][b, t] == (not is_bos)
            assert kinds["last"][b, t] == (t == 11) and kinds["asked"][b, t] == asked
            wanted = np.eye(task.vocab_size)[ones % 2] if asked else np.full(task.vocab_size, 1 / task.vocab_size)
            assert np.abs(law[b, t] - wanted).max() < 1e-7  # float32 of 1/3
    parity = (np.asarray(batch.inputs) == 1).cumsum(axis=1) % 2
    np.testing.assert_array_equal(batch.targets, parity)
    np.testing.assert_array_equal(batch.loss_mask, kinds["asked"])
    risks = risks_of[name](jnp.log(jnp.asarray(law)), batch)
    assert {k: float(v) for k, v in risks.items()} == {"loss": 0, "accuracy": 1, "last_loss": 0, "last_accuracy": 1}


def test_bits_are_fair_and_independent(drawn):
    bits = np.asarray(drawn["prefix"][0].inputs)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(SIZE)
    centred = bits - 0.5
    joint = centred.T @ centred / SIZE - np.eye(12) / 4
    assert np.abs(joint).max() < 4.5 * 0.25 / np.sqrt(SIZE)


def test_all_bits_but_one_say_nothing(drawn):
    """Given any eleven bits the answer is a fair coin: no statistic of them predicts it."""
    bits = np.asarray(drawn["last"][0].inputs)
    answer = np.asarray(drawn["last"][0].targets)[:, -1]
    for missing in range(12):
        rest = np.delete(bits, missing, axis=1).sum(axis=1)
        for statistic in (rest % 2, rest > 5):
            assert abs((statistic == answer).mean() - 0.5) < 4.5 * 0.5 / np.sqrt(SIZE)


def test_the_coin_is_the_plateau(drawn):
    task, (batch, _) = TASKS["prefix, bos"], drawn["prefix, bos"]
    risks = risks_of["prefix, bos"](jnp.zeros((SIZE, 12, 3)).at[..., 2].set(-jnp.inf), batch)
    assert task.plateaus["coin"] == (pytest.approx(np.log(2)), 0.5)
    assert float(risks["loss"]) == pytest.approx(np.log(2), abs=1e-6)  # float32
    error = 4.5 * 0.5 / np.sqrt(SIZE)
    assert float(risks["accuracy"]) == pytest.approx(0.5, abs=error)  # argmax of a tie is 0: right half the time
    assert float(risks["last_accuracy"]) == pytest.approx(0.5, abs=error)


def test_risks_at_the_last_place_are_of_the_last_place(drawn):
    """A predictor that is right on the first six bits and guesses after them."""
    batch = drawn["prefix"][0]
    logits = jnp.where((jnp.arange(12) < 6)[:, None], 100.0 * jax.nn.one_hot(batch.targets, 2), 0.0)
    risks = risks_of["prefix"](logits, batch)
    assert float(risks["loss"]) == pytest.approx(np.log(2) / 2, abs=1e-6)
    assert float(risks["last_loss"]) == pytest.approx(np.log(2), abs=1e-6)
    zero = np.asarray(batch.targets) == 0  # what argmax says of a tie
    assert float(risks["accuracy"]) == pytest.approx((6 + zero[:, 6:].sum(1)).mean() / 12, abs=1e-6)
    assert float(risks["last_accuracy"]) == pytest.approx(zero[:, -1].mean(), abs=1e-6)


@given(st.lists(st.integers(0, 1), min_size=9, max_size=9))
def test_flipping_a_bit_flips_all_answers_from_there(bits):
    changed = np.array(bits) ^ np.eye(9, dtype=int)  # row t: bit t flipped
    answers = np.asarray(Parity("prefix", 9).batch(np.vstack([bits, changed])).targets)
    assert answers[0, -1] == sum(bits) % 2
    np.testing.assert_array_equal(answers[1:] ^ answers[0], np.arange(9)[None] >= np.arange(9)[:, None])


def test_at_length():
    assert TASKS["prefix, bos"].at_length(48) == dataclasses.replace(TASKS["prefix, bos"], length=48)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ask": "all"}, r"Parity\.ask: got 'all'; allowed is prefix \| last"),
        ({"ask": "last", "length": 0}, r"Parity\.length: got 0; allowed is an integer >= 1"),
        ({"ask": "last", "length": 1, "bos": True}, r"Parity\.length: got 1; allowed is an integer >= 2: .*bos"),
        ({"ask": "last", "bos": 1}, r"Parity\.bos: got 1; allowed is True \| False"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        Parity(**fields)


def test_it_must_be_said_where_parity_is_asked():
    with pytest.raises(TypeError, match="ask"):
        Parity()
