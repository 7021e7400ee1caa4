"""Risk at other context lengths against its definition; attention concentration against its known values."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed_prompts import FixedPrompts

from attnlab import keys
from attnlab.analysis import concentration, context_risk, predictor_curve, risk_curve
from attnlab.config import ConfigError
from attnlab.models.regression_attention import RegressionAttention
from toy_tasks.base import Batch, Prompt
from toy_tasks.regression_predictors import DebiasedStep, SoftmaxHeads, Zero

d, B = 3, 32
FIXED = FixedPrompts(d, noise=0.3)
MODEL = RegressionAttention(d, 2, form="reduced")
LENGTHS = (2, 8)
SEEDS = {"omega": jnp.array([[0.3, -0.2], [0.05, -0.05]]), "mu": jnp.array([[[1.0], [-0.5]], [[8.0], [-8.0]]])}
CLOSE: Any = {"rtol": 1e-4, "atol": 1e-6}


applied = jax.jit(MODEL.apply)


def seed(i):
    return jax.tree.map(lambda leaf: leaf[i], SEEDS)


def test_definition():
    """The mean over prompts cut to their first pairs, its standard error, and differences in pairs; three batches."""
    step = DebiasedStep(0.8)
    probe = context_risk(FIXED, LENGTHS, predictor=step, batch_size=B, num_batches=3)
    found = jax.device_get(jax.jit(lambda p: probe(MODEL, p))(seed(0)))
    # The prompts are made for the longest context; every batch holds the same ones.
    x, y, query, label = dataclasses.replace(FIXED, context=max(LENGTHS)).arrays(B)
    for i, length in enumerate(LENGTHS):
        short = Prompt(jnp.asarray(x[:, :length]), jnp.asarray(y[:, :length]), jnp.asarray(query))
        ours = np.square(applied(seed(0), short)[0][:, 0] - label)[:, 0]
        theirs = np.square(jax.jit(step)(short.x, short.y, short.query) - label)[:, 0]
        for name, error in (("risk", ours), ("predictor_risk", theirs), ("difference", ours - theirs)):
            thrice = np.tile(error, 3)
            np.testing.assert_allclose(found[name][i], error.mean(), **CLOSE, err_msg=name)
            se = thrice.std(ddof=1) / len(thrice) ** 0.5
            np.testing.assert_allclose(found[f"{name}_se"][i], se, **CLOSE, err_msg=name)
    assert set(probe.dims(found).values()) == {("context",)} and set(map(np.shape, found.values())) == {(2,)}


def test_curves_of_seeds_and_predictors():
    """Seeds lead; a predictor that is the model has its curve; small opposite heads have that of a debiased step."""
    options: Any = {"batch_size": B, "num_batches": 1}
    found = risk_curve(MODEL, SEEDS, FIXED, LENGTHS, **options)
    assert found.risk.shape == found.error.shape == (2, 2)
    np.testing.assert_array_equal(found.lengths, LENGTHS)
    same = predictor_curve(SoftmaxHeads(np.array([0.3, -0.2]), np.array([1.0, -0.5])), FIXED, LENGTHS, **options)
    np.testing.assert_allclose(same.risk, found.risk[0], rtol=1e-4)
    np.testing.assert_allclose(same.error, found.error[0], rtol=1e-4)
    step = predictor_curve(DebiasedStep(0.8), FIXED, LENGTHS, **options)
    np.testing.assert_allclose(step.risk, found.risk[1], rtol=0.02)  # what omega = .05 leaves: 1 %


@dataclasses.dataclass(frozen=True)
class OneLabel(FixedPrompts):
    """The same prompts, all asked for one label, which the key draws."""

    def sample(self, key, batch_size):
        batch = super().sample(key, batch_size)
        label = jax.random.uniform(key) + 0 * batch.targets
        return Batch(batch.inputs, label, batch.loss_mask, batch.positions)


def test_batches_differ_and_lengths_share_them():
    """Predicting 0 has the mean of squared labels at every length, with the spread between batches in its error."""
    found = predictor_curve(Zero(), OneLabel(d), (1, 2), batch_size=4, num_batches=3)
    root = keys.stream(keys.root(0), "eval")
    squares = np.array([float(jax.random.uniform(jax.random.fold_in(root, i))) ** 2 for i in range(3)])
    assert len(set(squares)) == 3
    np.testing.assert_allclose(found.risk, [squares.mean()] * 2, rtol=1e-5)
    np.testing.assert_allclose(found.error, [squares.repeat(4).std(ddof=1) / 12**0.5] * 2, rtol=1e-5)


@pytest.mark.parametrize("omega", [0.0, 0.3, 50.0])
def test_concentration(omega):
    """`1 / C` for uniform weights, `sum_c A_c^2` between, about 1 for a hard maximum; the sign of omega matters not."""
    probe = concentration(FIXED, B, by_prompt=True)
    found = jax.device_get(jax.jit(lambda p: probe(MODEL, p))({"omega": jnp.array([omega, 0.0]), "mu": SEEDS["mu"][0]}))
    x, _, query, _ = FIXED.arrays(B)
    weights = np.exp(omega * (s := np.einsum("bcd,bd->bc", x, query)) - omega * s.max(axis=1, keepdims=True))
    expected = np.sum(weights**2, axis=1) / np.sum(weights, axis=1) ** 2
    np.testing.assert_allclose(found["concentration_by_prompt"][:, 0], expected, rtol=1e-3)
    np.testing.assert_allclose(found["concentration"], [expected.mean(), 1 / FIXED.context], rtol=1e-3)
    low, high = np.quantile(expected, [0.1, 0.9])
    np.testing.assert_allclose(found["concentration_q10"][0], low, rtol=1e-3)
    np.testing.assert_allclose(found["concentration_q90"][0], high, rtol=1e-3)
    assert probe.dims(found)["concentration_by_prompt"] == ("prompt", "head")
    assert probe.dims(["concentration"]) == {"concentration": ("head",)}


def test_bad_arguments():
    with pytest.raises(ConfigError, match="lengths"):
        context_risk(FIXED, (0, 4))
    with pytest.raises(ConfigError, match="num_batches"):
        context_risk(FIXED, LENGTHS, batch_size=1, num_batches=1)
    with pytest.raises(ConfigError, match="context"):
        context_risk(object.__new__(type("Task", (), {"sample": None})), LENGTHS)
