"""Risks by Monte Carlo against closed forms and published numbers, each within its own standard error."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toy_tasks import LinearRegression
from toy_tasks import regression_predictors as rp

SIGMAS = 4.5


def mean_and_error(samples: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Over the first axis, in float64."""
    values = np.asarray(samples, np.float64)
    return values.mean(0), values.std(0) / len(values) ** 0.5


def assert_near(samples: jax.Array, known, slack: float = 0.0) -> None:
    """The mean over prompts is `known`, up to its standard error (and `slack`, the rounding of a printed number)."""
    mean, error = mean_and_error(samples)
    assert (np.abs(mean - known) <= SIGMAS * error + slack).all(), (mean, known, error)


# ---- the oracle is best

ORACLE = {
    "columns": LinearRegression(
        3, 8, 0.3, covariance=np.diag([2.0, 1.0, 0.5]), mean=0.5, prior_covariance=np.diag([1.0, 0.1, 0.0])
    ),
    "masked_key": LinearRegression(
        3, 6, 0.2, "coordinate", False, input_law="uniform", supports=((0, 1), (1, 2)), layout="masked_key"
    ),
    "interleaved": dataclasses.replace(LinearRegression.garg(3, 5), prior_covariance=np.diag([1.0, 0.3, 0.0])),
}
RIVALS = {
    "ridge": rp.Ridge(0.8),
    "least_squares": rp.LeastSquares(),
    "gradient": rp.GradientStep(0.6),
    "debiased": rp.DebiasedStep(0.6),
    "neighbours": rp.NearestNeighbours(3),
    "averaging": rp.Averaging(),
    "zero": rp.Zero(),
    "softmax": rp.SoftmaxHeads((0.3, -0.3), (1.0, -1.0)),
}


@pytest.mark.parametrize("layout", ORACLE)
def test_oracle_is_the_posterior_mean(layout):
    """Its error is uncorrelated with whatever the context tells, hence `mse = bayes + excess` for every predictor.

    And its risk is below theirs, by more than chance.
    """
    task = ORACLE[layout]

    @jax.jit
    def risks(key):
        batch = task.sample(key, 8192)
        one = jax.vmap(lambda guess, prompt: task.risks(guess[None], jax.tree.map(lambda a: a[None], prompt)))
        return {name: one(task.predict(rival, batch), batch) for name, rival in RIVALS.items()}

    for found in risks(jax.random.key(1)).values():
        mse, bayes, excess = (np.asarray(found[name], np.float64) for name in ("mse", "bayes", "excess"))
        assert_near(mse - bayes - excess, 0.0)
        gap, error = mean_and_error(mse - bayes)
        assert gap > SIGMAS * error


def test_bayes_risk_is_the_posterior_variance():
    """`E (y - oracle)^2 = s + x_q^T (P^-1 + X^T X / s)^-1 x_q`, in float64, prompt by prompt."""
    task = ORACLE["masked_key"]
    batch = jax.jit(lambda key: task.sample(key, 8192))(jax.random.key(2))
    prompt = jax.tree.map(lambda a: np.asarray(a, np.float64), task.prompt(batch))
    error = np.asarray(jax.jit(task.oracle)(batch) - batch.targets, np.float64)[:, 0]
    for i, support in enumerate(task.supports):
        x, query = prompt.x[..., support], prompt.query[..., support]
        precision = 3 * np.eye(2) + np.einsum("bci,bcj->bij", x, x) / 0.4
        known = np.einsum("bi,bij,bj->b", query, np.linalg.inv(precision), query)
        assert_near(error[:, i] ** 2 - known, 0.0)


# ---- all prefixes of noiseless prompts


def test_curves_of_isotropic_noiseless_prompts():
    """`d = 5`, `|w|^2 = d`: the risk after `n` pairs, over that of saying 0, for every `n` at once."""
    task = LinearRegression.garg(5, 13)
    n = np.arange(13)
    some = n[1:]
    g = 0.6
    rivals = (rp.LeastSquares(), rp.bayes(task), rp.Averaging(), rp.GradientStep(g), rp.Zero())

    @jax.jit
    def errors(key):
        batch = task.sample(key, 4000)
        return [(task.predict(rival, batch) - batch.targets)[:, ::2, 0] ** 2 / 5 for rival in rivals]

    least, bayes, averaging, gradient, zero = errors(jax.random.key(3))
    # slack: n = d, where a prompt in a hundred has a condition number over 500; float32
    assert_near(least, np.maximum(0, 1 - n / 5), slack=1e-6)
    np.testing.assert_allclose(bayes, least, atol=1e-3)
    assert_near(averaging[:, 1:], 6 / some)
    assert_near(gradient[:, 1:], 1 - 2 * g + g**2 * (1 + 6 / some))
    assert_near(zero, 1.0)


# ---- noisy prompts: the table of He et al. and its exact formulas

