"""What denoising means: marks, scales, the running mean of what counts; what a mean over everything achieves."""

import dataclasses
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from attnlab.models import Transformer
from attnlab.training import losses
from toy_tasks import Denoising

SIZE = 4096
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "last": Denoising(3, 10, 4, 2.0),
    "prefix": Denoising(3, 10, 4, 2.0, ask="prefix"),
    "all": Denoising(2, 5, 5),
}


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            found[name] = batch, task.oracle(batch), task.risks(task.oracle(batch), batch)
        return found

    return jax.jit(everything)(jax.random.key(0))


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, best, risks) = TASKS[name], drawn[name]
    inputs, targets, mask, best = (np.asarray(a) for a in (batch.inputs, batch.targets, batch.loss_mask, best))
    kinds = {kind: np.asarray(where) for kind, where in batch.positions.items()}
    assert inputs.shape == (SIZE, task.length, task.width) == (SIZE, task.length, task.dim + 1)
    np.testing.assert_array_equal(kinds["noise"], ~kinds["relevant"])
    for b in range(256):
        relevant = []
        for t in range(task.length):
            assert inputs[b, t, -1] in (-1.0, 1.0) and kinds["relevant"][b, t] == (inputs[b, t, -1] == 1.0)
            if inputs[b, t, -1] == 1.0:
                relevant.append(inputs[b, t, :-1].astype(np.float64))
            wanted = np.mean(relevant, axis=0) if relevant else np.zeros(task.dim)
            assert np.abs(targets[b, t] - wanted).max() < 1e-6  # float32 sums of at most 5 terms
            asked = len(relevant) > 0 and (task.ask == "prefix" or t == task.length - 1)
            assert mask[b, t] == asked == kinds["asked"][b, t]
        assert len(relevant) == task.num_relevant
    np.testing.assert_array_equal(best, targets)
    assert max(float(value) for value in risks.values()) < 1e-12  # the square of a rounding, if sums fuse otherwise


def test_laws(drawn):
    task, (batch, _, _) = TASKS["last"], drawn["last"]
    relevant, vectors = np.asarray(batch.positions["relevant"]), np.asarray(batch.inputs)[..., :-1]
    assert stats.kstest(vectors[relevant].ravel(), "norm").pvalue > SURE
    assert stats.kstest(vectors[~relevant].ravel() / task.noise, "norm").pvalue > SURE
    places = np.zeros(comb(10, 4))
    index = {}
    for row in relevant:  # all subsets of four places alike
        places[index.setdefault(tuple(row), len(index))] += 1
    assert stats.chisquare(places).pvalue > SURE
    flat = vectors.reshape(SIZE, -1)
    coordinates = np.corrcoef(flat.T) - np.eye(30)
    assert np.abs(coordinates).max() < 5.5 / np.sqrt(SIZE)  # 435 pairs: probability 2e-5


@pytest.mark.parametrize("name", ["last", "prefix"])
def test_plateaus(drawn, name):
    """The best multiple of the mean over all vectors, fitted per place on one half, measured on the other."""
    task, (batch, _, _) = TASKS[name], drawn[name]
    inputs, targets, mask = (np.asarray(a, np.float64) for a in (batch.inputs, batch.targets, batch.loss_mask))
    mean = inputs[..., :-1].cumsum(axis=1) / np.arange(1, 11)[:, None]
    zero = (targets**2).mean(-1)
    fitted, half = np.zeros_like(zero), SIZE // 2
    for t in np.flatnonzero(mask.any(axis=0)):
        weight = mask[:half, t, None]
        scale = (weight * mean[:half, t] * targets[:half, t]).sum() / (weight * mean[:half, t] ** 2).sum()
        fitted[:, t] = ((scale * mean[:, t] - targets[:, t]) ** 2).mean(-1)
    for plateau, error, rows in (("zero", zero, slice(None)), ("mean", fitted, slice(half, None))):
        total, places = (error * mask).sum(axis=1)[rows], mask.sum(axis=1)[rows]
        ratio = total.sum() / places.sum()
        spread = (total - ratio * places).std() / places.mean() / np.sqrt(len(places))
        # 10 scales fitted on 2,048 sequences add a share of 1 / 2048 / 3 to the error of `mean`
        assert ratio == pytest.approx(task.plateaus[plateau].loss, abs=4.5 * spread + 2e-4 * ratio)
        assert task.plateaus[plateau].accuracy is None
    risks = task.risks(jnp.zeros_like(batch.targets), batch)
    assert float(risks["mse"]) == pytest.approx((zero * mask).sum() / mask.sum(), rel=1e-5)  # float32
    assert float(risks["unexplained"]) == pytest.approx(1.0, abs=1e-6)


