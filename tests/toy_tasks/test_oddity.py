"""Bars and the eye: the exchange of V and O, the posterior mean by Bayes' rule, arrays with one odd item."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from attnlab.training import losses
from toy_tasks import OrientationDiet

TASK = OrientationDiet(0.8)
SIZE = 4096
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        batch = TASK.sample(key, SIZE)
        return batch, TASK.oracle(batch), TASK.belief(batch.inputs), TASK.risks(TASK.oracle(batch), batch)

    return jax.jit(everything)(jax.random.key(0))


def test_turning_and_reflecting_exchanges_the_two():
    for task in (TASK, OrientationDiet(0.3, channels=6, tilt=60.0)):
        other, vertical = task.clean
        shift = round(task.tilt * task.channels / 180)
        np.testing.assert_allclose(other[(shift - np.arange(task.channels)) % task.channels], vertical, atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(other), np.linalg.norm(vertical))
        assert task.clean[1].argmax() == 0 and task.clean[0].argmax() == shift


def test_items_are_as_described_and_the_oracle_is_bayes(drawn):
    batch, mean, belief, risks = drawn
    vertical = np.asarray(batch.positions["vertical"])[:, 0]
    assert stats.binomtest(int(vertical.sum()), SIZE, 0.8).pvalue > SURE
    np.testing.assert_allclose(batch.targets[:, 0], TASK.clean[vertical.astype(int)], rtol=1e-6)
    noise = np.asarray(batch.inputs - batch.targets)[:, 0] / TASK.noise
    assert stats.kstest(noise.ravel(), "norm").pvalue > SURE
    inputs = np.asarray(batch.inputs, np.float64)[:, 0]
    fits = [
        share * np.exp(-(np.square(inputs - clean).sum(axis=1)) / (2 * TASK.noise**2))
        for share, clean in zip((0.2, 0.8), TASK.clean, strict=True)
    ]
    wanted = fits[1] / sum(fits)
    np.testing.assert_allclose(belief[:, 0], wanted, atol=1e-5)  # float32
    np.testing.assert_allclose(mean[:, 0], TASK.clean[0] + wanted[:, None] * (TASK.clean[1] - TASK.clean[0]), atol=1e-5)
    assert float(risks["excess"]) == 0
    assert losses.natural(TASK) is losses.squared_error
    # Nobody does better: not the mean of the diet, not the nearer of the two.
    best = float(risks["mse"])
    for guess in (0.8, np.round(wanted)[:, None]):
        other = TASK.clean[0] + guess * (TASK.clean[1] - TASK.clean[0])
        assert np.square(other - np.asarray(batch.targets)[:, 0]).mean() > best


@pytest.mark.parametrize("odd_vertical", [True, False])
def test_arrays_have_one_odd_item_anywhere(odd_vertical):
    found = jax.jit(lambda key: TASK.arrays(key, SIZE, 5, odd_vertical))(jax.random.key(1))
    vertical, places = np.asarray(found.vertical), np.asarray(found.places)
    odd = vertical == odd_vertical
    assert (odd.sum(axis=1) == 1).all() and (odd.argmax(axis=1) == found.target).all()
    assert stats.chisquare(np.bincount(np.asarray(found.target), minlength=5)).pvalue > SURE  # ties tell nothing
    cells = np.round(places + 2.5).astype(int)
    assert cells.min() == 0 and cells.max() == 5 and np.abs(places + 2.5 - cells).max() <= 0.25
    numbers = cells[..., 0] * 6 + cells[..., 1]
    assert all(len(set(row)) == 5 for row in numbers.tolist())
    assert stats.chisquare(np.bincount(numbers[odd], minlength=36)).pvalue > SURE
    assert stats.chisquare(np.bincount(numbers.ravel(), minlength=36)).pvalue > SURE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.0}, r"OrientationDiet\.share"),
        ({"noise": 0.0}, r"OrientationDiet\.noise"),
        ({"tilt": 20.0}, r"OrientationDiet\.tilt: got 20\.0; allowed is a multiple of 15 below 180"),
        ({"channels": 1}, r"OrientationDiet\.channels"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        OrientationDiet(**changes)
    with pytest.raises(ValueError, match="size: got 37"):
        TASK.arrays(jax.random.key(0), 2, 37, True)
    with pytest.raises(ValueError, match="logits"):
        TASK.risks(jnp.ones((3, 1, 2)), TASK.sample(jax.random.key(0), 3))