LENGTHS = np.array([10, 20, 40, 60, 80, 100])
ETA = 2 * 0.13 * 3.45
ESTIMATORS = {
    "two_heads": rp.SoftmaxHeads((0.13, -0.13), (3.45, -3.45)),
    "gradient": rp.GradientStep(ETA),
    "debiased": rp.DebiasedStep(ETA),
    "one_head": rp.SoftmaxHeads((5**-0.5,), (5**0.5 / (1 + 1.1 * 5 * np.e / 40),)),
    "ridge": rp.Ridge(0.5),
    "least_squares": rp.LeastSquares(),
}
PRINTED = {  # 50,000 prompts each
    "two_heads": [0.604, 0.367, 0.2430, 0.1997, 0.1759, 0.1638],
    "gradient": [0.643, 0.371, 0.2407, 0.1976, 0.1740, 0.1622],
    "debiased": [0.614, 0.369, 0.2431, 0.1993, 0.1757, 0.1635],
    "one_head": [0.875, 0.586, 0.4048, 0.3389, 0.3016, 0.2844],
    "ridge": [0.194, 0.135, 0.1146, 0.1087, 0.1056, 0.1041],
}


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    """Squared error of each estimator after `L` of 100 pairs, the label of the query without noise: `Float[B, L]`."""
    task = LinearRegression(5, 100, 0.1, noisy_query=False)

    @jax.jit
    def errors(key):
        batch = task.sample(key, 8192)
        seen = jnp.asarray(np.arange(100) < LENGTHS[:, None], jnp.float32)
        prompt = batch.inputs.x[:, None], batch.inputs.y[:, None], batch.inputs.query[:, None]
        return {name: ((made(*prompt, seen) - batch.targets) ** 2)[..., 0] for name, made in ESTIMATORS.items()}

    return errors(jax.random.key(4))


@pytest.mark.parametrize("name", PRINTED)
def test_published_table(table, name):
    """Theirs is from 50,000 prompts; the label of the query adds 0.1 and, to theirs, its own chance."""
    mean, error = mean_and_error(table[name])
    printed = np.array(PRINTED[name])
    theirs = 2**0.5 * printed / 50_000**0.5  # of a squared Gaussian error; a softer tail than the true one
    assert (np.abs(mean + 0.1 - printed) < SIGMAS * np.hypot(error, theirs) + 0.0005).all(), (mean + 0.1, printed)


def test_two_heads_follow_the_debiased_step(table):
    gap = mean_and_error(table["two_heads"] - table["debiased"])[0]
    assert (np.abs(gap[1:]) < 0.003).all(), gap
    plain = mean_and_error(table["two_heads"] - table["gradient"])[0]
    assert (np.abs(gap[1:4]) < np.abs(plain[1:4])).all()


def test_exact_risks_of_one_step(table):
    d, s, a = 5, 0.1, (LENGTHS - 1) / LENGTHS
    assert_near(table["gradient"], 1 - 2 * ETA + ETA**2 * (1 + (d + 1 + d * s) / LENGTHS))
    assert_near(table["debiased"], 1 - 2 * ETA * a + ETA**2 * a * (LENGTHS + d + d * s) / LENGTHS)


def test_exact_risk_of_least_squares(table):
    assert_near(table["least_squares"], 0.1 * 5 / (LENGTHS - 5 - 1))


def test_bayes_in_proportion():
    """`d / L = 0.2`, noise 3 (He et al. print 3.4038 for ridge and 3.4419 for a step, limits 3.4051 and 3.4444)."""
    task = LinearRegression(20, 100, 3.0, noisy_query=False)
    step = rp.GradientStep(1 / (1 + (21 + 60) / 100))

    @jax.jit
    def errors(key):
        batch = task.sample(key, 4096)
        return [(task.predict(made, batch) - batch.targets)[:, 0, 0] ** 2 for made in (rp.bayes(task), step)]

    bayes, one = errors(jax.random.key(5))
    assert_near(bayes, 0.4051, slack=0.003)  # finite L
    assert_near(one, 1 - 1 / (1 + 81 / 100))
    gap, error = mean_and_error(one - bayes)
    assert abs(gap - (3.4444 - 3.4051)) < SIGMAS * error + 0.01


# ---- inputs that are not centred, or not Gaussian


def test_debiasing_pays_when_inputs_have_a_mean():
    """`x ~ N(1, I)`: the best step 0.700, the best debiased one 0.384, and two heads the same."""
    task = LinearRegression(5, 40, 0.1, mean=1.0)
    rivals = (rp.GradientStep(1.0), rp.DebiasedStep(1.0), rp.SoftmaxHeads((0.05, -0.05), (10.0, -10.0)))

    @jax.jit
    def guesses(key):
        batch = task.sample(key, 32_768)
        return [task.predict(rival, batch)[:, 0, 0] for rival in rivals], batch.targets[:, 0, 0]

    found, label = guesses(jax.random.key(6))
    label = np.asarray(label, np.float64)
    best = [np.mean((label - label @ guess / (guess @ guess) * guess) ** 2) for guess in np.asarray(found, np.float64)]
    # the label's own variance is 2.1 on average: its chance alone is 0.01 here, of the first; the others' error is 0.4
    np.testing.assert_allclose(best, [0.700, 0.384, 0.384], atol=0.02)
    assert abs(best[1] - best[2]) < 0.004


def test_one_step_of_von_oswald():
    """The best step is 6.06, and half its squared error 0.2062; the zero predictor's is 0.4167."""
    task = LinearRegression.von_oswald()

    @jax.jit
    def errors(key):
        batch = task.sample(key, 8192)
        made = rp.GradientStep(6.06), rp.Zero()
        return [0.5 * (task.predict(rival, batch) - batch.targets)[:, 0, 0] ** 2 for rival in made]

    one, zero = errors(jax.random.key(7))
    assert_near(one, 0.2062, slack=1e-4)
    assert_near(zero, 0.4167, slack=1e-4)