def test_plateaus_of_the_last_place():
    """`1 / R`, and `1 / R - 1 / (R + (T - R) σ²)`; with nothing but relevant vectors the mean is the answer."""
    assert TASKS["last"].plateaus["zero"].loss == pytest.approx(1 / 4)
    assert TASKS["last"].plateaus["mean"].loss == pytest.approx(1 / 4 - 1 / (4 + 6 * 4))
    assert TASKS["all"].plateaus["mean"].loss == pytest.approx(0.0, abs=1e-15)
    silent = Denoising(2, 40, 4, noise=0.0).plateaus["mean"]
    assert silent.loss == pytest.approx(0.0, abs=1e-15)  # zeros do not disturb a sum


def test_risks_by_loops(drawn, rng):
    task, (batch, _, _) = TASKS["prefix"], drawn["prefix"]
    small = jax.tree.map(lambda leaf: leaf[:8], batch)
    output = rng.standard_normal((8, 10, 3)).astype(np.float32)
    gaps, sizes = [], []
    for b, t in np.ndindex(8, 10):
        if small.loss_mask[b, t]:
            gaps += list((output[b, t] - np.asarray(small.targets)[b, t]).astype(np.float64) ** 2)
            sizes += list(np.asarray(small.targets, np.float64)[b, t] ** 2)
    risks = task.risks(jnp.asarray(output), small)
    assert float(risks["mse"]) == pytest.approx(np.mean(gaps), rel=1e-5)  # float32
    assert float(risks["unexplained"]) == pytest.approx(np.mean(gaps) / np.mean(sizes), rel=1e-5)


def test_a_transformer_reads_and_says_it(drawn, key):
    """`input_dim = width`, `output_dim = dim`; the training loss is the risk `mse`."""
    task = TASKS["prefix"]
    model = Transformer(
        num_layers=1, num_heads=1, width=8, length=task.length, input_dim=task.width, output_dim=task.dim
    )
    batch = drawn["prefix"][0]
    output, _ = jax.eval_shape(lambda key: model.apply(model.init(key), batch.inputs), key)
    assert output.shape == batch.targets.shape and losses.natural(task) is losses.squared_error
    shifted = batch.targets + jnp.asarray([0.5, 0.0, 1.0])
    loss = jnp.sum(losses.squared_error(shifted, batch) * batch.loss_mask) / losses.total_weight(batch)
    assert float(loss) == pytest.approx(1.25 / 3, rel=1e-5)  # float32
    assert float(task.risks(shifted, batch)["mse"]) == pytest.approx(1.25 / 3, rel=1e-5)


def test_at_length_keeps_what_counts():
    longer = TASKS["prefix"].at_length(100)
    assert longer == dataclasses.replace(TASKS["prefix"], length=100) and longer.num_relevant == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 0}, r"Denoising\.dim: got 0"),
        ({"length": 4}, r"Denoising\.num_relevant: got 8; allowed is at most 4, the length"),
        ({"num_relevant": 0}, r"Denoising\.num_relevant: got 0; allowed is an integer >= 1"),
        ({"noise": -1.0}, r"Denoising\.noise: got -1\.0; allowed is a finite number >= 0"),
        ({"noise": "loud"}, r"Denoising\.noise: got 'loud'"),
        ({"ask": "first"}, r"Denoising\.ask: got 'first'; allowed is prefix \| last"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        Denoising(**changes)
