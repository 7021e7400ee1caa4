"""Each predictor against its definition in float64, its symmetries, and what it does where data run out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from attnlab import config
from toy_tasks import LinearRegression
from toy_tasks import regression_predictors as rp

B, C, D, M = 16, 9, 4, 2
SUPPORTS = ((0, 1, 2), (2, 3))
GAMMA = np.array([[1.0, 0.3, 0, 0], [0.2, 0.5, 0, 0], [0, 0.1, 2.0, 0], [0, 0, 0, 0.7]])


def low_rank_priors() -> np.ndarray:
    """One output on a support; the other one's `beta` on a plane that no axis lies in."""
    plane = np.random.default_rng(3).normal(size=(D, 2))
    return np.stack([LinearRegression(D, C, supports=SUPPORTS).priors[0], plane @ plane.T])


PREDICTORS = {
    "bayes": rp.Bayes(low_rank_priors(), np.array([0.1, 0.4])),
    "bayes_noiseless": rp.Bayes(low_rank_priors(), np.zeros(2)),
    "bayes_half_noiseless": rp.Bayes(low_rank_priors(), np.array([0.0, 0.4])),
    "bayes_isotropic": rp.Bayes(np.stack([np.eye(D), 2 * np.eye(D)]), np.array([0.1, 0.0])),
    "ridge": rp.Ridge(0.3),
    "least_squares": rp.LeastSquares(),
    "gradient": rp.GradientStep(0.7),
    "gradient_preconditioned": rp.GradientStep(0.7, GAMMA),
    "debiased": rp.DebiasedStep(0.7, np.stack([GAMMA, GAMMA.T])),
    "neighbours": rp.NearestNeighbours(3),
    "averaging": rp.Averaging(),
    "zero": rp.Zero(),
    "softmax": rp.SoftmaxHeads((0.4, -0.3, 0.1), (2.0, -2.5, 0.5)),
}
ISOTROPIC = [n for n in PREDICTORS if n not in ("bayes", "bayes_noiseless", "bayes_half_noiseless")]
ISOTROPIC = [n for n in ISOTROPIC if n not in ("gradient_preconditioned", "debiased")]


