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
RIVALS = (
    rp.Ridge(0.8),
    rp.LeastSquares(),
    rp.GradientStep(0.6),
    rp.DebiasedStep(0.6),
    rp.NearestNeighbours(3),
    rp.Averaging(),
    rp.Zero(),
    rp.SoftmaxHeads((0.3, -0.3), (1.0, -1.0)),
)


@pytest.fixture(scope="module", params=ORACLE)
def guessed(request):
    """A task, a batch, what the oracle says, what the others say."""
    task = ORACLE[request.param]

    @jax.jit
    def guesses(key):
        batch = task.sample(key, 4096)
        return batch, task.oracle(batch), [task.predict(rival, batch) for rival in RIVALS]

    return task, *guesses(jax.random.key(1))


def test_oracle_is_the_posterior_mean(guessed):
    """Its error is uncorrelated with whatever the context tells, hence `mse = bayes + excess` for every predictor.

    And its risk is below theirs, by more than chance.
    """
    task, batch, best, rivals = guessed
    places = batch.loss_mask[..., None] / np.sum(batch.loss_mask[0]) / task.num_outputs
    for guess in rivals:
        gaps = guess - batch.targets, best - batch.targets, guess - best
        mse, bayes, excess = (np.sum(np.asarray(places * gap**2, np.float64), axis=(1, 2)) for gap in gaps)
        assert_near(mse - bayes - excess, 0.0)
        gap, error = mean_and_error(mse - bayes)
        assert gap > SIGMAS * error


def test_bayes_risk_is_the_posterior_variance(guessed):
    """`E (y - oracle)^2 = s + x_q^T (P - P X^T (X P X^T + s I)^-1 X P) x_q`, in float64, prompt by prompt."""
    task, batch, best, _ = guessed
    prompt = jax.tree.map(lambda a: np.asarray(a, np.float64), task.prompt(batch))
    error = np.asarray(best - batch.targets, np.float64)[:, -1]
    for i, (prior, noise) in enumerate(zip(task.priors, task.label_noise, strict=True)):
        seen = np.einsum("bci,ij->bcj", prompt.x, prior)
        gram = np.einsum("bci,bei->bce", seen, prompt.x) + noise * np.eye(task.context)
        along = np.einsum("bci,bi->bc", seen, prompt.query)
        told = np.einsum("bc,bce,be->b", along, np.linalg.pinv(gram, rcond=1e-9, hermitian=True), along)
        known = np.einsum("bi,ij,bj->b", prompt.query, prior, prompt.query) - told
        # slack: noiseless, both are 0, and float32 says how nearly
        assert_near(error[:, i] ** 2 - known, noise * task.noisy_query, slack=1e-6)


# ---- all prefixes of noiseless prompts


def gaussian_prompts(seed: int, size: int, context: int, dim: int, noise: float, mean: float = 0.0):
    """The prompts of He et al., by NumPy: `x, y, query`, and the query's label without noise."""
    rng = np.random.default_rng(seed)
    inputs = np.float32(mean) + rng.standard_normal((size, context + 1, dim), np.float32)
    x, query = inputs[:, :-1], inputs[:, -1]
    beta = rng.standard_normal((size, dim), np.float32) / np.float32(dim**0.5)
    y = np.einsum("bcd,bd->bc", x, beta) + noise**0.5 * rng.standard_normal((size, context), np.float32)
    prompt = jnp.asarray(x), jnp.asarray(y, jnp.float32)[..., None], jnp.asarray(query)
    return prompt, np.einsum("bd,bd->b", query, beta)


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
    prompt, label = gaussian_prompts(4, 6000, 100, 5, 0.1)

    @jax.jit
    def guesses(x, y, query):
        seen = jnp.asarray(np.arange(100) < LENGTHS[:, None], jnp.float32)
        return {name: made(x[:, None], y[:, None], query[:, None], seen) for name, made in ESTIMATORS.items()}

    return {name: (guess[..., 0] - label[:, None]) ** 2 for name, guess in guesses(*prompt).items()}


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
    prompt, label = gaussian_prompts(5, 4096, 100, 20, 3.0)
    oracle, step = rp.bayes(LinearRegression(20, 100, 3.0)), rp.GradientStep(1 / (1 + (21 + 60) / 100))
    bayes, one = ((jax.jit(made)(*prompt)[:, 0] - label) ** 2 for made in (oracle, step))
    assert_near(bayes, 0.4051, slack=0.003)  # finite L
    assert_near(one, 1 - 1 / (1 + 81 / 100))
    gap, error = mean_and_error(one - bayes)
    assert abs(gap - (3.4444 - 3.4051)) < SIGMAS * error + 0.01


# ---- inputs that are not centred, or not Gaussian


def test_debiasing_pays_when_inputs_have_a_mean():
    """`x ~ N(1, I)`: the best step 0.700, the best debiased one 0.384, and two heads the same."""
    prompt, label = gaussian_prompts(6, 32_768, 40, 5, 0.1, mean=1.0)
    rivals = (rp.GradientStep(1.0), rp.DebiasedStep(1.0), rp.SoftmaxHeads((0.05, -0.05), (10.0, -10.0)))
    found = [jax.jit(rival)(*prompt)[:, 0] for rival in rivals]
    best = []
    for guess in np.asarray(found, np.float64):
        error = (label - label @ guess / (guess @ guess) * guess) ** 2
        best.append(0.1 + error.mean())  # the noise of the query
    np.testing.assert_allclose(best, [0.700, 0.384, 0.384], atol=0.015)  # their chance 0.010 and 0.006, ours as much
    assert abs(best[1] - best[2]) < 0.004


def test_one_step_of_von_oswald():
    """The best step is 6.06, and half its squared error 0.2062; the zero predictor's is 0.4167."""
    rng = np.random.default_rng(7)
    x, beta = rng.uniform(-0.5, 0.5, (16_384, 11, 10)), rng.standard_normal((16_384, 10))
    y = np.einsum("bcd,bd->bc", x, beta)
    prompt = (jnp.asarray(a, jnp.float32) for a in (x[:, :10], y[:, :10, None], x[:, 10]))
    one, zero = 0.5 * (jax.jit(rp.GradientStep(6.06))(*prompt)[:, 0] - y[:, 10]) ** 2, 0.5 * y[:, 10] ** 2
    assert_near(one, 0.2062, slack=1e-4)
    assert_near(zero, 0.4167, slack=1e-4)
