"""Risks of one answer per asked place, against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toy_tasks import answers
from toy_tasks.base import Batch

B, T, V = 3, 4, 6
ROUNDING = 2e-6  # float32: a few rounded terms of size up to 10, averaged


def made(seed: int, scale: float):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, V, (B, T)).astype(np.int32)
    asked = rng.random((B, T)) < 0.5
    asked[0, 0] = True
    present = rng.random((B, V)) < 0.5
    for b in range(B):
        present[b, targets[b]] = True
    logits = (scale * rng.standard_normal((B, T, V))).astype(np.float32)
    batch = Batch(jnp.zeros((B, T), jnp.int32), jnp.asarray(targets), jnp.asarray(asked, jnp.float32), {})
    return jnp.asarray(logits), batch, jnp.asarray(asked), jnp.asarray(present)


risks = jax.jit(answers.recall_risks)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 5.0]))
def test_recall_risks_by_loops(seed, scale):
    logits, batch, asked, present = made(seed, scale)
    found = {"loss": [], "accuracy": [], "values": [], "binding": []}
    for b in range(B):
        for t in range(T):
            if not asked[b, t]:
                continue
            weight = np.exp(np.asarray(logits[b, t], np.float64))
            law = weight / weight.sum()
            inside = law[np.asarray(present[b])].sum()
            answer = int(batch.targets[b, t])
            found["loss"].append(-np.log(law[answer]))
            found["accuracy"].append(float(np.argmax(law) == answer))
            found["values"].append(-np.log(inside))
            found["binding"].append(-np.log(law[answer] / inside))
    ours = risks(logits, batch, asked, present)
    assert set(ours) == set(found)
    for name, values in found.items():
        assert float(ours[name]) == pytest.approx(np.mean(values), abs=ROUNDING)
    assert float(ours["loss"]) == pytest.approx(float(ours["values"]) + float(ours["binding"]), abs=ROUNDING)


def test_a_sure_answer_costs_nothing_and_elsewhere_nothing_is_claimed():
    _, batch, asked, _ = made(0, 1.0)
    law = answers.sure(batch.targets, asked, V)
    np.testing.assert_allclose(law.sum(-1), 1.0, atol=1e-6)  # 6 / 6 in float32
    for b, t in np.ndindex(B, T):
        wanted = np.eye(V)[batch.targets[b, t]] if asked[b, t] else np.full(V, 1 / V)
        np.testing.assert_allclose(law[b, t], wanted, atol=1e-7)
    assert float(answers.answer_risks(jnp.log(law), batch, asked)["loss"]) == 0.0


def test_nothing_asked_is_no_risk():
    logits, batch, asked, present = made(0, 1.0)
    assert all(np.isnan(value) for value in risks(logits, batch, jnp.zeros_like(asked), present).values())


def test_small_losses_of_large_logits_keep_their_digits():
    logits = jnp.full((1, 1, V), 30.0).at[0, 0, 2].set(42.0)
    loss = answers.log_losses(logits, jnp.full((1, 1), 2, jnp.int32))
    assert float(loss[0, 0]) == pytest.approx(np.log1p((V - 1) * np.exp(-12.0)), abs=2e-7)  # log near 1 in float32


def test_gradients_are_those_of_the_loss():
    logits, batch, asked, _ = made(1, 1.0)
    gradient = jax.jit(jax.grad(lambda x: answers.answer_risks(x, batch, asked)["loss"]))(logits)
    law = np.asarray(jax.nn.softmax(logits))
    wanted = np.where(np.asarray(asked)[..., None], law - np.eye(V)[np.asarray(batch.targets)], 0.0) / asked.sum()
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)  # float32


def test_lines():
    text = answers.lines({"context": answers.Plateau(2.0794, 0.125), "zero": answers.Plateau(0.5)})
    assert text == "context 2.0794 (0.125 right), zero 0.5000"
