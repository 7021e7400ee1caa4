"""The authors' evaluation batch: 512 sequences of 256 inputs from `default_rng([42, 27])`."""

import numpy as np
import pytest

from toy_tasks import BigramBackcopy, replay


@pytest.fixture(scope="module")
def task() -> BigramBackcopy:
    return BigramBackcopy.tiny_shakespeare(num_triggers=3, length=256)


@pytest.fixture(scope="module")
def tokens(task):
    return replay(task)


def test_first_sequence_is_that_of_the_published_heat_maps(task, tokens):
    assert task.decode(tokens[0, :16]) == "<s>, ,\nTHeHE ENo? "


def test_sixty_four_ids_occur(tokens):
    assert len(np.unique(tokens)) == 64  # 65 characters and bos, without $ and &


def test_published_statistics(task, tokens):
    batch = task.batch(tokens)
    risks = task.oracle_risks(batch)
    # published to four decimals; the mean of 97,000 float32 terms adds less than 1e-5
    assert float(risks["bigram_code"]) == pytest.approx(2.2193, abs=1e-4)
    assert float(batch.positions["trigger"].mean()) == pytest.approx(0.2572, abs=5e-5)
    assert float(risks["backcopy"]) == 0.0


def test_published_plateau_is_the_plug_in_entropy_of_this_batch(task, tokens):
    """2.682 (space 2.711, e 2.802, t 2.254); the exact expectation is 2.672, see test_backcopy_law."""
    inputs = tokens[:, :-1]
    total, count = 0.0, 0
    for trigger, published in zip(task.triggers, (2.711, 2.802, 2.254), strict=True):
        before = np.bincount(inputs[:, :-1][inputs[:, 1:] == trigger])
        share = before[before > 0] / before.sum()
        value = -np.sum(share * np.log(share))
        assert value == pytest.approx(published, abs=5e-4)  # published to three decimals
        total, count = total + before.sum() * value, count + before.sum()
    assert total / count == pytest.approx(2.682, abs=5e-4)


def test_replay_is_a_sequential_choice_per_character(task):
    """The block of uniforms equals one `rng.choice` after another, as their code draws."""
    rng = np.random.default_rng([1, 2])
    short = BigramBackcopy.tiny_shakespeare(length=20)
    expected = []
    for _ in range(3):
        sequence = [65, rng.choice(65, p=task.first_law)]
        while len(sequence) <= 20:
            choice = rng.choice(65, p=task.transition[sequence[-1]])
            sequence.append(sequence[-2] if sequence[-1] in task.triggers else choice)
        expected.append(sequence)
    np.testing.assert_array_equal(replay(short, 3, seed=[1, 2]), expected)


def test_replay_refuses_what_it_does_not_cover():
    with pytest.raises(ValueError, match=r"bos=False"):
        replay(BigramBackcopy.tiny_shakespeare(bos=False))
