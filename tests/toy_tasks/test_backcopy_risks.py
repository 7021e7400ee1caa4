"""The risk decomposition: the oracle attains the entropies, nothing does better, and each part means what it says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toy_tasks import BigramBackcopy, expected_risks, occupation

# A mean of float32 terms of size up to 4 (one unit in the last place is 5e-7), each the sum of 66 rounded terms
ROUNDING = 5e-6


@functools.cache
def compiled(task, name, *static):
    return jax.jit(getattr(task, name), static_argnums=static)


def risks(task, logits, batch):
    return compiled(task, "risks")(logits, batch)


def sample(task, seed, size):
    return compiled(task, "sample", 1)(jax.random.key(seed), size)


TASKS = {
    "plain": {},
    "no bos": {"bos": False},
    "smooth, with a delimiter": {"smoothing": 0.1, "delimiter": True},
    "shift": {"variant": "bigram_shift", "first_token": "marginal"},
    "mixed": {"mix_p": 0.3},
}


@pytest.fixture(scope="module", params=TASKS.values(), ids=TASKS.keys())
def case(request):
    task = BigramBackcopy.tiny_shakespeare(**({"length": 32} | request.param))
    batch = sample(task, 0, 64)
    return task, batch, np.asarray(compiled(task, "oracle")(batch), np.float64)


def test_oracle_is_a_law_that_allows_the_target(case):
    _, batch, law = case
    np.testing.assert_allclose(law.sum(-1), 1.0, atol=1e-5)  # float32 entries
    assert (np.take_along_axis(law, np.asarray(batch.targets)[..., None], -1) > 0).all()


def test_oracle_logits_pay_the_entropy_and_no_more(case):
    task, batch, law = case
    entropy = -np.sum(law * np.log(np.where(law > 0, law, 1.0)), -1)
    best = compiled(task, "oracle_risks")(batch)
    found = risks(task, jnp.log(compiled(task, "oracle")(batch)), batch)
    for name, where in (("backcopy", "trigger"), ("bigram", "bigram")):
        value = entropy[np.asarray(batch.positions[where])].mean()
        assert float(best[name]) == pytest.approx(value, abs=ROUNDING)
        assert float(found[name]) == pytest.approx(value, abs=ROUNDING)
        assert float(found[f"excess_{name}"]) == pytest.approx(0.0, abs=ROUNDING)
    assert float(best["overall"]) == pytest.approx(entropy.mean(), abs=ROUNDING)
    assert float(found["excess_overall"]) == pytest.approx(0.0, abs=ROUNDING)


def test_nothing_beats_the_oracle(case):
    """Gibbs: any other prediction pays more, by its divergence, in every class."""
    task, batch, _ = case
    logits = jnp.log(compiled(task, "oracle")(batch) + 1e-6)
    for scale, key in ((0.1, 1), (1.0, 2)):
        noise = scale * jax.random.normal(jax.random.key(key), logits.shape)
        found = risks(task, logits + noise, batch)
        for name in ("backcopy", "bigram", "overall"):
            assert float(found[f"excess_{name}"]) > 0
            assert float(found[f"excess_{name}"]) == pytest.approx(
                float(found[name]) - float(compiled(task, "oracle_risks")(batch)[name]), abs=ROUNDING
            )


def test_risks_of_a_constant_prediction(case):
    """Uniform logits pay log V everywhere, whatever the law."""
    task, batch, _ = case
    found = risks(task, jnp.zeros((*batch.inputs.shape, task.vocab_size)), batch)
    for name in ("backcopy", "bigram", "bigram_code", "overall"):
        assert float(found[name]) == pytest.approx(np.log(task.vocab_size), abs=ROUNDING)


def test_the_expected_loss_is_the_mean_of_the_sampled_one(case):
    """Cross entropy on sampled targets has the risk as its mean: within its standard error over sequences."""
    task, batch, law = case
    log_q = np.log(0.9 * law + 0.1 / task.vocab_size)
    sampled = -np.take_along_axis(log_q, np.asarray(batch.targets)[..., None], -1)[..., 0]
    expected = -np.sum(law * log_q, -1)
    difference = (sampled - expected).mean(1)  # martingale differences: sequences are independent
    assert abs(difference.mean()) < 4.5 * difference.std() / np.sqrt(len(difference))  # probability 7e-6
    assert float(risks(task, jnp.asarray(log_q, jnp.float32), batch)["overall"]) == pytest.approx(
        expected.mean(), abs=ROUNDING
    )


def test_code_definition_adds_bos_with_the_full_marginal():
    task = BigramBackcopy.tiny_shakespeare(length=32)
    batch = sample(task, 0, 64)
    best = compiled(task, "oracle_risks")(batch)
    count = float(batch.positions["bigram"].sum())
    value = (count * float(best["bigram"]) + 64 * 3.3127952) / (count + 64)  # H(μ) = 3.3127952
    assert float(best["bigram_code"]) == pytest.approx(value, abs=ROUNDING)
    # a model that has learned the true first-token law pays without bound under this definition
    assert np.isposinf(risks(task, jnp.log(compiled(task, "oracle")(batch)), batch)["excess_bigram_code"])
    without = BigramBackcopy.tiny_shakespeare(length=32, bos=False)
    entropies = compiled(without, "oracle_risks")(sample(without, 0, 8))
    assert float(entropies["bigram_code"]) == float(entropies["bigram"])


def test_the_plateau_is_what_the_best_predictor_without_attention_pays():
    task = BigramBackcopy.tiny_shakespeare(length=64)
    batch = sample(task, 4, 1024)
    pooled = occupation(task).pairs.sum(0)
    seen = pooled.sum(1, keepdims=True)
    law = np.divide(pooled, seen, out=np.full_like(pooled, 1 / 66), where=seen > 0)
    found = risks(task, jnp.log(jnp.asarray(law, jnp.float32) + 1e-9)[batch.inputs], batch)
    # 16,000 triggers, each loss with a spread near 1, clustered in 1024 sequences: a standard error near .015
    assert float(found["backcopy"]) == pytest.approx(expected_risks(task).plateau, abs=0.06)
    assert float(found["overall"]) == pytest.approx(expected_risks(task).order_one, abs=0.06)


def test_a_batch_without_triggers_has_no_backcopy_risk():
    task = BigramBackcopy.tiny_shakespeare(length=4)
    tokens = np.tile(task.encode(["<s>", "H", "i", "s", "h"]), (2, 1))
    batch = task.batch(tokens)
    found = risks(task, jnp.zeros((2, 4, 66)), batch)
    assert np.isnan(found["backcopy"]) and np.isnan(found["excess_backcopy"])
    assert np.isfinite(found["bigram"]) and np.isfinite(found["overall"])
    gradient = jax.jit(jax.grad(lambda x: task.risks(x, batch)["bigram"]))(jnp.zeros((2, 4, 66)))
    assert np.isfinite(gradient).all()


def test_small_risks_of_large_logits_keep_their_digits():
    """A sure copy among 66 logits: the loss is 65 e^-12, the logits stand at 40."""
    task = BigramBackcopy.tiny_shakespeare(length=64)
    batch = sample(task, 0, 256)
    copied = jax.nn.one_hot(jnp.pad(batch.inputs, ((0, 0), (1, 0)))[:, :-1], 66)
    found = risks(task, 28.0 + 12.0 * copied, batch)
    assert float(found["backcopy"]) == pytest.approx(np.log1p(65 * np.exp(-12.0)), abs=2e-7)  # log near 1 in float32


def test_risks_are_differentiable_and_jit_equal():
    task = BigramBackcopy.tiny_shakespeare(length=16)
    batch = sample(task, 0, 4)
    logits = jax.random.normal(jax.random.key(1), (4, 16, 66))
    plain, jitted = task.risks(logits, batch), risks(task, logits, batch)
    for name in plain:
        assert float(plain[name]) == pytest.approx(float(jitted[name]), abs=ROUNDING)
    gradient = jax.jit(jax.grad(lambda x: task.risks(x, batch)["overall"]))(logits)
    np.testing.assert_allclose(
        gradient, (jax.nn.softmax(logits) - compiled(task, "oracle")(batch)) / 64, atol=1e-6
    )  # float32