def known(name: str, x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The definition, for one prompt of `n` pairs, in float64 and without any sharing of code."""
    predictor, n = PREDICTORS[name], len(x)
    if n == 0 or name == "zero":
        return np.zeros(M)
    if isinstance(predictor, rp.Bayes):  # conditioning of the joint Gaussian of labels and answer
        found = [
            query @ prior @ x.T @ np.linalg.pinv(x @ prior @ x.T + noise * np.eye(n), rcond=1e-10) @ y[:, i]
            if noise > 0 or n <= np.linalg.matrix_rank(prior)
            else query
            @ (root := np.linalg.svd(prior)[0][:, : np.linalg.matrix_rank(prior)])
            @ np.linalg.lstsq(x @ root, y[:, i])[0]
            for i, (prior, noise) in enumerate(zip(predictor.priors, predictor.noise, strict=True))
        ]
        return np.array(found)
    if name == "ridge":
        return query @ np.linalg.solve(x.T @ x + 0.3 * np.eye(D), x.T @ y)
    if name == "least_squares":
        return query @ np.linalg.lstsq(x, y)[0]
    if name == "averaging":
        return sum(y[i] * (x[i] @ query) for i in range(n)) / n
    if name.startswith("gradient"):
        return 0.7 * query @ (GAMMA if "pre" in name else np.eye(D)) @ (x.T @ y / n)
    if name == "debiased":
        slope = (x - x.mean(0)).T @ y / n
        return 0.7 * np.array([query @ GAMMA @ slope[:, 0], query @ GAMMA.T @ slope[:, 1]])
    if name == "neighbours":
        return y[np.argsort(np.linalg.norm(x - query, axis=1))[:3]].mean(0)
    assert isinstance(predictor, rp.SoftmaxHeads)
    heads = zip(predictor.omega, predictor.mu, strict=True)
    return sum(mu * special.softmax(omega * x @ query) @ y for omega, mu in heads)


@pytest.fixture(scope="module")
def prompts() -> tuple[jax.Array, jax.Array, jax.Array]:
    """Inputs with a mean, labels that no linear function fits."""
    rng = np.random.default_rng(0)
    shapes = (B, C, D), (B, C, M), (B, D)
    return tuple(jnp.asarray(rng.normal(size=shape) + 0.3, jnp.float32) for shape in shapes)


FORWARD = {name: jax.jit(predictor) for name, predictor in PREDICTORS.items()}
# labels of size 1, condition numbers up to 100 where n = d: 100 * 6e-8 * a few; measured 7e-6
CLOSE = {"rtol": 5e-5, "atol": 5e-5}


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_prefix_against_the_definition(name, prompts):
    x, y, query = (np.asarray(a, np.float64) for a in prompts)
    found = jax.jit(lambda *a: rp.on_prefixes(PREDICTORS[name], *a))(*prompts)
    assert found.shape == (B, C + 1, M)
    asked = np.concatenate([x, query[:, None]], axis=1)
    expected = [[known(name, x[b, :n], y[b, :n], asked[b, n]) for n in range(C + 1)] for b in range(B)]
    np.testing.assert_allclose(found, expected, **CLOSE)
    np.testing.assert_array_equal(found[:, 0], 0.0)
    np.testing.assert_allclose(found[:, -1], FORWARD[name](*prompts), **CLOSE)


@pytest.mark.parametrize("name", PREDICTORS)
def test_order_of_pairs_does_not_matter(name, prompts):
    x, y, query = prompts
    order = np.random.default_rng(1).permutation(C)
    np.testing.assert_allclose(FORWARD[name](x[:, order], y[:, order], query), FORWARD[name](*prompts), **CLOSE)


@pytest.mark.parametrize("name", ISOTROPIC)
def test_rotation_of_all_inputs_changes_nothing(name, prompts):
    x, y, query = prompts
    turn = jnp.asarray(stats.ortho_group.rvs(D, random_state=0), jnp.float32)
    np.testing.assert_allclose(FORWARD[name](x @ turn, y, query @ turn), FORWARD[name](*prompts), **CLOSE)


@pytest.mark.parametrize("name", PREDICTORS)
def test_linear_in_the_labels(name, prompts):
    x, y, query = prompts
    f = FORWARD[name]
    np.testing.assert_allclose(f(x, -3 * y, query), -3 * f(x, y, query), **CLOSE)
    np.testing.assert_allclose(f(x, y + y[::-1], query), f(x, y, query) + f(x, y[::-1], query), **CLOSE)


def test_scale_of_inputs(prompts):
    """A linear fit does not know the unit of its inputs; the others do."""
    x, y, query = prompts
    for name in ("least_squares", "bayes_noiseless", "neighbours", "zero"):
        np.testing.assert_allclose(FORWARD[name](1000 * x, y, 1000 * query), FORWARD[name](x, y, query), **CLOSE)
    for name in ("gradient", "debiased", "averaging"):
        np.testing.assert_allclose(FORWARD[name](2 * x, y, 2 * query), 4 * FORWARD[name](x, y, query), rtol=1e-5)


def test_averaging_is_a_step_of_size_one(prompts):
    np.testing.assert_array_equal(rp.Averaging()(*prompts), rp.GradientStep(1.0)(*prompts))


# ---- least squares in float32


@pytest.fixture(scope="module")
def square() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`n = d = 20`: noiseless prompts at their worst, and the condition number of each."""
    rng = np.random.default_rng(5)
    x, query, beta = rng.normal(size=(200, 20, 20)), rng.normal(size=(200, 20)), rng.normal(size=(200, 20))
    return x, np.einsum("bcd,bd->bc", x, beta)[..., None], query, np.einsum("bd,bd->b", query, beta)


@pytest.mark.parametrize("made", [rp.LeastSquares(), rp.Bayes(np.eye(20)[None], np.zeros(1))])
def test_square_systems_lose_no_more_digits_than_they_must(made, square):
    x, y, query, answer = square
    found = jax.jit(made)(*(jnp.asarray(a, jnp.float32) for a in (x, y, query)))[:, 0]
    condition = np.linalg.cond(x)
    assert condition.max() > 1000
    # forward error of a backward stable solution: a few eps * condition * |query| |beta|, here |query| |beta| = 20
    bound = 20 * 20 * 6e-8 * condition
    assert (np.abs(found - answer) < bound).all(), np.max(np.abs(found - answer) / bound)
    assert np.median(np.abs(found - answer)) < 1e-4


def test_small_strengths(square):
    """Neither a tiny strength nor one that is traced spoils the solution."""
    x, y, query, answer = square
    easy = np.linalg.cond(x) < 100
    prompt = [jnp.asarray(a[easy], jnp.float32) for a in (x, y, query)]
    traced = jax.jit(jax.vmap(lambda strength: rp.Ridge(strength)(*prompt)))(jnp.array([0.0, 1e-8, 1e-3, 10.0]))
    for strength, found in zip((0.0, 1e-8, 1e-3, 10.0), traced, strict=True):
        solved = [
            np.linalg.solve(a.T @ a + strength * np.eye(20), a.T @ b) for a, b in zip(x[easy], y[easy], strict=True)
        ]
        expected = np.einsum("bd,bdm->bm", query[easy], solved)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
        if strength in (1e-8, 10.0):
            np.testing.assert_allclose(jax.jit(rp.Ridge(strength))(*prompt), expected, rtol=0, atol=2e-3)
        assert strength > 1e-6 or np.abs(found[:, 0] - answer[easy]).max() < 2e-3


def test_repeated_pairs_still_give_the_minimum_norm(rng):
    x = np.repeat(rng.normal(size=(50, 2, 6)), 5, axis=1)  # 10 pairs, of which 2 differ
    y, query = rng.normal(size=(50, 10, 1)), rng.normal(size=(50, 6))
    found = jax.jit(rp.LeastSquares())(*(jnp.asarray(a, jnp.float32) for a in (x, y, query)))
    expected = [q @ np.linalg.lstsq(a, b)[0] for a, b, q in zip(x, y, query, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)  # condition numbers under 10


# ---- the oracle


def test_bayes_is_ridge_for_an_isotropic_prior(prompts):
    """Prior `I / d`: strength `d` times the noise, on sums."""
    x, y, query = prompts
    oracle, same = jax.jit(rp.bayes(LinearRegression(D, C, 0.1))), jax.jit(rp.Ridge(D * 0.1))
    np.testing.assert_allclose(oracle(x, y[..., :1], query), same(x, y[..., :1], query), rtol=1e-4, atol=1e-5)


def test_bayes_ignores_coordinates_outside_the_support(prompts):
    x, y, query = prompts
    task = LinearRegression(D, C, 0.1, supports=SUPPORTS)
    predict = jax.jit(rp.bayes(task))
    away = predict(x.at[..., 3].add(7.0), y, query.at[..., 3].add(7.0))
    np.testing.assert_array_equal(away[..., 0], predict(x, y, query)[..., 0])
    assert (away[..., 1] != predict(x, y, query)[..., 1]).all()


def test_noiseless_is_the_limit(prompts):
    """`max |B(s) - B(0)|` is of order `s`. Labels that can be had: otherwise both limits differ by what `s` divides."""
    x, _, query = (np.asarray(a) for a in prompts)
    rng = np.random.default_rng(2)
    betas = np.stack([rng.multivariate_normal(np.zeros(D), prior, size=B) for prior in low_rank_priors()], axis=1)
    prompt = x, jnp.asarray(np.einsum("bcd,bmd->bcm", x, betas), jnp.float32), query
    exact = np.einsum("bd,bmd->bm", query, betas)
    made = [jax.jit(rp.Bayes(low_rank_priors(), np.full(2, s))) for s in (1e-2, 1e-3, 0.0)]
    gaps = [np.abs(predict(*prompt) - exact).max() for predict in made]
    assert gaps[1] < gaps[0] / 5 and gaps[2] < 1e-4, gaps


def test_neighbours_by_hand():
    x = jnp.array([[0.0], [1.0], [2.0], [10.0]])
    y = jnp.array([[1.0], [2.0], [6.0], [100.0]])
    ask = jnp.array([0.9])
    some = jnp.array([0.0, 0.0, 1.0, 1.0])
    for k, seen, answer in ((1, None, 2.0), (3, None, 3.0), (9, None, 27.25), (1, some, 6.0), (3, some, 53.0)):
        assert float(jax.jit(rp.NearestNeighbours(k))(x, y, ask, seen)[0]) == answer


def test_two_small_opposite_heads_are_a_debiased_step(prompts):
    """The gap is of second order in omega: even orders cancel between the heads, the first is the step."""
    step = jax.jit(rp.DebiasedStep(0.8))(*prompts)
    heads = jax.jit(lambda w: rp.SoftmaxHeads(jnp.stack([w, -w]), jnp.stack([0.4 / w, -0.4 / w]))(*prompts))
    gap = [np.abs(heads(w) - step).max() for w in (0.08, 0.04)]
    assert gap[1] < 0.02 and 3.5 < gap[0] / gap[1] < 4.5, gap


# ---- misuse, and configurations


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rp.Ridge(-1.0), r"Ridge\.strength: got -1\.0; allowed is a number >= 0"),
        (lambda: rp.Ridge(np.ones(3)), r"Ridge\.strength"),
        (lambda: rp.NearestNeighbours(0), r"NearestNeighbours\.k: got 0"),
        (lambda: rp.NearestNeighbours(2.5), r"NearestNeighbours\.k: got 2\.5"),
        (lambda: rp.SoftmaxHeads(0.1, 1.0), r"SoftmaxHeads\.omega.*\[H\]"),
        (lambda: rp.SoftmaxHeads((0.1, 0.2), (1.0,)), r"SoftmaxHeads\.mu.*\(1,\).*\(2,\)"),
        (lambda: rp.Bayes(np.eye(3), np.ones(1)), r"Bayes\.priors: got shape \(3, 3\); allowed is shape \[m, d, d\]"),
        (lambda: rp.Bayes(np.eye(3)[None], np.ones(2)), r"Bayes\.noise: got shape \(2,\)"),
        (lambda: rp.Bayes(np.eye(3)[None], -np.ones(1)), r"Bayes\.noise.*>= 0"),
        (lambda: rp.Bayes(-np.eye(3)[None], np.ones(1)), r"Bayes\.priors.*eigenvalue -1.*semidefinite"),
        (
            lambda: rp.bayes(LinearRegression(3))(*map(jnp.ones, ((4, 2), (4, 1), (2,)))),
            r"Bayes: got .*d = 3 and m = 1",
        ),
        (
            lambda: rp.GradientStep(1.0, np.eye(3))(*map(jnp.ones, ((4, 2), (4, 1), (2,)))),
            r"GradientStep\.preconditioner: got shape \(3, 3\); allowed is \(2, 2\) or \(1, 2, 2\)",
        ),
    ],
)
def test_misuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", PREDICTORS)
def test_configuration_round_trip(name, prompts):
    written = config.dumps(PREDICTORS[name])
    read = config.loads(written)
    assert type(read) is type(PREDICTORS[name]) and config.dumps(read) == written
    assert hash(read) is not None
    np.testing.assert_array_equal(jax.jit(read)(*prompts), FORWARD[name](*prompts))


def test_plain_ones_are_equal_by_value():
    assert rp.Ridge(0.5) == rp.Ridge(0.5) != rp.Ridge(0.6)
    assert rp.NearestNeighbours(3) == rp.NearestNeighbours() and rp.Zero() == rp.Zero()
